"""Istio's (and Envoy's) JSON access log, one object a line, with the default keys and any of the identity keys.

Invariant: a line is an access log entry, or it is counted with a reason. `collector.sources.accesslog_record` decides
which keys are understood. Whole objects are decoded, not a fixed set of fields: users choose the identity keys, and
decoding to a dict was measured to cost no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from collector.patterns import Patterns
from collector.records import several
from collector.sources.accesslog import Outcome, Unusable, flows_of, fold_lines, no_entry
from collector.sources.accesslog_record import record_of
from collector.sources.accesslog_text import is_message, without_prefix

ORIGIN = "istio-json"

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_KEYS = frozenset(
    {
        "downstream_local_address",
        "downstream_remote_address",
        "requested_server_name",
        "response_code",
        "response_flags",
        "start_time",
        "upstream_cluster",
        "upstream_host",
    }
)


def recognises(head: bytes) -> bool:
    """True if the first record is an access log entry: an object with two of the default format's own keys."""
    try:
        return _is_entry(_decode(_json(head)))
    except (ValueError, RecursionError):
        return False


def fold(lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Callable[[int, str], None]) -> None:
    """Count every entry of `lines` (line number, one JSON value) into `patterns`; see `fold_lines`."""
    fold_lines(lines, outcomes, patterns, bad)


def outcomes(line: bytes) -> tuple[Outcome, ...]:
    """The flows of one line, or why it has none."""
    try:
        fields = _decode(line)
    except (ValueError, RecursionError):
        return _second_look(line)
    if not _is_entry(fields):
        return (no_entry(line, "JSON that is no access log entry"),)
    return flows_of(record_of(fields, ORIGIN))


def _second_look(line: bytes) -> tuple[Outcome, ...]:
    """A line that does not begin with the object: the runtime's prefix is cut off, the proxy's messages are skipped."""
    rest = _json(line)
    if rest != line:
        return outcomes(rest)
    if is_message(line[:128].decode("utf-8", "replace")):
        return (no_entry(line, "message of the proxy"),)
    pieces = several(line)
    return tuple(outcome for piece in pieces for outcome in outcomes(piece)) or (Unusable("not a JSON object"),)


def _json(line: bytes) -> bytes:
    """The line without the prefix of kubelet or container runtime."""
    if line[:1] == b"{":
        return line
    start = without_prefix(line[:64].decode("utf-8", "replace"))
    return line[line.index(b"{") :] if start.startswith("{") else line


def _is_entry(fields: dict[str, Any]) -> bool:
    return len(_KEYS & fields.keys()) >= 2
