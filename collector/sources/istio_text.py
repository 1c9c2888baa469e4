"""Istio's default text access log, as `kubectl logs` of a sidecar, gateway or waypoint prints it.

Invariant: `collector.sources.accesslog_text` decides the line's shape and `accesslog` its meaning; this module only
decides which lines count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from collector.patterns import Patterns
from collector.sources.accesslog import Outcome, Unusable, flows_of, fold_lines, no_entry
from collector.sources.accesslog_record import record_of
from collector.sources.accesslog_text import begins_entry, fields_of, is_message, without_prefix

ORIGIN = "istio-text"


def recognises(head: bytes) -> bool:
    """True if the first line begins as an entry does: a time in brackets and a quoted request."""
    return begins_entry(without_prefix(head[:256].decode("utf-8", "replace")))


def fold(lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Callable[[int, str], None]) -> None:
    """Count every entry of `lines` (line number, line) into `patterns`; see `fold_lines`."""
    fold_lines(lines, outcomes, patterns, bad)


def outcomes(line: bytes) -> tuple[Outcome, ...]:
    """The flows of one line, or why it has none."""
    text = without_prefix(line.decode("utf-8", "replace").rstrip("\r\n"))
    fields = fields_of(text)
    if fields is not None:
        return flows_of(record_of(fields, ORIGIN))
    if begins_entry(text):
        return (Unusable("not in the default text format, or ambiguous"),)
    if is_message(text):
        return (no_entry(line, "message of the proxy"),)
    return (Unusable("not an access log line"),)
