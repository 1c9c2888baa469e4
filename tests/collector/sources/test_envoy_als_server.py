"""The access log service over real sockets: what it counts, how it is left, how it ends."""

from __future__ import annotations

import queue
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import json_format

from collector import listening
from collector import serving as serving_on_asyncio
from collector.errors import SourceError
from collector.patterns import Patterns
from collector.serving import Limits
from collector.sources import envoy_als
from collector.sources.envoy_als_server import AccessLogServer
from tests import http2
from tests.certificates import Authority
from tests.collector.sources.als import connected, sent, serving, status, wire
from tests.collector.sources.entries import folded
from tests.collector.sources.test_envoy_als import NODE, SOURCE_SIDE, TLS, entry, message
from tests.conftest import ROOT

METADATA = {"NAMESPACE": "shop", "WORKLOAD_NAME": "main", "SERVICE_ACCOUNT": "it", "LABELS": {"app": "it"}, "X": "y"}
LINES = [
    message(entry(**TLS), entry(**TLS), entry(**SOURCE_SIDE), node=NODE, metadata={"LABELS": {"app": "cart"}}),
    message(entry(), entry(upstreamCluster="outbound|80||cart.shop.svc.cluster.local")),
]


@pytest.fixture
def server() -> Iterator[AccessLogServer]:
    with serving(AccessLogServer("127.0.0.1:0")) as started:
        yield started


def until(condition: object, seconds: float = 10) -> None:
    """Wait until `condition()` holds."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.005)


def test_live_and_recorded_messages_give_the_same_patterns(server: AccessLogServer) -> None:
    assert sent(server, map(wire, LINES)) == folded(envoy_als, *LINES)[0]
    assert server.status.flows == {"http": 5}
    assert server.status.newest == 1772352000


def test_an_entry_of_the_future_hides_no_lag_later(server: AccessLogServer) -> None:
    sent(server, [wire(message(entry(startTime="9999-12-31T23:59:59Z"), node=NODE))])
    assert server.status.newest <= time.time()


def test_recorded_messages_name_their_stream_and_give_the_same_patterns() -> None:
    other = NODE.replace("cart", "stock").replace("10.9.0.20", "10.9.0.21")
    recorded: list[bytes] = []
    with serving(AccessLogServer("127.0.0.1:0", record=recorded.append)) as started, connected(started) as call:
        first, second = (
            [wire(message(entry(), node=node, metadata=METADATA)), wire(message(entry()))] for node in (NODE, other)
        )
        streams = [queue.SimpleQueue[bytes | None](), queue.SimpleQueue[bytes | None]()]
        futures = [call.future(iter(stream.get, None), timeout=20) for stream in streams]
        for count, (stream, raw) in enumerate(
            zip(streams * 2, (first[0], second[0], first[1], second[1]), strict=True)
        ):
            stream.put(raw)
            until(lambda count=count: started.status.flows.get("http") == count + 1)
        for stream in streams:
            stream.put(None)
        assert [future.result() for future in futures] == [b"", b""]
        live = started.take()
    lines = [
        json_format.MessageToJson(als_pb2.StreamAccessLogsMessage.FromString(raw), indent=None) for raw in recorded
    ]
    assert folded(envoy_als, *lines) == (live, [])


def test_what_was_taken_is_not_given_again(server: AccessLogServer) -> None:
    assert sent(server, map(wire, LINES)).quality.total == 5
    assert server.take() == Patterns()


def test_a_stream_keeps_its_identifier_over_takes_and_beside_other_streams(server: AccessLogServer) -> None:
    other = NODE.replace("cart", "stock").replace("10.9.0.20", "10.9.0.21")
    go = threading.Event()

    def first() -> Iterator[bytes]:
        yield wire(message(entry(), node=NODE))
        assert go.wait(20)
        yield wire(message(entry()))

    with connected(server) as call:
        future = call.future(first(), timeout=20)
        until(lambda: server.status.flows.get("http") == 1)
        call(iter([wire(message(entry(), node=other))]), timeout=20)
        before = server.take()
        go.set()
        assert future.result() == b""
    assert sorted(key.destination.workload for key in before.edges) == ["cart", "stock"]
    assert [key.destination.workload for key in server.take().edges] == ["cart"]


def test_over_a_unix_socket(tmp_path: Path) -> None:
    with serving(AccessLogServer(f"unix://{tmp_path}/als.sock")) as started:
        assert sent(started, map(wire, LINES)).quality.total == 5


def test_over_mutual_tls_and_without_a_certificate_not_at_all(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with serving(AccessLogServer("127.0.0.1:0", authority.server(mutual=True))) as started:
        assert sent(started, map(wire, LINES), authority.client(mutual=True)).quality.total == 5
        (tmp_path / "other").mkdir()
        stranger = Authority(tmp_path / "other", "stranger")
        for tls in (authority.client(), stranger.client(mutual=True), None):
            with connected(started, tls) as call:
                assert status(call, [wire(LINES[0])])[0] is grpc.StatusCode.UNAVAILABLE
        assert started.take() == Patterns()
        assert sent(started, map(wire, LINES), authority.client(mutual=True)).quality.total == 5


def test_stopping_counts_what_has_arrived_and_ends_open_streams_in_time(server: AccessLogServer) -> None:
    hold = threading.Event()

    def endless() -> Iterator[bytes]:
        yield wire(LINES[0])
        hold.wait(20)

    with connected(server) as call:
        future = call.future(endless(), timeout=20)
        until(lambda: server.status.streams == 1 and server.status.flows)
        begin = time.monotonic()
        server.stop(3)
        assert time.monotonic() - begin < 3
        hold.set()
        assert future.code() is grpc.StatusCode.UNAVAILABLE
    assert (server.take().quality.total, server.status.streams, server.status.connected) == (3, 0, False)
    server.stop(3)


def test_senders_that_never_pause_do_not_hold_up_the_end(server: AccessLogServer) -> None:
    ends = threading.Event()

    def endless() -> Iterator[bytes]:
        raw = wire(LINES[1])
        while not ends.is_set():
            yield raw

    with connected(server) as call:
        future = call.future(endless(), timeout=20)
        until(lambda: server.status.flows)
        begin = time.monotonic()
        server.stop(4)
        assert time.monotonic() - begin < 2
        ends.set()
        assert future.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert server.take().quality.total == server.status.flows["http"]


def test_it_does_not_start_where_it_cannot_listen(server: AccessLogServer, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot listen there"):
        AccessLogServer(str(server.address)).start()
    with pytest.raises(SourceError, match="no port"):
        AccessLogServer("127.0.0.1")
    tls = Authority(tmp_path).server()
    (tmp_path / "server.pem").write_text("no certificate")
    with pytest.raises(SourceError, match="not a pair"):
        AccessLogServer("127.0.0.1:0", tls).start()


def test_more_streams_than_the_limit_are_turned_away_and_counted() -> None:
    hold = threading.Event()

    def idle() -> Iterator[bytes]:
        yield wire(LINES[0])
        hold.wait(20)

    with serving(AccessLogServer("127.0.0.1:0", limits=Limits(streams=2))) as started:
        channels = [connected(started) for _ in range(3)]
        calls = [channel.__enter__() for channel in channels]
        futures = [call.future(idle(), timeout=20) for call in calls[:2]]
        until(lambda: started.status.streams == 2)
        code, details = status(calls[2], [wire(LINES[0])])
        assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "2 streams are open already")
        assert started.status.refused == 1
        hold.set()
        assert [future.result() for future in futures] == [b"", b""]
        assert status(calls[2], [wire(LINES[0])])[0] is grpc.StatusCode.OK
        for channel in channels:
            channel.__exit__(None, None, None)
        assert started.take().quality.total == 9


def raw_stream(server: AccessLogServer, source: str) -> socket.socket:
    """A connection from an address of our choice, with one open stream that has sent nothing yet."""
    raw = socket.create_connection((server.address.host, server.address.port), 10, source_address=(source, 0))
    headers = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), ("content-type", "application/grpc")]
    headers += [(":path", f"/{server.service}/{server.method}"), ("te", "trailers")]
    opened = b"".join(http2.literal(*each) for each in headers)
    raw.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b""))
    raw.sendall(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, opened))
    return raw


def test_one_address_has_no_more_than_its_share_of_the_streams() -> None:
    with serving(AccessLogServer("127.0.0.1:0", limits=Limits(streams=8, share=3))) as started, ExitStack() as stack:
        greedy = [stack.enter_context(raw_stream(started, "127.0.0.2")) for _ in range(5)]
        until(lambda: (started.status.streams, started.status.refused) == (3, 2))
        with connected(started) as call:  # from 127.0.0.1
            assert status(call, [wire(LINES[0])])[0] is grpc.StatusCode.OK
        for each in greedy:
            each.close()
        until(lambda: started.status.streams == 0)
        again = stack.enter_context(raw_stream(started, "127.0.0.2"))
        until(lambda: started.status.streams == 1)
        again.close()
        assert started.status.refused == 2


def test_who_has_its_share_is_told_so(tmp_path: Path) -> None:
    hold = threading.Event()

    def idle() -> Iterator[bytes]:
        yield wire(LINES[0])
        hold.wait(20)

    with serving(AccessLogServer("127.0.0.1:0", limits=Limits(share=1))) as started, connected(started) as call:
        first = call.future(idle(), timeout=20, wait_for_ready=True)
        until(lambda: started.status.streams == 1)
        expected = (grpc.StatusCode.RESOURCE_EXHAUSTED, "1 streams of your address are open already")
        assert status(call, [wire(LINES[0])]) == expected
        hold.set()
        assert first.result() == b""
    # All that come over a unix socket have one address, as have those behind a gateway: 0 is no share.
    path = f"unix://{tmp_path / 'socket'}"
    for server in (
        AccessLogServer(path, limits=Limits(share=1)),
        AccessLogServer("127.0.0.1:0", limits=Limits(share=0)),
    ):
        hold.clear()
        with serving(server) as started, connected(started) as call:
            futures = [call.future(idle(), timeout=20, wait_for_ready=True) for _ in range(3)]
            until(lambda started=started: started.status.streams == 3)
            hold.set()
            assert [future.result() for future in futures] == [b""] * 3
            assert started.status.refused == 0


def test_a_message_that_is_too_long_is_refused_and_counted_and_the_store_is_told() -> None:
    limits = Limits(message=20_000)
    with serving(AccessLogServer("127.0.0.1:0", limits=limits)) as started, connected(started) as call:
        code, details = status(call, [wire(LINES[0]), bytes(30_000)])
        assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "a message is longer than 20000 bytes")
        assert started.status.refused == 1
        taken = started.take().quality
        assert (taken.total, dict(taken.lost.items())) == (3, {"message too long als": 1})
        assert status(call, [bytes(60_000)])[0] is grpc.StatusCode.RESOURCE_EXHAUSTED  # gRPC's own word


def test_streams_that_stall_are_ended_when_memory_is_short_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_on_asyncio, "LOOK", 0.05)
    monkeypatch.setattr(listening, "STALLED", 0.5)
    over = threading.Event()

    def stalling() -> Iterator[bytes]:
        yield wire(LINES[0])
        over.wait(20)

    def going_on() -> Iterator[bytes]:
        while not over.is_set():
            yield wire(LINES[0])
            time.sleep(0.02)

    with serving(AccessLogServer("127.0.0.1:0", limits=Limits(resident=1))) as started, connected(started) as call:
        busy = call.future(going_on(), timeout=20, wait_for_ready=True)
        ended = (grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory for a stream that stalls")
        assert status(call, stalling()) == ended
        assert not busy.done()
        over.set()
        assert busy.result() == b""
        assert started.status.refused == 1
        until(lambda: started.status.streams == 0)


def test_a_connection_without_a_stream_is_closed_and_one_with_a_stream_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_on_asyncio, "IDLE", 300)
    over = threading.Event()

    def quiet() -> Iterator[bytes]:
        yield wire(LINES[0])
        over.wait(20)

    with serving(AccessLogServer("127.0.0.1:0")) as started, connected(started) as call:
        open_stream = call.future(quiet(), timeout=20, wait_for_ready=True)
        until(lambda: started.status.streams == 1)
        with socket.create_connection((started.address.host, started.address.port), timeout=10) as idle:
            idle.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b""))
            while idle.recv(4096):
                pass
        assert not open_stream.done()
        over.set()
        assert open_stream.result() == b""


def test_every_stream_may_have_a_connection_of_its_own() -> None:
    program = """
import resource
from collector.serving import Limits
from collector.sources.envoy_als_server import AccessLogServer
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
server = AccessLogServer("127.0.0.1:0", limits=Limits(streams=500))
server.start()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
server.stop(1)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, timeout=30, check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(done.stdout) >= (2000 if hard == resource.RLIM_INFINITY else min(2000, hard))
