"""`leastway observe` as a process: real senders, real signals, real disks that are full."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import grpc
import pytest

from collector import store
from collector.patterns import Patterns
from collector.reading import read
from collector.sessions import breaks
from collector.sources import envoy_als, otlp_logs
from collector.sources.envoy_als_server import AccessLogServer
from collector.sources.otlp_server import LogServer
from collector.transport import TLS, open_channel, parse_address
from tests.certificates import Authority
from tests.collector.sources import test_envoy_als_server, test_otlp_server
from tests.collector.sources.als import wire as als_wire
from tests.collector.sources.entries import folded
from tests.collector.sources.test_envoy_als import NODE, entry, message
from tests.conftest import ROOT
from tests.observing.processes import Observe, observe, until

ALS = test_envoy_als_server.LINES
OTLP = test_otlp_server.LINES
ANY = "127.0.0.1:0"


def sent(address: str, messages: Iterable[bytes], tls: TLS | None = None, timeout: float = 20) -> None:
    """One stream of access log messages."""
    with open_channel(parse_address(address), tls) as channel:
        call = channel.stream_unary(f"/{AccessLogServer.service}/{AccessLogServer.method}")
        assert call(iter(messages), timeout=timeout, wait_for_ready=True) == b""


def exported(address: str, line: str) -> None:
    with open_channel(parse_address(address), None) as channel:
        channel.unary_unary(f"/{LogServer.service}/{LogServer.method}")(
            test_otlp_server.wire(line), timeout=10, wait_for_ready=True
        )


def plain(patterns: Patterns) -> Patterns:
    """Patterns without what only a live collector knows."""
    for live in (patterns.quality.sessions, patterns.quality.cursors):
        live.kept.clear()
    return patterns


def expected() -> Patterns:
    whole = folded(envoy_als, *ALS)[0]
    whole.merge(folded(otlp_logs, *OTLP)[0])
    return whole


def broken(place: Path | str) -> list[bool]:
    return [gap.torn for gap in breaks(mark for _, mark in store.quality(place).sessions.items())]


def send_all(running: Observe) -> None:
    sent(running.addresses["als"], map(als_wire, ALS))
    for line in OTLP:
        exported(running.addresses["otlp"], line)


def test_what_real_senders_sent_is_in_the_store_as_if_it_had_been_read_from_files(tmp_path: Path) -> None:
    record = tmp_path / "capture.jsonl.zst"
    place = tmp_path / "store"
    options = ("--als", ANY, "--otlp", ANY, "--metrics", ANY, "--record", str(record))
    with observe(place, *options) as process:
        running = process.running()
        assert running.get("/healthz") == (200, "ok\n")
        assert running.get("/readyz") == (200, "ok\n")
        assert running.get("/nothing")[0] == 404
        send_all(running)
        assert running.metric('leastway_flows_total{source="als",verdict="http"}') == 5
        assert running.metric('leastway_flows_total{source="otlp",verdict="log"}') == 4
        assert running.metric('leastway_connected{source="als"}') == 1
        assert running.metric('leastway_flushes_total{result="ok"}') == 1
        assert running.metric("process_resident_memory_bytes") > 1 << 20
        assert running.metric('leastway_lag_seconds{source="als"}') > 0
        began = time.monotonic()
        assert running.end() == 0, running.said
        assert time.monotonic() - began < 5
    assert running.other == []
    assert plain(store.load(place)) == expected()
    assert broken(place) == []
    recorded = [record.with_name(f"capture.{kind}.jsonl.zst") for kind in ("als", "otlp")]
    reading = read([str(path) for path in recorded])
    assert sorted(reading.formats.values()) == ["envoy_als", "otlp_logs"]
    assert reading.patterns == expected()


def test_recorded_messages_of_many_streams_keep_their_senders(tmp_path: Path) -> None:
    other = NODE.replace("cart", "stock").replace("10.9.0.20", "10.9.0.21")
    with observe(tmp_path / "store", "--als", ANY, "--record", str(tmp_path / "all.jsonl.zst")) as process:
        running = process.running()
        address = running.addresses["als"]

        def interleaved() -> Iterator[bytes]:
            yield als_wire(message(entry(), node=NODE))
            sent(address, [als_wire(message(entry(), node=other)), als_wire(message(entry()))])
            yield als_wire(message(entry()))

        sent(address, interleaved())
        assert running.end() == 0
    assert plain(store.load(tmp_path / "store")) == read([str(tmp_path / "all.jsonl.zst")]).patterns
    kept = store.load(tmp_path / "store")
    assert sorted(key.destination.workload for key in kept.edges) == ["cart", "stock"]


def test_a_killed_collector_is_told_of_by_generate_and_by_the_next_observe(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with observe(place, "--als", ANY, "--flush", "100ms", "--name", "east") as process:
        running = process.running()
        sent(running.addresses["als"], map(als_wire, ALS))
        until(lambda: plain(store.load(place)).quality.total == 5)
        running.end(signal.SIGKILL)
    assert broken(place) == [True]
    page = generated(place, tmp_path / "first")
    assert "The observation of east has no end yet" in page
    with observe(place, "--als", ANY, "--name", "east", "--for", "100ms") as process:
        process.heard("started")
        (told,) = [told for told in process.said if told["message"].startswith("an earlier session has no end")]
        assert told["level"] == "warning"
        assert process.process.wait(20) == 0
    page = generated(place, tmp_path / "second")
    assert "The observation of east broke off after" in page


def generated(place: Path, folder: Path) -> str:
    arguments = ["generate", str(place), "-o", str(folder), "--mesh", "sidecar"]
    subprocess.run([sys.executable, "-m", "leastway", *arguments], cwd=ROOT, capture_output=True, check=True)
    return (folder / "REVIEW.md").read_text(encoding="utf-8").replace("\\", "")


def blockable(folder: Path) -> Path:
    """A store behind a link, which can be turned to a file, where no store can be, at one instant."""
    (folder / "folder").mkdir()
    (folder / "file").touch()
    point(folder / "store", folder / "folder")
    return folder / "store"


def point(link: Path, target: Path) -> None:
    """Make `link` lead to `target`, from one instant to the next."""
    link.with_name("next").symlink_to(target)
    link.with_name("next").replace(link)


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Callable[[], None]]:
    """A file system of 64 KiB; the function given makes it larger."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system may not be mounted here")
    try:
        yield lambda: run_checked("mount", "-o", "remount,size=8m", str(place))
    finally:
        run_checked("umount", "--lazy", str(place))


def run_checked(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def test_a_store_that_cannot_be_written_is_told_kept_and_caught_up(tmp_path: Path) -> None:
    place = blockable(tmp_path)
    with observe(place, "--als", ANY, "--flush", "100ms", "--metrics", ANY) as process:
        running = process.running()
        point(place, tmp_path / "file")  # permissions would not do: root may write anything anywhere
        sent(running.addresses["als"], map(als_wire, ALS))
        told = running.heard("the store cannot be written; what was gathered is kept")
        assert str(place) in told["error"]
        assert running.metric('leastway_flushes_total{result="failed"}') > 0
        assert running.get("/readyz")[0] == 503
        assert running.get("/healthz")[0] == 200
        sent(running.addresses["als"], map(als_wire, ALS))
        point(place, tmp_path / "folder")
        running.heard("the store can be written again, nothing was lost")
        assert running.get("/readyz") == (200, "ok\n")
        assert running.end() == 0
    assert store.load(place).quality.total == 10


def test_a_disk_that_is_full_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as grow:
        place = tmp_path / "disk" / "store"
        with observe(place, "--als", ANY, "--flush", "100ms", "--metrics", ANY) as process:
            running = process.running()
            with contextlib.suppress(OSError), (tmp_path / "disk" / "other").open("wb", buffering=0) as other:
                while True:
                    other.write(bytes(4096))
            sent(running.addresses["als"], map(als_wire, ALS))
            told = running.heard("the store cannot be written; what was gathered is kept")
            assert "No space left on device" in told["error"]
            status, why = running.get("/readyz")
            assert status == 503
            assert "has not been written since" in why
            assert "No space left on device" in why
            grow()
            running.heard("the store can be written again, nothing was lost")
            assert running.end() == 0
        assert store.load(place).quality.total == 5


def test_a_store_that_cannot_be_written_at_the_end_makes_the_exit_code_one(tmp_path: Path) -> None:
    place = blockable(tmp_path)
    with observe(place, "--als", ANY) as process:
        running = process.running()
        sent(running.addresses["als"], map(als_wire, ALS))
        point(place, tmp_path / "file")
        assert running.end() == 1
        assert running.said[-1]["level"] == "error"
        assert "lost" in running.said[-1]["message"]


def test_a_second_signal_ends_at_once_and_the_store_is_whole(tmp_path: Path) -> None:
    with observe(tmp_path, "--als", ANY) as process:
        running = process.running()

        def endless() -> Iterator[bytes]:
            while True:
                yield als_wire(message(entry(), node=NODE))

        with open_channel(parse_address(running.addresses["als"]), None) as channel:
            call = channel.stream_unary(f"/{AccessLogServer.service}/{AccessLogServer.method}")
            future = call.future(endless(), timeout=20)
            process.process.send_signal(signal.SIGINT)
            running.heard("stopping")  # and the sender goes on, so that the source needs its grace
            assert running.end(signal.SIGINT) == 128 + signal.SIGINT
            with pytest.raises(grpc.RpcError):
                future.result()
    assert broken(tmp_path) == [True]


def test_it_ends_in_time_although_a_sender_never_stops(tmp_path: Path) -> None:
    record = str(tmp_path / "raw.zst")
    with observe(tmp_path / "store", "--als", ANY, "--otlp", ANY, "--record", record, "--flush", "1s") as process:
        running = process.running()
        sending = threading.Event()

        def endless() -> Iterator[bytes]:
            while True:
                yield als_wire(message(*[entry()] * 50, node=NODE))
                sending.set()

        with open_channel(parse_address(running.addresses["als"]), None) as channel:
            call = channel.stream_unary(f"/{AccessLogServer.service}/{AccessLogServer.method}")
            future = call.future(endless(), timeout=20)
            assert sending.wait(10)
            began = time.monotonic()
            assert running.end() == 0, running.said
            assert time.monotonic() - began < 5
            with pytest.raises(grpc.RpcError):
                future.result()
    assert broken(tmp_path / "store") == []


@pytest.mark.parametrize("interval", ["1m", "100ms"], ids=["at the end", "in between"])
def test_it_ends_in_time_although_the_store_does_not_answer(tmp_path: Path, interval: str) -> None:
    place = f"stuck://{tmp_path}/store"
    with observe(place, "--als", ANY, "--flush", interval, module="tests.observing.stuck") as process:
        running = process.running()
        (tmp_path / "stuck").touch()
        sent(running.addresses["als"], map(als_wire, ALS))
        if interval == "100ms":
            until((tmp_path / "waiting").exists)
        began = time.monotonic()
        assert running.end() == 1
        assert time.monotonic() - began < 5
        assert running.said[-1]["level"] == "error"
        assert "lost" in running.said[-1]["message"]
    assert broken(tmp_path / "store") == [True]


def test_a_term_during_the_start_is_heard_and_ends_in_time(tmp_path: Path) -> None:
    (tmp_path / "stuck").touch()
    with observe(f"stuck://{tmp_path}/store", "--als", ANY, module="tests.observing.stuck") as process:
        until((tmp_path / "waiting").exists)
        began = time.monotonic()
        assert process.end() == 1  # and not by the signal, which the first process of a container would not get
        assert time.monotonic() - began < 5


def test_a_terminal_shows_one_line_of_status_below_the_log(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "leastway", "observe", "--store", str(tmp_path), "--als", ANY, "--for", "3s"]
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # a terminal whose other end has gone
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    assert process.wait(10) == 0
    lines = shown.decode().split("\r\n")
    drawn = [line for part in lines for line in part.split("\r\x1b[2K")]
    assert any(re.fullmatch(r"als: 0 records \| 0 patterns, flushed \d s ago", line) for line in drawn), drawn
    assert "stopped; everything that was seen is in the store" in lines[-2]


def test_it_ends_by_itself_after_its_time(tmp_path: Path) -> None:
    with observe(tmp_path, "--otlp", ANY, "--for", "300ms") as process:
        assert process.process.wait(20) == 0
    assert broken(tmp_path) == []


def test_parts_are_merged_while_it_runs(tmp_path: Path) -> None:
    with observe(tmp_path, "--als", ANY, "--flush", "20ms", "--merge-every", "20") as process:
        running = process.running()
        sent(running.addresses["als"], map(als_wire, ALS))
        running.heard("merged the store's parts")
        assert running.end() == 0
    assert plain(store.load(tmp_path)) == folded(envoy_als, *ALS)[0]
    assert store.count(tmp_path) < len([told for told in running.said if told["message"] == "flushed"])


def test_mutual_tls_for_those_who_send(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.server(mutual=True)
    options = ["--server-cert", str(own.certificate), "--server-key", str(own.key), "--server-ca", str(authority.ca)]
    with observe(tmp_path / "store", "--als", ANY, *options) as process:
        running = process.running()
        sent(running.addresses["als"], map(als_wire, ALS), authority.client(mutual=True))
        with pytest.raises(grpc.RpcError):
            sent(running.addresses["als"], [], authority.client(), timeout=1.5)
        assert running.end() == 0
    assert store.load(tmp_path / "store").quality.total == 5


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ([], 2, "nothing to observe"),
        (["--als", ANY, "--hubble-ca", "ca.pem"], 2, "--hubble-... options need --hubble"),
        (["--als", ANY, "--flush", "soon"], 2, "not a duration"),
        (["--als", ANY, "--record-limit", "much"], 2, "not a size"),
        (["--als", ANY, "--name", "a\nb"], 2, "printable"),
        (["--als", ANY, "--namespace", "shop"], 2, "--namespace needs --hubble"),
        (["--hubble", "127.0.0.1:1", "--namespace", "a,b"], 2, "no namespace's name"),
        (["--hubble", "127.0.0.1:1", "--als", ANY, "--until", "1h"], 2, "--until needs --hubble"),
        (["--hubble", "127.0.0.1:1", "--since", "1h", "--until", "2h"], 2, "--until is before --since"),
        (["--hubble", "127.0.0.1:1", "--since", "2026-13-01"], 2, "is no time"),
        (["--als", "nowhere"], 1, "nowhere"),
        (["--als", ANY, "--server-cert", "missing.pem", "--server-key", "missing.pem"], 1, "missing.pem"),
        (["--als", ANY, "--metrics", "256.0.0.1:1"], 1, "cannot listen"),
        (["--als", ANY, "--record", "/nowhere/at/all.zst"], 1, "cannot record there"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_observed(
    tmp_path: Path, options: list[str], code: int, says: str
) -> None:
    arguments = [sys.executable, "-m", "leastway", "observe", "--store", str(tmp_path), *options]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == code, result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_two_cannot_listen_at_one_address(tmp_path: Path) -> None:
    with observe(tmp_path / "one", "--als", ANY) as process:
        taken = process.running().addresses["als"]
        with observe(tmp_path / "two", "--als", taken) as other:
            assert other.process.wait(20) == 1
    assert broken(tmp_path / "two") == []
