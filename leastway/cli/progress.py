"""The progress bar of long reads.

Invariant: it is drawn on stderr, only on a terminal, and only when reading takes longer than `PATIENCE`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from leastway.verify.errors import line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 1.0  # seconds


class Meter:
    """A `collector.reading.Progress` callback; use it as a context manager."""

    def __init__(self, inputs: Sequence[str]) -> None:
        self.inputs = inputs
        self.began = time.monotonic()
        self.bytes = 0
        self.shown: tuple[Progress, TaskID] | None = None
        self.wanted = sys.stderr.isatty()

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, file: str, size: int) -> None:
        """Count `size` more bytes of `file`."""
        self.bytes += size
        if not self.wanted:
            return
        if self.shown is None and time.monotonic() - self.began > PATIENCE:
            self.shown = self._draw()
        if self.shown is not None:
            bar, task = self.shown
            bar.update(task, completed=self.bytes, description=line(Path(file).name, 40))

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self.shown is not None:
            self.shown[0].stop()
            self.shown, self.wanted = None, False

    def _draw(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        bar.start()
        return bar, bar.add_task("reading", total=_size(self.inputs), completed=self.bytes)


def _size(inputs: Sequence[str]) -> int | None:
    """Bytes on disk below the inputs; None if that cannot be known."""
    total = 0
    for name in inputs:
        path = Path(name)
        try:
            files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
            total += sum(file.stat().st_size for file in files)
        except OSError:
            return None
    return total or None
