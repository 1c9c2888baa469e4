"""Keeps the number of parts in the store bounded, by running `leastway merge` now and then.

Invariant: it runs in a process of its own, so that neither its memory nor its time is taken from the sources, and it
may be killed at any instant without harm to the store.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys

from leastway.observing.journal import note, warn

COMMAND = ("-m", "leastway", "merge")


class Merging:
    """Counts flushes, and starts a merge of the store after every `every` of them."""

    def __init__(self, place: str, every: int) -> None:
        self.place = place
        self.every = every
        self.since = 0
        self._process: subprocess.Popen[bytes] | None = None

    def flushed(self) -> None:
        """Count a flush; never waits for a merge."""
        self._look()
        self.since += 1
        if self.since >= self.every and self._process is None:
            self.since = 0
            with contextlib.suppress(OSError):  # no memory for a process now: the next flush tries again
                self._process = subprocess.Popen(
                    [sys.executable, *COMMAND, self.place],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # a terminal's interrupt is for the collector, which then stops it
                )

    def stop(self) -> None:
        """End a merge that runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.communicate(timeout=0.5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def _look(self) -> None:
        process = self._process
        if process is None or process.poll() is None:
            return
        self._process = None
        _, talk = process.communicate()
        if process.returncode == 0:
            note("merged the store's parts")
        else:
            said = talk.decode(errors="replace").strip()[-400:]
            warn("the store's parts were not merged; the next flushes try again", said=said)
