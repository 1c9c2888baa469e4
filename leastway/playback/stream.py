"""One answer to GetFlows: which records, in which order, when, and what goes wrong on the way.

Invariant: the stream of a request depends on the capture, the request, the clock and the chaos plan, on nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from collector.wire.flow_pb2 import HUBBLE_RING_BUFFER
from collector.wire.observer_pb2 import GetFlowsResponse
from collector.wire.relay_pb2 import NODE_CONNECTED, NODE_UNAVAILABLE
from leastway.playback.capture import BILLION, Capture
from leastway.playback.chaos import Chaos
from leastway.playback.clock import Clock
from leastway.playback.filters import Predicate

LATEST = 253_402_300_799 * BILLION  # the last second that a timestamp can tell, in nanoseconds
LONGEST_WAIT = 60.0  # seconds


class Disconnect(Exception):
    """The plan says that the stream breaks here."""


@dataclass
class Wanted:
    """A request, understood: times in unix nanoseconds, 0 for none."""

    number: int = 0
    first: bool = False
    follow: bool = False
    since: int = 0
    until: int = 0
    allow: list[Predicate] = field(default_factory=list)
    deny: list[Predicate] = field(default_factory=list)
    mask: Callable[[Any], None] | None = None

    @property
    def untouched(self) -> bool:
        """Whether every record is sent as it is."""
        return not self.allow and not self.deny and self.mask is None

    def matches(self, message: Any) -> bool:
        """Whether a flow is wanted; other events always are."""
        if not message.HasField("flow"):
            return True
        if self.allow and not any(predicate(message) for predicate in self.allow):
            return False
        return not any(predicate(message) for predicate in self.deny)


class Playback:
    """A capture that is being played, to any number of clients."""

    def __init__(self, capture: Capture, clock: Clock, chaos: Chaos | None = None) -> None:
        self.capture = capture
        self.clock = clock
        self.chaos = chaos
        self._fired: set[int] = set()  # disconnects that have happened
        self._forgotten: dict[int, int] = {}  # node → positions below are not in its buffer any more
        self._lock = threading.Lock()

    def messages(self, wanted: Wanted, ended: threading.Event) -> Iterator[bytes]:
        """The serialised responses, until there are no more or `ended` is set.

        Raises Disconnect.
        """
        self.clock.start()
        position, last = self._range(wanted)
        left = wanted.number if wanted.number and (wanted.first or not wanted.follow) else -1
        while left and not ended.is_set():
            if last is not None and position >= last:
                return
            wait = self.clock.wait(position)
            if wait > 0:
                ended.wait(min(wait, LONGEST_WAIT))
                continue
            for raw in self._at(position, wanted):
                yield raw
                left -= 1
                if not left:
                    return
            position += 1

    def _range(self, wanted: Wanted) -> tuple[int, int | None]:
        """The first position, and the one to stop before (None: never)."""
        now = self.clock.happened()
        position = self.capture.position(wanted.since) if wanted.since else 0
        if wanted.number and not wanted.first and not wanted.since:
            position = self._last(wanted, now)
        elif wanted.follow and not wanted.since and not wanted.number and self.clock.speed:
            position = now
        if wanted.until:
            end = self.capture.position(wanted.until + 1)
            return position, end if wanted.follow else min(end, now)
        return position, None if wanted.follow else now

    def _last(self, wanted: Wanted, now: int) -> int:
        """Where the last `number` records that match begin."""
        left = wanted.number
        position = now
        while position > 0 and left:
            position -= 1
            if wanted.untouched or self._wanted_of(position, wanted) is not None:
                left -= 1
        return position

    def _at(self, position: int, wanted: Wanted) -> Iterator[bytes]:
        """What is sent when a position's turn has come."""
        chaos = self.chaos
        rounds, index = divmod(position, len(self.capture))
        if chaos is None or rounds:
            yield from self._one(position, wanted)
            return
        if index in chaos.disconnects:
            self._disconnect(index, chaos)
        yield from self._events(index, chaos)
        index = chaos.moved.get(index, index)
        for each in (index, chaos.repeats.get(position)):
            if each is not None and each not in chaos.missing and each >= self._forgotten.get(self._node(each), 0):
                yield from self._one(each, wanted)

    def _disconnect(self, index: int, chaos: Chaos) -> None:
        with self._lock:
            if index in self._fired:
                return
            self._fired.add(index)
            if index in chaos.overruns:
                name, end = chaos.overruns[index]
                self._forgotten[self.capture.names.index(name)] = end
        raise Disconnect

    def _events(self, index: int, chaos: Chaos) -> Iterator[bytes]:
        for node, count in chaos.lost.get(index, ()):
            message = GetFlowsResponse(node_name=node)
            message.lost_events.source = HUBBLE_RING_BUFFER
            message.lost_events.num_events_lost = count
            yield self._timed(message, index)
        for node, back in chaos.away.get(index, ()):
            message = GetFlowsResponse(node_name=node)
            message.node_status.state_change = NODE_CONNECTED if back else NODE_UNAVAILABLE
            message.node_status.node_names.append(node)
            yield self._timed(message, index)

    def _timed(self, message: Any, index: int) -> bytes:
        if self.capture.times[index]:
            message.time.FromNanoseconds(self.capture.times[index])
        return bytes(message.SerializeToString())

    def _node(self, index: int) -> int:
        return self.capture.nodes[index]

    def _one(self, position: int, wanted: Wanted) -> Iterator[bytes]:
        rounds, index = divmod(position, len(self.capture))
        moment = self.capture.times[index]
        if not rounds and moment and (moment < wanted.since or (wanted.until and moment > wanted.until)):
            return
        if wanted.untouched and not rounds:
            yield self.capture[index]
            return
        message = self._wanted_of(index, wanted)
        if message is not None:
            if rounds:
                self._again(message, rounds)
            yield bytes(message.SerializeToString())

    def _wanted_of(self, position: int, wanted: Wanted) -> Any | None:
        message: Any = GetFlowsResponse.FromString(self.capture[position % len(self.capture)])
        if not wanted.matches(message):
            return None
        if wanted.mask is not None and message.HasField("flow"):
            wanted.mask(message)
        return message

    def _again(self, message: Any, rounds: int) -> None:
        """Make a record of a later round of a loop: later, and with an id of its own."""
        shift = rounds * self.clock.period
        for owner in (message, message.flow) if message.HasField("flow") else (message,):
            if owner.HasField("time"):
                moment = owner.time.seconds * BILLION + owner.time.nanos + shift
                owner.time.FromNanoseconds(min(moment, LATEST))
        if message.flow.uuid:
            message.flow.uuid = f"{rounds:x}-{message.flow.uuid}"
