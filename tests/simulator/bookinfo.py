"""Bookinfo as the access logs of an Istio mesh with sidecars tell it, with the four keys that make them useful.

Invariant: each request between two sidecars is logged twice, once by each; only the inbound line knows who called.
"""

from __future__ import annotations

from tests.simulator import envoy, inventory, tables
from tests.simulator.envoy import Line, Request
from tests.simulator.hubble import Connection
from tests.simulator.tables import Edge, Story

SEED = 23
GATEWAY = "istio-system/istio-ingressgateway"
SITE = "bookinfo.example.com"


def files() -> dict[str, bytes]:
    """File name → content of everything that the simulator makes for this story."""
    story = tables.read("bookinfo", SEED)
    story.cluster.namespaces["bookinfo"]["istio-injection"] = "enabled"
    made = [(edge, c) for edge in story.edges for c in story.connections(edge)]
    logged = [line for edge, c in made for line in _logged(story, edge, c)]
    logged.sort(key=lambda line: str(line["start_time"]))
    return {
        "access-log.jsonl": tables.lines(logged),
        "inventory.yaml": inventory.to_yaml(inventory.documents(story.cluster)).encode(),
        "truth.jsonl": tables.lines(tables.truth(made)),
        "never.jsonl": tables.lines(tables.never(story.edges)),
    }


def _logged(story: Story, edge: Edge, c: Connection) -> list[Line]:
    """The lines about one request, by the sort of its edge."""
    if edge.sort == "plaintext":
        return [envoy.inbound(Request(c, plaintext=True), story.rng)]
    if edge.sort == "forbidden":
        return [envoy.inbound(Request(c, 403, envoy.NO_POLICY_MATCHED), story.rng)]
    if edge.source == GATEWAY:
        r = Request(c, 404 if edge.sort == "scanned" else 200, authority=SITE)
        client = f"203.0.113.{66 if edge.sort == 'scanned' else story.rng.randrange(1, 60)}"
        return [envoy.at_gateway(r, story.cluster, client, story.rng), envoy.inbound(r, story.rng)]
    r = Request(c)
    return [envoy.outbound(r, story.cluster, story.rng), envoy.inbound(r, story.rng)]
