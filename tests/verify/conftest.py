"""The real Envoy that the judge's answers are compared with: one process for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import envoy_server
from tests.verify.envoy_listeners import PolicySet, Ports, certificates, configuration, source_of
from tests.verify.mesh_policies import CLIENTS, MeshPolicies

SETS = 120  # of random policies, each for HTTP and TCP, in one round


class Served(NamedTuple):
    """What one Envoy serves, and the folder of the clients' certificates."""

    ports: Ports
    folder: Path
    http: list[PolicySet]
    tcp: list[PolicySet]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, oracle_rounds: int) -> Iterator[Served]:
    """An Envoy with `SETS` random policy sets a round."""
    if envoy_server.executable() is None:
        pytest.skip("no Envoy: neither the test extra's envoy-server nor one that LEASTWAY_ENVOY names")
    folder = tmp_path_factory.mktemp("envoy")
    certificates(folder, CLIENTS)
    ports = Ports.free()
    http, tcp = [], []
    for seed in range(SETS * oracle_rounds):
        drawn = MeshPolicies(seed, (ports.secured, ports.plain[0]), ("127.0.0.1", "127.0.0.0/8"))
        http.append(PolicySet(drawn.policies(), drawn.trust_domains))
        blocks = (f"{source_of(seed, 1)}", f"{source_of(seed, 0)}/24", "127.0.0.0/9", "127.0.0.1")
        drawn = MeshPolicies(seed + 1_000_000, (ports.tcp_secured, ports.tcp_plain), blocks)
        tcp.append(PolicySet(drawn.policies(), drawn.trust_domains))
    written = configuration(http, tcp, ports, folder)
    with envoy_server.running(written, folder, ports.open):
        yield Served(ports, folder, http, tcp)
