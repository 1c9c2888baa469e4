"""`--record`: nothing waits for it, its size is bounded, and what a kill leaves can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import SourceError
from collector.protojson import converter
from collector.sources import envoy_als, otlp_logs
from collector.sources.envoy_als_server import AccessLogServer
from collector.unpacking import unpacked
from leastway.observing import recording
from leastway.observing.recording import Recorder, path_for
from tests.collector.sources import test_envoy_als_server, test_otlp_server
from tests.collector.sources.als import wire as als_wire
from tests.collector.sources.entries import folded
from tests.collector.sources.test_envoy_als import entry, message, peer
from tests.conftest import ROOT
from tests.observing.processes import until

LIMIT = 1 << 30


def as_text(raw: bytes) -> str | None:
    return raw.decode() if raw != b"bad" else None


def lines_of(path: Path) -> list[str]:
    """What can be read of a file, broken off or not."""
    found: list[str] = []
    with path.open("rb") as file:
        try:
            found.extend(line.decode().rstrip("\n") for line in unpacked(file))
        except OSError:
            found.append("broken")
    return found


def test_messages_come_back_in_order(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "raw.zst", LIMIT, as_text)
    for number in range(2000):
        recorder(b"%d" % number)
    recorder(b"bad")
    recorder.close(10)
    assert lines_of(tmp_path / "raw.zst") == [str(number) for number in range(2000)]
    assert recorder.dropped == 1
    assert recorder.written == (tmp_path / "raw.zst").stat().st_size
    recorder(b"too late")
    assert recorder.dropped == 2


def test_nothing_recorded_is_an_empty_file(tmp_path: Path) -> None:
    Recorder(tmp_path / "raw.zst", LIMIT, as_text).close(10)
    assert (tmp_path / "raw.zst").read_bytes() == b""


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    for number in range(3):
        recorder = Recorder(tmp_path / "raw.jsonl.zst", LIMIT, as_text)
        recorder(b"%d" % number)
        recorder.close(10)
    assert {path.name: lines_of(path) for path in tmp_path.iterdir()} == {
        "raw.jsonl.zst": ["0"],
        "raw-2.jsonl.zst": ["1"],
        "raw-3.jsonl.zst": ["2"],
    }


def test_several_sources_have_a_file_each() -> None:
    assert path_for(Path("a/raw.jsonl.zst"), "als", alone=False) == Path("a/raw.als.jsonl.zst")
    assert path_for(Path("a/raw"), "als", alone=False) == Path("a/raw.als")
    assert path_for(Path("a/raw.zst"), "als", alone=True) == Path("a/raw.zst")


def test_it_ends_at_its_size_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recording, "FRAME_BYTES", 1000)
    recorder = Recorder(tmp_path / "raw.zst", 20_000, as_text)
    sent = 0
    while not recorder.over:
        recorder(os.urandom(200).hex().encode())
        sent += 1
        assert sent < 10_000_000
    recorder.close(10)
    assert (tmp_path / "raw.zst").stat().st_size <= 20_000
    kept = lines_of(tmp_path / "raw.zst")
    assert "broken" not in kept
    assert len(kept) + recorder.dropped == sent
    assert "the recording has reached its size and ends; observing goes on" in caplog.messages


def test_a_source_does_not_wait_for_a_slow_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "WAITING_BYTES", 1000)
    go = threading.Event()

    def slow(raw: bytes) -> str:
        assert go.wait(20)
        return raw.decode()

    recorder = Recorder(tmp_path / "raw.zst", LIMIT, slow)
    for _ in range(1000):
        recorder(b"x" * 100)  # returns, although nothing is written
    assert recorder.dropped >= 980
    go.set()
    recorder.close(10)
    assert len(lines_of(tmp_path / "raw.zst")) + recorder.dropped == 1000


def test_a_recording_that_is_behind_gives_up_in_time_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    def slow(raw: bytes) -> str:
        time.sleep(0.02)
        return raw.decode()

    recorder = Recorder(tmp_path / "raw.zst", LIMIT, slow)
    for number in range(1000):
        recorder(b"%d" % number)
    began = time.monotonic()
    recorder.close(0.2)
    assert time.monotonic() - began < 2
    kept = lines_of(tmp_path / "raw.zst")
    assert 0 < len(kept) == 1000 - recorder.dropped
    assert kept == [str(number) for number in range(len(kept))]


def test_a_full_disk_ends_the_recording_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    recorder = Recorder(tmp_path / "raw.zst", LIMIT, as_text)
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        recorder._file = full
        recorder(b"one")
        until(lambda: recorder.over)
        recorder(b"two")
        recorder.close(10)
    assert recorder.dropped >= 1
    assert "recording failed; observing goes on" in caplog.messages


def test_where_no_file_can_be_made_it_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot record there"):
        Recorder(tmp_path / "missing" / "raw.zst", LIMIT, as_text)


def test_a_killed_recording_can_be_read_up_to_the_break(tmp_path: Path) -> None:
    path = tmp_path / "raw.zst"
    code = (
        "import sys, itertools; from pathlib import Path; from leastway.observing import recording\n"
        "recording.FRAME_SECONDS = 0.02\n"
        "recorder = recording.Recorder(Path(sys.argv[1]), 1 << 30, bytes.decode)\n"
        "for number in itertools.count():\n"
        "    while recorder._queued > 10_000: pass\n"
        "    recorder(b'%d' % number)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
    try:
        until(lambda: path.exists() and path.stat().st_size > 10_000)
    finally:
        process.kill()
        process.wait(10)
    kept = lines_of(path)
    if kept[-1] == "broken":
        kept.pop()
    assert len(kept) > 1000
    assert kept[:-1] == [str(number) for number in range(len(kept) - 1)]  # the last one may be cut in the middle
    cut = path.read_bytes()[:-3]
    path.write_bytes(cut)
    assert lines_of(path)[:1000] == [str(number) for number in range(1000)]


def test_recorded_lines_count_what_the_messages_counted() -> None:
    als, otlp = converter("als"), converter("otlp")
    server = AccessLogServer("127.0.0.1:0")
    stream = server.stream("one")
    lines = []
    for raw in map(als_wire, test_envoy_als_server.LINES):
        server._count(raw, stream)
        lines.append(als(server.recorded(raw, stream)))
    assert folded(envoy_als, *filter(None, lines)) == folded(envoy_als, *test_envoy_als_server.LINES)
    lines = [otlp(test_otlp_server.wire(line)) for line in test_otlp_server.LINES]
    assert folded(otlp_logs, *filter(None, lines)) == folded(otlp_logs, *test_otlp_server.LINES)


def test_a_message_with_types_that_are_unknown_here_is_recorded_without_them() -> None:
    from envoy.service.accesslog.v3 import als_pb2

    line = message(entry(**peer("downstream_peer", {"NAMESPACE": "shop"})))
    raw = als_pb2.StreamAccessLogsMessage.FromString(als_wire(line))
    objects = raw.http_logs.log_entry[0].common_properties.filter_state_objects
    objects["other"].type_url = "type.googleapis.com/nobody.Knows"
    objects["other"].value = b"\x0a\x01x"
    text = converter("als")(raw.SerializeToString())
    assert text is not None
    assert "nobody.Knows" not in text
    assert "downstream_peer" in text


@pytest.mark.parametrize("source", ["als", "otlp"])
@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f"])
def test_what_is_no_message_is_left_out(source: str, raw: bytes) -> None:
    assert converter(source)(raw) is None


@given(source=st.sampled_from(["hubble", "als", "otlp"]), raw=st.binary(max_size=64))
def test_any_bytes_are_one_line_of_json_or_nothing(source: str, raw: bytes) -> None:
    line = converter(source)(raw)
    assert line is None or (isinstance(json.loads(line), dict) and "\n" not in line)
