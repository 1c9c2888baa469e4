"""Hubble's protobuf responses → the records that `FlowCounter` counts.

Invariant: a flow gives the same record as its protojson form gives in `hubble_json`; live and offline differ in nothing
but the way here. Parts that repeat (TCP flags, event types) are parsed once per distinct bytes.

Facts: numbers and names are those of collector/wire/*.proto; protojson leaves zero values out and writes times with 0,
3, 6 or 9 digits of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import DecodeError

from collector.sources.hubble_endpoints import HubbleEndpoint, Owner
from collector.sources.hubble_records import (
    POLICY_VERDICT,
    Addresses,
    EventType,
    Http,
    HubbleFlow,
    Layer4,
    Layer7,
    Line,
    LostEvents,
    NodeStatus,
    Ports,
    TCPFlags,
)
from collector.sources.hubble_request import BILLION
from collector.sources.hubble_services import HubbleService
from collector.wire import flow_pb2, hubble_records_pb2, relay_pb2

MEMO = 1 << 12  # parsed parts of each kind that are kept
DROPPED = flow_pb2.DROPPED
RECORD: Any = HubbleFlow  # its raw parts are bytes here, which msgspec.Raw stands for in JSON

T = TypeVar("T")


def _names(enum: Any) -> dict[int, str]:
    """What protojson writes for each number: nothing for zero."""
    return {number: name if number else "" for name, number in enum.items()}


VERDICTS = _names(flow_pb2.Verdict)
DROP_REASONS = _names(flow_pb2.DropReason)
TYPES = _names(flow_pb2.FlowType)
DIRECTIONS = _names(flow_pb2.TrafficDirection)
POINTS = _names(flow_pb2.TraceObservationPoint)
MESSAGES = _names(flow_pb2.L7FlowType)
LOSERS: dict[int, str] = {number: name for name, number in flow_pb2.LostEventSource.items()}
STATES: dict[int, str] = {number: name for name, number in relay_pb2.NodeState.items()}


def name_of(names: Mapping[int, str], number: int) -> str:
    """The name of an enum's number; a number that is new here stands for itself."""
    found = names.get(number)
    return str(number) if found is None else found


def parsed(message: Any, raw: bytes) -> Any:
    """A protobuf message of the given class.

    Raises msgspec.MsgspecError, like every decoder of flows.
    """
    try:
        return message.FromString(raw)
    except DecodeError as error:
        raise msgspec.DecodeError("damaged protobuf") from error


def endpoint(raw: bytes) -> HubbleEndpoint:
    """flow.Endpoint."""
    record = parsed(hubble_records_pb2.Endpoint, raw)
    return HubbleEndpoint(
        record.ID,
        record.identity,
        record.namespace,
        list(record.labels),
        record.pod_name,
        [Owner(owner.name, owner.kind) for owner in record.workloads],
        record.cluster_name,
    )


def service(raw: bytes) -> HubbleService:
    """flow.Service."""
    record = parsed(hubble_records_pb2.Service, raw)
    return HubbleService(record.name, record.namespace)


def layer7(raw: bytes) -> Layer7:
    """flow.Layer7."""
    record = parsed(hubble_records_pb2.Layer7, raw)
    http = record.http
    return Layer7(name_of(MESSAGES, record.type), Http(http.code, http.method, http.url))


def layer4(record: Any) -> Layer4:
    """leastway.hubble.Layer4, other than TCP."""
    if record.HasField("udp"):
        return Layer4(UDP=Ports(record.udp.source_port, record.udp.destination_port))
    if record.HasField("sctp"):
        return Layer4(SCTP=Ports(record.sctp.source_port, record.sctp.destination_port))
    if record.HasField("icmp4") or record.HasField("icmp6"):
        return Layer4(ICMPv4=msgspec.Raw(b"{}"))
    return Layer4()


def tcp_flags(raw: bytes) -> TCPFlags:
    """flow.TCPFlags."""
    record = parsed(hubble_records_pb2.TCPFlags, raw)
    return TCPFlags(record.SYN, record.ACK, record.RST)


def event_type(raw: bytes) -> EventType:
    """flow.CiliumEventType."""
    record = parsed(hubble_records_pb2.EventType, raw)
    return EventType(record.type, record.sub_type)


class _Memo(dict[bytes, T]):
    """What `read` makes of bytes, kept; emptied when it grows too large."""

    def __init__(self, read: Callable[[bytes], T]) -> None:
        super().__init__()
        self.read = read

    def __missing__(self, raw: bytes) -> T:
        if len(self) >= MEMO:
            self.clear()
        found = self.read(raw)
        if len(raw) < 1024:
            self[raw] = found
        return found


class Translator:
    """Makes records of responses."""

    def __init__(self) -> None:
        self.flags = _Memo(tcp_flags)
        self.events = _Memo(event_type)
        self.moment = 0  # of the last flow, in unix nanoseconds; 0 unknown
        self.second = 0
        self.prefix = "1970-01-01T00:00:00"

    def flow(self, flow: Any) -> HubbleFlow:
        """A leastway.hubble.Flow.

        Raises msgspec.MsgspecError when a part of it is damaged; its endpoints and layer 7 are left to the counter.
        """
        stamp = flow.time
        second, nanos = stamp.seconds, stamp.nanos
        self.moment = second * BILLION + nanos
        if second == self.second and second:
            if nanos % 1000:
                time = f"{self.prefix}.{nanos:09d}Z"
            elif nanos % 1_000_000:
                time = f"{self.prefix}.{nanos // 1000:06d}Z"
            else:
                time = self.coarse(nanos)
        else:
            time = self.time(stamp) if second or flow.HasField("time") else ""
        verdict = flow.verdict
        reason, described = 0, ""
        if verdict == DROPPED:
            reason, described = flow.drop_reason, name_of(DROP_REASONS, flow.drop_reason_desc)
        raw = flow.event_type
        kind = self.events[raw] if raw else None
        direction = point = ""
        if kind is not None and kind.type == POLICY_VERDICT:
            direction = DIRECTIONS.get(flow.traffic_direction, "?")
        else:
            point = POINTS.get(flow.trace_observation_point, "?")
        l4 = flow.l4
        if l4.HasField("tcp"):
            ports = l4.tcp
            layer = Layer4(Ports(ports.source_port, ports.destination_port, self.flags[ports.flags]))
        else:
            layer = layer4(l4)
        ip = flow.ip
        names = flow.destination_names
        reply = flow.is_reply
        return RECORD(  # type: ignore[no-any-return]  # see RECORD
            time,
            VERDICTS.get(verdict, "?"),
            reason,
            described,
            Addresses(ip.source, ip.destination),
            layer,
            flow.source,
            flow.destination,
            TYPES.get(flow.type, "?"),
            direction,
            list(names) if names else None,
            flow.l7,
            flow.reply,
            reply == b"\x08\x01" if reply or flow.HasField("is_reply") else None,
            kind,
            point,
            flow.uuid,
            flow.source_service,
            flow.destination_service,
        )

    def event(self, response: Any) -> Line:
        """A leastway.hubble.Response that holds no flow."""
        line = Line(node_name=response.node_name, time=self.time(response.time) if response.HasField("time") else "")
        if response.HasField("lost_events"):
            lost = response.lost_events
            line.lost_events = LostEvents(name_of(LOSERS, lost.source), lost.num_events_lost)
        elif response.HasField("node_status"):
            status = response.node_status
            line.node_status = NodeStatus(name_of(STATES, status.state_change), list(status.node_names))
        return line

    def time(self, stamp: Any) -> str:
        """A timestamp as protojson writes it; "" for one beyond the years 1 to 9999."""
        second, nanos = stamp.seconds, stamp.nanos
        if second != self.second:
            try:
                self.prefix = datetime.fromtimestamp(second, UTC).isoformat()[:19]
            except (ValueError, OverflowError, OSError):
                self.moment = 0
                return ""
            self.second = second
        return f"{self.prefix}.{nanos:09d}Z" if nanos % 1000 else self.coarse(nanos)

    def coarse(self, nanos: int) -> str:
        """The time of the current second with `nanos` that are whole microseconds."""
        if not nanos:
            return f"{self.prefix}Z"
        return (
            f"{self.prefix}.{nanos // 1000:06d}Z" if nanos % 1_000_000 else f"{self.prefix}.{nanos // 1_000_000:03d}Z"
        )
