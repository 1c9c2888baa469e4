"""Mixed Hubble traffic of a large cluster, as long as wanted, for benchmarks.

Invariant: the first n lines are the same whatever N is. Each kind of record of each edge is written once by
`hubble` and then only stamped anew, so that a line costs a look-up and three replacements.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.simulator.cluster import Cluster, Party, Service, Workload, build, outside
from tests.simulator.hubble import SECOND, START, Connection, Record, Style, Writer, stamp
from tests.simulator.random_app import DNS

NODES = 12
STEP = SECOND // 50  # a flow every 20 ms
PORT = 64_999  # stands for the client's port in a template; time and id have their own marks
PODS, LOOKUPS, WORLD, HOST, HTTP, REFUSED = "pods", "lookups", "world", "host", "http", "refused"
SHARE = ((PODS, 66), (LOOKUPS, 14), (WORLD, 8), (HOST, 5), (HTTP, 6), (REFUSED, 1))  # per cent


class Size(NamedTuple):
    """How large the cluster is, and what share of the packets that were seen are replies."""

    workloads: int
    edges: int
    namespaces: int
    replies: int  # per cent


LARGE = Size(500, 3600, 25, 40)
MIDDLE = Size(200, 1200, 10, 50)
SMALL = Size(60, 200, 6, 50)


def write(count: int, path: str) -> None:
    """Write `count` lines to a file, or to standard output for `-`."""
    if path == "-":
        sys.stdout.writelines(flows(count))
        return
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(flows(count))


def flows(count: int, seed: int = 5, size: Size = LARGE) -> Iterator[str]:
    """`count` lines of wrapped flows, about 2 kB each."""
    rng = Random(seed)
    cluster = build([*_workloads(size), DNS], rng, nodes=NODES)
    writer = Writer(rng, Style(node_labels=True, named_ports=True))
    edges = _edges(rng, cluster, size.edges)
    kinds = [kind for kind, share in SHARE for _ in range(share)]
    templates: dict[tuple[str, int, bool], str] = {}
    for number in range(count):
        key = (kinds[rng.randrange(100)], rng.randrange(size.edges), rng.randrange(100) < size.replies)
        template = templates.get(key)
        if template is None:
            template = templates[key] = _template(rng, writer, cluster, edges[key[1]], key[0], reply=key[2])
        now = stamp(START + number * STEP)
        line = template.replace("@time", now).replace("@id", f"{rng.getrandbits(64):016x}")
        yield line.replace(f":{PORT}", f":{rng.randrange(32_768, 61_000)}")


def _workloads(size: Size) -> list[Workload]:
    found = []
    for number in range(size.workloads):
        namespace, name = f"team-{number % size.namespaces:02d}", f"service-{number // size.namespaces:02d}"
        labels = {
            "app.kubernetes.io/component": ("web", "api", "store")[number % 3],
            "app.kubernetes.io/instance": f"{namespace}-{name}",
            "app.kubernetes.io/managed-by": "Helm",
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/part-of": namespace,
            "helm.sh/chart": f"{name}-1.4.2",
        }
        port = 8000 + number % 40
        ports, services = (("main", port, "TCP"),), (Service(name, 80, port),)
        found.append(Workload(namespace, name, "Deployment", 3, tuple(labels.items()), name, ports, services))
    return found


def _edges(rng: Random, cluster: Cluster, count: int) -> list[tuple[str, str]]:
    keys = sorted(key for key in cluster.workloads if key != DNS.key)
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < count:
        source, destination = rng.choice(keys), rng.choice(keys)
        if source != destination:
            pairs[source, destination] = None
    return list(pairs)


def _template(rng: Random, writer: Writer, cluster: Cluster, edge: tuple[str, str], kind: str, *, reply: bool) -> str:
    """One record of an edge, with marks where time, id and the client's port go."""
    source, destination = rng.choice(cluster.pods[edge[0]]), rng.choice(cluster.pods[edge[1]])
    record = _record(rng, writer, _connection(rng, cluster, kind, source, destination), kind, reply=reply)
    record["flow"] |= {
        "time": "@time",
        "uuid": "5f0c1d6e-2b1a-4c3d-@id",
        "ethernet": {"source": "0a:58:0a:f4:01:02", "destination": "0a:58:0a:f4:01:03"},
        "interface": {"index": rng.randrange(4, 400), "name": f"lxc{rng.getrandbits(48):012x}"},
        "Summary": "TCP Flags: ACK, PSH",
    }
    return json.dumps({**record, "time": "@time"}, separators=(",", ":")) + "\n"


def _connection(rng: Random, cluster: Cluster, kind: str, source: Party, destination: Party) -> Connection:
    port = destination.workload.ports[0][1] if destination.workload else 0
    if kind == LOOKUPS:
        return Connection(source, rng.choice(cluster.pods[DNS.key]), "UDP", 53, PORT, START)
    if kind == WORLD:
        return Connection(
            source, outside(f"198.51.100.{rng.randrange(1, 255)}", "api.example.com"), "TCP", 443, PORT, START
        )
    if kind == HOST:
        return Connection(cluster.host(destination.node), destination, "TCP", port, PORT, START)
    path = f"/items/{rng.randrange(10_000)}" if kind == HTTP else ""
    return Connection(source, destination, "TCP", port, PORT, START, "GET" if path else "", path)


def _record(rng: Random, writer: Writer, c: Connection, kind: str, *, reply: bool) -> Record:
    if kind == HTTP:
        return writer.http(c)[1 if reply else 0]
    if kind == REFUSED and rng.randrange(2):
        return writer.drop(c, START, c.source.node)
    if kind == REFUSED:
        return writer.verdict(c, START, c.destination.node, "INGRESS", verdict="AUDIT")
    if reply:
        node = c.source.node if c.source.pod else c.destination.node
        point = "TO_ENDPOINT" if c.source.pod else "TO_STACK"
        return writer.trace(c, START, node, point, "ACK PSH", reply=True, reason="REPLY")
    if not c.destination.pod:
        return writer.trace(c, START, c.source.node, "TO_NETWORK", "SYN", reason="NEW")
    first = rng.randrange(3) == 0
    flags, reason = ("SYN", "NEW") if first else ("ACK PSH", "ESTABLISHED")
    return writer.trace(c, START, c.destination.node, "TO_ENDPOINT", flags, reason=reason)
