"""The wish to stop, which a signal handler may utter at any instant.

Invariant: `set` takes no lock. A handler runs in the main thread between two instructions; if these are inside
`threading.Event.wait`, which holds the event's lock for a moment, then `Event.set` would wait for itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterator

from leastway.observing.journal import fail

LOOK = 0.2  # seconds


class Stop:
    """An event that is set once, waited for in one thread, and closed in the end."""

    def __init__(self) -> None:
        self._set = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def set(self) -> None:
        """Wake whoever waits, now and from now on."""
        self._set = True
        with contextlib.suppress(OSError):  # full, so it is readable; or closed, so nobody waits
            os.write(self._write, b"x")

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, for at most so many seconds; whether it is."""
        if not self._set:
            select.select([self._read], [], [], max(0.0, seconds))
        return self._set

    def close(self) -> None:
        """Give its file descriptors back; a signal may still come."""
        for descriptor in (self._write, self._read):
            os.close(descriptor)

    def __enter__(self) -> Stop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def deadline(stop: Stop, seconds: float) -> Iterator[None]:
    """What is within must have ended so many seconds after `stop` was set, or the process ends, with exit code 1.

    A store that does not answer is waited for inside a library, which no exception gets out of.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK):
            if stop.is_set() and not done.wait(seconds - LOOK):
                fail("ended without an answer of the store; what was gathered since the last flush is lost")
                os._exit(1)

    threading.Thread(target=watch, name="deadline", daemon=True).start()
    try:
        yield
    finally:
        done.set()
