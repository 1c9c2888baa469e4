"""Access log service messages of an invented shop on the wire, and the streams that carry them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import json_format

from collector.patterns import Patterns
from collector.sources.envoy_als_server import AccessLogServer
from collector.transport import TLS, open_channel

METHOD = f"/{AccessLogServer.service}/{AccessLogServer.method}"


def wire(line: str) -> bytes:
    """The protobuf form of a message in JSON."""
    message = als_pb2.StreamAccessLogsMessage()
    json_format.Parse(line, message)
    raw: bytes = message.SerializeToString()
    return raw


@contextmanager
def serving(server: AccessLogServer) -> Iterator[AccessLogServer]:
    """A server that has ended afterwards, whatever happened."""
    server.start()
    try:
        yield server
    finally:
        server.stop(2)


@contextmanager
def connected(server: AccessLogServer, tls: TLS | None = None) -> Iterator[Any]:
    """The method of a server, to be called with an iterator of raw messages."""
    with open_channel(server.address, tls) as channel:
        yield channel.stream_unary(METHOD)


def sent(server: AccessLogServer, messages: Iterable[bytes], tls: TLS | None = None) -> Patterns:
    """What a server makes of one stream of messages."""
    with connected(server, tls) as call:
        assert call(iter(messages), timeout=20, wait_for_ready=True) == b""
    return server.take()


def status(call: Any, messages: Iterable[bytes], timeout: float = 20) -> tuple[grpc.StatusCode, str]:
    """How a server ends a stream that it does not like."""
    try:
        call(iter(messages), timeout=timeout)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""
