"""A server that has more to send than we can count: it is made to wait, all is counted, and memory stays bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import ParseDict

from collector import pressure
from collector.sources.hubble_request import Request
from collector.wire.observer_pb2 import GetFlowsResponse
from tests import http2
from tests.collector.sources.flows import flow
from tests.live import eventually, observing, received

BURST = 300_000  # flows, offered as fast as a socket takes them
UNREAD = 40 << 20  # bytes that may be on their way: gRPC's window grows to 16 MiB, and the sockets have buffers
GROWTH = 96 << 20  # bytes of memory, for these and for the memory of flows that were met


def burst() -> tuple[bytes, int]:
    """A body of `BURST` flows with an id each, and the size of each."""
    message: Any = ParseDict({"flow": flow(), "node_name": "node-1"}, GetFlowsResponse(), ignore_unknown_fields=True)
    message.flow.uuid = "0" * 36
    template = http2.grpc_message(message.SerializeToString())
    at = template.index(b"0" * 36)
    head, tail = template[:at], template[at + 36 :]
    body = b"".join(head + b"%036d" % number + tail for number in range(BURST))
    return body, len(template)


def test_a_server_that_is_faster_waits_and_nothing_is_lost() -> None:
    body, size = burst()
    offered = 0

    def answer(_: int) -> Iterator[bytes]:
        nonlocal offered
        for start in range(0, len(body), 1 << 16):
            yield body[start : start + (1 << 16)]
            offered = start  # the piece before this one is on its way

    with http2.Server(answer) as server, observing(server.address, request=Request(follow=False)) as source:
        assert eventually(lambda: received(source) > 1000)
        before = pressure.resident()
        with source._lock:  # as if counting took for ever
            counted, unread = received(source), -1
            while unread != (unread := offered - counted * size):
                time.sleep(0.5)
        assert counted < BURST // 2
        assert unread < UNREAD < len(body) // 2
        assert source.finished.wait(30)
        assert received(source) == BURST
        assert pressure.resident() < before + GROWTH
        taken = source.take()
    assert taken.quality.total == BURST
    assert dict(taken.quality.lost.items()) == {}
