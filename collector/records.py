"""Lines of text → records: a line each, or one JSON value over several lines.

Invariant: every byte that is not white space, padding, a comment, or a bracket or comma of an enclosing array is in
exactly one record, under the number of the line that the record begins on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

_DECODER = json.JSONDecoder()  # msgspec has no way to stop at the end of a value
TOGETHER = 1000  # JSON objects on one line that `several` splits
RECORD = 16 * 1024 * 1024  # the largest record that is put together from several lines
# Zero bytes are in front of the first line after a log file was truncated while its writer had it open (logrotate's
# `copytruncate`), and behind the last one after a crash; RS (0x1E) begins a record of RFC 7464 (JSON text sequences).
_PADDING = b"\0\x1e \t\n\v\f\r"


def records(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Cut a stream of lines into records: a line each, except that a pretty-printed JSON value is one record.

    Comment lines (`#`, `//`), the brackets and commas of a JSON array around the records, and padding are left out.
    """
    for number, line in lines:
        line = line.strip()
        if line[:1] == b"{" and line[-1:] == b"}":
            yield number, line
            continue
        line = line.strip(_PADDING)
        if line[:1] == b"{" and line[-1:] == b"}":
            yield number, line
        elif line[:1] in (b"{", b"["):
            yield from _whole_values(number, line, lines)
        elif line and not line.startswith((b"#", b"//")) and line not in (b"]", b",", b"],"):
            yield number, line[:-1].rstrip() if line[:1] == b"{" and line[-2:] == b"}," else line


def _whole_values(number: int, line: bytes, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Records that begin on `line` and run over several lines, or share one.

    The bracket of an array is dropped, its members are the records. A line that opens an object at column 0 while
    another is unfinished starts anew (`_starts_anew`): the unfinished one was broken off.
    """
    if line[:1] == b"[":
        inner = line[1:].lstrip()
        if inner[:1] not in (b"{", b"", b"]"):
            yield number, line  # a text log line: [2024-01-01T...]
            return
        line = inner
    parts = [line]
    depth = _Depth()
    depth.feed(line)
    size = len(line)
    indented = False
    while depth.open > 0 and size <= RECORD:
        following = next(lines, None)
        if following is None:
            break
        at, raw = following
        text = raw.strip()
        if _starts_anew(raw, text, indented or len(parts) == 1):
            yield number, b"\n".join(parts)
            number, parts, depth, size = at, [], _Depth(), 0
        elif text.startswith((b"#", b"//")):
            continue
        indented = bool(parts) and (indented or raw[:1].isspace())
        parts.append(text)
        size += len(text)
        depth.feed(text)
    whole = b"\n".join(parts).rstrip(b", \t\n")
    if depth.open < 0:
        whole = whole.removesuffix(b"]")
    try:
        values = msgspec.json.decode(b"[%b]" % whole, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        yield number, whole
        return
    for value in values:
        yield number, bytes(value)


def several(record: bytes) -> list[bytes]:
    """The JSON objects on one line whose writer lost the line breaks between them; [] if it is no such line.

    More than `TOGETHER` objects are not split: no writer loses that many line breaks.
    """
    pieces: list[bytes] = []
    try:
        text = record.decode().rstrip()
        end = 0
        while end < len(text):
            start = end
            while text[start].isspace():
                start += 1
            value, end = _DECODER.raw_decode(text, start)
            if not isinstance(value, dict) or len(pieces) == TOGETHER:
                return []
            pieces.append(text[start:end].encode())
    except (ValueError, RecursionError):
        return []
    return pieces if len(pieces) > 1 else []


def _starts_anew(raw: bytes, text: bytes, indented: bool) -> bool:
    """Whether this line begins a new record although the one before it is unfinished.

    In a value printed without indentation the members of inner lists begin at column 0 too; those begin none.
    """
    return raw[:1] == b"{" and (indented or (text[:2] == b'{"' and text[-1:] == b"}"))


class _Depth:
    """Counts how many brackets of a JSON text are open, over lines."""

    def __init__(self) -> None:
        self.open = 0
        self.in_string = False

    def feed(self, text: bytes) -> None:
        escaped = False
        for byte in text:
            if escaped:
                escaped = False
            elif self.in_string:
                escaped = byte == 0x5C
                self.in_string = byte != 0x22
            elif byte == 0x22:
                self.in_string = True
            elif byte in b"{[":
                self.open += 1
            elif byte in b"}]":
                self.open -= 1
