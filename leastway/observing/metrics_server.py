"""`/metrics`, `/healthz` and `/readyz` over HTTP.

Invariant: whoever connects costs a bounded number of threads for a bounded time, and never a source's.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from collector.errors import SourceError
from collector.transport import Address

CONNECTIONS = 16  # at one time; more are closed at once
PATIENCE = 5.0  # seconds that one connection may last

Answer = tuple[int, str, str]  # status, content type, body
Pages = Mapping[str, Callable[[], Answer]]


class MetricsServer:
    """Serves `pages` by path at an address until it is stopped; `address` has the real port."""

    def __init__(self, address: Address, pages: Pages) -> None:
        if address.path:
            raise SourceError("metrics are served over TCP", where=str(address), hint="give host:port")
        try:
            self._server = _Server(address, pages)
        except OSError as error:
            hint = "is the port taken, or the host another's?"
            raise SourceError(f"cannot listen there: {error.strerror}", where=str(address), hint=hint) from error
        self.address = Address(address.host, self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to serve, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End; connections that are open are cut."""
        self._server.shutdown()
        self._server.cut(0.0)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: Address, pages: Pages) -> None:
        self.pages = pages
        self.open: dict[socket.socket, float] = {}
        self.lock = threading.Lock()
        host = address.host
        if host == "::" and not socket.has_dualstack_ipv6():
            host = "0.0.0.0"  # noqa: S104  # all interfaces are what was asked for
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__((str(found[0][4][0]), address.port), _Request)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:  # "::" is all interfaces of both families
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            room = len(self.open) < CONNECTIONS
            if room:
                self.open[request] = time.monotonic()
        if room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        self.cut(PATIENCE)

    def cut(self, patience: float) -> None:
        """End the connections that last longer: a peer that sends a byte a second is not waited for."""
        with self.lock:
            late = [request for request, began in self.open.items() if time.monotonic() - began >= patience]
        for request in late:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has just ended by itself

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is nothing to talk about."""


class _Request(BaseHTTPRequestHandler):
    server: _Server
    server_version = "leastway"
    sys_version = ""
    timeout = PATIENCE

    def do_GET(self) -> None:  # the name is http.server's
        page = self.server.pages.get(self.path.partition("?")[0])
        status, kind, text = page() if page else (404, "text/plain; charset=utf-8", "/metrics, /healthz or /readyz\n")
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  # the name is http.server's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature is http.server's
        """A scrape every few seconds is no news."""
