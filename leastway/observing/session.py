"""One run of the live collector: starts the sources, flushes what they gathered into the store, stops them.

Invariant: a record that a source handed over is saved exactly once, with a mark of the session in the same part. What
could not be saved is kept and tried again as it is (so that a save that only seemed to fail counts nothing twice), and
until then the sources keep what they gather: memory is bounded by the cluster, not by the time a disk is full.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from collector import store
from collector.errors import LeastwayError, PatternStoreError
from collector.live import LiveSource
from collector.patterns import Patterns
from collector.quality import Quality
from collector.sessions import Mark
from leastway.observing.journal import fail, note, warn
from leastway.observing.merging import Merging
from leastway.observing.stopping import Stop
from leastway.observing.watch import Watch

TICK = 1.0  # seconds between two looks at the sources
GRACE = 1.5  # seconds for the sources to end in


class Session:
    """Sources, and the store that they are flushed into. `flush_*` and `patterns` are for metrics; any thread reads."""

    def __init__(
        self,
        sources: Sequence[LiveSource],
        place: str,
        *,
        name: str,
        interval: float = 60.0,
        merging: Merging | None = None,
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        self.sources = sources
        self.place = place
        self.name = name
        self.interval = interval
        self.on_tick = on_tick
        self.id = uuid.uuid4().hex
        self.started = 0
        self.flushed = 0.0  # unix seconds until which everything is in the store
        self.beat = time.monotonic()  # when the loop last went round
        self.flushes = 0
        self.flush_failures = 0
        self.flush_seconds = 0.0
        self.flush_seconds_total = 0.0
        self.patterns = 0
        self.failing = ""  # why the last flush failed, "" if it did not
        self.running = False
        self._sequence = 0
        self._unsaved: tuple[Patterns, float] | None = None
        self._merging = merging
        self._watch = Watch(sources)

    def run(self, stop: Stop, seconds: float | None = None) -> bool:
        """Observe until `stop` is set or for so many seconds; True if everything that was gathered is in the store.

        Raises LeastwayError when the store cannot be written at the beginning or a source cannot start.
        """
        self.started = int(time.time())
        self._save(self._batch(ended=False))  # a store that cannot be written must be known before, not after
        try:
            for source in self.sources:
                source.start()
                note("started", source=source.name, address=str(source.address))
            self.running = True
            note("observing", store=self.place, name=self.name, session=self.id)
            self._loop(stop, math.inf if seconds is None else time.monotonic() + seconds)
        finally:
            self.running = False
            complete = self._end()
        return complete

    def flush(self, *, ended: bool = False) -> bool:
        """Save what was gathered; False if that failed (it is kept, and tried again next time)."""
        try:
            if self._unsaved is not None:
                self._save(self._unsaved)
            self._save(self._batch(ended=ended))
        except PatternStoreError as error:
            self.flush_failures += 1
            self.failing = str(error)
            fail("the store cannot be written; what was gathered is kept", error=str(error), since=int(self.flushed))
            return False
        if self.failing:
            self.failing = ""  # before it is said: who reads the log may ask at once
            note("the store can be written again, nothing was lost")
        return True

    def _loop(self, stop: Stop, end: float) -> None:
        due = time.monotonic() + self.interval
        while not stop.is_set() and not self._finished and (now := time.monotonic()) < end:
            self.beat = now
            stop.wait(max(0.0, min(due, end, now + TICK) - now))
            self._watch.look()
            if time.monotonic() >= due:
                if self.flush():
                    self._told()
                    if self._merging is not None:
                        self._merging.flushed()
                due = max(due + self.interval, time.monotonic())
            if self.on_tick is not None:
                self.on_tick()

    @property
    def _finished(self) -> bool:
        """Whether no source will have any more."""
        return all(source.finished.is_set() for source in self.sources)

    def _end(self) -> bool:
        note("stopping")
        if self._merging is not None:
            self._merging.stop()
        _stop_all(self.sources)
        complete = self.flush(ended=True)
        if complete:
            note("stopped; everything that was seen is in the store", flushes=self.flushes)
        else:
            fail("stopped; what was gathered since the last flush is lost", since=int(self.flushed))
        return complete

    def _batch(self, *, ended: bool) -> tuple[Patterns, float]:
        """What the sources gathered since the last time, marked."""
        moment = time.time()
        batch = Patterns()
        for source in self.sources:
            batch.merge(source.take())
            for node, nanoseconds in source.cursors.items():  # of the take just now
                batch.quality.cursors.add(_prefix(self.name) + node, nanoseconds)
        mark = Mark(self._sequence, self.name, self.started, int(moment), math.ceil(self.interval), ended)
        batch.quality.sessions.add(self.id, mark)
        self._sequence += 1
        return batch, moment

    def _save(self, batch: tuple[Patterns, float]) -> None:
        self._unsaved = batch
        patterns, moment = batch
        began = time.monotonic()
        store.save(patterns, self.place)
        self._unsaved = None
        self.flushed = moment
        self.flushes += 1
        self.flush_seconds = time.monotonic() - began
        self.flush_seconds_total += self.flush_seconds
        self.patterns = sum(
            len(e.spoken.kept) + len(e.knocked.kept) + len(e.open.kept) for e in patterns.edges.values()
        )

    def _told(self) -> None:
        note("flushed", patterns=self.patterns, seconds=round(self.flush_seconds, 3))
        for source, counter, grown in self._watch.losses():
            warn("records are missing", source=source, what=counter, number=grown)


def resume_points(quality: Quality, name: str) -> dict[str, int]:
    """Up to which time (unix nanoseconds) the collector of this name has counted each node's records."""
    prefix = _prefix(name)
    found = quality.cursors.items()
    return {key.removeprefix(prefix): nanoseconds for key, nanoseconds in found if key.startswith(prefix)}


def _prefix(name: str) -> str:
    """Before a node's name: nodes of two clusters may have one name."""
    return f"{name}\n"


def _stop_all(sources: Sequence[LiveSource]) -> None:
    """Stop all at once: their graces must not add up."""

    def stop(source: LiveSource) -> None:
        try:
            source.stop(GRACE)
        except LeastwayError as error:
            warn("a source did not stop cleanly", source=source.name, error=str(error))

    threads = [threading.Thread(target=stop, args=(source,), daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GRACE + 0.5)
