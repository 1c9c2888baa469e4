"""A server that speaks just enough HTTP/2 and gRPC to answer one call with bytes of the test's choice.

It costs next to nothing, so that a benchmark measures the client; and it can send what no honest server would: half a
message, rubbish, a message of any size.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
FRAME = 16384  # the largest that a client must take unasked


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header field, literally (HPACK without indexing or Huffman codes)."""
    return b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def grpc_message(payload: bytes) -> bytes:
    return b"\x00" + struct.pack(">I", len(payload)) + payload


def ok(messages: Iterable[bytes]) -> Iterator[bytes]:
    """The body of a call that ends well."""
    for message in messages:
        yield grpc_message(message)


class Server:
    """Answers the second call of a connection with `answer(number of the connection)`: pieces of a response's body.
    The first call, for the server's health, is answered with UNIMPLEMENTED; without `greeted` there is none.

    An empty piece sends at once what is there. The call then ends with a gRPC `status`; with None, the connection
    breaks off (and gRPC forgets what it has received and not handed over yet). `raw` is sent instead of HTTP/2, if
    given.
    """

    def __init__(
        self,
        answer: Callable[[int], Iterable[bytes]] = lambda _: (),
        *,
        status: int | None = 0,
        raw: bytes = b"",
        greeted: bool = True,
    ) -> None:
        self.answer = answer
        self.status = status
        self.raw = raw
        self.greeted = greeted
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with contextlib.suppress(OSError), connection:
                if self.raw:
                    connection.sendall(self.raw)
                    continue
                _Call(connection).run(self.answer(self.connections), self.status, self.greeted)


class _Call:
    """One connection with one call on it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(60)
        self.connection = connection
        self.buffer = b""
        self.window, self.stream_window = 65535, 65535
        self.initial = 65535
        self.stream = self.answered = 0

    def run(self, body: Iterable[bytes], status: int | None, greeted: bool) -> None:
        self.connection.sendall(frame(SETTINGS, 0, 0, b""))
        while len(self.buffer) < len(PREFACE):
            self.buffer += self._received()
        self.buffer = self.buffer[len(PREFACE) :]
        self._next_call()
        if greeted:
            unimplemented = b"\x88" + literal("content-type", "application/grpc") + literal("grpc-status", "12")
            self.connection.sendall(frame(HEADERS, END_HEADERS | END_STREAM, self.stream, unimplemented))
            self._next_call()
        headers = b"\x88" + literal("content-type", "application/grpc")
        self.connection.sendall(frame(HEADERS, END_HEADERS, self.stream, headers))
        pending = bytearray()
        for piece in body:
            pending += piece
            if len(pending) >= 1 << 18 or not piece:
                self._send(pending)
        self._send(pending)
        if status is None:
            self.connection.shutdown(socket.SHUT_WR)
        else:
            end = literal("grpc-status", str(status))
            self.connection.sendall(frame(HEADERS, END_HEADERS | END_STREAM, self.stream, end))
        self.connection.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while self.connection.recv(FRAME):  # until the client has read it all and closes
                pass

    def _next_call(self) -> None:
        self.stream, self.stream_window = 0, self.initial
        self._pump(wait=False)
        while not self.stream:
            self._pump(wait=True)

    def _send(self, data: bytearray) -> None:
        view = memoryview(bytes(data))
        data.clear()
        while view:
            room = min(self.window, self.stream_window)
            if room <= 0:
                self._pump(wait=True)
                continue
            batch = bytearray()
            chunk = view[:room]
            for start in range(0, len(chunk), FRAME):
                batch += frame(DATA, 0, self.stream, bytes(chunk[start : start + FRAME]))
            self.connection.sendall(batch)
            self.window -= len(chunk)
            self.stream_window -= len(chunk)
            view = view[len(chunk) :]
            self._pump(wait=False)

    def _received(self) -> bytes:
        data = self.connection.recv(1 << 16)
        if not data:
            raise OSError("the client has gone")
        return data

    def _pump(self, *, wait: bool) -> None:
        """Take in what the client has sent."""
        if wait or select.select([self.connection], [], [], 0)[0]:
            self.buffer += self._received()
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                return
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
            self._take(kind, flags, stream, self.buffer[9 : 9 + length])
            self.buffer = self.buffer[9 + length :]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                setting, value = struct.unpack(">HI", payload[at : at + 6])
                if setting == 4:  # SETTINGS_INITIAL_WINDOW_SIZE
                    self.stream_window += value - self.initial
                    self.initial = value
            self.connection.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.connection.sendall(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            size = int.from_bytes(payload, "big")
            if stream and stream >= self.stream:
                self.stream_window += size
            else:
                self.window += size
        elif kind == HEADERS and stream > self.answered:
            self.stream = self.answered = stream
