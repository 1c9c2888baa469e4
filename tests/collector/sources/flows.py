"""Hubble flows between two pods, web and api, for the tests of the readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from collector.evidence import Evidence
from collector.patterns import Patterns
from collector.sources import hubble_json
from tests.collector.sources.entries import folded

Json = dict[str, Any]
WEB: Json = {
    "ID": 9,
    "identity": 1001,
    "namespace": "shop",
    "labels": ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"],
    "pod_name": "web-6b746f74dc-9rcxx",
    "workloads": [{"name": "web", "kind": "Deployment"}],
}
API: Json = {
    "identity": 1002,
    "namespace": "shop",
    "labels": ["gen:io.cilium.k8s.named-ports=http.TCP.8080", "k8s:app=api", "k8s:io.kubernetes.pod.namespace=shop"],
    "pod_name": "api-7d9f8b6c55-x2x2x",
}
SYN = {"SYN": True}
SYN_ACK = {"SYN": True, "ACK": True}
ACK = {"ACK": True}
REQUEST: Json = {"type": "REQUEST", "http": {"method": "GET", "url": "http://api:8080/items?full=1"}}
RESPONSE: Json = {"type": "RESPONSE", "http": {"code": 200, "method": "GET", "url": "http://api:8080/items?full=1"}}
TO_API = "shop/app=web -> pod shop/app=api:8080"
OLD_REPLY: Json = {"reply": True, "is_reply": None}


def flow(
    sport: int = 41000, dport: int = 8080, flags: Json | None = None, protocol: str = "TCP", **fields: Any
) -> Json:
    """A flow from web to api, as it arrives at api's pod; a field that is given as None is null."""
    ports: Json = {"source_port": sport, "destination_port": dport} | ({"flags": flags} if flags else {})
    found: Json = {
        "time": "2026-03-02T08:00:01.5Z",
        "uuid": "id-5",
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
        "l4": {protocol: ports},
        "source": WEB,
        "destination": API,
        "Type": "L3_L4",
        "event_type": {"type": 4},
        "trace_observation_point": "TO_ENDPOINT",
        "is_reply": False,
    }
    return found | fields


def back(sport: int = 8080, dport: int = 41000, flags: Json | None = None, **fields: Any) -> Json:
    """A flow from api to web, marked as the reply that it is."""
    ends = {"IP": {"source": "10.0.0.2", "destination": "10.0.0.1"}, "source": API, "destination": WEB}
    return flow(sport, dport, flags, **({"is_reply": True} | ends | fields))


def fold(*records: Any) -> Patterns:
    """The patterns of records that are all readable."""
    patterns, bad = folded(hubble_json, *(json.dumps(record) for record in records))
    assert bad == []
    return patterns


def skipped(patterns: Patterns) -> dict[str, int]:
    return dict(patterns.quality.skipped.items())


def one(patterns: Patterns, port: int = 8080) -> Evidence:
    """The evidence at a port of the only edge."""
    (edge,) = patterns.edges.values()
    return dict(edge.ports())[port]


FORMS: tuple[Callable[[Json], Json], ...] = (
    lambda record: {"flow": record, "node_name": "node-1", "time": record.get("time")},
    lambda record: record,
    lambda record: {"log": json.dumps({"flow": record}) + "\n", "stream": "stdout"},
)
