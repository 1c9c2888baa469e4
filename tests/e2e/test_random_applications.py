"""Random applications, end to end: every true connection is allowed by the written YAML, and nothing else is.

The truth comes from the simulator, the verdicts from the judge; neither knows the synthesizer.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from collector.reading import read
from leastway.verify.judge import Judge, Question
from leastway.verify.world import World
from synthesizer import Options, synthesize
from synthesizer import inventory as kubernetes
from synthesizer.inventory import Inventory
from tests.simulator import hubble_records

SHAPES: list[dict[str, Any]] = [
    {},
    {"replies": False},
    {"one_sided": True},
    {"missing_is_reply": True},
    {"workload_field": False},
    {"udp": True},
    {"dns": False, "probes": False},
    {"workloads": 14, "namespaces": 3, "edges": 40, "calls": 1},
    {"one_sided": True, "missing_is_reply": True, "workload_field": False, "udp": True},
]
SEEDS = range(6)


@pytest.mark.parametrize("with_inventory", [True, False], ids=["inventory", "flows-only"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(shape) or "plain")
@pytest.mark.parametrize("seed", SEEDS)
def test_allows_the_truth_and_nothing_else(
    tmp_path: Path, seed: int, shape: dict[str, Any], with_inventory: bool
) -> None:
    """Over all pairs of workloads and all ports that occur, the verdict is the truth; DNS is open to everyone."""
    app = hubble_records(seed, **shape)
    wrong = _wrong(tmp_path, app, with_inventory, Options())
    assert wrong == []


@pytest.mark.parametrize("seed", SEEDS)
def test_translated_service_addresses_need_an_inventory(tmp_path: Path, seed: int) -> None:
    """Records from before translation show ClusterIPs and Service ports; rules name pods and pod ports."""
    assert _wrong(tmp_path, hubble_records(seed, dnat=True), True, Options()) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_ipv6_is_no_different(tmp_path: Path, seed: int) -> None:
    """Pods are selected by label whatever family their addresses have."""
    assert _wrong(tmp_path, hubble_records(seed, v6=True), False, Options()) == []


def _wrong(tmp_path: Path, app: Any, with_inventory: bool, options: Options) -> list[str]:
    capture = tmp_path / "flows.jsonl"
    capture.write_text("".join(json.dumps(record) + "\n" for record in app.records))
    reading = read([str(capture)])
    assert reading.bad_lines == 0
    inventory = kubernetes.parse(app.inventory) if with_inventory else Inventory.empty()
    result = synthesize(reading.patterns, inventory, options)
    judge = Judge(World.from_manifests(app.inventory), [manifest.document for manifest in result.manifests])
    names = {end for edge in app.truth for end in edge[:2]}
    ports = {(protocol, port) for _, _, protocol, port in app.truth}
    wrong = []
    for source, destination, (protocol, port) in product(sorted(names), sorted(names), sorted(ports)):
        if source == destination or source.startswith("kube-system/") or (port == 53 and "coredns" in destination):
            continue
        verdict = judge.ask(Question(source, destination, protocol, port))
        if verdict.allowed != ((source, destination, protocol, port) in app.truth):
            wrong.append(f"{source} → {destination} {protocol} {port}: {verdict.outcome}, {verdict.because}")
    return wrong
