"""When live collectors were not observing, and what is missing because of it, in sentences.

Invariant: it says only what the store knows and asks no clock, so the same store gives the same sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from collector.quality import SESSIONS, Quality
from collector.sessions import Break, breaks, overlaps

SHOWN = 5  # breaks and nodes with gaps that have a sentence of their own
LONG = 3  # flushes without a connection in one hour; fewer are a reconnect, which loses nothing or leaves a gap
_GAP, _AWAY = ": gap", ": not connected"  # what only a live source notes; see collector.sources.hubble_reading


def sentences(quality: Quality) -> Iterator[str]:
    """One sentence for each break, those without loss summed up; none for an observation that ended properly."""
    found = breaks(mark for _, mark in quality.sessions.items())
    torn = [gap for gap in found if gap.torn]
    for gap in torn[:SHOWN]:
        yield _torn(gap)
    if len(torn) > SHOWN:
        yield f"{len(torn) - SHOWN} more observations broke off; up to one interval of each is missing."
    for name in sorted({gap.name for gap in found if not gap.torn}):
        own = [gap for gap in found if gap.name == name and not gap.torn]
        total = sum(gap.until - gap.since for gap in own)
        longest = max(own, key=lambda gap: (gap.until - gap.since, gap))
        yield (
            f"The collector {name} was stopped {len(own)} time{'s' if len(own) > 1 else ''} in between, {total} s in "
            f"total, longest from {moment(longest.since)} to {moment(longest.until)}: {_UNSEEN}."
        )
    yield from _twice(quality)
    yield from _blind(quality)
    if quality.sessions.saturated_now:
        yield f"The store holds more than {SESSIONS} sessions; of those left out it is not known how they ended."


_UNSEEN = "access logs of that time are missing, Hubble's flows only as far as the nodes no longer had them"


def _twice(quality: Quality) -> Iterator[str]:
    """Two collectors under one name; once for each name, with the first such time."""
    told: set[str] = set()
    for overlap in overlaps(mark for _, mark in quality.sessions.items()):
        if overlap.name not in told:
            told.add(overlap.name)
            yield (
                f"Two collectors named {overlap.name} ran at the same time, from {moment(overlap.since)} to "
                f"{moment(overlap.until)}: what both were sent is counted twice. Run one, or give each its own --name."
            )


def _blind(quality: Quality) -> Iterator[str]:
    """The hours in which a live stream had a gap or no connection. (`findings` reports what captures show too.)"""
    hours: dict[str, list[str]] = {}
    for spot, times in quality.blind.items():
        hour, _, rest = spot.partition(" ")
        if rest.endswith(_GAP) or (rest.endswith(_AWAY) and times >= LONG):
            hours.setdefault(rest, []).append(hour)
    for rest, found in sorted(hours.items())[:SHOWN]:
        node, _, what = rest.rpartition(": ")
        span = found[0] if len(found) == 1 else f"{found[0]} to {found[-1]} ({len(found)} hours)"
        yield f"{node}: {what} in {span} (UTC); what was no longer there afterwards is missing."
    if len(hours) > SHOWN:
        yield f"{len(hours) - SHOWN} more nodes have gaps."


def _torn(gap: Break) -> str:
    since = moment(gap.since)
    if gap.until:
        return (
            f"The observation of {gap.name} broke off after {since}; up to {gap.interval} s after that are missing, "
            f"and nothing was observed until {moment(gap.until)}: {_UNSEEN}."
        )
    return (
        f"The observation of {gap.name} has no end yet; everything until {since} is here. If it broke off, up to "
        f"{gap.interval} s after that are missing; stop it, or observe again, to settle this."
    )


def moment(seconds: int) -> str:
    """Unix seconds as a date and time in UTC; the number itself where no calendar holds it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"second {seconds}"
