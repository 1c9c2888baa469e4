"""A wire between client and server that is cut in the middle of messages: what a dying server looks like.

Invariant: bytes pass unchanged and in order until a cut, and nothing after it. There are `CUTS` cuts, after amounts of
bytes from the server that the seed decides; then the wire holds.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from random import Random
from types import TracebackType

from collector.errors import SourceError
from collector.transport import Address

CUTS = 5
SHORTEST, LONGEST = 5_000, 50_000  # bytes between two cuts
CHUNK = 64 << 10


class Cutter:
    """Listens on `address` and passes everything on to `behind` (a unix socket's path or host and port)."""

    def __init__(self, address: Address, behind: Address, seed: int) -> None:
        rng = Random(seed)  # noqa: S311  # it is meant to be foreseen
        self.pieces = [rng.randrange(SHORTEST, LONGEST) for _ in range(CUTS)]  # left to pass before each cut
        self.cuts = 0
        self.behind = behind
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = _listening(address)
        name = self._listener.getsockname()
        self.address = address if address.path else Address(address.host, name[1])
        self._thread = threading.Thread(target=self._accept, name="replay wire", daemon=True)

    def __enter__(self) -> Cutter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                _close(each)
        self._thread.join(1)
        if self.address.path:
            Path(self.address.path).unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                server = _connected(self.behind)
            except OSError:
                _close(client)
                continue
            with self._lock:
                self._open |= {client, server}
            for source, target, counted in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, target, counted), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        """Pass bytes on until an end closes, or the wire is cut."""
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                left = self._left(len(chunk)) if counted else len(chunk)
                target.sendall(chunk[:left])
                if left < len(chunk):
                    break
        with self._lock:
            self._open -= {source, target}
        _close(source)
        _close(target)

    def _left(self, size: int) -> int:
        """How many of so many bytes pass before the next cut."""
        with self._lock:
            if not self.pieces or self.pieces[0] > size:
                if self.pieces:
                    self.pieces[0] -= size
                return size
            self.cuts += 1
            return self.pieces.pop(0) - 1


def _listening(address: Address) -> socket.socket:
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        if not address.path:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address.path or (address.host, address.port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise SourceError(f"cannot listen there: {error.strerror or error}", where=str(address)) from error
    return listener


def _connected(address: Address) -> socket.socket:
    if not address.path:
        return socket.create_connection((address.host, address.port))
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address.path)
    except OSError:
        connection.close()
        raise
    return connection


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
