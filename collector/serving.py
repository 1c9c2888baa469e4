"""A gRPC server on asyncio, in a thread with a loop of its own: what the live sources that listen have in common.

Invariant: a sender can take nothing from the others but its share of time. Streams, message sizes and handshakes are
limited, a sender that has vanished is noticed, and stopping takes no longer than the grace given.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from collector import pressure
from collector.errors import LeastwayError, SourceError
from collector.transport import TLS, UNSHARED_PORT, Address, listen, parse_address

_QUIET = 0.1  # seconds without a message after which a stopping server takes it that all have arrived
_DRAIN = 1.0  # seconds that a stopping server goes on reading at most, for senders that never pause
LOOK = 1.0  # seconds between two looks at the process' memory
IDLE = 60_000  # milliseconds that a connection may be open without a stream: it takes a file that the store may need
_FILES = 256  # open files besides the streams' sockets
_START = 30.0  # seconds a server may take to listen


@dataclass(frozen=True)
class Limits:
    """`streams` open at once (or requests), `message` in bytes, `held` bytes of patterns between two `take`s.

    `share` of the streams that one peer address may have (0: all of them; a unix socket's peers have no address).
    `resident` bytes of this process beyond which streams that stall are ended, for each may hold most of a message
    that never comes to its end; 0 is three quarters of what the process may have.
    """

    streams: int = 4096
    share: int = 1024
    message: int = 4 * 1024 * 1024
    held: int = 512 * 1024 * 1024
    resident: int = 0

    def options(self) -> list[tuple[str, int]]:
        """As gRPC channel arguments; times in milliseconds."""
        return [
            *UNSHARED_PORT,
            # What is longer than this is refused by gRPC, unseen by us; up to here we can count who is refused.
            ("grpc.max_receive_message_length", 2 * self.message),
            ("grpc.max_concurrent_streams", self.streams + 1),  # of one connection: more than we take, to say so
            ("grpc.max_metadata_size", 16 * 1024),
            ("grpc.server_handshake_timeout_ms", 10_000),
            ("grpc.max_connection_idle_ms", IDLE),
            ("grpc.http2.bdp_probe", 0),  # or a fast sender is granted megabytes of buffer for each connection
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]


class Server:
    """One gRPC server. `address` is where it listens, once started; `progress` counts the messages taken in; `failure`
    is what ended it, other than `stop`."""

    def __init__(
        self,
        address: str,
        tls: TLS | None,
        limits: Limits,
        service: str,
        methods: Callable[[], dict[str, Any]],
        ended: Callable[[], None] = lambda: None,
        relieve: Callable[[], None] = lambda: None,
    ) -> None:
        """`methods` makes the gRPC method handlers in the server's own thread, which calls `ended` at its end.

        `relieve` is called there again and again while the process has more memory than it should.

        Raises SourceError.
        """
        self.address: Address = parse_address(address, listen=True)
        self.progress = 0
        self._tls = tls
        self._limits = limits
        self._service = service
        self._methods = methods
        self._ended = ended
        self._relieve = relieve
        self._grace = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._listening = threading.Event()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"{service} server", daemon=True)

    def start(self) -> None:
        """Listen. Raises SourceError when the address or the TLS files cannot be used."""
        self._thread.start()
        if not self._listening.wait(_START):
            raise SourceError("the server does not come up", where=str(self.address))
        if self.failure is not None:
            self._thread.join()
            if isinstance(self.failure, LeastwayError):
                raise self.failure
            raise SourceError(f"cannot listen: {self.failure}", where=str(self.address)) from self.failure

    def stop(self, grace: float) -> None:
        """Take in what has arrived, then end every call; within `grace` seconds."""
        if self._loop is None or not self._thread.is_alive():
            return
        self._grace = grace
        with contextlib.suppress(RuntimeError):  # the loop has ended since
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(grace + 1)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # handed to the thread that waits in `start`
            self.failure = error
        finally:
            self._ended()
            self._listening.set()

    async def _serve(self) -> None:
        _allow_sockets(self._limits.streams)
        server = grpc.aio.server(options=self._limits.options())
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self._service, self._methods()),))
        self.address = listen(server, self.address, self._tls)
        await server.start()
        self._loop = asyncio.get_running_loop()
        self._listening.set()
        watching = asyncio.create_task(self._watch())
        await self._stopping.wait()
        watching.cancel()
        end = time.monotonic() + min(self._grace, _DRAIN)
        ending = asyncio.create_task(server.stop(self._grace))
        await self._quiet(end)
        await server.stop(None)
        await ending

    async def _watch(self) -> None:
        most = self._limits.resident or pressure.allowed() * 3 // 4
        while True:
            await asyncio.sleep(LOOK)
            if pressure.resident() > most:
                pressure.give_back()
            if pressure.resident() > most:
                self._relieve()

    async def _quiet(self, end: float) -> None:
        """Wait until no message has arrived for a moment, or it is time to end."""
        seen = -1
        while seen != self.progress and time.monotonic() + _QUIET < end:
            seen = self.progress
            await asyncio.sleep(_QUIET)


def _allow_sockets(streams: int) -> None:
    """Raise the process' own limit of open files, as far as it may: every proxy of a mesh has a connection.

    Several times what is needed, so that connections without a stream do not take the store's files away.
    """
    streams *= 4
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = streams + _FILES if hard == resource.RLIM_INFINITY else min(streams + _FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
