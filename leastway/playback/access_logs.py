"""A recording of Envoy's access log service, streamed to one as the proxies of a mesh would.

Invariant: every proxy of the recording has a stream of its own that begins with its identifier, and its messages keep
their order; so who receives them sees what a reader of the recording sees.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2

from collector.errors import SourceError
from collector.reading import capture_records
from collector.sources.accesslog import Unusable
from collector.sources.envoy_als import message_of
from collector.transport import TLS, Address

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
FORMAT = "envoy_als"
STREAMS = 1000  # open at once; of more proxies, those that were silent longest are closed
CONNECT = 20.0  # seconds a target may take to answer at first
ENDING = 20.0  # seconds it may take to read what was sent
BROKEN_OFF = 0.05  # the share of messages after which chaos breaks a stream off
_TICK = 0.1  # seconds between two looks at `stopped`

_Message = als_pb2.StreamAccessLogsMessage


@dataclass
class Streamed:
    """What was sent.

    `unread` records were no access log messages; `lost` messages failed and are not sent again, `refusal` is why the
    last of them did, as far as gRPC tells.
    """

    messages: int = 0
    entries: int = 0
    streams: int = 0
    unread: int = 0
    lost: int = 0
    refusal: str = ""
    broken: list[str] = field(default_factory=list)


def stream_access_logs(
    captures: Sequence[str],
    target: Address,
    tls: TLS | None,
    *,
    speed: float = 0.0,
    loop: bool = False,
    seed: int | None = None,
    stopped: threading.Event | None = None,
) -> Streamed:
    """Send the recordings, `speed` times as fast as they were made (0: as fast as the target reads).

    With `loop` until `stopped`, each round with later times and other request ids; with a `seed` some streams are
    broken off. Raises SourceError when there is nothing to send or nobody to send it to.
    """
    chaos = None if seed is None else Random(seed)  # noqa: S311  # to be repeatable, not secret
    player = _Player(target, tls, speed, chaos, stopped or threading.Event())
    asyncio.run(player.play(captures, loop))
    return player.streamed


class _Player:
    def __init__(
        self, target: Address, tls: TLS | None, speed: float, chaos: Random | None, stopped: threading.Event
    ) -> None:
        self.target, self.tls, self.speed, self.chaos, self.stopped = target, tls, speed, chaos, stopped
        self.streamed = Streamed()
        self.calls: dict[bytes, Any] = {}  # by identifier, the one that was silent longest first
        self.begun = 0.0
        self.times = (0.0, 0.0)  # of the first entry and the last

    async def play(self, captures: Sequence[str], loop: bool) -> None:
        async with self._channel() as channel:
            await self._reachable(channel)
            method = channel.stream_unary(METHOD)
            turn = 0
            while turn == 0 or (loop and not self.stopped.is_set()):
                for identifier, message in self._messages(captures):
                    await self._due(message, turn)
                    if self.stopped.is_set():
                        break
                    await self._send(method, identifier, message)
                if not (self.streamed.messages or self.streamed.lost or self.stopped.is_set()):
                    raise SourceError(
                        "no access log messages to send",
                        where=", ".join(captures),
                        hint="give StreamAccessLogsMessages as JSON lines, as `leastway observe --record` writes them",
                    )
                turn += 1
            await asyncio.gather(*map(self._end, self.calls.values()))

    def _channel(self) -> Any:
        if self.tls is None:
            return grpc.aio.insecure_channel(str(self.target))
        options = [*self.tls.channel_options()]
        return grpc.aio.secure_channel(str(self.target), self.tls.channel_credentials(), options)

    async def _reachable(self, channel: Any) -> None:
        try:
            await asyncio.wait_for(channel.channel_ready(), CONNECT)
        except TimeoutError:
            hint = "is the service there, and do both sides agree on TLS?"
            raise SourceError("no access log service answers", where=str(self.target), hint=hint) from None

    def _messages(self, captures: Sequence[str]) -> Iterator[tuple[bytes, Any]]:
        """Identifiers (serialised) and messages, in the order of the recordings."""
        self.streamed.unread, self.streamed.broken = 0, []
        for name in captures:
            identifier = b""
            for form, record in capture_records(name, self.streamed.broken.append):
                message = message_of(record) if form == FORMAT else Unusable("another format")
                if isinstance(message, Unusable):
                    self.streamed.unread += 1
                    continue
                if message.HasField("identifier"):
                    identifier = message.identifier.SerializeToString()
                    message.ClearField("identifier")
                yield identifier, message

    async def _due(self, message: Any, turn: int) -> None:
        """Move a message's time by its turn, and wait until it is due."""
        moments = []
        for entry in _entries(message):
            start = entry.common_properties.start_time
            start.seconds += turn * (1 + round(self.times[1] - self.times[0]))
            moments.append(start.seconds + start.nanos / 1e9)
            if turn and "request" in entry.DESCRIPTOR.fields_by_name and entry.request.request_id:
                entry.request.request_id += f"-{turn}"
        moment = min(moments, default=0.0)
        if moment <= 0:
            return
        if not self.begun:
            self.begun, self.times = time.monotonic(), (moment, moment)
        if not turn:
            self.times = (min(self.times[0], moment), max(self.times[1], *moments))
        while self.speed and not self.stopped.is_set():
            left = self.begun + (moment - self.times[0]) / self.speed - time.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(min(left, _TICK))

    async def _send(self, method: Any, identifier: bytes, message: Any) -> None:
        call = self.calls.pop(identifier, None)
        if call is None or call.done():
            if len(self.calls) >= STREAMS:
                await self._end(self.calls.pop(next(iter(self.calls))))
            call = method()
            self.streamed.streams += 1
            message.identifier.ParseFromString(identifier)
        self.calls[identifier] = call
        try:
            await call.write(message.SerializeToString())
        except (grpc.RpcError, asyncio.InvalidStateError):
            self.streamed.lost += 1
            self.streamed.refusal = await call.details() or ""
            del self.calls[identifier]
            return
        self.streamed.messages += 1
        self.streamed.entries += len(_entries(message))
        if self.chaos is not None and self.chaos.random() < BROKEN_OFF:
            call.cancel()

    async def _end(self, call: Any) -> None:
        """Close a stream and wait until the target has read it."""
        try:
            await call.done_writing()
            await asyncio.wait_for(call, ENDING)
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError, TimeoutError):
            if not call.cancelled():
                self.streamed.lost += 1
                self.streamed.refusal = await call.details() if call.done() else "no answer in time"


def _entries(message: Any) -> Any:
    logs = message.tcp_logs if message.HasField("tcp_logs") else message.http_logs
    return logs.log_entry
