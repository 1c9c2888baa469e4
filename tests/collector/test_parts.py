"""A file read by several processes is read as by one."""

from __future__ import annotations

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


def test_a_message_that_leans_on_an_earlier_one_begins_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy names itself in the first message of a stream only (access_log_service, StreamAccessLogsMessage)."""
    messages = [json.loads(line) for line in (FLOWS / SAMPLES["envoy_als"]).read_bytes().splitlines() * 3]
    own = messages[0].pop("identifier")
    nameless = [{key: value for key, value in message.items() if key != "identifier"} for message in messages]
    name = capture(tmp_path, [json.dumps(message).encode() for message in [{"identifier": own}, *nameless]])
    assert read([name]) == in_one(name, monkeypatch)
    assert pieces(name, sources.source("envoy_als")) == []


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
