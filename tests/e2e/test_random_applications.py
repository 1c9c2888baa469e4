"""Random applications, end to end: every true connection is allowed by the written YAML, and nothing else is.

The truth comes from the simulator, the verdicts from the judge; neither knows the synthesizer.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.reading import read
from leastway.pipeline import generate
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


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[7]], ids=["plain", "large"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_written_is_sound_minimal_and_exact_but_for_dns(
    tmp_path: Path, seed: int, shape: dict[str, Any]
) -> None:
    """Every isolated namespace may look names up over both protocols; DNS itself is in nobody's namespace."""
    app = hubble_records(seed, **shape)
    capture, inventory = tmp_path / "flows.jsonl", tmp_path / "inventory.yaml"
    capture.write_text("".join(json.dumps(record) + "\n" for record in app.records))
    inventory.write_text(yaml.safe_dump_all(app.inventory))
    proof = generate([str(capture)], [str(inventory)], Options()).proof
    assert proof["sound"]
    assert proof["observed"] == proof["allowed"] > 0
    unneeded = {(part["policy"].rpartition("/")[2], part["part"]) for part in proof["redundant"]}
    assert unneeded <= {("allow-dns", "port 53/TCP")}
    assert set(proof["over_permission"]["by_cause"]) <= {"DNS", "unisolated"}
    unisolated = proof["over_permission"]["examples"].get("unisolated", [])
    assert all("→ kube-system/" in text or text.startswith("kube-system/") for text in unisolated), unisolated


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
