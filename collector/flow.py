"""One observed connection or request, independent of where it was seen.

Invariant: `source` opened the connection. Only with `Signal.OPEN` is it not known yet which end did; then both ports
are kept. A source turns its records into `Flow`s and hands them to `Patterns.add`; nothing downstream knows the format.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from collector.endpoints import ADDRESS, Endpoint


class Protocol(StrEnum):
    """What a NetworkPolicy port can name."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class Signal(StrEnum):
    """What one record says about its connection."""

    OPENED = "opened"  # the initiator's first packet: SYN without ACK, a policy verdict, an L7 request
    CARRIED = "carried"  # the initiator speaks inside an established connection
    ANSWERED = "answered"  # the responder replied
    REFUSED = "refused"  # the responder, or the proxy for it, reset or rejected the connection
    DENIED = "denied"  # a policy stopped it; Flow.reason says which way
    AUDITED = "audited"  # a policy in audit mode would have stopped it
    OPEN = "open"  # it is not known which end opened it; both ports are kept, and collector.settlement decides


class Flow(msgspec.Struct):
    """One record of traffic.

    `port` is the port at the destination POD; `source_port` matters only with `Signal.OPEN`. `time` is RFC 3339,
    UTC. `source_pod` and `destination_pod` are pod names, `*_address` IP addresses ("" when unknown). `method` and
    `path` (no query string, as sent) are set for HTTP and gRPC; `status` is the HTTP status, 0 when unknown.
    `principal` is the peer's SPIFFE identity as the receiving proxy saw it, without scheme. `mtls` is None when
    the record cannot tell. `names` are host names of the destination. `reason` explains DENIED. `socket` names the
    connection (the opener's pod and port) or, where that is unknown, the record; "" when it cannot be told from
    others. `flow_id` finds the record again in its capture. `point` tells observation points apart: one connection
    is reported once at each. `side` is the end whose node or proxy reported. `origin` names the source module.
    """

    source: Endpoint = ADDRESS
    destination: Endpoint = ADDRESS
    protocol: str = Protocol.TCP
    port: int = 0
    signal: Signal = Signal.OPENED
    time: str = ""
    source_pod: str = ""
    destination_pod: str = ""
    source_address: str = ""
    destination_address: str = ""
    source_port: int = 0
    method: str = ""
    path: str = ""
    status: int = 0
    principal: str = ""
    mtls: bool | None = None
    names: tuple[str, ...] = ()
    reason: str = ""
    socket: str = ""
    flow_id: str = ""
    point: str = ""
    side: str = ""
    origin: str = ""
