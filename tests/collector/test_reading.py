"""From files to records: packing, layout and damage of captures, and what the reader of a report is told of them."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace

import fsspec
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from collector import reading, records, store
from collector.errors import SourceError
from collector.patterns import Patterns
from collector.reading import BadLine, Reading, read

RECORDS = [
    {
        "flow": {
            "time": f"2026-03-02T08:00:{number:02}Z",
            "uuid": f"id-{number}",
            "verdict": "FORWARDED",
            "l4": {"TCP": {"source_port": 41000 + number, "destination_port": 8080, "flags": {"SYN": True}}},
            "source": {"namespace": "shop", "pod_name": "web-0", "labels": ["k8s:app=web", "k8s:tier={[front"]},
            "destination": {"namespace": "shop", "pod_name": "api-0", "labels": ["k8s:app=api"]},
            "event_type": {"type": 4},
            "is_reply": False,
        }
    }
    for number in range(4)
]
LINES = [json.dumps(record).encode() for record in RECORDS]
PRETTY = [json.dumps(record, indent=2).encode() for record in RECORDS]
PLAIN = b"\n".join(LINES) + b"\n"
ISTIO = b'{"start_time":"2026-03-02T08:00:00Z","method":"GET","path":"/","response_code":200,"upstream_cluster":"x"}\n'
BOM = b"\xef\xbb\xbf"


def capture(folder: Path, data: bytes, name: str = "capture") -> str:
    """A file with this content; its name says nothing."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def flows(of: Reading) -> int:
    return of.patterns.quality.total


def plain(folder: Path) -> Patterns:
    """The patterns of the capture as it is."""
    found = read([capture(folder, PLAIN, "plain")])
    assert flows(found) == len(RECORDS)
    return found.patterns


# -- packing and layout ----------------------------------------------------------------------------------------------


def squeezed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def pretty(indent: int | str) -> bytes:
    return b"\n".join(json.dumps(record, indent=indent).encode() for record in RECORDS) + b"\n"


FORMS = {
    "gzip": gzip.compress(PLAIN),
    "gzip of several members": b"".join(gzip.compress(line + b"\n") for line in LINES),
    "zstd": squeezed(PLAIN),
    "zstd of several frames": b"".join(squeezed(line + b"\n") for line in LINES),
    "gzip with padding": gzip.compress(PLAIN) + bytes(700),
    "records across gzip members": gzip.compress(PLAIN[:300]) + gzip.compress(b"") + gzip.compress(PLAIN[300:]),
    "records across zstd frames": squeezed(PLAIN[:300]) + squeezed(PLAIN[300:]),
    "zstd after a frame to be skipped": b"\x50\x2a\x4d\x18\x04\0\0\0size" + squeezed(PLAIN),  # as pzstd writes it
    "zstd before a frame to be skipped": squeezed(PLAIN) + b"\x5e\x2a\x4d\x18\x02\0\0\0ok",  # a table to seek by
    "CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "byte order mark": BOM + PLAIN,
    "byte order mark in gzip": gzip.compress(BOM + PLAIN),
    "UTF-16, as PowerShell writes it": b"\xff\xfe" + PLAIN.replace(b"\n", b"\r\n").decode().encode("utf-16-le"),
    "UTF-16, the other way round, packed": gzip.compress(b"\xfe\xff" + PLAIN.decode().encode("utf-16-be")),
    "no last newline": PLAIN.rstrip(),
    "blank lines": PLAIN.replace(b"\n", b"\n\n \t\n"),
    "indented lines": PLAIN.replace(b"{", b"  {", 1),
    "zero bytes in front, of a file truncated under its writer": bytes(300_000) + PLAIN,
    "zero bytes within and behind": PLAIN.replace(b"\n", bytes(9) + b"\n" + bytes(9)),
    "JSON text sequence": b"".join(b"\x1e" + line + b"\n" for line in LINES),
    "JSON text sequence, pretty": b"".join(b"\x1e" + record + b"\n" for record in PRETTY),
    "comments": b"# one\n" + PLAIN.replace(b"\n", b"\n// two\n# three\n"),
    "pretty": pretty(2),
    "pretty with tabs": pretty("\t"),
    "pretty without indentation": pretty(0),
    "pretty and CRLF": pretty(2).replace(b"\n", b"\r\n"),
    "pretty with blank lines and comments": pretty(4).replace(b"}\n", b"}\n\n# and\n"),
    "pretty values among lines": b"\n".join([LINES[0], PRETTY[1], LINES[2], PRETTY[3]]),
    "array": json.dumps(RECORDS).encode(),
    "array on two lines": b"[" + b",".join(LINES[:2]) + b",\n" + b",".join(LINES[2:]) + b"]",
    "array of lines": b"[\n" + b",\n".join(LINES) + b"\n]\n",
    "array of lines, commas first": b"[\n" + b"\n,\n".join(LINES) + b"\n]\n",
    "array that begins on its bracket's line": b"[" + b",\n".join(LINES) + b"]\n",
    "pretty array": json.dumps(RECORDS, indent=1).encode(),
    "array of pretty values": b"[" + b",\n".join(PRETTY) + b"]\n",
    "two arrays": b"".join(json.dumps(half).encode() + b"\n" for half in (RECORDS[:1], RECORDS[1:])),
    "fluent bit": b"".join(json.dumps({"log": line.decode() + "\n"}).encode() + b"\n" for line in LINES),
    "loki": b"".join(json.dumps({"line": line.decode(), "timestamp": "1"}).encode() + b"\n" for line in LINES),
    "vector": b"".join(json.dumps({"message": line.decode()}).encode() + b"\n" for line in LINES),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_records_in_any_form_give_the_same_patterns(form: str, tmp_path: Path) -> None:
    found = read([capture(tmp_path, FORMS[form])])
    assert found.bad == []
    assert found.patterns == plain(tmp_path)
    assert list(found.formats.values()) == ["hubble_json"]


@pytest.mark.parametrize("rest", [b"\x00", b"\x00\xd8", b"\xff\xfe\xff\xfe"])
def test_utf_16_that_breaks_off_costs_one_line(rest: bytes, tmp_path: Path) -> None:
    found = read([capture(tmp_path, b"\xff\xfe" + PLAIN.decode().encode("utf-16-le") + rest)])
    assert flows(found) == len(RECORDS)
    assert [bad.line for bad in found.bad] == [len(LINES) + 1]


def test_a_log_line_in_brackets_is_no_array(tmp_path: Path) -> None:
    """Envoy's default text format begins with one."""
    line = (
        '[2026-03-02T08:00:00.000Z] "GET /items HTTP/1.1" 200 - via_upstream - "-" 0 5 3 2 "-" "curl" "id" "api:8080" '
        '"10.0.0.2:8080" inbound|8080|| 127.0.0.6:40000 10.0.0.2:8080 10.0.0.1:50000 - default\n'
    )
    found = read([capture(tmp_path, line.encode() * 2)])
    assert (list(found.formats.values()), flows(found), found.bad) == (["istio_text"], 2, [])


def test_the_first_record_that_is_known_tells_the_format(tmp_path: Path) -> None:
    """What comes before it is read by the same source, and counted there."""
    found = read([capture(tmp_path, b"level=info msg=starting\n{}\n" + PLAIN)])
    assert list(found.formats.values()) == ["hubble_json"]
    assert (flows(found), [bad.line for bad in found.bad]) == (4, [1, 2])


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 2, 30, 100, 300, -1, -2])
@pytest.mark.parametrize("good", [LINES[1], PRETTY[1]], ids=["line", "pretty"])
@pytest.mark.parametrize("broken", [LINES[0], PRETTY[0]], ids=["line", "pretty"])
def test_a_broken_record_does_not_take_the_next_one_with_it(
    broken: bytes, good: bytes, cut: int, tmp_path: Path
) -> None:
    """A writer that was killed in the middle, and started again."""
    found = read([capture(tmp_path, b"\n".join([LINES[3], broken[:cut], good, LINES[2]]) + b"\n")])
    assert found.patterns.quality.total == 3
    assert [bad.line for bad in found.bad] == [2]


def test_many_broken_records_in_a_row_are_one_bad_line_each(tmp_path: Path) -> None:
    found = read([capture(tmp_path, LINES[0] + b"\n" + b'{"flow":{"a":[\n' * 5000 + LINES[1])])
    assert flows(found) == 2
    assert found.bad_lines in (1, 5000)


def test_an_array_that_was_broken_off_keeps_its_records(tmp_path: Path) -> None:
    found = read([capture(tmp_path, json.dumps(RECORDS, indent=1).encode()[:-30])])
    assert (flows(found), found.bad_lines) == (3, 1)


@pytest.mark.parametrize("pack", [gzip.compress, squeezed], ids=["gzip", "zstd"])
def test_a_packed_file_that_was_broken_off_keeps_what_came_before(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """The break is told, in a small file as in one of many blocks."""
    numbers = Random(1)
    noise = b"".join(b'{"agent_event":{"n":"%x"}}\n' % numbers.getrandbits(200) for _ in range(30_000))
    packed = pack(PLAIN + noise)
    found = read([name := capture(tmp_path, packed[: len(packed) // 2])])
    assert flows(found) == 4
    assert sum(count for _, count in found.patterns.quality.skipped.items()) > 10_000
    (bad,) = (bad for bad in found.bad if bad.line == 0)
    assert bad.file == name
    assert bad.reason.startswith("file broken off or corrupt")
    assert "file broken off or corrupt" in list(found.patterns.quality.bad)
    assert found.formats == {name: "hubble_json"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00broken",
        FORMS["gzip"][:20],
        FORMS["gzip"][:12] + b"\xff" * 40,
        FORMS["gzip"][:-8] + bytes(8),
        FORMS["gzip"] + b"garbage",
        b"\x28\xb5\x2f\xfdbroken",
        FORMS["zstd"][:20],
        FORMS["zstd"][:12] + b"\xff" * 40,
    ],
)
def test_a_packed_file_that_cannot_be_unpacked_is_one_bad_line(data: bytes, tmp_path: Path) -> None:
    good = capture(tmp_path, PLAIN, "good")
    found = read([capture(tmp_path, data, "bad"), good])
    assert flows(found) >= 4
    assert [bad.line for bad in found.bad] == [0]
    assert found.bad[0].reason.startswith("file broken off or corrupt")


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_garbage_behind_packed_data_costs_none_of_it(form: str, tmp_path: Path) -> None:
    found = read([capture(tmp_path, FORMS[form] + b"garbage")])
    assert (flows(found), [bad.line for bad in found.bad]) == (len(RECORDS), [0])


@pytest.mark.parametrize("ends", [b"", b"}"], ids=["open", "closed"])
def test_sixteen_mebibytes_of_garbage_cost_one_record(ends: bytes, tmp_path: Path) -> None:
    garbage = b'{"' + b"x" * records.RECORD + ends
    found = read([capture(tmp_path, b"\n".join([LINES[0], garbage, LINES[1], LINES[2]]))])
    assert flows(found) == 3
    assert [bad.line for bad in found.bad] == [2]


def test_a_record_over_endless_lines_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RECORD", 1000)
    found_records = records.records(iter([(1, b"{"), *((number, b'  "a": {') for number in range(2, 5000))]))
    assert len(next(found_records)[1]) < 1200
    found = read([capture(tmp_path, LINES[0] + b"\n{\n" + b' "a":\n' * 500 + LINES[1] + b"\n" + LINES[2])])
    assert flows(found) == 3
    assert found.bad_lines > 0


@given(
    st.lists(
        st.sampled_from([*LINES, *PRETTY, b"{", b"}", b"[", b"]", b"],", b",", b'"', b"# x", b"\\", b""]), max_size=12
    )
)
def test_any_sequence_of_pieces_is_read_to_its_end(pieces: list[bytes]) -> None:
    """No piece is made up, and every whole line that follows a bracket or a broken value is still found."""
    found = [bytes(record) for _, record in records.records(iter(enumerate(pieces, 1)))]
    given_lines = [piece for piece in pieces if piece in LINES]
    assert [record for record in found if record in LINES] == given_lines


# -- files, folders, streams -----------------------------------------------------------------------------------------


def test_folders_are_read_to_their_depth_without_hidden_files_and_notes(tmp_path: Path) -> None:
    capture(tmp_path, LINES[0], "captures/b.jsonl")
    capture(tmp_path, FORMS["gzip"], "captures/deep/er/a.whatever")
    for name in ("README.md", "readme", "LICENSE", ".hidden", "deep/.ds", ".git/HEAD", "deep/.git/logs/HEAD"):
        capture(tmp_path, b"not a capture", f"captures/{name}")
    found = read([str(tmp_path / "captures")])
    assert flows(found) == 5
    assert list(found.formats) == [str(tmp_path / "captures" / name) for name in ("b.jsonl", "deep/er/a.whatever")]


def test_files_of_several_formats_add_up_in_any_order(tmp_path: Path) -> None:
    names = [capture(tmp_path, data, name) for name, data in (("a", PLAIN), ("b", ISTIO), ("c", FORMS["pretty"]))]
    forward, backward = read(names), read(names[::-1])
    assert forward.patterns == backward.patterns
    assert forward.formats == dict(zip(names, ("hubble_json", "istio_json", "hubble_json"), strict=True))


def test_a_pattern_store_is_an_input_like_others(tmp_path: Path) -> None:
    store.save(plain(tmp_path), str(tmp_path / "store"))
    found = read([str(tmp_path / "store")])
    assert found.formats == {str(tmp_path / "store"): "pattern store"}
    assert found.patterns == plain(tmp_path)


@pytest.mark.parametrize("data", [PLAIN, FORMS["gzip"], FORMS["zstd"]], ids=["plain", "gzip", "zstd"])
def test_standard_input_is_read_like_a_file(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    found = read(["-"])
    assert found.patterns == plain(tmp_path)
    assert found.formats == {"-": "hubble_json"}


def test_urls_of_files_and_folders(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/captures/a.jsonl", PLAIN)
    memory.pipe("/captures/more/b.gz", FORMS["gzip"])
    one, both = read(["memory://captures/a.jsonl"]), read(["memory://captures"])
    assert one.patterns == plain(tmp_path)
    assert flows(both) == 8
    assert all(name.startswith("memory://") for name in both.formats)


@pytest.mark.parametrize("data", [b"", b"\n\n \n", b"# only\n// comments\n", b"[]", b"[\n]\n", gzip.compress(b"")])
def test_an_empty_file_is_told_and_no_error(data: bytes, tmp_path: Path) -> None:
    found = read([name := capture(tmp_path, data)])
    assert (found.formats, found.bad, flows(found)) == ({name: "empty"}, [], 0)


@pytest.mark.parametrize(
    "data", [b"hello\nworld\n", b"PK\x03\x04" + bytes(100), b'{"a":1}', b"a" * 300_000, b"x\n" * 1500]
)
def test_a_file_of_unknown_format_is_one_bad_line_for_the_whole(data: bytes, tmp_path: Path) -> None:
    found = read([name := capture(tmp_path, data)])
    assert found.formats == {name: "unknown"}
    assert [(bad.file, bad.line, bad.reason.partition(",")[0]) for bad in found.bad] == [
        (name, 1, "file in no known format")
    ]
    assert dict(found.patterns.quality.bad.items()) == {"file in no known format": 1}


def test_hubbles_text_for_people_is_told_apart(tmp_path: Path) -> None:
    line = (
        b"Nov 24 08:00:00.123: shop/web:41000 (ID:7) -> shop/api:8080 (ID:9) to-endpoint FORWARDED (TCP Flags: SYN)\n"
    )
    (bad,) = read([capture(tmp_path, line * 3)]).bad
    assert (bad.line, bad.reason.rpartition("; ")[2]) == (1, "hubble observe -o jsonpb writes what can be read")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/nowhere/flows.jsonl", "no such file or folder — /nowhere/flows.jsonl — check the path"),
        ("memory://nowhere/flows.jsonl", "no such file or folder — memory://nowhere/flows.jsonl — check the path"),
        ("nonsense://flows", "check the URL, the credentials for it and its fsspec driver"),
        ("a\x00b", "no such file or folder"),
    ],
)
def test_an_input_that_is_not_there(name: str, says: str) -> None:
    with pytest.raises(SourceError) as failed:
        read([name])
    assert says in str(failed.value)


class _Refused(Exception):
    """An error of a driver's own, as botocore's NoCredentialsError."""


class _Far(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose driver fails in one way: "look", "open" or "read"."""

    protocol = "far"
    fails = ""

    def _step(self, name: str) -> None:
        if self.fails == name:
            raise _Refused("Unable to locate\ncredentials")

    def isdir(self, *_: object) -> bool:
        self._step("look")
        return False

    def exists(self, path: str, **_: object) -> bool:
        return path.endswith(".jsonl")

    def open(self, *_: object, **__: object) -> io.RawIOBase:
        self._step("open")
        driver, text = self, io.BytesIO(PLAIN)

        class File(io.RawIOBase):
            def read(self, size: int = -1, /) -> bytes:
                if not (data := text.read(size)):
                    driver._step("read")
                return data

        return File()


@pytest.mark.parametrize(
    ("fails", "says", "kept"), [("look", "cannot be opened", 0), ("open", "", 0), ("read", "", len(RECORDS))]
)
def test_a_drivers_own_errors_are_told_like_any_others(
    fails: str, says: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("far", _Far, clobber=True)
    monkeypatch.setattr(_Far, "fails", fails)
    if says:
        with pytest.raises(SourceError, match=f"{says}: Unable to locate credentials — far://store/a.jsonl"):
            read(["far://store/a.jsonl"])
        return
    found = read(["far://store/a.jsonl"])
    why = "file broken off or corrupt: Unable to locate credentials"
    assert found.bad == [BadLine("far://store/a.jsonl", 0, why)]
    assert found.patterns.quality.total == kept


@pytest.mark.usefixtures("locked")
def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    capture(tmp_path, PLAIN, "captures/a.jsonl")
    capture(tmp_path, PLAIN, "captures/locked/b.jsonl")
    with pytest.raises(SourceError, match=r"cannot be read: Permission denied — .*/locked — check the path"):
        read([str(tmp_path / "captures")])


def test_what_cannot_even_be_looked_at_is_told(tmp_path: Path) -> None:
    name = "a" * 300
    with pytest.raises(SourceError, match=r"File name too long — .*aaa — check the path|no such file"):
        read([str(tmp_path / name)])


def test_what_leastway_wrote_is_passed_over(tmp_path: Path) -> None:
    capture(tmp_path, PLAIN, "captures/a.jsonl")
    capture(tmp_path, LINES[0], "captures/policies/flows.jsonl")
    for name in ("leastway.json", "REVIEW.md", "shop/networkpolicy-web.yaml", "shop/kustomization.yaml"):
        capture(tmp_path, b"{}", f"captures/policies/{name}")
    found = read([str(tmp_path / "captures")])
    assert [Path(name).name for name in found.formats] == ["a.jsonl", "flows.jsonl"]
    capture(tmp_path, b"kind: Pod", "captures/pod.yaml")
    assert read([str(tmp_path / "captures")]).bad_lines == 1


def test_a_folder_without_captures(tmp_path: Path) -> None:
    capture(tmp_path, b"", "README.md")
    with pytest.raises(SourceError, match=r"the folder holds no files — .* — give the folder that holds the captures"):
        read([str(tmp_path)])


# -- what is told ----------------------------------------------------------------------------------------------------


def test_bad_lines_have_position_reason_and_share(tmp_path: Path) -> None:
    name = capture(tmp_path, b"\n".join([LINES[0], b"", b"broken", PRETTY[1], b'{"flow":[1]}', LINES[2], LINES[3]]))
    found = read([name])
    after = 4 + PRETTY[1].count(b"\n") + 1
    assert [(bad.file, bad.line) for bad in found.bad] == [(name, 3), (name, after)]
    assert all(bad.reason.startswith("not a Hubble flow: ") for bad in found.bad)
    assert found.bad_lines == 2
    assert found.bad_share == pytest.approx(2 / 6)


def test_records_that_are_no_connections_count_for_the_share(tmp_path: Path) -> None:
    found = read([capture(tmp_path, PLAIN + b'{"agent_event":{}}\n' * 5 + b"broken\n")])
    assert found.bad_share == pytest.approx(1 / 10)


def test_the_share_of_nothing_is_nothing() -> None:
    assert read([]).bad_share == 0


def test_positions_are_kept_for_the_first_bad_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHOWN", 3)
    found = read([capture(tmp_path, PLAIN + b"broken\n" * 10)])
    assert [bad.line for bad in found.bad] == [5, 6, 7]
    assert found.bad_lines == 10


@pytest.mark.parametrize("form", ["gzip", "zstd", "pretty"])
def test_progress_adds_up_to_the_size_on_disk(form: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    report: Callable[[str, int], None] = lambda file, size: seen.append((file, size))  # noqa: E731  # a callback
    name = capture(tmp_path, FORMS[form])
    read([name], report)
    assert {file for file, _ in seen} == {name}
    assert sum(size for _, size in seen) == len(FORMS[form])
