"""What a running collector leaves in the store about itself, so that whoever reads it later sees what it missed.

Invariant: a session's newest mark wins, so marks may be merged in any order; and a mark is written with the patterns
that it describes, in one part, so that neither exists without the other.

A session is one run of `leastway observe`. Its mark says up to when everything that it saw is in the store. A session
whose newest mark is not an end has broken off, or is still running: no clock is asked here, only a later session of the
same name proves that it is over.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

SKEW = 5  # seconds that two machines' clocks may differ: moving from one to the other is no overlap


class Mark(msgspec.Struct, frozen=True, order=True):
    """One flush of a session. Times are unix seconds, `interval` seconds between flushes.

    `sequence` counts the flushes from 0 and comes first, so that the newest mark is the greatest.
    """

    sequence: int
    name: str
    started: int
    flushed: int
    interval: int
    ended: bool = False


class Break(msgspec.Struct, frozen=True, order=True):
    """Time in which a collector saw nothing, or lost what it saw: from `since` to `until` (unix seconds, 0 unknown).

    `torn`: the session did not end by itself, so that up to `interval` seconds more before the break may be missing
    than `since` says. `until` 0 and `torn`: nobody knows whether it is still running.
    """

    name: str
    since: int
    until: int
    interval: int
    torn: bool


class Overlap(msgspec.Struct, frozen=True, order=True):
    """Time (unix seconds) in which two sessions of one name ran at once: what both were sent is counted twice."""

    name: str
    since: int
    until: int


def overlaps(marks: Iterable[Mark]) -> list[Overlap]:
    """Every time in which a session ran beside an earlier one of its name, sorted by name and time."""
    found: list[Overlap] = []
    latest: dict[str, int] = {}  # by name, until when any session so far was flushed
    for mark in sorted(marks, key=lambda mark: (mark.started, mark.flushed, mark)):
        busy = latest.get(mark.name, 0)
        if mark.started + SKEW < min(busy, mark.flushed):
            found.append(Overlap(mark.name, mark.started, min(busy, mark.flushed)))
        latest[mark.name] = max(busy, mark.flushed)
    return sorted(found)


def breaks(marks: Iterable[Mark]) -> list[Break]:
    """Every time between sessions of one name, and after a session without an end, sorted by name and time."""
    found: list[Break] = []
    named: dict[str, list[Mark]] = {}
    for mark in marks:
        named.setdefault(mark.name, []).append(mark)
    for name, own in named.items():
        own.sort(key=lambda mark: (mark.started, mark.flushed, mark))
        for mark, following in zip(own, [*own[1:], None], strict=True):
            if following is not None and (following.started > mark.flushed or not mark.ended):
                until = max(mark.flushed, following.started)
                found.append(Break(name, mark.flushed, until, mark.interval, not mark.ended))
            elif following is None and not mark.ended:
                found.append(Break(name, mark.flushed, 0, mark.interval, True))
    return sorted(found)
