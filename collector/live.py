"""What every live source offers, so that the collector's loop needs to know none of them.

Invariant: a record is in exactly one of the aggregates that `take` hands out, whenever and from whichever thread it is
called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from collector.patterns import Patterns


class SourceStatus:
    """Counters of one source. Its own threads write them, any thread reads them; a reader may be a moment behind.

    `flows` counts records by verdict (or kind, where a source has no verdicts); `lost` events that the sender reported
    as lost; `bad` records that could not be read; `refused` records or streams turned away (overload, limits); `broken`
    streams that their sender did not close (nobody knows what it had still to send); `newest` is the newest record's
    own time in unix seconds (0 unknown); `streams` counts the open ones; `since` is when `connected` last changed (unix
    seconds).
    """

    __slots__ = ("_connected", "bad", "broken", "flows", "lost", "newest", "reconnects", "refused", "since", "streams")

    def __init__(self) -> None:
        self._connected = False
        self.since = time.time()
        self.flows: dict[str, int] = {}
        self.lost = 0
        self.bad = 0
        self.reconnects = 0
        self.refused = 0
        self.broken = 0
        self.newest = 0.0
        self.streams = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection, or, for a source that is sent its records, whether it listens."""
        return self._connected

    @connected.setter
    def connected(self, connected: bool) -> None:
        if connected != self._connected:
            self.since = time.time()
            self._connected = connected


class LiveSource(Protocol):
    """A source of flows that runs until it is stopped.

    `name` is its label in metrics: `hubble`, `als`, `otlp`. `finished` is set when there will be no more records; it
    never is where another sender may always come. `cursors` tells, by node, up to which record's time (unix
    nanoseconds) everything was in what `take` has handed over; it is empty where nothing can be asked for again.
    """

    name: str
    status: SourceStatus
    finished: threading.Event
    cursors: Mapping[str, int]

    @property
    def address(self) -> object:
        """Where it listens, or whom it asks; as text, it is what the user gave."""

    @property
    def namespaces(self) -> Sequence[str]:
        """It was asked for the traffic of these only; () for all."""

    @property
    def trouble(self) -> str:
        """Why it is not connected; "" while it is."""

    def start(self) -> None:
        """Begin, in threads of its own.

        Raises LeastwayError when it cannot listen or is misconfigured.
        """

    def take(self) -> Patterns:
        """What was gathered since the last call; a fresh aggregate is filled from then on."""

    def stop(self, grace: float) -> None:
        """End within `grace` seconds; `take` then hands over the rest. A second call does nothing."""
