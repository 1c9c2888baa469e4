"""Enums as numbers in Hubble's JSON → as names. Cilium writes names; who converts its protobuf may write numbers.

Invariant: a record that has names already is never touched, and costs nothing: only what cannot be read comes here.
Source: Protocol Buffers, "ProtoJSON Format" (readers take either form of an enum).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


def named(line: bytes) -> bytes | None:
    """The record with names for the numbers of its enums; None if it has no such numbers, or is no record at all."""
    from collector.sources import hubble_wire as wire  # rarely needed, and protobuf takes its time

    try:
        record = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    flow = _member(record, "flow") or record
    found = [
        _rename(flow, "verdict", wire.VERDICTS),
        _rename(flow, "drop_reason_desc", wire.DROP_REASONS),
        _rename(flow, "Type", wire.TYPES),
        _rename(flow, "traffic_direction", wire.DIRECTIONS),
        _rename(flow, "trace_observation_point", wire.POINTS),
        _rename(_member(flow, "l7"), "type", wire.MESSAGES),
        _rename(_member(record, "lost_events"), "source", wire.LOSERS),
        _rename(_member(record, "node_status"), "state_change", wire.STATES),
    ]
    return msgspec.json.encode(record) if any(found) else None


def _member(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, dict) else None


def _rename(record: Any, field: str, names: Mapping[int, str]) -> bool:
    number = _member(record, field)
    if type(number) is not int or number not in names:
        return False
    record[field] = names[number]
    return True
