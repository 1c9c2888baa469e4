"""Online Boutique as Hubble on three nodes shows it: every connection from both sides, and all that is not policy.

Invariant: what is added here to the table's connections (lost events, status lines, mistaken replies, lookups by
the DNS proxy, health checks) must change no policy.
"""

from __future__ import annotations

from typing import Any

from tests.simulator import inventory, tables
from tests.simulator.cluster import Party
from tests.simulator.hubble import SECOND, START, Connection, Record, Style, Writer, by_time, mistaken_for_new, stamp
from tests.simulator.tables import Edge, Story

SEED = 11
VISIBLE = "default/frontend"  # the one workload whose HTTP goes through Cilium's proxy
RESOLVER = "kube-system/coredns"


def files() -> dict[str, bytes]:
    """File name → content of everything that the simulator makes for this story."""
    story = tables.read("online-boutique", SEED)
    writer = Writer(story.rng, Style(named_ports=True))
    records: list[Record] = []
    made = [(edge, c) for edge in story.edges for c in story.connections(edge)]
    for edge, c in made:
        records += _seen(story, writer, edge, c)
    records += _oddities(story, writer, [c for _, c in made])
    return {
        "flows.jsonl.gz": tables.packed(tables.lines([*by_time(records)])),
        "inventory.yaml": inventory.to_yaml(inventory.documents(story.cluster)).encode(),
        "truth.jsonl": tables.lines(tables.truth(made)),
        "never.jsonl": tables.lines(tables.never(story.edges)),
    }


def _seen(story: Story, writer: Writer, edge: Edge, c: Connection) -> list[Record]:
    """The records of one connection, by the sort of its edge."""
    if edge.sort == "denied":
        return [writer.drop(c, c.at, c.source.node)]
    if edge.sort == "metadata":
        return [writer.trace(c, c.at, c.source.node, "TO_NETWORK", "SYN", reason="NEW")]
    if edge.sort == "dns":
        return writer.connection(c) + _lookup(story, writer, c)
    found = writer.connection(c)
    if edge.destination == VISIBLE and c.method:
        found += writer.http(c)
    return found


def _lookup(story: Story, writer: Writer, c: Connection) -> list[Record]:
    """What the client asked: a Service of its own, now and then through a search suffix that does not exist."""
    services = sorted(story.cluster.cluster_ips)
    service = services[story.rng.randrange(len(services))]
    namespace, _, name = service.partition("/")
    full = f"{name}.{namespace}.svc.cluster.local"
    if story.rng.randrange(3) == 0:
        return writer.dns(c, f"{full}.svc.cluster.local", [])
    return writer.dns(c, full, [story.cluster.cluster_ips[service]])


def _oddities(story: Story, writer: Writer, made: list[Connection]) -> list[Record]:
    """What a real capture has besides connections."""
    between = [c for c in made if c.protocol == "TCP" and c.source.pod and c.destination.pod]
    lookups = [c for c in made if c.protocol == "UDP" and c.source.node != c.destination.node]
    found = [mistaken_for_new(c, writer, c.at + 4_000_000) for c in between[::40]]
    found += [writer.trace(c, c.at - 5_000, c.source.node, "FROM_ENDPOINT", "SYN") for c in between[::7]]
    audited = next(c for c in between if c.destination.key == "default/adservice")
    found.append(writer.verdict(audited, audited.at - 2_000, audited.destination.node, "INGRESS", verdict="AUDIT"))
    for c in lookups[::3]:  # the proxy asks in the client's stead, from its node's address
        proxy = Connection(_remote(story, c.source.node), c.destination, "UDP", 53, c.source_port, c.at + 300_000)
        found.append(writer.trace(proxy, proxy.at, c.source.node, "TO_OVERLAY", ""))
    found += [_ping(story, writer, hour) for hour in range(4)]
    return found + _interruptions()


def _remote(story: Story, node: str) -> Party:
    """A node as another node's packets show it: identity remote-node, whoever looks."""
    host = story.cluster.host(node)
    return Party(host.ip, "", identity=6, reserved="host")


def _ping(story: Story, writer: Writer, hour: int) -> Record:
    """Cilium's own health check: ICMP, which a NetworkPolicy cannot express and does not need."""
    node = story.cluster.nodes[hour % 3]
    health = Party(f"10.244.{hour % 3}.250", node.name, identity=4, reserved="world")
    probe = Connection(story.cluster.host(node.name), health, "TCP", 0, 0, START + hour * 3600 * SECOND)
    record = writer.trace(probe, probe.at, node.name, "TO_ENDPOINT", "", reason="NEW")
    record["flow"]["l4"] = {"ICMPv4": {"type": 8}}
    record["flow"]["destination"] = {"ID": 132, "identity": 4, "labels": ["reserved:health"]}
    return record


def _interruptions() -> list[dict[str, Any]]:
    """Events that are not flows: losses, and a node that was away for a minute."""
    lost = {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "1"}
    queue = {"source": "OBSERVER_EVENTS_QUEUE", "num_events_lost": "38"}
    away = {"state_change": "NODE_UNAVAILABLE", "node_names": ["node-3"], "message": "connection refused"}
    back = {"state_change": "NODE_CONNECTED", "node_names": ["node-3"]}
    return [
        {kind: content, "node_name": node, "time": stamp(START + second * SECOND)}
        for second, node, kind, content in (
            (1200, "node-1", "lost_events", lost),
            (5000, "node-2", "lost_events", queue),
            (7000, "node-1", "node_status", away),
            (7060, "node-1", "node_status", back),
        )
    ]
