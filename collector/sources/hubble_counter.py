"""Hubble flows → patterns, for the file reader and the live client alike.

Invariant: each record is counted once. A flow that was met before in the same hour costs one dictionary update; the
counts are handed to `Patterns` in batches, which does not change the result (see `Patterns.merge`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from collector.direction import first_look
from collector.evidence import CONTESTED, RESET
from collector.flow import Flow, Signal
from collector.patterns import Patterns
from collector.sources.hubble_counts import ORIGIN, Counts, socket_of
from collector.sources.hubble_endpoints import HELD, Decode, SeenEnds, from_json
from collector.sources.hubble_records import POLICY_VERDICT, Addresses, Http, HubbleFlow, Layer4, Layer7, Line, Ports
from collector.sources.hubble_services import DecodeService, Services
from collector.sources.hubble_services import from_json as service_from_json
from collector.times import CLOCK, seconds
from collector.urls import path_of

NAME = 320  # characters kept of a node's name: cluster/node
BATCH = 1 << 16  # distinct counters held before they are handed over
_POLICY_DROPS = {"POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED"}
_POLICY_DROP_NUMBERS = {133: "POLICY_DENIED", 181: "POLICY_DENY", 189: "AUTH_REQUIRED"}
_PASSED = frozenset({"FORWARDED", "REDIRECTED", "AUDIT"})
_NOWHERE = Addresses()
# A signal's name in `Evidence.signals`: with the observation point (flow.TraceObservationPoint), or with the side whose
# policy gave the verdict. Any other text is no observation point.
_POINTS = {
    *("TO_PROXY", "TO_HOST", "TO_STACK", "TO_OVERLAY", "TO_ENDPOINT", "TO_NETWORK", "TO_CRYPTO"),
    *("FROM_ENDPOINT", "FROM_PROXY", "FROM_HOST", "FROM_STACK", "FROM_OVERLAY", "FROM_NETWORK", "FROM_CRYPTO"),
}
_NAMES: dict[tuple[str, bool, str | None], str] = {
    **{(signal, False, point): f"{signal}:{point}" for signal in ("opened", "carried") for point in _POINTS},
    **{
        (signal, True, side): f"{signal}:verdict {side}"
        for signal in ("opened", "carried")
        for side in ("EGRESS", "INGRESS")
    },
}
_VERDICTS = {"ERROR", "TRACED", "TRANSLATED", "VERDICT_UNKNOWN"}

Layer7Decode = Callable[[bytes], Layer7 | None]  # raises msgspec.MsgspecError

layer7_from_json: Layer7Decode = msgspec.json.Decoder(Layer7 | None).decode


class FlowCounter:
    """Counts Hubble flows, of files and live streams alike; call `flush` before reading the patterns.

    `endpoint`, `layer7` and `service` decode the parts of a flow that are left as raw bytes.
    """

    def __init__(
        self,
        patterns: Patterns,
        endpoint: Decode = from_json,
        layer7: Layer7Decode = layer7_from_json,
        service: DecodeService = service_from_json,
    ) -> None:
        self.patterns = patterns
        self.ends = SeenEnds(patterns, endpoint)
        self.layer7 = layer7
        self.counts = Counts(self.ends)
        self.services = Services(service)

    def count(self, flow: HubbleFlow) -> None:
        """Count one flow."""
        l4 = flow.l4
        protocol, ports = ("TCP", l4.TCP) if l4 is not None and l4.TCP is not None else _transport(l4)
        if ports is None:
            self._skip(protocol)
            return
        sport, dport = ports.source_port or 0, ports.destination_port or 0
        if not (0 < dport < 65536 and 0 <= sport < 65536):
            self._skip("no port")
            return
        if flow.verdict not in _PASSED or flow.Type == "SOCK":
            self._not_passed(flow, protocol, ports)
            return
        reply = flow.is_reply if flow.is_reply is not None else (True if flow.reply else None)
        first_packet = flow.event_type is not None and flow.event_type.type == POLICY_VERDICT
        swapped, signal = first_look(protocol, ports.flags, sport, dport, reply, first_packet)
        message = self._message(flow.l7) if len(flow.l7) else None
        if message is not None:  # the proxy knows whether it passed on a request or a response
            swapped = message.type == "RESPONSE"
        if swapped and not sport:
            self._skip("no port")
            return
        ip = flow.IP or _NOWHERE
        near = self.ends[bytes(flow.source), ip.source][not swapped]
        far = self.ends[bytes(flow.destination), ip.destination][swapped]
        if len(flow.destination_service) or len(flow.source_service):
            self._note_services(flow, ip)
        if swapped:
            near, far, sport, dport = far, near, dport, sport
            self.counts.replies += 1
        outcome = request = ""
        if message is not None:
            signal, outcome, request = _request(message)
            name = f"{signal}:l7"
        else:
            name = _signal_name(flow, signal, reply, first_packet, ports)
        source_port = sport if signal == "open" else 0
        time = flow.time or ""
        flow_id = flow.uuid or time
        hour = time[:13] if time[14:19] in CLOCK and time[-1:] == "Z" else time
        key = (near, far, protocol, dport, name, source_port, hour, outcome, request)
        if self.counts.count(key, time, flow_id, sport) and (len(self.counts) >= BATCH or self.ends.held > HELD):
            self.flush()
        if flow.destination_names and not swapped:
            counted_as = name.partition(":")[0]
            self.counts.names.setdefault((near, far, protocol, dport, counted_as, source_port), set()).update(
                flow.destination_names[:8]
            )

    def event(self, record: Line) -> None:
        """Count an event that is no flow: lost events, node status, agent and debug events."""
        quality = self.patterns.quality
        node = (record.node_name or "unknown node")[:NAME]
        if record.lost_events is not None:
            source = (record.lost_events.source or "UNKNOWN_LOST_EVENT_SOURCE")[:NAME]
            quality.lost.add(f"{node} {source}", record.lost_events.count)
            quality.blind_spot(seconds(record.time or ""), node, source)
        elif record.node_status is not None:
            state = (record.node_status.state_change or "UNKNOWN_NODE_STATE")[:NAME]
            for name in record.node_status.node_names or [node]:
                quality.nodes.add(f"{state} {name[:NAME]}", 1)
                if state != "NODE_CONNECTED":
                    quality.blind_spot(seconds(record.time or ""), name[:NAME], state)
        else:
            quality.skipped.add("agent or debug event", 1)

    def flush(self) -> None:
        """Hand the counts over to the patterns."""
        self.counts.hand_over(self.patterns)
        self.services.hand_over(self.patterns)
        self.ends.forget()

    def hand_over(self) -> Patterns:
        """What was counted since the last call. The ends met so far stay known, so none is parsed again."""
        self.flush()
        done = self.patterns
        self.patterns = self.ends.patterns = Patterns()
        return done

    def _note_services(self, flow: HubbleFlow, ip: Addresses) -> None:
        self.services.tell(bytes(flow.source_service), ip.source or "", self.patterns)
        self.services.tell(bytes(flow.destination_service), ip.destination or "", self.patterns)

    def _message(self, raw: bytes) -> Layer7 | None:
        """The request or response in a proxy's record; None when it is neither, or null."""
        message = self.layer7(raw)
        return message if message is not None and message.type in ("REQUEST", "RESPONSE") else None

    def _skip(self, reason: str) -> None:
        self.patterns.quality.skipped.add(reason, 1)

    def _not_passed(self, flow: HubbleFlow, protocol: str, ports: Ports) -> None:
        if flow.verdict == "DROPPED":
            self._dropped(flow, protocol, ports)
        elif flow.verdict in _PASSED:
            self._skip("socket translation")
        else:
            self._skip(f"verdict {flow.verdict}" if flow.verdict in _VERDICTS else "no verdict")

    def _dropped(self, flow: HubbleFlow, protocol: str, ports: Ports) -> None:
        """A drop by policy is a denied connection; any other drop says nothing about intent."""
        number = flow.drop_reason or (flow.event_type.sub_type if flow.event_type is not None else 0) or 0
        reason = flow.drop_reason_desc or _POLICY_DROP_NUMBERS.get(number, "")
        if reason not in _POLICY_DROPS and (reason or number):
            self._skip("dropped, not by policy")
            return
        port = ports.destination_port or 0
        swapped, _ = first_look(protocol, ports.flags, ports.source_port or 0, port, flow.is_reply, False)
        if swapped:
            self._skip("dropped reply")
            return
        ip = flow.IP or _NOWHERE
        near = self.ends[bytes(flow.source), ip.source][True]
        far = self.ends[bytes(flow.destination), ip.destination][False]
        self.patterns.add(
            Flow(
                near.endpoint,
                far.endpoint,
                protocol,
                port,
                Signal.DENIED,
                flow.time or "",
                near.pod,
                far.pod,
                near.address,
                far.address,
                socket=socket_of(near, ports.source_port or 0),
                reason=reason or "no reason given",
                flow_id=flow.uuid or "",
                origin=ORIGIN,
            )
        )


def _transport(l4: Layer4 | None) -> tuple[str, Ports | None]:
    """The transport protocol and its ports; without ports, why this is no connection."""
    if l4 is None:
        return "no layer 4", None
    if l4.TCP is not None:
        return "TCP", l4.TCP
    if l4.UDP is not None:
        return "UDP", l4.UDP
    if l4.SCTP is not None:
        return "SCTP", l4.SCTP
    return ("ICMP" if len(l4.ICMPv4) or len(l4.ICMPv6) else "no layer 4"), None


def _signal_name(flow: HubbleFlow, signal: str, reply: bool | None, first_packet: bool, ports: Ports) -> str:
    """A signal's name in `Evidence.signals`: with the observation point, or what the record claims to be."""
    if signal == "open":
        if ports.flags is not None and ports.flags.RST:
            return RESET
        return "open:unknown" if reply is None else "open:reply" if reply else "open:new"
    if flow.verdict == "AUDIT":
        return "audited"
    if signal == "answered":
        return CONTESTED if reply is False else signal
    # Each side gives a verdict of its own on the first packet.
    point = flow.traffic_direction if first_packet else flow.trace_observation_point
    name = _NAMES.get((signal, first_packet, point), signal)
    return f"{signal}:verdict" if first_packet and name == signal and signal != "refused" else name


def _request(message: Layer7) -> tuple[str, str, str]:
    """A proxy's record: the signal that it gives, the `Evidence` field that counts its request, and the request."""
    answered = message.type == "RESPONSE"
    signal = "answered" if answered else "opened"
    http = message.http or Http()
    path = path_of(http.url or "")
    if not (http.method or path):
        return signal, "", ""
    outcome = "asked" if not answered else "rejected" if (http.code or 0) >= 400 else "requests"
    return signal, outcome, f"{http.method or ''} {path}"
