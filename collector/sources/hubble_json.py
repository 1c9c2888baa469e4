"""Hubble flows as JSON lines (`hubble observe -o jsonpb`, the exporter's files, bare flows) → patterns.

Invariant: nothing is parsed twice. A record's two endpoints stay raw bytes and are looked up among the endpoints already
met; a flow that was met before in the same hour costs one dictionary update. Counts are handed to `Patterns` in batches,
which changes nothing in the result (see `Patterns.merge`).

Facts: the field names are Cilium's API in protojson form with proto names; enums are names, zero values are absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from collector.direction import first_look
from collector.flow import Flow, Signal
from collector.patterns import EdgeKey, Patterns, seconds
from collector.sources.hubble_endpoints import Parties, Party
from collector.urls import path_of

ORIGIN = "hubble"
BATCH = 1 << 16  # distinct counters held before they are handed over
_POLICY_DROPS = {"POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED"}
_POLICY_DROP_NUMBERS = {133: "POLICY_DENIED", 181: "POLICY_DENY", 189: "AUTH_REQUIRED"}


class TCPFlags(msgspec.Struct):
    SYN: bool = False
    ACK: bool = False
    RST: bool = False


class Ports(msgspec.Struct):
    source_port: int = 0
    destination_port: int = 0
    flags: TCPFlags | None = None


class Layer4(msgspec.Struct):
    TCP: Ports | None = None
    UDP: Ports | None = None
    SCTP: Ports | None = None
    ICMPv4: msgspec.Raw = msgspec.Raw(b"")
    ICMPv6: msgspec.Raw = msgspec.Raw(b"")


class Addresses(msgspec.Struct):
    source: str = ""
    destination: str = ""


class EventType(msgspec.Struct):
    type: int = 0
    sub_type: int = 0


class HubbleFlow(msgspec.Struct):
    """The fields of flow.Flow that are read; everything else is skipped by the decoder."""

    time: str = ""
    verdict: str = ""
    drop_reason: int = 0
    drop_reason_desc: str = ""
    IP: Addresses | None = None
    l4: Layer4 | None = None
    source: msgspec.Raw = msgspec.Raw(b"")
    destination: msgspec.Raw = msgspec.Raw(b"")
    Type: str = ""
    destination_names: list[str] | None = None
    l7: msgspec.Raw = msgspec.Raw(b"")  # Raw takes no None: absent is empty, null is b"null"
    reply: bool | None = None
    is_reply: bool | None = None
    event_type: EventType | None = None
    trace_observation_point: str = ""
    uuid: str = ""


class LostEvents(msgspec.Struct):
    source: str = "UNKNOWN_LOST_EVENT_SOURCE"
    num_events_lost: str | int = 0


class NodeStatus(msgspec.Struct):
    state_change: str = "UNKNOWN_NODE_STATE"
    node_names: list[str] | None = None


class Line(msgspec.Struct):
    """observer.GetFlowsResponse or ExportEvent."""

    flow: HubbleFlow | None = None
    lost_events: LostEvents | None = None
    node_status: NodeStatus | None = None
    agent_event: msgspec.Raw = msgspec.Raw(b"")
    debug_event: msgspec.Raw = msgspec.Raw(b"")
    node_name: str = ""


class Http(msgspec.Struct):
    code: int = 0
    method: str = ""
    url: str = ""


class Dns(msgspec.Struct):
    query: str = ""


class Layer7(msgspec.Struct):
    type: str = ""
    http: Http | None = None
    dns: Dns | None = None


class Envelope(msgspec.Struct):
    """What log shippers wrap a line in."""

    log: str | None = None
    line: str | None = None
    message: str | None = None


_line = msgspec.json.Decoder(Line).decode
_bare = msgspec.json.Decoder(HubbleFlow).decode
_envelope = msgspec.json.Decoder(Envelope).decode
_layer7 = msgspec.json.Decoder(Layer7 | None).decode
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_WRAPPERS = {"flow", "lost_events", "node_status", "agent_event", "debug_event"}
_BARE = {"verdict", "l4", "traffic_direction", "event_type", "trace_observation_point", "is_reply"}


def recognises(head: bytes) -> bool:
    """True if the first record of a file is a Hubble event, wrapped, bare or inside a log shipper's envelope."""
    try:
        keys = set(_keys(head))
    except msgspec.MsgspecError:
        return False
    if keys & _WRAPPERS or len(keys & _BARE) >= 2 or {"source", "destination", "time"} <= keys:
        return True
    inner = _unwrap(head)
    return inner is not None and recognises(inner)


def _unwrap(line: bytes) -> bytes | None:
    try:
        envelope = _envelope(line)
    except msgspec.MsgspecError:
        return None
    text = envelope.log or envelope.line or envelope.message
    return text.strip().encode() if text and text.lstrip().startswith("{") else None


def decode(line: bytes) -> Line:
    """One record in any of the forms above.

    Raises msgspec.MsgspecError when it is none of them.
    """
    record = _line(line)
    if record.flow is None and record.lost_events is None and record.node_status is None:
        keys = set(_keys(line))
        if keys & _BARE or {"source", "destination"} <= keys:
            record.flow = _bare(line)
        elif not keys & _WRAPPERS:
            inner = _unwrap(line)
            if inner is None:
                raise msgspec.ValidationError("neither a flow nor another Hubble event")
            return decode(inner)
    return record


def fold(lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Callable[[int, str], None]) -> None:
    """Count every record of `lines` (line number, one JSON value) into `patterns`.

    `bad(number, reason)` is called for a record that cannot be read; it is counted in `patterns.quality.bad` and never
    stops the run.
    """
    counter = FlowCounter(patterns)
    count = counter.count
    for number, line in lines:
        try:
            try:
                record = _line(line)
                flow = record.flow
                if flow is None:
                    record = decode(line)
                    flow = record.flow
            except UnicodeDecodeError as error:
                raise msgspec.ValidationError("not UTF-8") from error
            if flow is not None:
                count(flow)
            else:
                counter.event(record)
        except (msgspec.MsgspecError, RecursionError) as error:
            reason = f"not a Hubble flow: {str(error).partition(' - at ')[0]}"[:120]
            patterns.quality.bad.add(reason, 1)
            bad(number, reason)
    counter.flush()


class FlowCounter:
    """Counts Hubble flows; `flush` must be called before the patterns are read.

    Used by the file reader and by the live gRPC client alike.
    """

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self.parties = Parties(patterns)
        # (source, destination, protocol, port, signal, source port, hour) → [records, first, last, smallest id]
        self.counts: dict[tuple[Party, Party, str, int, str, int, str], list[Any]] = {}
        self.replies = 0

    def count(self, flow: HubbleFlow) -> None:
        """Count one flow."""
        l4, ip = flow.l4, flow.IP
        if l4 is None:
            return self._skip("no layer 4")
        if (ports := l4.TCP) is not None:
            protocol = "TCP"
        elif (ports := l4.UDP) is not None:
            protocol = "UDP"
        elif (ports := l4.SCTP) is not None:
            protocol = "SCTP"
        else:
            return self._skip("ICMP" if len(l4.ICMPv4) or len(l4.ICMPv6) else "no layer 4")
        sport, dport = ports.source_port, ports.destination_port
        if not (0 < dport < 65536 and 0 <= sport < 65536):
            return self._skip("no port")
        verdict = flow.verdict
        if verdict == "FORWARDED" or verdict == "REDIRECTED":
            if flow.Type == "SOCK":
                return self._skip("socket translation")
        elif verdict != "AUDIT":
            if verdict == "DROPPED":
                return self._dropped(flow, protocol, ports)
            return self._skip(f"verdict {verdict}" if verdict in _VERDICTS else "no verdict")
        reply = flow.is_reply if flow.is_reply is not None else (True if flow.reply else None)
        kind = flow.event_type.type if flow.event_type is not None else 0
        swapped, signal = first_look(protocol, ports.flags, sport, dport, reply, kind == 5)
        party = self.parties.of
        near = party(flow.source, ip.source if ip is not None else "", not swapped)
        far = party(flow.destination, ip.destination if ip is not None else "", swapped)
        if swapped:
            near, far, sport, dport = far, near, dport, sport
            self.replies += 1
        if len(flow.l7):
            return self._layer7(flow, near, far, protocol, dport)
        name: str = signal
        if signal == "open":
            name = "open:unknown" if reply is None else "open:reply" if reply else "open:new"
        elif signal == "opened" or signal == "carried":
            name = f"{signal}:{'verdict' if kind == 5 else flow.trace_observation_point}"
        if verdict == "AUDIT":
            name = "audited"
        time = flow.time
        key = (near, far, protocol, dport, name, sport if signal == "open" else 0, time[:13])
        known = self.counts.get(key)
        if known is None:
            self.counts[key] = [1, time, time, flow.uuid or time]
            if len(self.counts) >= BATCH:
                self.flush()
        else:
            known[0] += 1
            if time < known[1]:
                known[1] = time
            if time > known[2]:
                known[2] = time
            if (flow_id := flow.uuid or time) < known[3]:
                known[3] = flow_id
        if flow.destination_names and not swapped:
            self._names(near, far, protocol, dport, signal, sport, flow.destination_names)

    def event(self, record: Line) -> None:
        """Count an event that is no flow: lost events, node status, agent and debug events."""
        quality = self.patterns.quality
        if record.lost_events is not None:
            try:
                lost = max(1, int(record.lost_events.num_events_lost))
            except ValueError:
                lost = 1
            quality.lost.add(f"{record.node_name or 'unknown node'} {record.lost_events.source}", lost)
        elif record.node_status is not None:
            for node in record.node_status.node_names or [record.node_name or "unknown node"]:
                quality.nodes.add(f"{record.node_status.state_change} {node}", 1)
        else:
            quality.skipped.add("agent or debug event", 1)

    def flush(self) -> None:
        """Hand the counts over to the patterns."""
        patterns = self.patterns
        for (near, far, protocol, port, name, sport, _), (records, first, last, flow_id) in self.counts.items():
            key = EdgeKey(near.endpoint, far.endpoint, protocol)
            signal = Signal(name.partition(":")[0])
            evidence = patterns.evidence(key, port, signal, sport)
            evidence.signal(name.removesuffix(":"), records)
            evidence.sample(name.removesuffix(":"), flow_id)
            begin, end = seconds(first), seconds(last)
            evidence.span(begin, end)
            evidence.hours.add(begin // 3600, records)
            evidence.sources.add(near.party, records)
            evidence.destinations.add(far.party, records)
            if near.local:
                evidence.sides.add("source")
            if far.local:
                evidence.sides.add("destination")
            self.parties.sight(near, records)
            self.parties.sight(far, records)
            patterns.quality.saw(ORIGIN, begin, records)
            patterns.quality.saw(ORIGIN, end, 0)
        patterns.quality.replies += self.replies
        self.replies = 0
        self.counts.clear()
        self.parties.forget()

    def _skip(self, reason: str) -> None:
        self.patterns.quality.skipped.add(reason, 1)

    def _names(
        self, near: Party, far: Party, protocol: str, port: int, signal: str, sport: int, names: list[str]
    ) -> None:
        evidence = self.patterns.evidence(EdgeKey(near.endpoint, far.endpoint, protocol), port, Signal(signal), sport)
        for name in names[:8]:
            evidence.names.add(name[:253].rstrip("."), 1)

    def _dropped(self, flow: HubbleFlow, protocol: str, ports: Ports) -> None:
        """A drop by policy is a denied connection; any other drop says nothing about intent."""
        number = flow.drop_reason or (flow.event_type.sub_type if flow.event_type is not None else 0)
        reason = flow.drop_reason_desc or _POLICY_DROP_NUMBERS.get(number, "")
        if reason not in _POLICY_DROPS and (reason or number):
            return self._skip("dropped, not by policy")
        swapped, _ = first_look(protocol, ports.flags, ports.source_port, ports.destination_port, flow.is_reply, False)
        if swapped:
            return self._skip("dropped reply")
        ip = flow.IP
        near = self.parties.of(flow.source, ip.source if ip is not None else "", True)
        far = self.parties.of(flow.destination, ip.destination if ip is not None else "", False)
        self.patterns.add(
            Flow(
                near.endpoint,
                far.endpoint,
                protocol,
                ports.destination_port,
                Signal.DENIED,
                flow.time,
                near.pod,
                far.pod,
                near.address,
                far.address,
                reason=reason or "no reason given",
                flow_id=flow.uuid,
                origin=ORIGIN,
            )
        )

    def _layer7(self, flow: HubbleFlow, near: Party, far: Party, protocol: str, port: int) -> None:
        """A request or response that the proxy logged; `near` asked, `far` answers."""
        record = _layer7(flow.l7) or Layer7()
        http = record.http
        answered = record.type == "RESPONSE"
        method, path = ("", "")
        if http is not None:
            method, path = http.method, path_of(http.url)
        self.patterns.add(
            Flow(
                near.endpoint,
                far.endpoint,
                protocol,
                port,
                Signal.ANSWERED if answered else Signal.OPENED,
                flow.time,
                near.pod,
                far.pod,
                near.address,
                far.address,
                method=method,
                path=path,
                status=http.code if http is not None and answered else 0,
                names=tuple(name[:253].rstrip(".") for name in (flow.destination_names or ())[:8]) if not answered else (),
                flow_id=flow.uuid,
                point="l7",
                origin=ORIGIN,
            )
        )


_VERDICTS = {"ERROR", "TRACED", "TRANSLATED", "VERDICT_UNKNOWN"}
