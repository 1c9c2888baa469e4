"""`--record`: the raw messages of a source as JSON lines, packed with zstandard, for later reading and replay.

Invariant: a source never waits for the recording. What the recording cannot take is counted, and whatever ends the
process, the file can be read up to the last finished frame, which is not older than `FRAME_SECONDS`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from collector.errors import SourceError
from leastway.observing.journal import fail, note, warn

FRAME_BYTES = 4 << 20  # plain bytes in one frame
FRAME_SECONDS = 1.0
LAST_FRAME = 0.5  # seconds that the last frame may take
WAITING_BYTES = 64 << 20  # raw bytes that may wait to be written

Convert = Callable[[bytes], str | None]  # a raw message as one line of JSON; None if it holds nothing to record


class Recorder:
    """The hook of one source: call it with each message as it came over the wire; any thread, never waits.

    `limit` bounds the file's bytes on disk; once it is reached recording ends and says so, observing goes on.
    Raises SourceError when the file cannot be made.
    """

    def __init__(self, path: Path, limit: int, convert: Convert) -> None:
        self.path, self._file = _fresh(path)
        self.limit = limit
        self.written = 0
        self.dropped = 0
        self.over = False  # nothing is recorded any more
        self._convert = convert
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"record {self.path.name}", daemon=True)
        self._thread.start()

    def __call__(self, message: bytes) -> None:
        """Record one raw message, unless too many wait already or recording is over."""
        with self._lock:
            if self.over or self._queued + len(message) > WAITING_BYTES:
                self.dropped += 1
                return
            self._queued += len(message)
            self._queue.append(message)
        self._wake.set()

    def close(self, patience: float) -> None:
        """Write what waits, for at most so many seconds, and close the file."""
        self._ending = True
        self._wake.set()
        self._thread.join(patience)
        if self._thread.is_alive():  # what still waits is given up, what is being packed is not
            self._stop_taking()
            self._thread.join(LAST_FRAME)
        if self.dropped:
            warn("the recording is not complete", file=str(self.path), missing=self.dropped)

    def _run(self) -> None:
        try:
            with self._file:
                self._record()
            note("recorded", file=str(self.path), bytes=self.written)
        except OSError as error:
            fail("recording failed; observing goes on", file=str(self.path), error=str(error))
        finally:
            self._stop_taking()

    def _record(self) -> None:
        import zstandard

        compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        last = False
        while not (self.over or last):
            lines, last = self._gather()
            if lines:
                frame = compressor.compress("".join(lines).encode("utf-8", "replace"))
                if self.written + len(frame) > self.limit:
                    self.dropped += len(lines)
                    warn("the recording has reached its size and ends; observing goes on", file=str(self.path))
                    return
                self._file.write(frame)
                self._file.flush()
                self.written += len(frame)

    def _gather(self) -> tuple[list[str], bool]:
        """The lines of the next frame, and whether it is the last one."""
        lines: list[str] = []
        size = 0
        end = time.monotonic() + FRAME_SECONDS
        while size < FRAME_BYTES and (now := time.monotonic()) < end:
            message = self._next()
            if message is None:
                if self._ending:
                    return lines, True
                self._wake.wait(end - now)
                self._wake.clear()
                continue
            line = self._convert(message)
            if line is None:
                self.dropped += 1
                continue
            lines.append(line + "\n")
            size += len(line)
        return lines, False

    def _next(self) -> bytes | None:
        with self._lock:
            if not self._queue:
                return None
            message = self._queue.popleft()
            self._queued -= len(message)
            return message

    def _stop_taking(self) -> None:
        with self._lock:
            self.over = True
            self.dropped += len(self._queue)
            self._queue.clear()
            self._queued = 0


def path_for(path: Path, source: str, *, alone: bool) -> Path:
    """The file of one source: a file holds one format, so several sources write `capture.hubble.jsonl.zst`, ..."""
    if alone:
        return path
    stem, dot, rest = path.name.partition(".")
    return path.with_name(f"{stem}.{source}{dot}{rest}")


def _fresh(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file at the path, or at `name-2.jsonl.zst`, ... beside it: a recording is never written over."""
    stem, dot, rest = path.name.partition(".")
    for number in range(1, 10_000):
        candidate = path if number == 1 else path.with_name(f"{stem}-{number}{dot}{rest}")
        try:
            return candidate, os.fdopen(os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except FileExistsError:
            continue
        except OSError as error:
            raise SourceError(
                f"cannot record there: {error.strerror}", where=str(candidate), hint="check the path"
            ) from error
    raise SourceError("there are too many recordings of that name", where=str(path), hint="move them away")
