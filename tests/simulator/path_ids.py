"""Paths full of identifiers, as an access-log service records them: which segments are names and which are values?

Invariant: only server-side entries are recorded, each with the caller's certificate; identifiers are drawn anew for
each request, so no exact path can describe them.
"""

from __future__ import annotations

from random import Random

from tests.simulator import envoy, inventory, tables
from tests.simulator.cluster import Party
from tests.simulator.envoy import Line, Request
from tests.simulator.hubble import Connection
from tests.simulator.tables import Edge

SEED = 31
BATCH = 8  # entries per message, at most


def files() -> dict[str, bytes]:
    """File name → content of everything that the simulator makes for this story."""
    story = tables.read("path-ids", SEED)
    story.cluster.namespaces["shop"]["istio-injection"] = "enabled"
    made = [(edge, c) for edge in story.edges for c in story.connections(edge)]
    streams: dict[Party, list[tuple[Edge, Connection]]] = {}
    for edge, c in sorted(made, key=lambda pair: pair[1].at):
        streams.setdefault(c.destination, []).append((edge, c))
    messages: list[Line] = []
    for reporter, requests in streams.items():
        for start in range(0, len(requests), BATCH):
            entries = [_entry(story.rng, edge, c) for edge, c in requests[start : start + BATCH]]
            messages.append(envoy.als_message(reporter, entries))
    return {
        "als.jsonl": tables.lines(messages),
        "inventory.yaml": inventory.to_yaml(inventory.documents(story.cluster)).encode(),
        "truth.jsonl": tables.lines(tables.truth(made)),
        "never.jsonl": tables.lines(tables.never(story.edges)),
    }


def _entry(rng: Random, edge: Edge, c: Connection) -> Line:
    status = 404 if edge.sort == "scanned" else 200
    return envoy.als_entry(Request(c, status), rng, grpc=c.path.startswith("/shop.v1."))
