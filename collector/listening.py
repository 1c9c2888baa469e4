"""A live source that is sent its records: what Envoy's access log service and OTLP have in common.

Invariant: a message is counted as a whole before it is answered, under one lock with `take`; so a record is in exactly
one of the aggregates handed out. What is turned away is answered with a status that says why, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from collector.live import SourceStatus
from collector.patterns import Patterns
from collector.room import Overload
from collector.serving import Limits, Server
from collector.transport import TLS, Address

LAST_WORD = 0.05  # seconds to wait for gRPC to report that a stream broke: the end of its messages comes first
STALLED = 5.0  # seconds without a whole message, after which a stream is ended if memory is short

Record = Callable[[bytes], None]  # quick, and raises nothing; called in the server's own thread


class Tallied:
    """What came of one message: entries of one kind, how many could not be read and why, their newest time."""

    __slots__ = ("bad", "entries", "kind", "newest", "reason")

    def __init__(self, kind: str = "", entries: int = 0, bad: int = 0, newest: int = 0, reason: str = "") -> None:
        self.kind = kind
        self.entries = entries
        self.bad = bad
        self.newest = newest
        self.reason = reason


class ListeningSource(ABC):
    """A `LiveSource` that serves one gRPC method. `address` is `host:port` (0: any that is free) or `unix:///path`."""

    name: str
    service: str
    method: str
    unreadable: str  # what to call a message that cannot be read: "not a ..."
    namespaces: Sequence[str] = ()  # a proxy sends all that it has
    cursors: Mapping[str, int] = MappingProxyType({})  # nobody sends the same records again
    lasting: bool  # whether a call is a stream of many messages, and whoever ends it waits for no answer

    def __init__(
        self, address: str, tls: TLS | None = None, limits: Limits | None = None, record: Record | None = None
    ) -> None:
        """`record` is handed every message that was counted, see `recorded`. Raises SourceError for a wrong address."""
        self.record = record
        self.status = SourceStatus()
        self.finished = threading.Event()  # never set: another proxy may come
        self.limits = limits or Limits()
        self._server = Server(address, tls, self.limits, self.service, self._methods, self._ended, self._relieve)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._heard: dict[Any, float] = {}  # when the last message of an open stream's task came
        self._cut: set[Any] = set()
        self._stopping = False
        self._peers: Counter[str] = Counter()  # open streams by address

    @abstractmethod
    def count(self, raw: bytes, stream: Any) -> Tallied:
        """Count one message of a stream. Raises DecodeError when it is none, Overload when there is no room."""

    @property
    @abstractmethod
    def gathered(self) -> Patterns:
        """The aggregate whose quality notes what was turned away or could not be read."""

    @abstractmethod
    def exchange(self) -> Callable[[], Patterns]:
        """Start a new count at once; the function returned turns the old one into patterns, and may take its time."""

    @abstractmethod
    def stream(self, name: str) -> Any:
        """The state of one stream; `name` distinguishes its sender from others."""

    @abstractmethod
    def answer(self, bad: int, reason: str) -> bytes:
        """The answer to a stream that has ended, of whose records `bad` could not be read, one of them for `reason`."""

    def recorded(self, raw: bytes, stream: Any) -> bytes:  # noqa: ARG002  # for those who need it
        """A message as it is recorded, readable without the rest of its stream."""
        return raw

    @property
    def address(self) -> Address:
        """Where it listens; with the real port once it is started."""
        return self._server.address

    @property
    def trouble(self) -> str:
        """Why it no longer listens; "" if it does, or was stopped."""
        return str(self._server.failure or "")

    def start(self) -> None:
        """Listen, in a thread. Raises SourceError when the address or the TLS files cannot be used."""
        self.status.connected = True  # until the server's thread ends, for whatever reason
        self._server.start()

    def take(self) -> Patterns:
        """What was counted since the last call."""
        with self._lock:
            finish = self.exchange()
        return finish()

    def stop(self, grace: float) -> None:
        """Count what has arrived, then end all streams, within `grace` seconds."""
        self._stopping = True
        self._server.stop(grace)

    def _ended(self) -> None:
        self.status.connected = False

    def _relieve(self) -> None:
        """End the streams that stall; a proxy that had nothing to say opens another when it has."""
        late = time.monotonic() - STALLED
        for task, heard in list(self._heard.items()):
            if heard < late:
                self._cut.add(task)
                task.cancel()

    def _methods(self) -> dict[str, Any]:
        # A single message is a stream of one on the wire; as a stream it is not received before it is wanted.
        return {self.method: grpc.stream_unary_rpc_method_handler(self._call)}

    async def _call(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        peer = _address(context.peer())
        if full := self._full(peer):
            self.status.refused += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, full)
        with self._open(peer) as task:
            return await self._received(messages, context, task)

    @contextlib.contextmanager
    def _open(self, peer: str) -> Iterator[Any]:
        """One stream of a peer, as long as it is open."""
        task, status, peers = asyncio.current_task(), self.status, self._peers
        status.streams += 1
        peers[peer] += 1
        self._heard[task] = time.monotonic()
        try:
            yield task
        finally:
            status.streams -= 1
            peers[peer] -= 1
            if not peers[peer]:
                del peers[peer]
            del self._heard[task]
            self._cut.discard(task)

    async def _received(self, messages: AsyncIterator[bytes], context: Any, task: Any) -> bytes:
        """Count every message of a stream; the answer to it."""
        status, bad, reason, told = self.status, 0, "", False
        stream = self.stream(f"{context.peer()} {next(self._numbers)}")
        try:
            async for raw in messages:
                told = True
                self._heard[task] = time.monotonic()
                tallied = self._count(raw, stream)
                if self.record is not None:
                    self.record(self.recorded(raw, stream))
                bad, reason = bad + tallied.bad, tallied.reason or reason
            if self.lasting or not told:
                await asyncio.sleep(LAST_WORD)
        except DecodeError:
            status.bad += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.unreadable)
        except _TooLong:
            status.refused += 1
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message is longer than {self.limits.message} bytes"
            )
        except Overload as overload:
            status.refused += overload.records
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room for new patterns before the next flush")
        except asyncio.CancelledError:
            if task not in self._cut:  # the sender has gone, or gRPC has refused a message of more than it may receive
                status.broken += not self._stopping
                raise
            status.refused += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory for a stream that stalls")
        return self.answer(bad, reason)

    def _full(self, peer: str) -> str:
        """Why there can be no other stream of this peer, "" if there can."""
        limits = self.limits
        if self.status.streams >= limits.streams:
            return f"{limits.streams} streams are open already"
        if peer and 0 < limits.share <= self._peers[peer]:
            return f"{limits.share} streams of your address are open already"
        return ""

    def _count(self, raw: bytes, stream: Any) -> Tallied:
        with self._lock:
            self._server.progress += 1
            quality = self.gathered.quality
            if len(raw) > self.limits.message:
                quality.lost.add(f"message too long {self.name}", 1)
                raise _TooLong
            try:
                tallied = self.count(raw, stream)
            except DecodeError:
                quality.bad.add(self.unreadable, 1)
                raise
            except Overload as overload:
                quality.lost.add(f"overload {self.name}", overload.records)
                raise
        status = self.status
        if tallied.entries:
            status.flows[tallied.kind] = status.flows.get(tallied.kind, 0) + tallied.entries
            status.bad += tallied.bad
            status.newest = max(status.newest, min(tallied.newest, time.time()))
        return tallied


class _TooLong(Exception):
    """A message is over the limit."""


def _address(peer: str) -> str:
    """gRPC's name of a peer without the port; "" where all peers have one, as on a unix socket."""
    return "" if peer.startswith("unix:") else peer.rpartition(":")[0]
