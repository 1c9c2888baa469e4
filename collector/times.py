"""Times of records, as unix seconds.

Invariant: a text means the same moment on every machine, whatever its time zone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

Seconds = int

# Seconds by minute and second; UTC times of this form, and of one hour, are in order as text.
CLOCK = {f"{minute:02}:{second:02}": 60 * minute + second for minute in range(60) for second in range(61)}


def seconds(time: str) -> Seconds:
    """RFC 3339 → unix seconds, in UTC where no zone is named; 0 for what is no time, for such flows count too."""
    clock = CLOCK.get(time[14:19]) if time[-1:] == "Z" else None
    try:
        if clock is not None:
            return _hour(time[:13]) + clock
        moment = datetime.fromisoformat(time)
        return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, IndexError, OverflowError):
        return 0


@lru_cache(maxsize=4096)
def _hour(hour: str) -> Seconds:
    """The start of an hour, `2026-11-24T08`."""
    return max(0, int(datetime.fromisoformat(hour + ":00:00+00:00").timestamp()))
