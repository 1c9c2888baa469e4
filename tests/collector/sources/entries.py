"""Access log entries of an invented shop, and what becomes of them."""

from __future__ import annotations

from typing import Any

from collector.flow import Flow
from collector.patterns import Patterns
from collector.sources import Source
from collector.sources.accesslog import Outcome, Unusable, flows_of
from collector.sources.accesslog_record import record_of

INBOUND: dict[str, Any] = {
    "start_time": "2026-03-01T08:00:00.250Z",
    "method": "GET",
    "path": "/carts/7?full=yes#top",
    "response_code": 200,
    "response_flags": "-",
    "response_code_details": "via_upstream",
    "connection_termination_details": None,
    "bytes_sent": 12,
    "upstream_host": "10.9.0.20:8080",
    "upstream_cluster": "inbound|8080||",
    "upstream_local_address": "127.0.0.6:41000",
    "downstream_local_address": "10.9.0.20:8080",
    "downstream_remote_address": "10.9.0.10:50000",
    "requested_server_name": None,
    "request_id": "b6f0",
}
OUTBOUND: dict[str, Any] = INBOUND | {
    "upstream_cluster": "outbound|80||cart.shop.svc.cluster.local",
    "upstream_local_address": "10.9.0.10:40000",
    "downstream_local_address": "10.200.0.5:80",
}
TCP: dict[str, Any] = {"method": None, "path": None, "response_code": 0, "response_code_details": None}
CALLER = "spiffe://mesh.example/ns/shop/sa/web"


def outcomes(entry: dict[str, Any]) -> tuple[Outcome, ...]:
    """Everything that one entry gives."""
    return flows_of(record_of(entry, "test"))


def flow(entry: dict[str, Any]) -> Flow:
    """The one flow of an entry."""
    (outcome,) = outcomes(entry)
    assert isinstance(outcome, Flow), outcome
    return outcome


def unusable(entry: dict[str, Any]) -> Unusable:
    """Why an entry gives no flow."""
    (outcome,) = outcomes(entry)
    assert isinstance(outcome, Unusable), outcome
    return outcome


def folded(source: Source, *lines: str | bytes) -> tuple[Patterns, list[tuple[int, str]]]:
    """The patterns of some lines, and the bad lines among them."""
    patterns, bad = Patterns(), list[tuple[int, str]]()
    raw = [line.encode() if isinstance(line, str) else line for line in lines]
    source.fold(enumerate(raw, 1), patterns, lambda number, reason: bad.append((number, reason)))
    return patterns, bad


def told(patterns: Patterns) -> list[str]:
    """Every edge, port and signal as "source -> destination:port signal records"."""
    return [
        f"{key.source} -> {key.destination.kind} {key.destination}:{port} {name} {records}"
        for key, edge in patterns.sorted_edges()
        for port, evidence in edge.ports()
        for name, records in sorted(evidence.signals.items())
    ]
