"""From records to standings: what a scene's capture is settled to, in one line a pattern."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from collector.endpoints import Endpoint
from collector.patterns import Patterns
from collector.settlement import settle
from collector.sources import hubble_json
from collector.standing import Pattern, Standing
from tests.e2e.hostile.scene import End, Record, Scene

INITIATED, INFERRED, UNANSWERED = Standing.INITIATED, Standing.INFERRED, Standing.UNANSWERED
DENIED, AUDITED, OPEN = Standing.DENIED, Standing.AUDITED, Standing.OPEN
Told = dict[str, Standing]
Declared = Callable[[Endpoint, str, int], bool]


def fold(records: Iterable[Record]) -> Patterns:
    patterns, bad = Patterns(), list[int]()
    hubble_json.fold(
        enumerate((json.dumps(record).encode() for record in records), 1), patterns, lambda line, _: bad.append(line)
    )
    assert bad == []
    return patterns


def conclusion(of: Scene | Patterns, declared: Declared = lambda *_: False) -> list[Pattern]:
    """The settled patterns, endpoints being who they are."""
    return settle(of if isinstance(of, Patterns) else fold(of.records), lambda endpoint: endpoint, declared).patterns


def told(of: Scene | Patterns, declared: Declared = lambda *_: False) -> Told:
    """`web → api:8080 TCP` and its standing."""
    return {line_of(pattern): pattern.standing for pattern in conclusion(of, declared)}


def line_of(pattern: Pattern) -> str:
    names = [dict(end.labels).get("app", str(end)) for end in (pattern.source, pattern.destination)]
    return f"{names[0]} → {names[1]}:{pattern.port} {pattern.protocol}"


def at_api(*ports: int) -> Declared:
    """The inventory knows these ports of api's."""
    return lambda endpoint, _, port: dict(endpoint.labels).get("app") == "api" and port in ports


def mislabelled(s: Scene, server: End, client: End, port: int, ports: Sequence[int], **how: Any) -> None:
    """The server's packets, taken for new connections to the client's ports."""
    for own in ports:
        s.packet(server, client, port, own, reply=False, reason="NEW", node=client.node, **{"flags": "ACK PSH"} | how)


def unmarked(
    s: Scene, client: End, server: End, port: int, ports: Iterable[int], answers: bool = True, protocol: str = "TCP"
) -> None:
    """Packets of which nothing but the ports tells the direction."""
    for own in ports:
        s.packet(client, server, own, port, protocol, flags="ACK", reply=None)
        if answers:
            s.packet(server, client, port, own, protocol, flags="ACK", reply=None)
