"""A real `leastway observe`, as a user starts it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

PATIENCE = 20.0  # seconds that a test waits for something that takes a moment


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


class Observe:
    """The process, and its log as it comes. `addresses` by source, and of the metrics."""

    def __init__(self, place: Path | str, *options: str, module: str = "leastway") -> None:
        arguments = ["observe", "--store", str(place), "--log-format", "json", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self.said: list[dict[str, Any]] = []
        self.other: list[str] = []  # lines that are no log
        self.addresses: dict[str, str] = {}
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def heard(self, message: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Read the log until it says `message` (or has said it already)."""
        end = time.monotonic() + seconds
        while True:
            for told in self.said:
                if told["message"] == message:
                    return told
            line = self._lines.get(timeout=max(0.1, end - time.monotonic()))
            assert line is not None, f"it ended without saying {message!r}: {self.said} {self.other}"
            self._note(line)

    def _note(self, line: str) -> None:
        if not line.startswith("{"):
            self.other.append(line)
            return
        told = json.loads(line)
        self.said.append(told)
        if told["message"] == "started":
            self.addresses[told["source"]] = told["address"]
        elif told["message"] == "serving metrics":
            self.addresses["metrics"] = told["address"]

    def running(self) -> Observe:
        """Wait until all sources have started."""
        self.heard("observing")
        return self

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page beside the metrics."""
        try:
            with urllib.request.urlopen(f"http://{self.addresses['metrics']}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, series: str) -> float:
        """The value of one series, 0 if it is not there."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(series + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def end(self, number: int = signal.SIGTERM, seconds: float = 10) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(seconds)
        self._thread.join(5)
        while (line := self._lines.get(timeout=5)) is not None:
            self._note(line)
        return code


@contextmanager
def observe(place: Path | str, *options: str, module: str = "leastway") -> Iterator[Observe]:
    """A process that has ended afterwards, whatever happened."""
    started = Observe(place, *options, module=module)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait(10)
        started._thread.join(5)
        for stream in (started.process.stdout, started.process.stderr):
            assert stream is not None
            stream.close()
