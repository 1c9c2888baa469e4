"""A file read by several processes is read as by one."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from collector import parts, sources
from collector.reading import Reading, read
from tests.simulator import hubble_records

SOURCE = sources.source("hubble_json")
FLOWS = Path(__file__).parents[2] / "sample_flows"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 4096)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})


def lines() -> list[bytes]:
    return [json.dumps(record).encode() for record in hubble_records(7, workloads=6, edges=9, calls=4).records]


def capture(tmp_path: Path, content: list[bytes]) -> str:
    file = tmp_path / "flows.jsonl"
    file.write_bytes(b"\n".join(content) + b"\n")
    return str(file)


def in_one(name: str, monkeypatch: pytest.MonkeyPatch) -> Reading:
    with monkeypatch.context() as patch:
        patch.setattr(parts, "PART", 1 << 40)
        return read([name])


def pieces(name: str, source: sources.Source = SOURCE) -> list[Any]:
    return parts.parts(name, source)


def test_the_parts_are_the_file(tmp_path: Path) -> None:
    name = capture(tmp_path, lines())
    data = Path(name).read_bytes()
    cut = pieces(name)
    assert len(cut) == 3
    assert b"".join(data[piece.first : piece.last] for piece in cut) == data
    assert all(data[piece.last - 1 : piece.last] == b"\n" for piece in cut)


SAMPLES = {
    "istio_json": "bookinfo/access-log.jsonl",
    "envoy_als": "path-ids/als.jsonl",
    "ztunnel": "ambient/ztunnel-node-2.jsonl",
}


@pytest.mark.parametrize("kind", ["hubble_json", *SAMPLES])
def test_patterns_and_bad_lines_are_those_of_one_process(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = lines() if kind == "hubble_json" else (FLOWS / SAMPLES[kind]).read_bytes().splitlines() * 3
    for at in range(5, len(content), 7):
        content.insert(at, b"no record %d" % at)
    name = capture(tmp_path, content)
    assert len(pieces(name, sources.source(kind))) == 3
    several, one = read([name]), in_one(name, monkeypatch)
    assert list(one.formats.values()) == [kind]
    assert one.bad_lines > 3
    assert several == one


def test_bad_lines_beyond_the_shown_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHOWN", 2)
    content = [line for good in lines() for line in (good, b"bad", b"worse")]
    name = capture(tmp_path, content)
    read_in_parts = read([name])
    assert read_in_parts.bad_lines == in_one(name, monkeypatch).bad_lines == 2 * len(lines())


def test_a_part_whose_process_dies_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = capture(tmp_path, lines())
    whole = in_one(name, monkeypatch)
    parent, fold = os.getpid(), parts._fold

    def killed(*arguments: Any) -> Any:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return fold(*arguments)

    monkeypatch.setattr(parts, "_fold", killed)
    assert read([name]) == whole


@pytest.mark.parametrize("indent", [1, None])
def test_only_a_file_of_a_record_a_line_is_cut(indent: int | None, tmp_path: Path) -> None:
    content = [json.dumps(json.loads(line), indent=indent).encode() for line in lines()]
    assert bool(pieces(capture(tmp_path, content))) == (indent is None)


def test_a_list_of_records_inside_another_value_is_not_cut(tmp_path: Path) -> None:
    """The lines look like records, but an outer bracket is open."""
    inner = [b'{"ID":%d,"labels":["k8s:app=web"]},' % number for number in range(600)]
    assert pieces(capture(tmp_path, [lines()[0], b'{"endpoints":[', *inner, b"{}]}"])) == []


def test_progress_counts_about_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = capture(tmp_path, lines() * 200)
    told: list[int] = []
    read([name], lambda _, size: told.append(size))
    assert 0.5 < sum(told) / Path(name).stat().st_size < 1.5


def test_a_byte_order_mark_costs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = capture(tmp_path, [b"\xef\xbb\xbf" + lines()[0], *lines()[1:]])
    assert len(pieces(name)) == 3
    assert read([name]) == in_one(name, monkeypatch)
    assert read([name]).bad_lines == 0


def messages(*, named: int) -> list[bytes]:
    """Recorded access log messages, of which only each `named`-th says whose proxy sent it."""
    found = []
    for number, line in enumerate((FLOWS / SAMPLES["envoy_als"]).read_bytes().splitlines()):
        message = json.loads(line)
        if number % named:
            del message["identifier"]
        found.append(json.dumps(message).encode())
    return found


@pytest.mark.parametrize(("named", "cut"), [(1000, 0), (5, 3)])
def test_messages_stay_with_the_one_that_names_their_proxy(
    named: int, cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = capture(tmp_path, messages(named=named))
    assert len(pieces(name, sources.source("envoy_als"))) == cut
    assert read([name]) == in_one(name, monkeypatch)


def test_a_part_that_cannot_be_read_costs_only_that_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = capture(tmp_path, lines())
    whole, last = read([name]), pieces(name)[-1]
    opened = Path.open

    class Failing(io.BufferedReader):
        def seek(self, position: int, whence: int = 0, /) -> int:
            if position == last.first:
                raise OSError("input/output error")
            return super().seek(position, whence)

    def failing(path: Path, mode: str = "r", buffering: int = -1) -> Any:
        return Failing(io.FileIO(path)) if buffering > 0 else opened(path, mode, buffering)  # those of the parts

    monkeypatch.setattr(Path, "open", failing)
    reading = read([name])
    assert 0 < reading.patterns.quality.total < whole.patterns.quality.total
    assert [(bad.line, bad.reason) for bad in reading.bad] == [(0, "file broken off or corrupt: input/output error")]
