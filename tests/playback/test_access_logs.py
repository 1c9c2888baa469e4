"""A recording of access log service messages, played to the live source: it hears what a reader of the file reads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.errors import SourceError
from collector.patterns import Patterns
from collector.reading import read
from collector.serving import Limits
from collector.sources.envoy_als_server import AccessLogServer
from collector.transport import parse_address
from leastway.playback import access_logs
from leastway.playback.access_logs import stream_access_logs
from tests.certificates import Authority
from tests.collector.sources.als import serving
from tests.collector.sources.entries import INBOUND
from tests.collector.sources.test_envoy_als import NODE, entry, message
from tests.conftest import ROOT

SAMPLE = str(ROOT / "sample_flows/path-ids/als.jsonl")
OTHER = NODE.replace("cart", "stock").replace("10.9.0.20", "10.9.0.21")


@pytest.fixture
def server() -> Iterator[AccessLogServer]:
    with serving(AccessLogServer("127.0.0.1:0")) as started:
        yield started


def test_a_played_recording_gives_the_patterns_of_the_file(server: AccessLogServer) -> None:
    streamed = stream_access_logs([SAMPLE], server.address, None)
    expected = read([SAMPLE]).patterns
    assert server.take() == expected
    assert (streamed.messages, streamed.entries, streamed.lost) == (38, expected.quality.total, 0)
    assert server.status.streams == 0


def test_real_messages_arrive_as_they_are_read(server: AccessLogServer, captures: Path) -> None:
    files = [str(captures / f"envoy/skywalking/envoy-{name}.msg") for name in ("ingress", "mesh-server-sidecar")]
    stream_access_logs(files, server.address, None)
    assert server.take() == read(files).patterns


def test_every_proxy_has_a_stream_and_later_messages_none_more(server: AccessLogServer, tmp_path: Path) -> None:
    lines = [message(entry(), node=NODE), message(entry()), message(entry(), node=OTHER), message(entry(), node=NODE)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, json.dumps(INBOUND)]))
    streamed = stream_access_logs([str(tmp_path / "a.jsonl")], server.address, None)
    assert (streamed.streams, streamed.messages, streamed.unread) == (2, 4, 1)
    assert counts(server.take()) == {"shop/cart": 3, "shop/stock": 1}


def counts(patterns: Patterns) -> dict[str, int]:
    return {
        str(key.destination): sum(n for _, evidence in edge.ports() for n in evidence.signals.values())
        for key, edge in patterns.sorted_edges()
    }


def test_more_proxies_than_streams_are_played_in_turns(
    server: AccessLogServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_logs, "STREAMS", 2)
    nodes = [NODE.replace("cart-", f"cart{number}-") for number in range(5)] * 2
    (tmp_path / "a.jsonl").write_text("\n".join(message(entry(), node=node) for node in nodes))
    streamed = stream_access_logs([str(tmp_path / "a.jsonl")], server.address, None)
    assert (streamed.streams, streamed.lost) == (10, 0)
    assert server.take() == read([str(tmp_path / "a.jsonl")]).patterns


def test_the_pace_is_that_of_the_recording_times_the_speed(server: AccessLogServer, tmp_path: Path) -> None:
    moments = ("2026-03-01T08:00:00Z", "2026-03-01T08:00:30Z")
    (tmp_path / "a.jsonl").write_text("\n".join(message(entry(startTime=time), node=NODE) for time in moments))
    begin = time.monotonic()
    stream_access_logs([str(tmp_path / "a.jsonl")], server.address, None, speed=60)
    assert 0.5 <= time.monotonic() - begin < 5
    assert server.take().quality.total == 2


def test_a_loop_goes_on_with_later_times_until_it_is_stopped(server: AccessLogServer, tmp_path: Path) -> None:
    moments = ("2026-03-01T08:00:00Z", "2026-03-01T08:59:59Z")
    (tmp_path / "a.jsonl").write_text("\n".join(message(entry(startTime=time), node=NODE) for time in moments))
    stopped = threading.Event()
    thread = threading.Thread(
        target=stream_access_logs,
        args=([str(tmp_path / "a.jsonl")], server.address, None),
        kwargs={"loop": True, "stopped": stopped},
    )
    thread.start()
    while server.status.flows.get("http", 0) < 10:
        time.sleep(0.01)
    stopped.set()
    thread.join(10)
    assert not thread.is_alive()
    (evidence,) = (evidence for _, edge in server.take().sorted_edges() for _, evidence in edge.ports())
    assert len(evidence.hours) >= 5
    assert evidence.connections >= 10


def test_chaos_breaks_streams_off_and_what_arrives_is_of_the_right_proxy(
    server: AccessLogServer, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(
        "\n".join(message(entry(), node=node) for node in (NODE, OTHER) for _ in range(200))
    )
    streamed = stream_access_logs([str(tmp_path / "a.jsonl")], server.address, None, seed=7)
    heard = counts(server.take())
    assert streamed.streams > 5
    assert set(heard) == {"shop/cart", "shop/stock"}
    assert 2 <= sum(heard.values()) <= 400  # what was under way when a stream broke off is gone


def test_a_target_that_refuses_is_told_as_lost_messages(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(message(entry(), node=node) for node in (NODE, OTHER)))
    with serving(AccessLogServer("127.0.0.1:0", limits=Limits(streams=0))) as server:
        streamed = stream_access_logs([str(tmp_path / "a.jsonl")], server.address, None)
        # A write that meets the refusal half-way hides its text in grpc.aio, but never that it failed.
        assert (streamed.lost, streamed.refusal in ("0 streams are open already", "Internal error from Core")) == (
            2,
            True,
        )


def test_messages_are_sent_over_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with serving(AccessLogServer("127.0.0.1:0", authority.server(mutual=True))) as server:
        stream_access_logs([SAMPLE], server.address, authority.client(mutual=True))
        assert server.take() == read([SAMPLE]).patterns


def test_nothing_to_send_and_nobody_to_send_it_to(
    server: AccessLogServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(INBOUND))
    with pytest.raises(SourceError, match="no access log messages to send"):
        stream_access_logs([str(tmp_path / "a.jsonl")], server.address, None)
    monkeypatch.setattr(access_logs, "CONNECT", 0.3)
    with pytest.raises(SourceError, match="no access log service answers"):
        stream_access_logs([SAMPLE], parse_address(f"unix://{tmp_path}/nobody.sock"), None)
