"""Metrics and health: right numbers in the right form, and a server that no peer can hold up."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.errors import SourceError
from collector.transport import Address, parse_address
from leastway.observing import metrics, metrics_server
from leastway.observing.metrics_server import MetricsServer
from leastway.observing.session import Session
from leastway.observing.status import summary
from tests.observing.processes import until
from tests.observing.ticking import Ticking

SAMPLE = re.compile(r'[a-z_]+(?:\{[a-z]+="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-z]+="(?:[^"\\\n]|\\[\\"n])*")*\})? [0-9.e+-]+')


@pytest.fixture
def session(tmp_path: Path) -> Session:
    source = Ticking()
    source.status.flows = {"FORWARDED": 7, 'odd"\\\n': 1}
    source.status.lost, source.status.bad, source.status.refused, source.status.reconnects = 3, 2, 1, 4
    source.status.newest = time.time() - 5
    source.status.streams = 12
    return Session([source], str(tmp_path), name="one", interval=60)


def test_the_exposition_is_well_formed_and_complete(session: Session) -> None:
    session.flush()
    text = metrics.exposition(session, {}, "1.2")
    lines = text.splitlines()
    assert text.endswith("\n")
    assert all(SAMPLE.fullmatch(line) for line in lines if not line.startswith("#")), text
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert all(name.endswith("_total") for name in names if f"# TYPE {name} counter" in lines)
    documented = (Path(__file__).parents[2] / "docs/observe.md").read_text(encoding="utf-8")
    assert [name for name in names if name not in documented] == []
    for series in (
        'leastway_flows_total{source="ticking",verdict="FORWARDED"} 7',
        r'leastway_flows_total{source="ticking",verdict="odd\"\\\n"} 1',
        'leastway_lost_total{source="ticking"} 3',
        'leastway_bad_total{source="ticking"} 2',
        'leastway_refused_total{source="ticking"} 1',
        'leastway_reconnects_total{source="ticking"} 4',
        'leastway_streams{source="ticking"} 12',
        'leastway_flushes_total{result="ok"} 1',
        'leastway_build_info{version="1.2"} 1',
    ):
        assert series in lines
    (lag,) = [line for line in lines if line.startswith("leastway_lag_seconds")]
    assert 5 <= float(lag.split()[1]) < 30


def test_no_lag_is_told_before_there_was_a_record(session: Session) -> None:
    session.sources[0].status.newest = 0
    assert "leastway_lag_seconds" not in metrics.exposition(session, {}, "1")


def test_counters_can_be_read_while_a_source_writes_them(session: Session) -> None:
    flows = session.sources[0].status.flows
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            flows[f"kind-{number % 5000}"] = number
            if number % 5000 == 0:
                flows.clear()

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(50):
        metrics.exposition(session, {}, "1")
        summary(session)
    done.set()
    writer.join()


def test_ready_names_what_is_not_since_when_and_why(session: Session) -> None:
    assert "not observing" in metrics.ready(session)
    session.running = True
    status = session.sources[0].status
    status.since = 1_772_438_400
    assert metrics.ready(session) == "ticking has not been connected since 2026-03-02T08:00:00Z"
    session.sources[0].trouble = "UNAVAILABLE: \x1b[31mno\nserver"  # type: ignore[misc]  # only readers of LiveSource may not
    session.failing, session.flushed = "disk full", 1_772_438_460.9
    away, store = metrics.ready(session).splitlines()
    assert away == "ticking has not been connected since 2026-03-02T08:00:00Z: UNAVAILABLE: �[31mno server"
    assert store == "the store has not been written since 2026-03-02T08:01:00Z: disk full"
    status.connected = True
    assert metrics.ready(session) == store
    session.failing = ""
    assert metrics.ready(session) == ""
    before = time.time()
    status.connected = False
    assert before <= status.since <= time.time()


def test_a_store_that_does_not_answer_is_not_ready_long_before_the_loop_counts_as_dead(session: Session) -> None:
    session.running = session.sources[0].status.connected = True
    session.flushed = 1_772_438_460
    session.beat -= 16
    told = "the store has not answered for 16 s, and was last written 2026-03-02T08:01:00Z"
    assert metrics.ready(session) == told
    assert metrics.alive(session) == ""


def test_a_loop_that_stands_still_is_not_alive(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics.alive(session) == ""
    session.beat -= 301
    assert "has not moved for 301 s" in metrics.alive(session)
    session.interval = 3600
    assert metrics.alive(session) == ""


def test_the_status_line_says_what_is_missing(session: Session) -> None:
    told = summary(session)
    assert "not connected" in told
    assert "8 records" in told
    assert "12 streams" in told
    assert "3 lost, 2 bad, 1 refused" in told
    session.failing = "disk full"
    assert "the store cannot be written" in summary(session)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsServer]:
    monkeypatch.setattr(metrics_server, "PATIENCE", 0.8)
    monkeypatch.setattr(metrics_server._Server, "service_actions", lambda self: self.cut(0.8))
    started = MetricsServer(parse_address("127.0.0.1:0", listen=True), {"/page": lambda: (200, "text/plain", "here\n")})
    started.start()
    yield started
    started.stop()


def ask(server: MetricsServer, request: bytes = b"GET /page?x=1 HTTP/1.0\r\n\r\n") -> bytes:
    with socket.create_connection((server.address.host, server.address.port), timeout=5) as peer:
        peer.sendall(request)
        answer = b""
        while chunk := peer.recv(4096):
            answer += chunk
    return answer


def answers(server: MetricsServer) -> bool:
    with contextlib.suppress(ConnectionError):
        return ask(server).endswith(b"here\n")
    return False


def test_pages_are_served_and_others_are_not(server: MetricsServer) -> None:
    assert ask(server).endswith(b"\r\n\r\nhere\n")
    assert b" 404 " in ask(server, b"GET /etc/passwd HTTP/1.0\r\n\r\n").splitlines()[0]
    assert ask(server, b"HEAD /page HTTP/1.0\r\n\r\n").endswith(b"Content-Length: 5\r\n\r\n")
    assert b" 501 " in ask(server, b"POST /page HTTP/1.0\r\n\r\n").splitlines()[0]


@pytest.mark.parametrize("request_bytes", [b"\x00" * 100, b"GET " + b"x" * 100_000, b"\r\n", b"\x16\x03\x01\x02\x00"])
def test_garbage_costs_a_connection_and_nothing_else(server: MetricsServer, request_bytes: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        ask(server, request_bytes + b"\r\n\r\n")
    assert ask(server).endswith(b"here\n")


def test_slow_and_many_peers_are_cut_off(server: MetricsServer) -> None:
    where = (server.address.host, server.address.port)
    before = threading.active_count()
    slow = [socket.create_connection(where, timeout=5) for _ in range(metrics_server.CONNECTIONS + 30)]
    try:
        for peer in slow:
            peer.sendall(b"G")
        assert threading.active_count() <= before + metrics_server.CONNECTIONS
        until(lambda: answers(server))  # although each of them still waits for us
    finally:
        for peer in slow:
            peer.close()


def test_it_ends_with_a_peer_that_hangs(server: MetricsServer) -> None:
    with socket.create_connection((server.address.host, server.address.port), timeout=5) as peer:
        peer.sendall(b"GET")
        until(lambda: bool(server._server.open))
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 2


def test_it_listens_on_all_interfaces_and_on_ipv6() -> None:
    for text, host in ((":0", "127.0.0.1"), ("[::1]:0", "::1")):
        if host == "::1" and not socket.has_ipv6:
            continue
        server = MetricsServer(parse_address(text, listen=True), {})
        server.start()
        with socket.create_connection((host, server.address.port), timeout=5):
            pass
        server.stop()


def test_an_address_that_is_taken_or_none_is_told() -> None:
    server = MetricsServer(parse_address("127.0.0.1:0", listen=True), {})
    server.start()
    try:
        with pytest.raises(SourceError, match="cannot listen"):
            MetricsServer(server.address, {})
        with pytest.raises(SourceError, match="TCP"):
            MetricsServer(Address(path="/socket"), {})
    finally:
        server.stop()
