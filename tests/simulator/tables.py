"""A story's tables: `workloads.csv` (what runs) and `edges.csv` (who calls whom, and who must not).

Invariant: whatever happens in a story's traffic stands in a row of `edges.csv`; its `sort` says whether it belongs to
the truth (`truth.jsonl`) or must never become policy (`never.jsonl`). One sort is neither: what a path template cannot
but cover (`swallowed`) has to be reported, not refused.

Ends are `namespace/workload`, `node` (the kubelet on the pod's node), `internet` (some client outside),
`kube-apiserver`, or an address followed by the names that DNS gave for it. In a request `{id}`, `{uuid}`, ...
are filled in for each call.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.simulator.cluster import SAFE, Cluster, Party, Service, Workload, build, outside
from tests.simulator.hubble import SECOND, START, Connection

STORIES = Path(__file__).parents[2] / "sample_flows"
TRUE = ("service", "dns", "external", "ingress", "probe", "plaintext", "control-plane", "waypoint")
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
WORDS = (
    "autumn",
    "brass",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "glass",
    "harbor",
    "indigo",
    "juniper",
    "kettle",
    "lumen",
)


@dataclass(frozen=True)
class Edge:
    """A row of `edges.csv`. `times`: how often it is called; 0 in a `never` row means that it is not in the capture."""

    source: str
    destination: str
    protocol: str
    port: int
    method: str
    path: str
    sort: str
    times: int
    remark: str


@dataclass
class Story:
    """A story's folder, read: the cluster that it runs on, its edges, and the one source of chance."""

    name: str
    cluster: Cluster
    edges: list[Edge]
    rng: Random

    def connections(self, edge: Edge, hours: int = 4) -> list[Connection]:
        """`edge.times` connections spread over `hours` hours, over all pods of both ends."""
        found = []
        for call in range(edge.times):
            destination = self._end(edge.destination, call, None)
            source = self._end(edge.source, call, destination)
            at = START + (call * hours * 3600 // edge.times + self.rng.randrange(300)) * SECOND
            found.append(
                Connection(
                    source,
                    destination,
                    edge.protocol,
                    edge.port,
                    self.rng.randrange(32768, 61000),
                    at + self.rng.randrange(SECOND),
                    edge.method,
                    filled(edge.path, self.rng),
                )
            )
        return found

    def _end(self, name: str, call: int, other: Party | None) -> Party:
        if name == "node" and other is not None:
            return self.cluster.host(other.node)
        if name == "internet":
            return outside(f"203.0.113.{self.rng.randrange(1, 255)}")
        if name == "kube-apiserver":
            return Party(self.cluster.nodes[0].address, reserved=name)
        if name in self.cluster.pods:
            pods = self.cluster.pods[name]
            return pods[(call if other is None else call // 2) % len(pods)]
        address, *names = name.split()
        return outside(address, *names)


def read(name: str, seed: int, *, nodes: int = 3) -> Story:
    """Read a story's tables and build its cluster."""
    rng = Random(seed)
    folder = STORIES / name
    with (folder / "workloads.csv").open(newline="") as file:
        workloads = [_workload(row) for row in csv.DictReader(file)]
    with (folder / "edges.csv").open(newline="") as file:
        edges = [_edge(row) for row in csv.DictReader(file)]
    return Story(name, build(workloads, rng, nodes=nodes), edges, rng)


def _workload(row: dict[str, str]) -> Workload:
    namespace, _, name = row["workload"].partition("/")
    ports, services = [], []
    for text in row["ports"].split():
        label, _, rest = text.partition(":")
        number, _, protocol = rest.partition("/")
        ports.append((label, int(number), protocol))
    for text in row["services"].split():
        label, port, target, kind, *waypoint = text.split(":")
        services.append(Service(label, int(port), int(target), kind, *waypoint))
    labels = tuple(sorted((key, value) for key, _, value in (text.partition("=") for text in row["labels"].split())))
    kind, replicas = row["kind"], int(row["replicas"])
    return Workload(namespace, name, kind, replicas, labels, row["account"], tuple(ports), tuple(services))


def _edge(row: dict[str, str]) -> Edge:
    protocol, _, port = row["port"].partition("/")
    method, _, path = row["request"].partition(" ")
    times = int(row["times"])
    return Edge(row["from"], row["to"], protocol, int(port), method, path, row["sort"], times, row["remark"])


def filled(path: str, rng: Random) -> str:
    """Put fresh identifiers in the place of `{id}`, `{uuid}`, `{hex}`, `{ulid}`, `{date}`, `{slug}` and `{sku}`."""
    while "{" in path:
        before, _, rest = path.partition("{")
        sort, _, after = rest.partition("}")
        path = before + MADE[sort](rng) + after
    return path


def _uuid(rng: Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


MADE: dict[str, Callable[[Random], str]] = {
    "id": lambda rng: str(rng.randrange(1, 100_000)),
    "small": lambda rng: str(rng.randrange(0, 4)),
    "uuid": _uuid,
    "hex": lambda rng: f"{rng.getrandbits(64):016x}",
    "ulid": lambda rng: "01" + "".join(rng.choice(CROCKFORD) for _ in range(24)),
    "date": lambda rng: f"2026-0{rng.randrange(1, 4)}-{rng.randrange(1, 29):02d}",
    "slug": lambda rng: f"{rng.choice(WORDS)}-{rng.choice(WORDS)}-{rng.choice(WORDS)}",
    "sku": lambda rng: "".join(rng.choice(SAFE) for _ in range(10)).upper(),
}


def truth(connections: Iterable[tuple[Edge, Connection]]) -> list[dict[str, Any]]:
    """The rows of `truth.jsonl`: what was really called and is meant to be, each once."""
    rows = {}
    for edge, c in connections:
        if edge.sort in TRUE:
            row = _row(c.source.key, c.destination.key, edge, c.path)
            rows[json.dumps(row)] = row
    return [rows[key] for key in sorted(rows)]


def never(edges: Iterable[Edge]) -> list[dict[str, Any]]:
    """The rows of `never.jsonl`: what no policy may allow, with the reason."""
    found = []
    for edge in edges:
        if edge.sort not in (*TRUE, "swallowed"):
            source, destination = edge.source.split()[0], edge.destination.split()[0]
            found.append({**_row(source, destination, edge, filled(edge.path, Random(0))), "because": edge.remark})
    return found


def _row(source: str, destination: str, edge: Edge, path: str) -> dict[str, Any]:
    row: dict[str, Any] = {"from": source, "to": destination, "protocol": edge.protocol, "port": edge.port}
    if edge.method:
        row |= {"method": edge.method, "path": path.partition("?")[0]}
    return {**row, "kind": edge.sort}


def lines(rows: Iterable[Any]) -> bytes:
    """JSON lines, compact; a string stands for itself (that is how unreadable lines get in)."""
    return "".join(
        (row if isinstance(row, str) else json.dumps(row, separators=(",", ":"))) + "\n" for row in rows
    ).encode()


def packed(content: bytes) -> bytes:
    """gzip without a time stamp, so that the same content gives the same file."""
    return gzip.compress(content, 9, mtime=0)
