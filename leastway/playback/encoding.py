"""Captured Hubble records (JSON in any form that `hubble_json` reads) → observer.GetFlowsResponse.

Invariant: whatever of a record the collector counts is in the message; other fields are kept as far as our proto files
know them. The fast way builds messages from plain values and gives up on anything unusual, which then takes protobuf's
own, slow way from JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.timestamp_pb2 import Timestamp

from collector.sources import hubble_json
from collector.sources.hubble_request import FIELDS
from collector.times import seconds
from collector.wire.observer_pb2 import GetFlowsResponse

READ = frozenset(path.partition(".")[0] for path in FIELDS) | {"node_name"}
PARTS = ("IP", "l4", "source", "destination", "l7", "event_type")
_member = msgspec.json.Decoder().decode


def response(record: bytes) -> Any | None:
    """The message of a record; None for one that GetFlows does not carry (agent and debug events).

    Raises ValueError when it is no Hubble record, or not one that can be sent.
    """
    try:
        members = {key: _member(value) for key, value in hubble_json.members(record).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    message = _quick(members)
    if message is None:
        message = _thorough(members)
    return message if message.WhichOneof("response_types") else None


def _quick(members: dict[str, Any]) -> Any | None:
    flow = members.get("flow")
    if not isinstance(flow, dict) or not flow:
        return None
    fields = dict(flow)
    try:
        if "is_reply" in fields:
            is_reply = fields["is_reply"]
            fields["is_reply"] = None if is_reply is None else {"value": is_reply}
        for counter in ("socket_cookie", "cgroup_id"):
            if counter in fields:
                fields[counter] = int(fields[counter])
        if "l7" in fields and "latency_ns" in fields["l7"]:
            fields["l7"] = fields["l7"] | {"latency_ns": int(fields["l7"]["latency_ns"])}
        fields["time"] = _stamp(fields["time"]) if "time" in fields else None
        moment = members.get("time")
        return GetFlowsResponse(
            flow=fields,
            node_name=members.get("node_name"),
            time=None if moment is None else _stamp(moment),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _thorough(members: dict[str, Any]) -> Any:
    wanted: dict[str, Any] = {
        key: members[key] for key in ("flow", "lost_events", "node_status", "node_name", "time") if key in members
    }
    flow = members.get("flow")
    if isinstance(flow, dict) and not all(isinstance(flow.get(part), dict | None) for part in PARTS):
        raise ValueError("a part of the flow is no object")  # which protobuf takes for an empty one
    for only in (None, READ):
        if only is not None and isinstance(flow, dict):
            wanted["flow"] = {key: value for key, value in flow.items() if key in only}
        try:
            message: Any = ParseDict(wanted, GetFlowsResponse(), ignore_unknown_fields=True)
            message.SerializeToString()
        except (ParseError, ValueError, TypeError, RecursionError, OverflowError) as error:
            problem = error
        else:
            return message
    raise ValueError(str(problem))


def _stamp(text: str) -> Timestamp:
    """RFC 3339 → a timestamp.

    Raises ValueError for another form than Hubble's, and TypeError.
    """
    second = seconds(text)
    if not second or text[-1] != "Z":
        raise ValueError(text)
    digits = text[20:-1]
    if text[19:20] not in (".", "Z") or (digits and not (len(digits) <= 9 and digits.isascii() and digits.isdigit())):
        raise ValueError(text)
    return Timestamp(seconds=second, nanos=int(digits.ljust(9, "0")) if digits else 0)
