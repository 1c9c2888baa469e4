"""Servers that are no Hubble, not quite Hubble, or hostile: a clear status, bounded work, a quick end."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from collector.live import SourceStatus
from collector.patterns import Patterns
from collector.sources import hubble_endpoints, hubble_grpc
from collector.sources.hubble_reading import Reader
from collector.sources.hubble_request import Request
from collector.wire.observer_pb2 import GetFlowsResponse
from tests import http2
from tests.collector.sources.test_hubble_chaos import message
from tests.goldens import SAMPLES
from tests.live import eventually, observing, playing, received, serving


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNKNOWN", "UNIMPLEMENTED"])
def test_a_server_that_refuses_the_mask_is_asked_without(code: str) -> None:
    asked: list[bool] = []

    def get_flows(request: Any, context: Any) -> Iterator[bytes]:
        asked.append(bool(request.field_mask.paths))
        if asked[-1]:
            context.abort(grpc.StatusCode[code], "unknown field field_mask")
        yield from (message("node", at, f"flow-{at}") for at in range(3))
        threading.Event().wait(0.2)

    with serving(get_flows) as address, observing(address) as source:
        assert eventually(lambda: received(source) == 3), source.trouble
        assert eventually(lambda: len(asked) >= 4)
        assert asked[:4] == [True, False, False, False]


def test_a_server_that_refuses_everything_is_asked_again_and_again_and_says_why() -> None:
    def get_flows(request: Any, context: Any) -> Iterator[bytes]:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not\nyou\x1b[31m")
        yield b""

    with serving(get_flows) as address, observing(address) as source:
        assert eventually(lambda: source.status.reconnects >= 3)
        assert source.trouble == "PERMISSION_DENIED: not you\N{REPLACEMENT CHARACTER}[31m"


@pytest.mark.parametrize("raw", [b"\0" * 1000, b"HTTP/1.1 200 OK\r\n\r\nhello", bytes(range(256)) * 64])
def test_bytes_that_are_no_http2_are_no_connection(raw: bytes) -> None:
    with http2.Server(raw=raw) as server, observing(server.address) as source:
        assert eventually(lambda: source.status.reconnects >= 2)
        assert source.trouble
        assert not source.status.connected
        assert_stops_at_once(source)


def assert_stops_at_once(source: hubble_grpc.HubbleSource) -> None:
    began = time.monotonic()
    source.stop(5)
    assert time.monotonic() - began < 1
    assert not any(thread.name == "hubble" for thread in threading.enumerate())


def test_an_idle_stream_is_connected_and_stops_at_once() -> None:
    with playing(SAMPLES / "hostile" / "bare.jsonl") as played, observing(played.address) as source:
        assert eventually(lambda: received(source) == len(played.capture))
        assert source.status.connected
        assert_stops_at_once(source)
        source.stop(5)


def test_a_server_that_accepts_and_says_nothing_is_left_at_once() -> None:
    stalled = threading.Event()

    def answer(_: int) -> Iterator[bytes]:
        stalled.wait(20)
        yield b""

    with http2.Server(answer) as server, observing(server.address) as source:
        assert eventually(lambda: source.status.connected)
        assert_stops_at_once(source)
        stalled.set()


def test_a_server_that_does_not_even_speak_is_no_connection() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, observing(f"127.0.0.1:{listener.getsockname()[1]}") as source, listener.accept()[0] as peer:
        assert peer.recv(24)
        assert not source.status.connected
        assert_stops_at_once(source)


def test_a_message_that_is_no_message_is_counted_and_the_stream_goes_on() -> None:
    rubbish = (b"\xff" * 100, b"\x0a\x05hello", b"\x0a\x02\x42\xff", message("node", 1)[:-3])

    def answer(number: int) -> Iterator[bytes]:
        if number == 1:
            yield from http2.ok((*rubbish, b"", message("node", 2)))

    with http2.Server(answer) as server, observing(server.address, request=Request(follow=False)) as source:
        assert source.finished.wait(10)
        patterns = source.take()
    assert source.status.bad == len(rubbish) == sum(count for _, count in patterns.quality.bad.items())
    assert patterns.quality.records == {"hubble": 1}
    assert patterns.quality.skipped.kept == {"agent or debug event": 1}


def test_a_message_over_the_limit_is_passed_over_and_is_a_gap() -> None:
    flows = [message("node", at, f"flow-{at}") for at in range(10)]
    huge = b"\0" * (hubble_grpc.LARGEST_MESSAGE + 1)
    asked: list[int] = []

    def get_flows(request: Any, context: Any) -> Iterator[bytes]:
        asked.append(request.since.seconds)
        if request.since.seconds:
            yield from [*flows[:5], huge]
        else:
            yield from [*flows[:5], huge] if len(asked) == 1 else flows[5:]
            threading.Event().wait(0.3)

    with serving(get_flows) as address, observing(address) as source:
        assert eventually(lambda: received(source) == 10), source.trouble
        patterns = source.take()
    assert source.status.bad == hubble_grpc.FRUITLESS + 1  # the first attempt got further than the one before
    assert patterns.quality.nodes.kept.keys() == {"GAP node"}


def labelled(count: int, tag: int) -> bytes:
    """A flow whose source has so many labels."""
    response: Any = GetFlowsResponse.FromString(message("node", tag, f"flow-{tag}"))
    response.flow.source.labels.extend(f"k8s:label-{tag}-{n}=value" for n in range(count))
    return bytes(response.SerializeToString())


def test_ten_thousand_labels_are_one_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubble_endpoints, "HELD", 1 << 20)
    monkeypatch.setattr("collector.sources.hubble_counter.HELD", 1 << 20)
    reader = Reader(SourceStatus())
    for tag in range(20):
        reader.message(labelled(10_000, tag))
    assert reader.counter.ends.held < 2 << 20
    patterns = reader.hand_over()
    assert patterns.quality.records == {"hubble": 20}


def test_an_aggregate_that_nobody_takes_stops_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubble_grpc, "MOST_EDGES", 50)
    monkeypatch.setattr(hubble_grpc, "BETWEEN_LOOKS", 10)
    monkeypatch.setattr("collector.sources.hubble_counter.BATCH", 10)

    def answer(number: int) -> Iterator[bytes]:
        if number == 1:
            yield from map(http2.grpc_message, (labelled(1, tag) for tag in range(500)))
            yield b""
            threading.Event().wait(2)

    with http2.Server(answer) as server, observing(server.address) as source:
        assert eventually(lambda: received(source) >= 50)
        time.sleep(0.1)  # it would be through by now
        assert received(source) < 100
        taken = Patterns()
        while received(source) < 500:
            taken.merge(source.take())
            time.sleep(0.005)
        taken.merge(source.take())
        assert taken.quality.records == {"hubble": 500}


def test_a_clock_gone_wrong_hides_no_lag() -> None:
    reader = Reader(SourceStatus())
    ahead: Any = GetFlowsResponse.FromString(message("node", 1, "ahead"))
    ahead.flow.time.seconds = int(time.time()) + 7200
    for raw in (message("node", 1, "flow-1"), ahead.SerializeToString(), message("node", 2, "flow-2")):
        reader.message(raw)
    newest: Any = GetFlowsResponse.FromString(message("node", 2)).time
    assert reader.status.newest == newest.seconds


def test_a_million_node_names_and_ids_take_bounded_memory() -> None:
    reader = Reader(SourceStatus())
    raw = [message(f"node-{n}" * 10, n, f"flow-{n}") for n in range(6000)]
    for each in raw[:5000]:
        reader.message(each)
    tracemalloc.start()
    try:
        for each in raw[5000:]:
            reader.message(each)
        assert len(reader.positions.nodes) <= 4096
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
