"""Envoy's access log service, live: every proxy of a mesh holds one stream of entries open to us.

Invariant: an entry is counted with the identifier that its stream sent first, and once; what is turned away is answered
with a status that says why, and counted.

Facts: envoy.service.accesslog.v3. The service answers nothing while a stream lasts, so a proxy never waits for us.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from collector.live import SourceStatus
from collector.patterns import Patterns
from collector.room import Overload, Room
from collector.serving import Limits, Server
from collector.sources.envoy_als import ORIGIN
from collector.sources.envoy_als_counter import AccessLogCounter, Remembered, Stream
from collector.transport import TLS, Address

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
_NOTHING = b""  # StreamAccessLogsResponse has no fields


class AccessLogServer:
    """The live source `als`. Listens on `address` (`host:port`, port 0 for any, or `unix:///path`)."""

    name = "als"

    def __init__(self, address: str, tls: TLS | None = None, limits: Limits | None = None) -> None:
        """Raises SourceError when the address is none."""
        self.status = SourceStatus()
        self.limits = limits or Limits()
        self._server = Server(address, tls, self.limits, SERVICE, self._methods)
        self._remembered = Remembered()
        self._lock = threading.Lock()  # held while one message is counted, or the counter is exchanged
        self._counter = self._fresh()
        self._numbers = itertools.count(1)

    @property
    def address(self) -> Address:
        """Where it listens; the real port once it is started."""
        return self._server.address

    def start(self) -> None:
        """Listen, in a thread. Raises SourceError when the address or the TLS files cannot be used."""
        self._server.start()
        self.status.connected = True

    def take(self) -> Patterns:
        """What was counted since the last call."""
        with self._lock:
            counter, self._counter = self._counter, self._fresh()
        return counter.patterns()

    def stop(self, grace: float) -> None:
        """Count what has arrived, then end all streams, within `grace` seconds."""
        self._server.stop(grace)
        self.status.connected = False

    def _fresh(self) -> AccessLogCounter:
        return AccessLogCounter(self._remembered, Room(self.limits.held))

    def _methods(self) -> dict[str, Any]:
        return {"StreamAccessLogs": grpc.stream_unary_rpc_method_handler(self._stream)}  # bytes in, bytes out

    async def _stream(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        status, stream = self.status, Stream(str(next(self._numbers)))
        if status.streams >= self.limits.streams:
            status.refused += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self.limits.streams} streams are open already")
        status.streams += 1
        try:
            async for raw in messages:
                self._count(raw, stream)
        except DecodeError:
            status.bad += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a StreamAccessLogsMessage")
        except Overload as overload:
            status.refused += overload.records
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room for new patterns before the next flush")
        finally:
            status.streams -= 1
        return _NOTHING

    def _count(self, raw: bytes, stream: Stream) -> None:
        with self._lock:
            self._server.progress += 1
            try:
                tallied = self._counter.count(raw, stream)
            except DecodeError:
                self._counter.gathered.quality.bad.add("not an access log service message", 1)
                raise
            except Overload as overload:
                self._counter.gathered.quality.lost.add(f"overload {ORIGIN}", overload.records)
                raise
        status = self.status
        if tallied.entries:
            status.flows[tallied.kind] = status.flows.get(tallied.kind, 0) + tallied.entries
            status.bad += tallied.bad
            status.newest = max(status.newest, tallied.newest)
