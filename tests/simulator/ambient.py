"""A small shop in ambient mode: two nodes, each with a ztunnel that logs; one writes text, the other JSON.

Invariant: a connection inside the mesh is logged by both ends' ztunnels; plaintext only by the destination's.
"""

from __future__ import annotations

from tests.simulator import inventory, tables, ztunnel
from tests.simulator.hubble import Connection
from tests.simulator.tables import Edge, Story
from tests.simulator.ztunnel import Fields

SEED = 59
WAYPOINT = "bazaar/waypoint"
BEHIND = "bazaar/catalog"


def files() -> dict[str, bytes]:
    """File name → content of everything that the simulator makes for this story."""
    story = tables.read("ambient", SEED, nodes=2)
    story.cluster.namespaces["bazaar"]["istio.io/dataplane-mode"] = "ambient"
    made = [(edge, c) for edge in story.edges for c in story.connections(edge)]
    text, flat = [], []
    for edge, c in sorted(made, key=lambda pair: pair[1].at):
        for node, found in _logged(story, edge, c):
            if node == "node-1":
                text.append(ztunnel.as_text(c, found))
            else:
                flat.append(ztunnel.as_json(c, found))
    return {
        "ztunnel-node-1.log": tables.lines(text),
        "ztunnel-node-2.jsonl": tables.lines(flat),
        "inventory.yaml": inventory.to_yaml(inventory.documents(story.cluster)).encode(),
        "truth.jsonl": tables.lines(tables.truth(made)),
        "never.jsonl": tables.lines(tables.never(story.edges)),
    }


def _logged(story: Story, edge: Edge, c: Connection) -> list[tuple[str, Fields]]:
    """(node, fields) of each line about one connection, by the sort of its edge."""
    if edge.sort == "plaintext":
        return [(c.destination.node, ztunnel.fields(c, "inbound", story.rng, plaintext=True))]
    if edge.sort == "denied":
        return [(c.destination.node, ztunnel.fields(c, "inbound", story.rng, error=ztunnel.REJECTED))]
    if edge.destination == WAYPOINT:  # the waypoint ends HBONE itself: only the client's ztunnel logs
        asked = ztunnel.fields(c, "outbound", story.rng) | {"dst.service": "catalog.bazaar.svc.cluster.local"}
        address = f"{story.cluster.cluster_ips[BEHIND]}:80"
        return [(c.source.node, ztunnel.through_waypoint(asked, c.destination, address))]
    found = [(c.destination.node, ztunnel.fields(c, "inbound", story.rng))]
    if edge.source != WAYPOINT:
        found.insert(0, (c.source.node, ztunnel.fields(c, "outbound", story.rng)))
    return found
