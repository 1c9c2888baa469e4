"""A second opinion on NetworkPolicy: every verdict on random clusters compared with network-config-analyzer's.

The analyzer runs in an environment and processes of its own, see `analyzer`. `--oracle-rounds N` draws N times as many
clusters.

Known defects that the clusters avoid: Exists and DoesNotExist on pods beside a namespaceSelector are looked up in the
policy's own namespace only; egress rules without the Egress type are refused; an empty egress list without policyTypes
isolates. Its ipBlock never selects pods, which is Cilium's reading.
"""

from __future__ import annotations

import ipaddress
import json
from itertools import product
from pathlib import Path

import yaml

from collector.reading import read
from leastway.verify.judge import Judge, Question
from leastway.verify.reading import Document
from leastway.verify.world import World
from synthesizer import Options, inventory, synthesize
from tests.simulator import hubble_records
from tests.verify.analyzer import analyzed
from tests.verify.clusters import OUTSIDE, PROTOCOLS, SPACES, Clusters
from tests.verify.kit import pod

CLUSTERS = 120  # in one round
PODS = [f"{space}/p{i}" for space in SPACES for i in range(3)]
PORTS = (52, 53, 54, 80, 81, 82, 8080, 8081, 9000)
PROBES = ("203.0.113.9", "192.0.2.1", "192.0.2.77", "192.0.2.130", "198.51.100.3")

Connections = dict[tuple[str, str], list[str]]


def connections(text: str) -> Connections:
    """Rows `SOURCE => DESTINATION : CONNECTIONS`; what is missing is denied."""
    found: Connections = {}
    for line in text.splitlines():
        ends, _, allowed = line.partition(" : ")
        source, arrow, destination = ends.partition(" => ")
        if arrow:
            found.setdefault((_end(source), _end(destination)), []).append(allowed.strip())
    return found


def _end(text: str) -> str:
    return text.strip().removesuffix("[Pod]")


def allows(connection: str, protocol: str, port: int) -> bool:
    """Reads `All connections` or `{protocols:TCP, UDP,dst_ports:53,80-81}` (several, separated by `{`)."""
    if connection == "All connections":
        return True
    for part in connection.split("{")[1:]:
        fields = part.partition("}")[0]
        protocols, _, ports = fields.removeprefix("protocols:").partition(",dst_ports:")
        if protocol not in [p.strip() for p in protocols.split(",")]:
            continue
        spans = [span.partition("-") for span in ports.split(",") if span]
        if not spans or any(int(low) <= port <= int(high or low) for low, _, high in spans):
            return True
    return False


def in_range(probe: str, ranges: str) -> bool:
    ip = ipaddress.IPv4Address(probe)
    for span in ranges.split(","):
        if "/" in span:
            if ip in ipaddress.ip_network(span.strip()):
                return True
            continue
        low, _, high = span.strip().partition("-")
        if ipaddress.IPv4Address(low) <= ip <= ipaddress.IPv4Address(high or low):
            return True
    return False


def said(found: Connections, source: str, destination: str) -> list[str]:
    if source in PODS and destination in PODS:
        return found.get((source, destination), [])
    return [
        connection
        for (s, d), rows in found.items()
        for connection in rows
        if (s == source or (s not in PODS and source not in PODS and in_range(source, s)))
        and (d == destination or (d not in PODS and destination not in PODS and in_range(destination, d)))
    ]


def compare(tmp_path: Path, blocks: tuple[str, ...], probes: tuple[str, ...], clusters: range) -> int:
    judges: dict[str, Judge] = {}
    for seed in clusters:
        drawn = Clusters(seed, blocks=blocks, quirks=False)
        documents, policies = drawn.things(), drawn.policies()
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "all.yaml").write_text(yaml.dump_all(documents + policies, Dumper=yaml.CSafeDumper))
        judges[str(seed)] = Judge(World.from_manifests(documents), policies, cni="cilium")
    compared = 0
    answers = analyzed(tmp_path)
    assert len(answers) > 0.9 * len(judges), "the analyzer gave up on most clusters"
    for name, text in answers.items():
        found = connections(text)
        for source in (*PODS, *probes):
            for destination in (*PODS, *probes):
                if source == destination or (source in probes and destination in probes):
                    continue
                rows = said(found, source, destination)
                for protocol in PROTOCOLS:
                    for port in PORTS:
                        theirs = any(allows(row, protocol, port) for row in rows)
                        ours = judges[name].ask(Question(source, destination, protocol, port))
                        assert ours.allowed == theirs, (name, source, destination, protocol, port, ours, rows)
                        compared += 1
    return compared


def test_pods(tmp_path: Path, oracle_rounds: int) -> None:
    assert compare(tmp_path, (), (), range(CLUSTERS * oracle_rounds)) >= 100_000


def test_pods_and_the_outside(tmp_path: Path, oracle_rounds: int) -> None:
    assert compare(tmp_path, OUTSIDE, PROBES, range(1_000_000, 1_000_000 + CLUSTERS // 2 * oracle_rounds)) >= 50_000


def test_generated_policies_let_exactly_the_truth_through(tmp_path: Path, oracle_rounds: int) -> None:
    """The analyzer's opinion on what leastway writes for random applications, without our judge in between."""
    clusters, truths = tmp_path / "clusters", {}
    for seed in range(10 * oracle_rounds):
        app = hubble_records(seed, workloads=10, namespaces=3, edges=24, calls=2)
        capture = tmp_path / f"{seed}.jsonl"
        capture.write_text("".join(json.dumps(record) + "\n" for record in app.records))
        result = synthesize(read([str(capture)]).patterns, inventory.parse(app.inventory), Options())
        things = [d for d in app.inventory if d["kind"] == "Namespace"] + _one_pod_each(app.inventory)
        folder = clusters / str(seed)
        folder.mkdir(parents=True)
        (folder / "all.yaml").write_text(
            yaml.dump_all(things + [m.document for m in result.manifests], Dumper=yaml.CSafeDumper)
        )
        truths[str(seed)] = app.truth
    answers = analyzed(clusters)
    assert set(answers) == set(truths)
    for name, text in answers.items():
        found, truth = connections(text), truths[name]
        ends = sorted({end for edge in truth for end in edge[:2]})
        ports = {(protocol, port) for _, _, protocol, port in truth}
        for source, destination, (protocol, port) in product(ends, ends, sorted(ports)):
            if source == destination or "kube-system/" in source + destination:
                continue
            theirs = any(allows(row, protocol, port) for row in found.get((source, destination), []))
            assert theirs == ((source, destination, protocol, port) in truth), (name, source, destination, port)


def _one_pod_each(objects: list[Document]) -> list[Document]:
    """A Pod for each workload, under its own name."""
    return [
        pod(f"{d['metadata']['namespace']}/{d['metadata']['name']}", d["spec"]["template"]["metadata"]["labels"])
        for d in objects
        if d["kind"] in ("Deployment", "StatefulSet", "DaemonSet")
    ]
