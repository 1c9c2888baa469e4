"""A small live source without a network, and a process that observes it: what the session's own tests run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping

from collector.endpoints import Endpoint
from collector.flow import Flow, Signal
from collector.live import SourceStatus
from collector.patterns import Patterns
from collector.store import quality
from leastway.observing.session import Session, resume_points
from leastway.observing.stopping import Stop

WEB = Endpoint("pod", "", "shop", (("app", "web"),))
API = Endpoint("pod", "", "shop", (("app", "api"),))
NODE = "node-1"
LIFETIME = 120  # seconds after which the process is gone, even if the test that started it is


class Ticking:
    """Counts one flow after the other, numbered by their destination port's evidence, as fast as it is asked to.

    It remembers where it was as Hubble's client does: record n has the time n nanoseconds after 1970.
    """

    name = "ticking"
    address = ""
    namespaces = ()
    trouble = ""

    def __init__(self, first: int = 0, pause: float = 0.001, limit: int = 1 << 60) -> None:
        self.status = SourceStatus()
        self.number = first
        self.finished = threading.Event()
        self.cursors: Mapping[str, int] = {}
        self.pause = pause
        self.limit = limit
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._patterns = Patterns()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.status.connected = True
        self._thread.start()

    def take(self) -> Patterns:
        with self._lock:
            taken, self._patterns = self._patterns, Patterns()
            self.cursors = {NODE: self.number}
        return taken

    def stop(self, grace: float) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(grace)
        self.status.connected = False

    def add(self) -> None:
        """Count the next record."""
        with self._lock:
            self.number += 1
            flow = Flow(WEB, API, port=80, signal=Signal.ANSWERED, source_pod=f"web-{self.number % 7}", origin="hubble")
            self._patterns.add(flow)
        self.status.flows["FORWARDED"] = self.status.flows.get("FORWARDED", 0) + 1
        self.status.newest = time.time()

    def _run(self) -> None:
        while not self._stop.wait(self.pause) and self.number < self.limit:
            self.add()


def main(place: str, interval: str, name: str = "one", pause: str = "0.001") -> None:
    """Observe a ticking source until SIGTERM; goes on where the session before it was."""
    found = quality(place) if os.environ.get("RESUME") else None
    points = resume_points(found, name) if found else {}
    signal.alarm(LIFETIME)
    source = Ticking(first=points.get(NODE, 0), pause=float(pause))
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    session = Session([source], place, name=name, interval=float(interval))
    print("ready", flush=True)
    complete = session.run(stop)
    print(source.number, flush=True)
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
