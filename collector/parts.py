"""One large capture file, read by several processes.

Invariant: patterns, bad lines and their numbers are the same as if one process read the whole file. A file is cut only
between two lines that are both whole records of its format, and before one that means the same without those before it.
A part whose process dies is read again by this one.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec

from collector.beside import beside
from collector.patterns import Patterns
from collector.records import records
from collector.sources import Bad, Source, Stream

PART = 24 << 20  # bytes; less is read faster by one process
MOST = 16  # processes
TRIES = 100  # lines after a wanted cut that are tried
SHOWN = 1000  # bad lines whose position is kept


class Part(msgspec.Struct, frozen=True):
    """Bytes `first` to `last` (exclusive) of a file."""

    path: Path
    first: int
    last: int


class _Folded(msgspec.Struct):
    """What a process returns: its patterns, how many lines it read, the bad ones by number, and what ended it early."""

    patterns: Patterns
    lines: int
    bad: list[tuple[int, str]]
    bad_lines: int
    broken: OSError | None = None


def parts(name: str, source: Source) -> list[Part]:
    """How to cut a file for the available processors; [] if reading it in one piece is faster or safer."""
    path = Path(name)
    # Elsewhere a copy of a running process is not safe to work in.
    if sys.platform != "linux" or not path.is_file():
        return []
    size = path.stat().st_size
    count = min(len(os.sched_getaffinity(0)), size // PART, MOST)
    if count < 2:
        return []
    cuts = [0]
    for number in range(1, count):
        cut = _cut(path, size * number // count, source)
        if cut is None or not cuts[-1] < cut < size:
            return []
        cuts.append(cut)
    return [Part(path, first, last) for first, last in pairwise([*cuts, size])]


def _cut(path: Path, target: int, source: Source) -> int | None:
    """The start of a line soon after `target` such that the lines on both sides are whole records."""
    with path.open("rb") as file:
        file.seek(target)
        file.readline()
        before = False
        for _ in range(TRIES):
            position = file.tell()
            line = file.readline()
            record = line.strip()
            whole = line[:2] == b'{"' and record[-1:] == b"}" and source.recognises(record)
            if before and whole and (not isinstance(source, Stream) or source.begins(record)):
                return position
            before = whole
    return None


def fold(
    pieces: list[Part],
    source: Source,
    patterns: Patterns,
    bad: Bad,
    progress: Callable[[int], None] | None,
    broken: Callable[[Exception], None],
) -> None:
    """Count every record of a file that was cut with `parts`; `progress` is told bytes.

    `broken` is told why the rest of a part cannot be read.
    """
    waiting = [beside(partial(_fold, piece, source)) for piece in pieces[1:]]
    lines = _Lines(pieces[0], None if progress is None else lambda size: progress(size * len(pieces)))
    source.fold(records(iter(lines)), patterns, bad)
    if lines.broken is not None:
        broken(lines.broken)
    number = lines.number
    for result in waiting:
        found = result()
        if found.broken is not None:
            broken(found.broken)
        patterns.merge(found.patterns)
        for line, reason in found.bad:
            bad(number + line, reason)
        for _ in range(found.bad_lines - len(found.bad)):
            bad(0, "")  # beyond what is shown anyway
        number += found.lines


def _fold(piece: Part, source: Source) -> _Folded:
    found = _Folded(Patterns(), 0, [], 0)

    def bad(line: int, reason: str) -> None:
        found.bad_lines += 1
        if len(found.bad) < SHOWN:
            found.bad.append((line, reason))

    lines = _Lines(piece, None)
    source.fold(records(iter(lines)), found.patterns, bad)
    found.lines, found.broken = lines.number, lines.broken
    return found


class _Lines:
    """The lines of a part, numbered from 1; `number` is that of the last one given out.

    Where reading fails, they end, and `broken` says why: what was read before must still be counted.
    """

    def __init__(self, piece: Part, progress: Callable[[int], None] | None) -> None:
        self.piece = piece
        self.progress = progress
        self.number = 0
        self.broken: OSError | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        try:
            yield from self._read()
        except OSError as error:
            self.broken = error

    def _read(self) -> Iterator[tuple[int, bytes]]:
        position, told = self.piece.first, self.piece.first
        with self.piece.path.open("rb", buffering=1 << 20) as file:
            file.seek(position)
            for line in file:
                self.number += 1
                yield self.number, line if position else line.removeprefix(codecs.BOM_UTF8)
                position += len(line)
                if position - told > 1 << 20 and self.progress is not None:
                    self.progress(position - told)
                    told = position
                if position >= self.piece.last:
                    return
