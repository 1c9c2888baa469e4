"""Removes what log tools put around the lines of a pod's log.

That is the prefixes of `kubectl logs --prefix` and stern, the runtime's time stamps, and log shippers' envelopes.

Invariant: one record at the head of a file decides its wrapping, and only if a source recognises what is inside. Files
without a wrapping never come here. In a wrapped file, a line without it stays as it is, for the source to judge.

Facts: kubectl's prefix is `[pod/NAME/CONTAINER] `; stern's default template is `NAME CONTAINER `, with the namespace in
front for all of them; the container runtime writes `TIME stdout F ` (CRI; P marks a part of a line, F its last) or, as
Docker, `{"log":"...\\n","stream":"stdout","time":"..."}` (without the line feed where it is a part).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from collector import sources
from collector.patterns import Patterns

LAYERS = 3  # at most: a prefix around a time stamp around an envelope
PIECES = 1 << 24  # bytes of a line that came in parts; a longer line is no record
OTHERS = "line of another container"

_COLOR = rb"(?:\x1b\[[0-9;]*m)*"
_NAME = rb"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)"


def _word(name: bytes) -> bytes:
    return _COLOR + name + _COLOR + rb" "


_POD, _CONTAINER = rb"(?P<pod>%b)" % _NAME, rb"(?P<container>%b)" % _NAME
_PREFIX = (
    re.compile(rb"\[pod/%b/%b\] " % (_POD, _CONTAINER)),  # kubectl logs --prefix
    re.compile(rb"\[%b %b\] " % (_POD, _CONTAINER)),  # kubetail
    re.compile(rb"(?:%b)?%b%b(?=[\[{\d])" % (_word(_NAME), _word(_POD), _word(_CONTAINER))),  # stern
    re.compile(rb"%b (?:std(?:out|err) (?P<part>[FP]) )?" % _TIME),  # kubectl logs --timestamps, and CRI
)
_RUNTIME = re.compile(rb"%b std(?:out|err) [FP] " % _TIME)
_FIELDS = ("log_processed", "log", "message", "line", "textPayload", "jsonPayload")  # where shippers put the line


class _Kubernetes(msgspec.Struct):
    """What fluent-bit, Filebeat and Vector say about the pod."""

    container_name: str = ""
    container: dict[str, msgspec.Raw] = {}


_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_kubernetes = msgspec.json.Decoder(_Kubernetes).decode


class Inner(NamedTuple):
    """What was inside one layer: the line, the container that wrote it ("" if not named), and whether it is partial."""

    line: bytes
    container: str = ""
    partial: bool = False


class Layer(NamedTuple):
    """One layer of a wrapping: the index of a prefix, or the name of an envelope's field."""

    prefix: int = -1
    field: str = ""

    def take_off(self, line: bytes) -> Inner | None:
        """The line inside; None if this one is not wrapped so."""
        if self.field:
            return _out_of_envelope(line, self.field)
        found = _PREFIX[self.prefix].match(line)
        if found is None:
            return None
        told = found.groupdict()
        return Inner(line[found.end() :], (told.get("container") or b"").decode(), told.get("part") == b"P")


class Wrapping(NamedTuple):
    """The layers around a file's records, outermost first, and the container that wrote them ("" if not named)."""

    layers: tuple[Layer, ...]
    container: str
    format: str

    def unwrapped(self, records: Iterable[tuple[int, bytes]], patterns: Patterns) -> Iterator[tuple[int, bytes]]:
        """The records inside; lines of other containers are counted as skipped, parts of a line put together."""
        waiting: dict[str, bytearray] = {}
        for number, record in records:
            line, container, partial = self._take_off(record)
            if container != self.container and container:
                patterns.quality.skipped.add(OTHERS, 1)
                continue
            begun = waiting.get(container)
            if begun is not None:
                begun += line
            if partial and len(begun or line) < PIECES:
                if begun is None:
                    waiting[container] = bytearray(line)
                continue
            line = (line if begun is None else bytes(waiting.pop(container))).strip()
            if line:
                yield number, line
        for rest in waiting.values():  # broken off: the source reports it
            yield number, bytes(rest)

    def _take_off(self, line: bytes) -> Inner:
        container, partial = "", False
        for layer in self.layers:
            inner = layer.take_off(line)
            if inner is None:
                break
            line, container, partial = inner.line, inner.container or container, inner.partial or partial
        return Inner(line, container, partial)


def of_runtime(record: bytes) -> bool:
    """Whether a line is one of a container runtime's own file (CRI), where a long line comes in parts."""
    return _RUNTIME.match(record) is not None


def wrapping_of(record: bytes) -> Wrapping | None:
    """The wrapping of a file, if a source recognises this record once it is removed; None if there is none."""
    found: list[tuple[tuple[Layer, ...], bytes, str]] = [((), record, "")]
    for _ in range(LAYERS):
        deeper = []
        for layers, line, container in found:
            for layer in _layers(line):
                inner = layer.take_off(line)
                if inner is None or inner.line == line:
                    continue
                told = inner.container or container
                name = sources.recognise(inner.line.strip())
                if name is not None:
                    return Wrapping((*layers, layer), told, name)
                deeper.append(((*layers, layer), inner.line, told))
        found = deeper
    return None


def _layers(line: bytes) -> Iterator[Layer]:
    if line[:1] == b"{":
        yield from (Layer(field=field) for field in _FIELDS)
    else:
        yield from (Layer(prefix=number) for number in range(len(_PREFIX)))


def _out_of_envelope(line: bytes, field: str) -> Inner | None:
    if line[:1] != b"{":
        return None
    try:
        envelope = _object(line)
        value = bytes(envelope.get(field, b""))
        text = value if value[:1] == b"{" else _text(value).encode() if value[:1] == b'"' else b""
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if not text:
        return None
    docker = envelope.keys() == {"log", "stream", "time"}
    return Inner(text, _container(bytes(envelope.get("kubernetes", b""))), docker and text[-1:] != b"\n")


def _container(kubernetes: bytes) -> str:
    """The container in a shipper's block about the pod; "" where there is none."""
    if not kubernetes:
        return ""
    try:
        told = _kubernetes(kubernetes)
        return told.container_name or _text(told.container.get("name", b'""'))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""
