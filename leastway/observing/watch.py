"""What changes in the sources' counters, told once when it does.

Invariant: it only reads; what it says is a difference between two looks, so that the log grows with events and not with
traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from collector.live import LiveSource
from leastway.observing.journal import note, warn

LOSSES = ("lost", "bad", "refused")


class Watch:
    """Remembers how the sources were when they were last looked at."""

    def __init__(self, sources: Sequence[LiveSource]) -> None:
        self.sources = sources
        self._connected = {source.name: False for source in sources}
        self._counted = {(source.name, counter): 0 for source in sources for counter in LOSSES}

    def look(self) -> None:
        """Tell which sources were connected or cut off since."""
        for source in self.sources:
            connected = source.status.connected
            if connected != self._connected[source.name]:
                self._connected[source.name] = connected
                if connected:
                    note("connected", source=source.name)
                else:
                    reconnects = source.status.reconnects
                    warn("not connected", source=source.name, reconnects=reconnects, error=source.trouble)

    def losses(self) -> Iterator[tuple[str, str, int]]:
        """Source, counter and growth, for each of `LOSSES` that grew since the last call."""
        for source in self.sources:
            for counter in LOSSES:
                now = int(getattr(source.status, counter))
                grown = now - self._counted[source.name, counter]
                if grown:
                    self._counted[source.name, counter] = now
                    yield source.name, counter, grown
