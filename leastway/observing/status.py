"""The session in one line, for the person who watches.

Invariant: it only reads counters.
"""

from __future__ import annotations

import time

from leastway.observing.session import Session


def summary(session: Session) -> str:
    """Per source: records, what is missing, lag; then how old the last flush is."""
    parts = []
    for source in session.sources:
        status = source.status
        facts = [f"{sum(status.flows.copy().values()):,} records"]
        if not status.connected:
            facts.insert(0, "not connected")
        if status.streams:
            facts.append(f"{status.streams} streams")
        facts += [f"{count:,} {what}" for what in ("lost", "bad", "refused") if (count := getattr(status, what))]
        if status.newest:
            facts.append(f"{max(0.0, time.time() - status.newest):.1f} s behind")
        parts.append(f"{source.name}: {', '.join(facts)}")
    flushed = "the store cannot be written" if session.failing else f"flushed {time.time() - session.flushed:.0f} s ago"
    return " | ".join([*parts, f"{session.patterns:,} patterns, {flushed}"])
