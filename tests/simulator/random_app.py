"""Random applications for end-to-end properties: what was really called, and what Hubble would have shown of it.

Invariant: every edge of the truth is carried by several answered connections in the records, and every record of a
connection between workloads belongs to an edge of the truth. Same arguments, same application.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from tests.simulator.cluster import Cluster, Party, Service, Workload, build
from tests.simulator.hubble import SECOND, START, Connection, Record, Style, Writer, by_time, without
from tests.simulator.inventory import Document, documents

Edge = tuple[str, str, str, int]  # source "namespace/workload", destination, protocol, pod port

PORTS = (3000, 5432, 6379, 7070, 8000, 8080, 8443, 9000, 9090, 27017, 50051)
DNS = Workload(
    "kube-system",
    "coredns",
    replicas=2,
    labels=(("k8s-app", "kube-dns"),),
    account="coredns",
    ports=(("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")),
    services=(Service("kube-dns", 53, 53),),
)


class Application(NamedTuple):
    """What `hubble_records` makes; `records` are as `json.loads` would give them."""

    records: list[Record]
    inventory: list[Document]
    truth: set[Edge]
    cluster: Cluster


def hubble_records(
    seed: int,
    *,
    workloads: int = 8,
    namespaces: int = 2,
    edges: int = 12,
    nodes: int = 3,
    calls: int = 4,
    replies: bool = True,
    one_sided: bool = False,
    dnat: bool = False,
    missing_is_reply: bool = False,
    workload_field: bool = True,
    v6: bool = False,
    dns: bool = True,
    probes: bool = True,
    udp: bool = False,
) -> Application:
    """An application of `workloads` workloads and about `edges` edges, each called `calls` times within two hours.

    `replies`: the capture shows replies; `one_sided`: only one end's node reported each connection; `dnat`: Service
    ports differ from pod ports and the untranslated packet is seen too; `missing_is_reply`: a third of the traces
    cannot tell (they keep their TCP flags); `workload_field`: Hubble fills `workloads` for local pods; `udp`: a fifth
    of the edges are datagrams.
    """
    rng = Random(seed)
    cluster = build([*_workloads(rng, workloads, namespaces, dnat), DNS], rng, nodes=nodes, v6=v6)
    writer = Writer(rng, Style(workloads=workload_field, replies=replies))
    truth = _edges(rng, cluster, edges, udp)
    if dns:
        truth |= {(source, DNS.key, "UDP", 53) for source in {edge[0] for edge in truth}}
    records = [
        record
        for edge in sorted(truth)
        for call in range(calls)
        for record in _called(writer, cluster, _connect(rng, cluster, edge, call), dnat=dnat, one_sided=one_sided)
    ]
    if probes:
        records += _probes(rng, cluster, writer)
    if missing_is_reply:
        records = [_untold(rng, record) for record in records]
    return Application(by_time(records), documents(cluster), truth, cluster)


def _workloads(rng: Random, count: int, namespaces: int, dnat: bool) -> list[Workload]:
    """Names repeat across namespaces; components of one application share labels and differ in one."""
    found = []
    for number in range(count):
        namespace = f"team-{number % namespaces}"
        place = number // namespaces
        application, component = f"app-{place // 3}", ("web", "api", "store")[place % 3]
        labels = {"app.kubernetes.io/name": application, "app.kubernetes.io/component": component}
        if number % 2:
            labels["tier"] = "back"
        port, protocol = rng.choice(PORTS), "TCP"
        found.append(
            Workload(
                namespace,
                f"{application}-{component}",
                kind=rng.choice(("Deployment", "Deployment", "StatefulSet")),
                replicas=rng.choice((1, 2, 3)),
                labels=tuple(sorted(labels.items())),
                account=f"{application}-{component}",
                ports=(("main", port, protocol), ("datagrams", 9125, "UDP")),
                services=(Service(f"{application}-{component}", 80 if dnat else port, port),),
            )
        )
    return found


def _edges(rng: Random, cluster: Cluster, count: int, udp: bool) -> set[Edge]:
    keys = sorted(key for key in cluster.workloads if key != DNS.key)
    found: set[Edge] = set()
    for _ in range(50 * count):
        source, destination = rng.choice(keys), rng.choice(keys)
        if len(found) == count or len(keys) < 2:
            break
        if source == destination:
            continue
        datagrams = udp and rng.randrange(5) == 0
        _, port, protocol = cluster.workloads[destination].ports[1 if datagrams else 0]
        found.add((source, destination, protocol, port))
    return found


def _connect(rng: Random, cluster: Cluster, edge: Edge, call: int) -> Connection:
    at = START + (call * 1500 + rng.randrange(1200)) * SECOND + rng.randrange(SECOND)
    sources, destinations = cluster.pods[edge[0]], cluster.pods[edge[1]]
    return Connection(
        sources[call % len(sources)],
        destinations[rng.randrange(len(destinations))],
        edge[2],
        edge[3],
        rng.randrange(32768, 61000),
        at,
    )


def _called(writer: Writer, cluster: Cluster, c: Connection, *, dnat: bool, one_sided: bool) -> list[Record]:
    """All that is seen of one connection."""
    found = writer.connection(c)
    if c.destination.key == DNS.key:
        found += writer.dns(c, "app-0-web.team-0.svc.cluster.local", ["10.96.0.20"])
    elif dnat:
        found.append(_before_translation(writer, cluster, c))
    if one_sided:
        side = writer.rng.choice((c.source.node, c.destination.node))
        found = [record for record in found if record["node_name"] == side]
    return found


def _before_translation(writer: Writer, cluster: Cluster, c: Connection) -> Record:
    """The packet as the client's socket wrote it: the Service's address (labelled world) and the Service's port."""
    flow = writer.packet(c, c.at - 30_000, c.source.node)
    workload = c.destination.workload
    if workload is None:
        raise ValueError("only a connection to a pod goes through a Service")
    flow["IP"] = {**flow["IP"], "destination": cluster.cluster_ips[f"{workload.namespace}/{workload.services[0].name}"]}
    flow["l4"] = {c.protocol: {"source_port": c.source_port, "destination_port": workload.services[0].port}}
    flow |= {"Type": "SOCK", "verdict": "TRACED", "event_type": {"type": 7}}
    flow["destination"] = {"identity": 2, "labels": ["reserved:world"]}
    flow["sock_xlate_point"] = "SOCK_XLATE_POINT_PRE_DIRECTION_FWD"
    return writer.wrap(flow)


def _probes(rng: Random, cluster: Cluster, writer: Writer) -> list[Record]:
    """The kubelet knocks at every pod's first TCP port."""
    found: list[Record] = []
    pods: list[Party] = [pod for key in sorted(cluster.pods) for pod in cluster.pods[key]]
    for pod in pods:
        if pod.workload is None or pod.workload.key == DNS.key:
            continue
        port, at = pod.workload.ports[0][1], START + rng.randrange(3600) * SECOND
        probe = Connection(cluster.host(pod.node), pod, "TCP", port, rng.randrange(32768, 61000), at)
        found += writer.connection(probe)
    return found


def _untold(rng: Random, record: Record) -> Record:
    kind = record["flow"]["event_type"]["type"]
    return without(record, "is_reply", "reply") if kind == 4 and rng.randrange(3) == 0 else record
