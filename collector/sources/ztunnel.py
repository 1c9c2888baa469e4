"""ztunnel's access log (Istio ambient), as text and as JSON: one record a connection, seen at either end.

Invariant: a certificate is believed before a name, and a record counts only with the port that the workload listens on.
ztunnel carries everything over HBONE to port 15008, and older versions do not log the port inside.

Facts: ztunnel, src/proxy/metrics.rs. Workload values are pod names; values are quoted or not, depending on the version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from collector.endpoints import ADDRESS, Endpoint, Principal
from collector.flow import Flow, Protocol, Signal
from collector.patterns import Patterns
from collector.records import several
from collector.sources.accesslog import Outcome, Unusable, fold_lines, no_entry, request_problem
from collector.sources.accesslog_names import service_of
from collector.sources.accesslog_record import (
    Peer,
    SocketAddress,
    address_of,
    checked_peer,
    first_principal,
    number_of,
    peer_of_principal,
    text_of,
)
from collector.sources.accesslog_text import is_message, without_prefix
from collector.urls import path_of

ORIGIN = "ztunnel"
HBONE = 15008  # where ztunnel receives tunnels (Istio, "Application Requirements", "Ports used by Istio")

_ENTRY = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.?\d*Z)\s+(?:trace|debug|info|warn|error)\s+access\s+"
    r"(connection complete|connection opened|request complete)(?=\s|\Z)",
    re.ASCII,
)
_FIELD = re.compile(r'([a-z_]+(?:\.[a-z_]+)?)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?=\s|\Z)', re.ASCII)
_MESSAGES = frozenset({"connection complete", "connection opened", "request complete"})
# ztunnel rejects a connection that policy denies with one of these; the client's ztunnel sees the 401.
_DENIED = re.compile(r"policy rejection|allow policies|denied by|policy change|401 unauthorized", re.IGNORECASE)

_AMBIGUOUS = Unusable("ztunnel record that is cut or ambiguous")
_NO_ADDRESS = Unusable("no destination address")
_NO_PORT = Unusable("ztunnel record without the real port", readable=True)  # of an old version: only the tunnel's

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def recognises(head: bytes) -> bool:
    """True if the first record is a ztunnel access log record, in text or JSON."""
    text = without_prefix(head.decode("utf-8", "replace").strip())
    if not text.startswith("{"):
        return _ENTRY.match(text) is not None
    try:
        return _is_entry(_decode(text.encode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return False


def fold(lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Callable[[int, str], None]) -> None:
    """Count every record of `lines` (line number, line) into `patterns`; see `fold_lines`."""
    fold_lines(lines, outcomes, patterns, bad)


def outcomes(line: bytes) -> tuple[Outcome, ...]:
    """The flow of every record on one line (some writers lose line breaks), or why there is none."""
    text = without_prefix(line.decode("utf-8", "replace").strip())
    if text.startswith("{"):
        try:
            fields = _decode(text.encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            pieces = several(text.encode("utf-8", "replace"))
            return tuple(found for piece in pieces for found in outcomes(piece)) or (Unusable("not a JSON object"),)
        if not _is_entry(fields):
            return (no_entry(line, "message of the proxy"),)
        return (outcome_of(fields, text_of(fields.get("message")), text_of(fields.get("time"))),)
    entries = list(_ENTRY.finditer(text))
    if not entries or entries[0].start():
        message = not entries and is_message(text)
        return (
            Unusable("message of the proxy", readable=True) if message else Unusable("not a ztunnel access record"),
        )
    ends = [entry.start() for entry in entries[1:]] + [len(text)]
    return tuple(
        _of_text(text[entry.end() : end], entry[2], entry[1]) for entry, end in zip(entries, ends, strict=True)
    )


def _of_text(text: str, message: str, time: str) -> Outcome:
    """One record: nothing but key=value pairs after its beginning, each key once."""
    fields: dict[str, str] = {}
    read = 0
    for match in _FIELD.finditer(text):
        if match[1] in fields or not _blank(text, read, match.start()):
            return _AMBIGUOUS
        fields[match[1]] = match[3] if match[2] is None else match[2]
        read = match.end()
    if not _blank(text, read, len(text)):
        return _AMBIGUOUS
    return outcome_of(fields, message, time)


def _blank(text: str, start: int, end: int) -> bool:
    return start == end or text[start:end].isspace()


def _is_entry(fields: Mapping[str, object]) -> bool:
    return "src.addr" in fields or "dst.addr" in fields


class _End:
    """One end of a connection as a record names it."""

    __slots__ = ("address", "host", "peer", "principal")

    def __init__(self, get: Callable[[str], object], prefix: str) -> None:
        self.address: SocketAddress = address_of(text_of(get(f"{prefix}.addr")))
        self.principal: Principal | None = first_principal(text_of(get(f"{prefix}.identity")))
        self.host = text_of(get(f"{prefix}.service")).lower()
        namespace, pod = text_of(get(f"{prefix}.namespace")), text_of(get(f"{prefix}.workload"))
        service = service_of(self.host)
        if self.principal is not None:
            namespace = self.principal.namespace
        elif service is not ADDRESS and namespace == service.workload:
            namespace = service.namespace  # old versions log the Service's name as the namespace
        self.peer: Peer = peer_of_principal(self.principal).filled(checked_peer(namespace, pod=pod))


def outcome_of(fields: Mapping[str, object], message: str, time: str) -> Outcome:
    """The flow of one record, or why it has none. `fields` by ztunnel's own keys."""
    if message not in _MESSAGES:
        return Unusable("ztunnel record of another kind", readable=True)
    get = fields.get
    method, path = text_of(get("method")), text_of(get("path"))
    if problem := request_problem(method, path):
        return Unusable(problem)
    source, callee = _End(get, "src"), _End(get, "dst")
    inner = address_of(text_of(get("dst.hbone_addr")))
    tunnelled = bool(inner[1]) or callee.address[1] == HBONE
    port = inner[1] or callee.address[1]
    if not port or (port == HBONE and not inner[1]):
        return _NO_PORT if port else _NO_ADDRESS
    waypoint = bool(inner[0] and callee.address[0] and inner[0] != callee.address[0])
    destination, pod, address = _destination(callee, inner, waypoint)
    inbound = text_of(get("direction")) == "inbound"
    signal, reason = _signal(get, message)
    return Flow(
        source=source.peer.endpoint,
        destination=destination,
        protocol=Protocol.TCP,
        port=port,
        signal=signal,
        time=time[:64],
        source_pod=source.peer.pod,
        destination_pod=pod,
        source_address=source.address[0],
        destination_address=address,
        method=method,
        path=path_of(path),
        status=min(number_of(get("response_code")), 999),
        principal=str(source.principal) if source.principal is not None and (tunnelled or inbound) else "",
        mtls=source.principal is not None if inbound else tunnelled,
        reason=reason,
        socket=f"{source.address[0]} {source.address[1]:05d}" if source.address[1] else time[:64],
        point="waypoint" if waypoint else "inbound" if inbound else "outbound",
        side="destination" if inbound else "source",
        origin=ORIGIN,
    )


def _destination(callee: _End, inner: SocketAddress, waypoint: bool) -> tuple[Endpoint, str, str]:
    """Endpoint, pod name and pod address of the destination.

    Behind a waypoint the record names the waypoint's pod; who is meant is the Service, and its address is no pod's.
    """
    service = service_of(callee.host)
    if waypoint:
        return service, "", ("" if service is not ADDRESS else inner[0])
    address = inner[0] or callee.address[0]
    if service.kind == "entity":
        return service, "", address
    found = callee.peer.endpoint
    return (found, callee.peer.pod, address) if found is not ADDRESS else (service, "", address)


def _signal(get: Callable[[str], object], message: str) -> tuple[Signal, str]:
    if message == "connection opened":
        return Signal.OPENED, ""
    error = text_of(get("error"))
    if not error:
        return Signal.ANSWERED, ""
    if _DENIED.search(error[:512]) is not None:
        return Signal.DENIED, "ztunnel policy"
    # A long connection that ends with an error, after both sides spoke, was a connection nevertheless.
    spoke = number_of(get("bytes_sent")) > 0 and number_of(get("bytes_recv")) > 0
    return (Signal.ANSWERED if spoke else Signal.REFUSED), ""
