"""Live source: the flows of Hubble's Observer API, from Relay or from one agent.

Invariant: what a stream hands over is counted as `hubble_json` would count it from a file, once, whatever happens to
the connection; what is missing is in `Patterns.quality` under its node and hour (see `hubble_resume`).

One thread reads the stream and counts. gRPC's single-threaded stream saves a queue and two threads, which triples the
rate; `stop` cancels the call from outside, which ends the reading at once, idle or not.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from collector.errors import SourceError
from collector.live import SourceStatus
from collector.patterns import Patterns
from collector.sources.hubble_request import HEALTH, METHOD, Request
from collector.transport import TLS, Address, Options, open_channel, parse_address

if TYPE_CHECKING:
    from collector.sources.hubble_reading import Reader

LARGEST_MESSAGE = 16 << 20  # bytes, as much as the longest record of a file
FIRST_DELAY, LONGEST_DELAY, GROWTH = 0.1, 30.0, 1.7  # seconds between attempts
FRUITLESS = 3  # attempts that break at the same message before it is passed over
ANSWER = 10.0  # seconds for a server to say that it is there
SILENCE = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}  # no server has answered
MOST_EDGES = 200_000  # in one aggregate, about a gigabyte
BETWEEN_LOOKS = 4096  # flows between two looks at its size
REFUSES_MASK = {"INVALID_ARGUMENT", "UNIMPLEMENTED", "UNKNOWN"}  # what a server may answer that knows no field masks

OPTIONS: Options = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.use_local_subchannel_pool", 1),  # an attempt is an attempt: none shares gRPC's own backoff with another
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 310_000),  # servers in Go take more than a ping in five minutes for an attack
    ("grpc.keepalive_timeout_ms", 20_000),
)

log = logging.getLogger(__name__)


class HubbleSource:
    """A `LiveSource`.

    `record` is handed every response as it came, serialised, but for those that were sent again. `resume` are positions
    to go on from, unix nanoseconds by node, as `cursors` had them after the last `take` of another process.
    """

    name = "hubble"

    def __init__(
        self,
        address: str | Address,
        tls: TLS | None = None,
        request: Request | None = None,
        record: Callable[[bytes], None] | None = None,
        resume: Mapping[str, int] | None = None,
    ) -> None:
        self.address = str(address)
        self.tls = tls
        self.request = request or Request()
        self.record = record
        self.resume = resume or {}
        self.cursors: Mapping[str, int] = {}  # up to when each node's flows are in what `take` has handed over
        self.status = SourceStatus()
        self.finished = threading.Event()
        self.trouble = ""
        self._target = Address()
        self._lock = threading.Lock()  # held by whoever counts or hands over
        self._stopping = threading.Event()
        self._taken = threading.Event()
        self._thread: threading.Thread | None = None
        self._reader: Reader | None = None
        self._call: Any = None
        self._mask = self.request.mask
        self._stuck = 0
        self._away = 0  # since when (unix nanoseconds) there is no stream, 0 while there is one

    @property
    def namespaces(self) -> Sequence[str]:
        """Whose flows it asks for; () for all."""
        return self.request.namespaces

    @property
    def repeated(self) -> int:
        """Flows that came again, and were not counted."""
        return self._reader.positions.repeated if self._reader is not None else 0

    def start(self) -> None:
        """Begin to connect and to count.

        Raises SourceError for an address, a filter or a TLS file that cannot be right.
        """
        from collector.sources.hubble_reading import Reader

        self._target = parse_address(self.address)
        self.request.serialised(0, self._mask)
        open_channel(self._target, self.tls).close()
        self._reader = Reader(self.status)
        self._reader.positions.restore(self.resume)
        self._thread = threading.Thread(target=self._run, args=(self._reader,), name="hubble", daemon=True)
        self._thread.start()

    def take(self) -> Patterns:
        """What was gathered since the last call, and whether there was a connection."""
        reader = self._reader
        if reader is None:
            return Patterns()
        with self._lock:
            if not self.status.connected and not self.finished.is_set():
                reader.counter.patterns.quality.blind_spot(int(time.time()), str(self._target), "not connected")
            if self.request.namespaces:
                reader.counter.patterns.quality.narrowed(self.request.namespaces)
            self.cursors = reader.positions.reached(time.time_ns())
            patterns = reader.hand_over()
        self._taken.set()
        return patterns

    def stop(self, grace: float) -> None:
        """End the stream within `grace` seconds."""
        self._stopping.set()
        self._taken.set()
        call = self._call
        if call is not None:
            call.cancel()
        if self._thread is not None:
            self._thread.join(grace)
        self.finished.set()

    # -- in the thread of its own ------------------------------------------------------------------------------------

    def _run(self, reader: Reader) -> None:
        """Attempt after attempt, until stopped or done."""
        delay = FIRST_DELAY
        while not self._stopping.is_set():
            mask = self._mask
            before = sum(self.status.flows.values())
            done = self._attempt(reader)
            fresh = sum(self.status.flows.values()) > before
            self.status.connected = False
            self.status.streams = 0
            if done:
                break
            self.status.reconnects += 1
            if self._mask or not mask:  # asked without a mask, the server will say more
                self._away = self._away or time.time_ns()
            if fresh:
                delay, self._stuck = FIRST_DELAY, 0
            log.warning("hubble: %s: %s", self._target, self.trouble)
            self._stopping.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311  # so that not all come back at once
            delay = min(delay * GROWTH, LONGEST_DELAY)
        with self._lock:
            reader.close()
        self.finished.set()

    def _attempt(self, reader: Reader) -> bool:
        """One stream, from the position where the last one broke. True if no other must follow."""
        import grpc.experimental

        from collector.sources.hubble_reading import MaskRefusedError

        since = 0 if self._stuck >= FRUITLESS else reader.positions.since()
        before = reader.received
        try:
            single = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
            channel = open_channel(self._target, self.tls, (*OPTIONS, single))
        except SourceError as error:  # a certificate is being replaced, perhaps
            self.trouble = str(error)
            return False
        try:
            self._greet(channel)
            self._back(reader)
            self._call = call = channel.unary_stream(METHOD)(self.request.serialised(since, self._mask))
            if self._stopping.is_set():
                return True
            self._read(call, reader)
            self.trouble = "the server ended the stream"
            return not self.request.endless
        except MaskRefusedError:
            self._mask = False
            reader.positions.forget()
            self.trouble = "a node does not know a field of the mask"
            return False
        except grpc.RpcError as error:
            return self._broken(error, reader, reader.received > before)
        except Exception as error:  # a defect here must not end an observation of weeks
            self.trouble = f"{type(error).__name__}: {error}"
            log.exception("hubble: a defect in leastway")
            return False
        finally:
            self._call = None
            channel.close()

    def _read(self, call: Any, reader: Reader) -> None:
        lock, message, record = self._lock, reader.message, self.record
        left = BETWEEN_LOOKS
        for raw in call:
            with lock:
                taken = message(raw)
            if taken and record is not None:
                record(raw)
            left -= 1
            if not left:
                left = BETWEEN_LOOKS
                self._await_room(reader)

    def _back(self, reader: Reader) -> None:
        """Note what was missed if there is no position to go on from: a new stream begins now."""
        away, self._away = self._away, 0
        if away and self.request.endless and not self.request.since and not reader.positions.known:
            with self._lock:
                reader.gap(str(self._target), away, time.time_ns())

    def _await_room(self, reader: Reader) -> None:
        """Read no further while the aggregate is too large; the server tells what it loses meanwhile."""
        if not self.request.endless or len(reader.counter.patterns.edges) < MOST_EDGES:
            return
        log.warning("hubble: %s: too many patterns; reading goes on when they have been taken", self._target)
        while len(reader.counter.patterns.edges) >= MOST_EDGES and not self._stopping.is_set():
            self._taken.wait(1)
            self._taken.clear()

    def _greet(self, channel: Any) -> None:
        """Make sure that there is a server: a stream of a quiet cluster would not tell.

        Raises grpc.RpcError.
        """
        import grpc

        self._call = call = channel.unary_unary(HEALTH).future(b"", timeout=ANSWER)
        try:
            if not self._stopping.is_set():
                call.result()
        except grpc.FutureCancelledError:
            return
        except grpc.RpcError as error:
            if error.code().name in SILENCE:
                raise
        self.status.connected = True  # any other refusal came from a server
        self.status.streams = 1
        self.trouble = ""

    def _broken(self, error: Any, reader: Reader, received: bool) -> bool:
        """Prepare for the next attempt after a stream that ended in an error. True if there must be none."""
        if self._stopping.is_set():
            return True
        code, details = error.code().name, str(error.details())
        self.trouble = str(SourceError(f"{code}: {details}"))  # one printable line
        if code in REFUSES_MASK and self.request.mask and not received:
            self._mask = not self._mask
        elif code == "RESOURCE_EXHAUSTED" and "larger than max" in details:
            self._stuck += 1
            with self._lock:
                reader.bad("message over the size limit")
                if self._stuck == FRUITLESS:
                    reader.positions.give_up()
        elif code == "RESOURCE_EXHAUSTED":
            self.status.refused += 1
        return False
