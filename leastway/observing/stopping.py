"""The wish to stop, which a signal handler may utter at any instant.

Invariant: `set` takes no lock. A handler runs in the main thread between two instructions; if these are inside
`threading.Event.wait`, which holds the event's lock for a moment, then `Event.set` would wait for itself.
"""

from __future__ import annotations

import contextlib
import os
import select


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
