"""Files that hold more than one kind of line: a second format is told, an application's own log is passed over."""

from __future__ import annotations

import gzip
from itertools import permutations
from pathlib import Path

import pytest

from collector.reading import read

SAMPLES = Path(__file__).parents[2] / "sample_flows"
FORMATS = {
    "hubble_json": "online-boutique/flows.jsonl.gz",
    "istio_json": "bookinfo/access-log.jsonl",
    "istio_text": "",
    "ztunnel in JSON": "ambient/ztunnel-node-2.jsonl",
    "ztunnel in text": "ambient/ztunnel-node-1.log",
    "envoy_als": "path-ids/als.jsonl",
}
TEXT = (
    b'[2026-03-02T08:00:00.000Z] "GET / HTTP/1.1" 200 - via_upstream - "-" 0 1 2 1 "-" "-" "-" "-" "10.0.0.1:80" '
    b"inbound|80|| 127.0.0.6:1 10.0.0.1:80 10.0.0.2:4000 - default"
)


def sample(form: str) -> bytes:
    """The first line of a sample in a format."""
    if not FORMATS[form]:
        return TEXT
    data = (SAMPLES / FORMATS[form]).read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).splitlines()[0]


def capture(folder: Path, *lines: bytes) -> str:
    """A file of these lines."""
    path = folder / "capture"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


@pytest.mark.parametrize(("first", "second"), [pair for pair in permutations(FORMATS, 2) if pair[0][:3] != pair[1][:3]])
def test_a_second_format_in_one_file_is_not_passed_over(first: str, second: str, tmp_path: Path) -> None:
    """It would be read in a file of its own."""
    found = read([capture(tmp_path, sample(first), sample(second))])
    assert (next(iter(found.formats.values())), [bad.line for bad in found.bad]) == (first.partition(" ")[0], [2])


@pytest.mark.parametrize("line", [b'{"flow":"checkout"}', b'{"time":"08:00","source":"a","destination":"b"}'])
def test_what_an_application_logs_between_entries_is_no_second_format(line: bytes, tmp_path: Path) -> None:
    """Its keys may be those of Hubble, but their values are no objects."""
    found = read([capture(tmp_path, sample("istio_json"), line)])
    assert found.bad_lines == 0
    assert found.patterns.quality.skipped.kept == {"JSON that is no access log entry": 1}
