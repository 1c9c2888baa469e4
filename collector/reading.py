"""From files to patterns: unpacks them, cuts them into records and hands them to the right source.

Invariant: the result does not depend on the order or the names of the files, and a damaged part of a file costs only
the records in that part.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Protocol

import msgspec

from collector import parts, sources, store
from collector.errors import SourceError, reason
from collector.files import files_of
from collector.parts import SHOWN
from collector.patterns import Patterns
from collector.records import records, several
from collector.sources.wrappings import Wrapping, of_runtime, wrapping_of
from collector.unpacking import BUFFER, unpacked

UNKNOWN = "file in no known format"
HEAD = 256 * 1024  # how far into a file a recognisable record may start

# A line as `hubble observe` prints it for people.
_COMPACT = re.compile(rb" (?:->|<-|<>) .* (?:FORWARDED|DROPPED|AUDITED|REDIRECTED|TRACED|TRANSLATED)\b")

Progress = Callable[[str, int], None]  # (file, bytes consumed since the last call, as stored on disk)


class BadLine(msgspec.Struct, frozen=True, order=True):
    """Where a record could not be read, and why. `line` counts from 1; 0 stands for the whole file."""

    file: str
    line: int
    reason: str


class Reading(msgspec.Struct):
    """The result of reading: the patterns, the format of each file, and the bad lines (the first `SHOWN`)."""

    patterns: Patterns
    formats: dict[str, str] = {}
    bad: list[BadLine] = []
    bad_lines: int = 0

    @property
    def bad_share(self) -> float:
        """Bad lines among all records, 0 to 1."""
        quality = self.patterns.quality
        skipped = sum(quality.skipped.kept.values())
        return self.bad_lines / max(1, self.bad_lines + quality.total + skipped)

    def take(self, other: Reading) -> None:
        """Take in what was read elsewhere; `other` must not be used afterwards."""
        self.patterns.merge(other.patterns)
        self.formats.update(other.formats)
        self.bad = (self.bad + other.bad)[:SHOWN]
        self.bad_lines += other.bad_lines


class Engine(Protocol):
    """Reads files elsewhere: does `work` on every item and gives the results in the items' order."""

    def __call__(self, work: Callable[[str], Reading], items: Sequence[str], /) -> Iterable[Reading]: ...


def read(inputs: Sequence[str], progress: Progress | None = None, engine: Engine | None = None) -> Reading:
    """Read capture files, folders of them, pattern stores, fsspec URLs, or `-` for standard input.

    With an `engine`, `progress` is told of whole files.
    Raises SourceError when an input is not there, cannot be opened, or is in no known format.
    """
    reading = Reading(Patterns())
    for name in inputs:
        if store.is_store(name):
            reading.patterns.merge(store.load(name))
            reading.formats[name] = "pattern store"
            continue
        if engine is None:
            for file in files_of(name):
                _read_file(file, reading, progress)
            continue
        if name == "-":
            raise SourceError("only this process can read standard input", where="-", hint="give files, or no --engine")
        files = files_of(name)
        for file, found in zip(files, engine(_read_elsewhere, files), strict=True):
            reading.take(found)
            if progress is not None and Path(file).is_file():
                progress(file, Path(file).stat().st_size)
    return reading


def _read_elsewhere(file: str) -> Reading:
    reading = Reading(Patterns())
    _read_file(file, reading, None)
    return reading


def _read_file(name: str, reading: Reading, progress: Progress | None) -> None:
    def bad(line: int, reason: str) -> None:
        reading.bad_lines += 1
        if len(reading.bad) < SHOWN:
            reading.bad.append(BadLine(name, line, reason))

    def broken(error: Exception) -> None:
        reading.patterns.quality.bad.add("file broken off or corrupt", 1)
        reading.formats.setdefault(name, "broken")
        bad(0, f"file broken off or corrupt: {error}")

    with contextlib.ExitStack() as stack:
        stream = _open(name, stack, progress, broken)
        if stream is None:
            return
        found, wrapping, lines = _recognised(records(enumerate(_lines(stream, broken), 1)))
        if found:
            reading.formats[name] = found
            source = sources.source(found)
            if wrapping is not None:
                source.fold(wrapping.unwrapped(lines, reading.patterns), reading.patterns, bad)
            elif pieces := parts.parts(name, source):
                parts.fold(pieces, source, reading.patterns, bad, progress and partial(progress, name), broken)
            else:
                source.fold(lines, reading.patterns, bad)
        elif found is None:
            reading.formats.setdefault(name, "empty")
        elif name not in reading.formats:
            reading.patterns.quality.bad.add(UNKNOWN, 1)
            number, first = next(lines)
            bad(number, f"{UNKNOWN}, from this line on: {_advice(first)}")
            reading.formats[name] = "unknown"


def _advice(record: bytes) -> str:
    """What to do about a record that no source recognises."""
    if _COMPACT.search(record[:1024]):
        return "Hubble's own text; hubble observe -o jsonpb writes what can be read"
    return "take off what another tool put around the lines"


def capture_records(name: str, broken: Callable[[str], None]) -> Iterator[tuple[str, bytes]]:
    """The records of capture files as they are, each with the name of its format ("" unknown), to be played back.

    `name` is a file, a folder, a URL or `-`. `broken` is told why a file cannot be read to its end.
    Raises SourceError as `read`.
    """
    for file in files_of(name):
        tell = partial(_tell, broken, file)
        with contextlib.ExitStack() as stack:
            stream = _open(file, stack, None, tell)
            if stream is None:
                continue
            cut = _lines(stream, tell)
            found, wrapping, lines = _recognised(records(enumerate(cut, 1)))
            for _, record in lines if wrapping is None else wrapping.unwrapped(lines, Patterns()):
                yield found or "", record


def _tell(broken: Callable[[str], None], file: str, error: Exception) -> None:
    broken(f"{file}: {error}")


def _recognised(
    lines: Iterator[tuple[int, bytes]],
) -> tuple[str | None, Wrapping | None, Iterator[tuple[int, bytes]]]:
    """The format of a file ("" unknown, None if the file is empty), what is around its records, and all of them."""
    head: list[tuple[int, bytes]] = []
    size = 0
    found = wrapping = None
    for number, record in lines:
        head.append((number, record))
        size += len(record)
        if not of_runtime(record):  # sources read past its prefix, but cannot join a line in parts
            found = sources.recognise(record) or sources.recognise((several(record) or [b""])[0])
        if found is None and (wrapping := wrapping_of(record)) is not None:
            found = wrapping.format
        if found or size > HEAD or len(head) > 1000:
            break
    return (found or "") if head else None, wrapping, chain(head, lines)


def _open(
    name: str, stack: contextlib.ExitStack, progress: Progress | None, broken: Callable[[Exception], None]
) -> IO[bytes] | None:
    """The file's bytes, unpacked; None if they break off before the first, which `broken` is told.

    Raises SourceError for a file that is not there or may not be read.
    """
    try:
        return _opened(name, stack, progress)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=name, hint="check the path") from error
    except (OSError, EOFError) as error:
        broken(error)
        return None


def _opened(name: str, stack: contextlib.ExitStack, progress: Progress | None) -> IO[bytes]:
    if name == "-":
        raw: IO[bytes] = sys.stdin.buffer
    elif "://" in name:
        import fsspec

        with _drivers_errors():
            raw = stack.enter_context(fsspec.open(name, "rb"))
    else:
        raw = stack.enter_context(Path(name).open("rb"))  # noqa: SIM115  # the stack closes it
    return unpacked(io.BufferedReader(_Counted(raw, name, progress), BUFFER))


def _lines(stream: IO[bytes], broken: Callable[[Exception], None]) -> Iterator[bytes]:
    """The lines of a stream, without the byte order mark that some shells put first.

    Where reading fails, they end and `broken` is told why: what was read before must still be counted.
    """
    try:
        first = stream.readline()
        if first:
            yield first.removeprefix(codecs.BOM_UTF8)
            yield from stream
    except (OSError, EOFError) as error:
        broken(error)


@contextlib.contextmanager
def _drivers_errors() -> Iterator[None]:
    """Turn the errors of object stores' drivers (credentials, connections) into OSErrors."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(reason(error)) from error


class _Counted(io.RawIOBase):
    """Reports how much of a file has been consumed."""

    def __init__(self, raw: IO[bytes], name: str, progress: Progress | None) -> None:
        self.raw_stream = raw
        self.file_name = name
        self.progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # whatever io hands over is a buffer
        with _drivers_errors():
            data = self.raw_stream.read(len(view))
        view[: len(data)] = data
        if self.progress is not None:
            self.progress(self.file_name, len(data))
        return len(data)
