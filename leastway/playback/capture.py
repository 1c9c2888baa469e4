"""A capture in memory that is bounded: the serialised messages in a file of their own, an index of them here.

Invariant: messages are in the order of their time, as Relay hands them out; those of the same time, and those without
one, keep the order of the capture.
"""

from __future__ import annotations

import mmap
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from collector.errors import SourceError
from collector.reading import capture_records
from leastway.playback.encoding import response

BILLION = 1_000_000_000
FARTHEST = 1 << 63  # nanoseconds; what is further from 1970 counts as without a time


class Capture:
    """Records of Hubble, ready to be sent.

    `times` are unix nanoseconds, rising (those of the record before where there is none); `nodes` the number in `names`
    of the node that each was seen on; `unread` the records that could not be encoded, `broken` the files that ended
    early. Raises SourceError when there is nothing to play.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self.names: list[str] = []
        self.namespaces: set[tuple[str, str]] = set()
        self.unread = 0
        self.broken: list[str] = []
        offsets, lengths, times, nodes = array("Q"), array("L"), array("q"), array("L")
        numbers: dict[str, int] = {}
        with tempfile.TemporaryFile() as file:
            size = 0
            for moment, message in self._messages(inputs):
                raw = message.SerializeToString()
                offsets.append(size)
                lengths.append(len(raw))
                times.append(moment)
                node = message.node_name or message.flow.node_name
                nodes.append(numbers.setdefault(node, len(numbers)))
                size += file.write(raw)
            if not size:
                hint = "give a capture of `hubble observe -o jsonpb`"
                raise SourceError("no Hubble flows to play", where=", ".join(inputs), hint=hint)
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # it keeps the file
        self.names = list(numbers)
        order = sorted(range(len(offsets)), key=times.__getitem__)
        self.offsets = array("Q", [offsets[i] for i in order])
        self.lengths = array("L", [lengths[i] for i in order])
        self.times = array("q", [times[i] for i in order])
        self.nodes = array("L", [nodes[i] for i in order])

    def _messages(self, inputs: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """Every record that can be sent, with its time."""
        for name in inputs:
            moment = 0
            for form, record in capture_records(name, self.broken.append):
                message = self._message(form, record)
                if message is not None:
                    moment = _moment(message) or moment
                    yield moment, message

    def _message(self, form: str, record: bytes) -> Any | None:
        if form != "hubble_json":
            self.unread += 1
            return None
        try:
            message = response(record)
        except ValueError:
            self.unread += 1
            return None
        if message is not None:
            for end in (message.flow.source, message.flow.destination):
                if end.namespace:
                    self.namespaces.add((end.cluster_name, end.namespace))
        return message

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, position: int) -> bytes:
        """The message at a position, serialised."""
        start = self.offsets[position]
        return self._map[start : start + self.lengths[position]]

    def position(self, moment: int) -> int:
        """The first position at or after a time in unix nanoseconds."""
        return bisect_left(self.times, moment)

    @property
    def span(self) -> int:
        """Nanoseconds from the first record to the last that have a time."""
        first = self.position(1)
        return self.times[-1] - self.times[first] if first < len(self) else 0


def _moment(message: Any) -> int:
    stamp = message.time if message.HasField("time") else message.flow.time
    moment = int(stamp.seconds * BILLION + stamp.nanos)
    return moment if abs(moment) < FARTHEST else 0
