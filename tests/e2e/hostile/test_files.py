"""Files in every state: empty, packed, torn, wrapped, shuffled, split."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner, Result

from leastway import pipeline
from leastway.cli import cli
from synthesizer.options import Options
from tests.e2e.hostile.scene import Record, Scene, as_lines

WANTED = [("shop/web", "shop/api", 8080), ("shop/api", "shop/db", 5432), ("shop/api", "203.0.113.7", 443)]


def _scene(calls: int = 20) -> Scene:
    s = Scene()
    web, api, db = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/db")
    s.talk(web, api, 8080, times=calls)
    s.talk(api, db, 5432, times=calls)
    s.talk(api, s.world("203.0.113.7"), 443, times=calls)
    s.dns(api, s.pod("kube-system/coredns", {"k8s-app": "kube-dns"}))
    return s


def _generate(folder: Path, data: bytes, *options: str, name: str = "flows.jsonl") -> Result:
    (folder / name).write_bytes(data)
    return CliRunner().invoke(cli, ["generate", str(folder / name), "-o", str(folder / "out"), *options])


def _calm(result: Result) -> None:
    """One line on stderr at most says what is wrong; no traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n\n",
        b"{}",
        b"[]",
        b"{}\n{}\n",
        b"null",
        b'{"flow":{}}',
        b'{"flow":null}',
        bytes(range(256)) * 64,
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00broken",
        b"\x28\xb5\x2f\xfdbroken",
        b"PK\x03\x04" + b"\x00" * 100,
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"flow":' * 50_000,
        b'{"flow":{"source":' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
        b"a" * 3_000_000,
        b'{"flow":{"time":"' + b"x" * 3_000_000 + b'"}}',
        b"---\nkind: Pod\n",
    ],
    ids=lambda d: repr(d[:12]),
)
def test_nothing_usable(tmp_path: Path, data: bytes) -> None:
    """No traceback; exit code 1; nothing written."""
    result = _generate(tmp_path, data)
    _calm(result)
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.yaml"))


def _wrappings(records: list[Record]) -> dict[str, bytes]:
    text = as_lines(records)
    plain = text.encode()
    packed = gzip.compress(plain)
    members = b"".join(gzip.compress(line) for line in plain.splitlines(keepends=True))
    return {
        "plain": plain,
        "bare": as_lines(record["flow"] for record in records).encode(),
        "pretty": "".join(json.dumps(r, indent=2, sort_keys=True) + "\n" for r in records).encode(),
        "pretty-tabs": "".join(json.dumps(r, indent="\t") + "\n\n" for r in records).encode(),
        "pretty-bare": "".join(json.dumps(r["flow"], indent=4) + "\n" for r in records).encode(),
        "array": json.dumps(records).encode(),
        "array-lines": b"[\n" + b",\n".join(json.dumps(r).encode() for r in records) + b"\n]\n",
        "array-pretty": json.dumps(records, indent=1).encode(),
        "bom": b"\xef\xbb\xbf" + plain,
        "crlf": text.replace("\n", "\r\n").encode(),
        "no-last-newline": plain.rstrip(b"\n"),
        "blank-lines": text.replace("\n", "\n\n \n").encode(),
        "gzip": packed,
        "gzip-members": members,
        "zstd": zstandard.ZstdCompressor().compress(plain),
        "zstd-frames": b"".join(zstandard.ZstdCompressor().compress(p) for p in plain.splitlines(keepends=True)),
        "fluent-bit": "".join(
            json.dumps({"log": json.dumps(r) + "\n", "stream": "stdout"}) + "\n" for r in records
        ).encode(),
        "loki-line": "".join(json.dumps({"line": json.dumps(r), "timestamp": "1"}) + "\n" for r in records).encode(),
        "spaces": "".join(json.dumps(r, separators=(" , ", " : ")) + "\n" for r in records).encode(),
        "kubelet-prefix": "".join(f"2026-03-02T08:00:00.0Z stdout F {json.dumps(r)}\n" for r in records).encode(),
    }


@pytest.mark.parametrize("form", sorted(_wrappings([])))
def test_every_wrapping_gives_the_same_yaml(tmp_path: Path, form: str) -> None:
    """However the records are packed and laid out."""
    s = _scene()
    plain = s.run(tmp_path)
    path = tmp_path / "wrapped"
    path.write_bytes(_wrappings(s.records)[form])
    out = s.run_files([path], tmp_path)
    assert out.wrong(WANTED) == []
    assert out.result.reading.bad_lines == 0, out.result.reading.bad[:3]
    assert out.yaml == plain.yaml


def test_truncated_gzip_keeps_what_was_readable(tmp_path: Path) -> None:
    """The part before the break counts; the break is told."""
    s = _scene(calls=200)
    data = gzip.compress(as_lines(s.records).encode())
    path = tmp_path / "torn.gz"
    path.write_bytes(data[: len(data) * 3 // 4])
    out = s.run_files([path], tmp_path)
    assert out.ask("shop/web", "shop/api", 8080) == "allow"
    assert out.result.reading.bad_lines == 1
    result = _generate(tmp_path, data[: len(data) * 3 // 4])
    _calm(result)


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_bad_lines_are_counted_and_located(tmp_path: Path, share: float) -> None:
    """1 % is told, 50 % makes the exit code 1, and the policies are written in both cases."""
    s = _scene(calls=60)
    lines = as_lines(s.records).splitlines()
    step = 101 if share == 0.01 else 1
    torn: list[str] = []
    for number, line in enumerate(lines):
        torn.append(line)
        if number % step == step - 1:
            torn.append(["not json", line[: len(line) // 2], '{"flow":[1]}', '{"flow":{"l4":7}}'][number % 4])
    text = "\n".join(torn) + "\n"
    out = s.run(tmp_path, text=text)
    assert out.wrong(WANTED) == []
    assert out.result.reading.bad_lines == len(torn) - len(lines)
    result = _generate(tmp_path, text.encode())
    _calm(result)
    assert result.exit_code == (1 if share == 0.5 else 0)
    assert list((tmp_path / "out").rglob("*.yaml"))


def test_a_broken_record_does_not_swallow_its_neighbours(tmp_path: Path) -> None:
    """A line that is cut off in the middle of an object, followed by good ones."""
    s = _scene()
    lines = as_lines(s.records).splitlines()
    lines[3] = lines[3][:100]
    lines[-1] = lines[-1][:50]
    out = s.run(tmp_path, text="\n".join(lines) + "\n")
    assert out.wrong(WANTED) == []
    assert out.result.reading.bad_lines == 2


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-02T08:00:00",
        "2026-03-02T08:00:00+02:00",
        "2026-03-02 08:00:00",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "0000-00-00T00:00:00Z",
        "2026-13-45T99:99:99Z",
        "",
        "yesterday",
        "\u0662\u0660\u0662\u0666-03-02T08:00:00Z",
        None,
        1772438400,
        {"seconds": 1},
    ],
    ids=ascii,
)
def test_odd_times_cost_no_connection(tmp_path: Path, time: object) -> None:
    """Time is evidence, never a condition; a wrong type may cost the record and nothing else."""
    s = _scene()
    for record in s.records[::7]:
        record["flow"]["time"] = record["time"] = time
    out = s.run(tmp_path)
    assert out.wrong(WANTED, closed=False) == []


def test_a_capture_without_times_keeps_its_edges(tmp_path: Path) -> None:
    """A capture without any time still has its edges."""
    s = _scene()
    for record in s.records:
        del record["flow"]["time"], record["time"]
    out = s.run(tmp_path)
    assert out.wrong(WANTED) == []


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
def test_order_and_splitting_change_no_byte(tmp_path: Path, inventory: bool) -> None:
    """Shuffled, reversed, split over files, files in any order: every output file is the same."""
    s = _hostile_mixture()
    reference = s.run(tmp_path, inventory=inventory).result.files
    for seed in range(4):
        shuffled = s.records[:]
        random.Random(seed).shuffle(shuffled)
        folder = tmp_path / f"split-{seed}"
        folder.mkdir()
        parts = [folder / f"{name}.jsonl" for name in "dbca"[: seed + 1]]
        for number, part in enumerate(parts):
            part.write_text(as_lines(shuffled[number :: len(parts)]))
        out = s.run_files(parts, folder, inventory=inventory)
        assert set(out.result.files) == set(reference)
        different = [name for name, text in out.result.files.items() if text != reference[name]]
        assert different == [], (seed, different)


def _hostile_mixture() -> Scene:
    """Everything that keeps bounded sets: scans, many addresses, forged names, open directions."""
    s = _scene()
    web, api, db = s.ends[:3]
    evil = s.pod("shop/evil")
    for port in range(1, 400, 3):
        s.talk(evil, api, port, times=1, replies=port % 50 == 1)
    for number in range(300):
        s.talk(web, s.world(f"{30 + number % 60}.7.{number % 9}.{number % 251}"), 443, times=1)
        s.talk(s.world(f"203.0.{number % 113}.{number % 251}"), web, 8443, times=1)
    for number in range(60):
        s.packet(db, web, 5432, 33_000 + number * 5, flags="ACK", reply=False)
        s.packet(api, db, 47_000 + number, 39_000, flags="ACK", reply=None)
    s.drop(evil, db, 5432)
    for number in range(30):
        s.http(web, api, 8080, "GET", f"/items/{number}?q={number}")
    return s


def test_a_capture_given_twice_changes_nothing_but_counts(tmp_path: Path) -> None:
    """Two relays, two overlapping files: the YAML is the same."""
    s = _scene()
    once = s.run(tmp_path)
    path = tmp_path / "flows.jsonl"
    twice = s.run_files([path, path], tmp_path)
    assert twice.yaml == once.yaml


def test_mixed_formats_in_one_folder(tmp_path: Path) -> None:
    """Hubble flows beside a README, an empty file and something unknown: the flows count, the rest is told."""
    s = _scene()
    folder = tmp_path / "captures"
    folder.mkdir()
    (folder / "flows.jsonl").write_text(as_lines(s.records))
    (folder / "empty.jsonl").write_text("")
    (folder / "README.md").write_text("# not a capture\n")
    (folder / "notes.bin").write_bytes(bytes(range(256)))
    run = pipeline.generate([str(folder)], [], Options())
    assert run.reading.patterns.quality.total == len(s.records)
    assert run.reading.bad_lines == 1


def test_records_of_other_kinds_first(tmp_path: Path) -> None:
    """A file that begins with lost events, node status and bad lines is still recognised."""
    s = _scene()
    first = [
        json.dumps({"lost_events": {"source": "PERF_EVENT_RING_BUFFER", "num_events_lost": "7"}}),
        json.dumps({"node_status": {"state_change": "NODE_CONNECTED", "node_names": ["n"]}}),
        json.dumps({"agent_event": {"type": "AGENT_STARTED"}}),
        "",
        "level=info msg=starting",
        "{}",
    ]
    for rotated in range(len(first)):
        order = first[rotated:] + first[:rotated]
        out = s.run(tmp_path, text="\n".join(order) + "\n" + as_lines(s.records))
        assert out.wrong(WANTED) == [], order[0]
