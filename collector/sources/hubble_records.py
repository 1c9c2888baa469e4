"""The part of Hubble's flow records that is read, as the decoder fills it.

Invariant: only the fields declared here cost anything. Endpoints and Services stay raw bytes, so that known ones need
no second parse. Records form no cycles, so the garbage collector need not track them (`gc=False`).

Facts: the field names are Cilium's API (api/v1/flow, api/v1/observer) in protojson form with proto names; enums are
names, zero values are absent.
"""

from __future__ import annotations

import msgspec

POLICY_VERDICT = 5  # EventType.type of a policy's verdict (Cilium, pkg/monitor/api/types.go)


class TCPFlags(msgspec.Struct, gc=False):
    SYN: bool | None = False
    ACK: bool | None = False
    RST: bool | None = False


class Ports(msgspec.Struct, gc=False):
    source_port: int | None = 0
    destination_port: int | None = 0
    flags: TCPFlags | None = None


class Layer4(msgspec.Struct, gc=False):
    TCP: Ports | None = None
    UDP: Ports | None = None
    SCTP: Ports | None = None
    ICMPv4: msgspec.Raw = msgspec.Raw(b"")
    ICMPv6: msgspec.Raw = msgspec.Raw(b"")


class Addresses(msgspec.Struct, gc=False):
    source: str | None = ""
    destination: str | None = ""


class EventType(msgspec.Struct, gc=False):
    type: int | None = 0
    sub_type: int | None = 0


class HubbleFlow(msgspec.Struct, gc=False):
    """The fields of flow.Flow that are read; everything else is skipped by the decoder.

    A null stands for the default, as in protojson.
    """

    time: str | None = ""
    verdict: str | None = ""
    drop_reason: int | None = 0
    drop_reason_desc: str | None = ""
    IP: Addresses | None = None
    l4: Layer4 | None = None
    source: msgspec.Raw = msgspec.Raw(b"")
    destination: msgspec.Raw = msgspec.Raw(b"")
    Type: str | None = ""
    traffic_direction: str | None = ""
    destination_names: list[str] | None = None
    l7: msgspec.Raw = msgspec.Raw(b"")  # Raw takes no None: absent is empty, null is b"null"
    reply: bool | None = None
    is_reply: bool | None = None
    event_type: EventType | None = None
    trace_observation_point: str | None = ""
    uuid: str | None = ""
    source_service: msgspec.Raw = msgspec.Raw(b"")
    destination_service: msgspec.Raw = msgspec.Raw(b"")


class LostEvents(msgspec.Struct, gc=False):
    source: str | None = ""
    num_events_lost: str | int | None = 0

    @property
    def count(self) -> int:
        """How many events were lost: one where no number is told, or none that fits into the uint64 that it is."""
        told = self.num_events_lost
        if isinstance(told, str):
            told = int(told) if told.isascii() and told.isdigit() and len(told) <= 20 else 0
        return told if told and 0 < told < 1 << 64 else 1


class NodeStatus(msgspec.Struct, gc=False):
    state_change: str | None = ""
    node_names: list[str] | None = None


class Line(msgspec.Struct, gc=False):
    """observer.GetFlowsResponse or ExportEvent."""

    flow: HubbleFlow | None = None
    lost_events: LostEvents | None = None
    node_status: NodeStatus | None = None
    node_name: str | None = ""
    time: str | None = ""


class Http(msgspec.Struct, gc=False):
    code: int | None = 0
    method: str | None = ""
    url: str | None = ""


class Layer7(msgspec.Struct, gc=False):
    type: str | None = ""
    http: Http | None = None
