"""How far a playback has got: the capture's own pace times a speed, or all at once.

Invariant: the clock starts with the first client, so that nobody who starts both misses the beginning.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right

from leastway.playback.capture import Capture

GAP = 1_000_000_000  # nanoseconds between the rounds of a loop


class Clock:
    """Tells which positions have happened. With `loop` they go on: position p is record p modulo the capture's length,
    in round p divided by it. `speed` is a factor, 0 stands for all at once."""

    def __init__(self, capture: Capture, speed: float, loop: bool) -> None:
        self.capture = capture
        self.speed = speed
        self.loop = loop
        self.period = capture.span + GAP
        self.base = capture.times[min(capture.position(1), len(capture) - 1)]
        self._started = 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, unless it has begun."""
        with self._lock:
            self._started = self._started or time.monotonic()

    def happened(self) -> int:
        """How many positions have happened; of an endless loop at once, one round."""
        if not self.speed:
            return len(self.capture)
        rounds, within = divmod(self._elapsed(), self.period)
        if not self.loop and rounds:
            return len(self.capture)
        return int(rounds) * len(self.capture) + bisect_right(self.capture.times, self.base + within)

    def wait(self, position: int) -> float:
        """Seconds until a position happens, 0 if it has; infinite if it never will."""
        rounds, index = divmod(position, len(self.capture))
        if rounds and not self.loop:
            return float("inf")
        if not self.speed:
            return 0.0
        offset = max(0, self.capture.times[index] - self.base) + rounds * self.period
        return max(0.0, (offset - self._elapsed()) / GAP / self.speed)

    def _elapsed(self) -> int:
        """Nanoseconds of the capture's time since the start."""
        return int((time.monotonic() - self._started) * self.speed * GAP) if self._started else 0

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started if self._started else 0.0
