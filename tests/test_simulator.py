"""The simulator is test equipment: it must be repeatable, and its truth must be what its records show."""

from __future__ import annotations

import gzip
import json
import re
from itertools import islice
from typing import Any

import pytest
import yaml

from tests.simulator import Application, bench, hubble_records, inventory
from tests.simulator.__main__ import MAKERS, stale
from tests.simulator.tables import STORIES

THIRD_PARTY = re.compile(
    r"\b(?!10\.|127\.|169\.254\.|172\.18\.|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.)\d+\.\d+\.\d+\.\d+\b"
)
OPTIONS: list[dict[str, bool]] = [
    {},
    {"dnat": True},
    {"one_sided": True},
    {"v6": True, "udp": True},
    {"missing_is_reply": True, "workload_field": False},
    {"replies": False, "dns": False, "probes": False},
]


def text_of(content: bytes) -> str:
    return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()


def rows(story: str, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (STORIES / story / file).read_text().splitlines()]


@pytest.mark.parametrize("story", MAKERS)
def test_committed_files_are_what_the_simulator_makes(story: str) -> None:
    assert stale(story) == []


def test_a_changed_capture_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    made = MAKERS["ambient"]()
    monkeypatch.setitem(MAKERS, "ambient", lambda: {**made, "truth.jsonl": made["truth.jsonl"] + b"{}\n"})
    assert stale("ambient") == ["ambient/truth.jsonl"]


@pytest.mark.parametrize("story", MAKERS)
def test_a_story_uses_documentation_addresses_only(story: str) -> None:
    for file, content in MAKERS[story]().items():
        strange = set(THIRD_PARTY.findall(text_of(content))) - {"999.1.1.1", "0.0.0.0"}
        assert not strange, file


@pytest.mark.parametrize("story", MAKERS)
def test_truth_and_never_name_workloads_of_the_inventory(story: str) -> None:
    known = set()
    for document in yaml.safe_load_all((STORIES / story / "inventory.yaml").read_text()):
        metadata = document["metadata"]
        known.add(f"{metadata.get('namespace', '')}/{metadata['name']}")
    for row in rows(story, "truth.jsonl") + rows(story, "never.jsonl"):
        ends = [end for end in (row["from"], row["to"]) if "/" in end]
        assert set(ends) <= known, row


@pytest.mark.parametrize("story", MAKERS)
def test_nothing_is_both_true_and_never(story: str) -> None:
    fields = ("from", "to", "protocol", "port", "method", "path")
    true, never = (
        {tuple(row.get(field) for field in fields) for row in rows(story, file)}
        for file in ("truth.jsonl", "never.jsonl")
    )
    assert true
    assert never
    assert not true & never


@pytest.mark.parametrize("options", OPTIONS)
def test_every_edge_of_a_random_application_is_in_its_records(options: dict[str, bool]) -> None:
    application = hubble_records(3, **options)
    assert application.truth == opened(application)


def opened(application: Application) -> set[tuple[str, str, str, int]]:
    """The edges that a reader who knows all addresses and trusts only certain records would find."""
    owner = {pod.ip: key for key, pods in application.cluster.pods.items() for pod in pods}
    found = set()
    for record in application.records:
        flow = record["flow"]
        ends = owner.get(flow["IP"]["source"]), owner.get(flow["IP"]["destination"])
        protocol, layer4 = next(iter(flow["l4"].items()))
        if ends[0] and ends[1] and flow.get("is_reply") is False:
            found.add((ends[0], ends[1], protocol, layer4["destination_port"]))
    return found


def test_only_the_local_end_of_a_record_has_id_and_workloads() -> None:
    application = hubble_records(5)
    node_of = {pod.ip: pod.node for pods in application.cluster.pods.values() for pod in pods}
    for record in application.records:
        flow = record["flow"]
        for end in ("source", "destination"):
            local = node_of.get(flow["IP"][end]) == flow["node_name"]
            assert ("ID" in flow[end]) == local
            assert ("workloads" in flow[end]) == local


def test_the_same_seed_gives_the_same_application_and_another_seed_another() -> None:
    assert hubble_records(8).records == hubble_records(8).records
    assert hubble_records(8).truth != hubble_records(9).truth


def test_the_inventory_text_says_what_the_documents_say() -> None:
    documents = hubble_records(2, v6=True).inventory
    assert list(yaml.safe_load_all(inventory.to_yaml(documents))) == documents


def test_a_longer_benchmark_begins_like_a_shorter_one_and_has_the_stated_mix() -> None:
    lines = list(bench.flows(4000))
    assert lines[:1000] == list(islice(bench.flows(2000), 1000))
    flows = [json.loads(line)["flow"] for line in lines]
    replies = sum(flow.get("is_reply") is True for flow in flows) / len(flows)
    requests = sum(flow["Type"] == "L7" for flow in flows) / len(flows)
    assert 0.35 < replies < 0.45
    assert 0.04 < requests < 0.08
    assert 1500 < sum(map(len, lines)) / len(lines) < 2600
