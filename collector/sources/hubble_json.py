"""Hubble flows as JSON lines (`hubble observe -o jsonpb`, the exporter's files, bare flows) → patterns.

Invariant: a record counts the same however it is wrapped: as a response, a bare flow, in a log shipper's envelope or in
a container runtime's log line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from collector.patterns import Patterns
from collector.records import several
from collector.sources.hubble_counter import FlowCounter
from collector.sources.hubble_numbers import named
from collector.sources.hubble_records import HubbleFlow, Line


class Envelope(msgspec.Struct):
    """What log shippers wrap a line in."""

    log: str | None = None
    line: str | None = None
    message: str | None = None


_line = msgspec.json.Decoder(Line).decode
_bare = msgspec.json.Decoder(HubbleFlow).decode
_envelope = msgspec.json.Decoder(Envelope).decode
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_WRAPPERS = {"flow", "lost_events", "node_status", "agent_event", "debug_event"}
_ENDS = {"source", "destination"}
_BARE = {"verdict", "l4", "traffic_direction", "event_type", "trace_observation_point", "is_reply"}


def recognises(head: bytes) -> bool:
    """True if the first record of a file is a Hubble event, wrapped, bare or inside a log shipper's envelope."""
    head = _RUNTIME_PREFIX.sub(b"", head, count=1)
    try:
        found = _keys(head)
    except (msgspec.MsgspecError, RecursionError):
        return False
    objects = {key for key, value in found.items() if bytes(value)[:1] in b"{n"}  # or null; applications log text there
    if objects & _WRAPPERS or len(found.keys() & _BARE) >= 2 or (objects >= _ENDS and "time" in found):
        return True
    inner = _unwrap(head)
    return inner is not None and recognises(inner)


def _unwrap(line: bytes) -> bytes | None:
    try:
        envelope = _envelope(line)
    except (msgspec.MsgspecError, RecursionError):
        return None
    text = envelope.log or envelope.line or envelope.message
    return text.strip().encode() if text and text.lstrip().startswith("{") else None


# What the container runtime puts before a line of a pod's log: time, stream, and a mark for partial lines (CRI).
_RUNTIME_PREFIX = re.compile(rb"\A\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d) (?:(?:stdout|stderr) [FP] )?(?=\{)")


def decode(line: bytes) -> Line:
    """One record in any of the forms above.

    Raises msgspec.MsgspecError when it is none of them.
    """
    if line[:1] != b"{":
        line = _RUNTIME_PREFIX.sub(b"", line, count=1)
    record = _line(line)
    if record.flow is None and record.lost_events is None and record.node_status is None:
        keys = set(_keys(line))
        if keys & _BARE or keys >= _ENDS:
            record.flow = _bare(line)
        elif not keys & _WRAPPERS:
            inner = _unwrap(line)
            if inner is None:
                raise msgspec.ValidationError("neither a flow nor another Hubble event")
            return decode(inner)
    return record


def members(line: bytes) -> dict[str, msgspec.Raw]:
    """The same record as the members of its response, undecoded; a bare flow is the member `flow`.

    Raises msgspec.MsgspecError when it is none of them.
    """
    if line[:1] != b"{":
        line = _RUNTIME_PREFIX.sub(b"", line, count=1)
    found = _keys(line)
    keys = {key for key, value in found.items() if bytes(value) != b"null"}
    if keys & _WRAPPERS:
        return found
    if keys & _BARE or keys >= _ENDS:
        return {key: found[key] for key in ("node_name", "time") if key in keys} | {"flow": msgspec.Raw(line)}
    inner = _unwrap(line)
    if inner is None:
        raise msgspec.ValidationError("neither a flow nor another Hubble event")
    return members(inner)


def fold(lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Callable[[int, str], None]) -> None:
    """Count every record of `lines` (line number, one JSON value) into `patterns`.

    `bad(number, reason)` is called for a record that cannot be read; it is counted in `patterns.quality.bad` and never
    stops the run.
    """
    counter = FlowCounter(patterns)
    _gather(lines, counter, bad)
    counter.flush()


def _gather(lines: Iterable[tuple[int, bytes]], counter: FlowCounter, bad: Callable[[int, str], None]) -> None:
    count = counter.count
    for number, line in lines:
        try:
            try:
                record = _line(line) if line[:1] == b"{" else decode(line)
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
            if (renamed := named(line)) is not None:
                _gather(((number, renamed),), counter, bad)
                continue
            if pieces := several(line):
                _gather(((number, piece) for piece in pieces), counter, bad)
                continue
            reason = f"not a Hubble flow: {str(error).partition(' - at ')[0]}"[:120]
            counter.patterns.quality.bad.add(reason.partition(" (byte ")[0], 1)  # where, is for the person who waits
            bad(number, reason)
