"""What every live source offers, so that the collector's loop needs to know none of them.

Invariant: a record is in exactly one of the aggregates that `take` hands out, whenever and from whichever thread it is
called.
"""

from __future__ import annotations

from typing import Protocol

from collector.patterns import Patterns


class SourceStatus:
    """Counters of one source. Its own threads write them, any thread reads them; a reader may be a moment behind.

    `flows` counts records by verdict (or kind, where a source has no verdicts); `lost` events that the sender reported
    as lost; `bad` records that could not be read; `refused` records or streams turned away (overload, limits);
    `newest` is the newest record's own time in unix seconds (0 unknown); `streams` those open now.
    """

    __slots__ = ("bad", "connected", "flows", "lost", "newest", "reconnects", "refused", "streams")

    def __init__(self) -> None:
        self.connected = False
        self.flows: dict[str, int] = {}
        self.lost = 0
        self.bad = 0
        self.reconnects = 0
        self.refused = 0
        self.newest = 0.0
        self.streams = 0


class LiveSource(Protocol):
    """A source of flows that runs until it is stopped. `name` is its label in metrics: `hubble`, `als`, `otlp`."""

    name: str
    status: SourceStatus

    def start(self) -> None:
        """Begin, in threads of its own.

        Raises LeastwayError when it cannot listen or is misconfigured.
        """

    def take(self) -> Patterns:
        """What was gathered since the last call; a fresh aggregate is filled from then on."""

    def stop(self, grace: float) -> None:
        """End within `grace` seconds; `take` then hands over the rest. A second call does nothing."""
