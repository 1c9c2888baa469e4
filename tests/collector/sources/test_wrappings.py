"""Lines in what log tools put around them count like the lines themselves, in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.patterns import Patterns
from collector.reading import Reading, read
from collector.records import several
from collector.sources import wrappings
from tests.e2e.hostile.logs import envoy, ztunnel
from tests.e2e.hostile.scene import Scene

S = Scene()
WEB, API = S.pod("shop/web"), S.pod("shop/api")
TEXT = (
    '[2026-03-02T08:00:02.404Z] "GET /items HTTP/1.1" 200 - via_upstream - "-" 0 48 3 2 "-" "curl" "id-1" "api:8080" '
    f'"{API.ip}:8080" inbound|8080|| 127.0.0.6:1 {API.ip}:8080 {WEB.ip}:41000 '
    "outbound_.8080_._.api.shop.svc.cluster.local default"
)
ZTUNNEL = {
    "level": "info",
    "time": "2026-03-02T08:00:04.396760Z",
    "scope": "access",
    "message": "connection complete",
    "src.addr": f"{WEB.ip}:58866",
    "src.workload": WEB.pod,
    "src.namespace": "shop",
    "dst.addr": f"{API.ip}:15008",
    "dst.hbone_addr": f"{API.ip}:8080",
    "dst.workload": API.pod,
    "dst.namespace": "shop",
    "direction": "inbound",
    "bytes_sent": 853,
    "bytes_recv": 84,
}
FORMATS = {
    "hubble_json": json.dumps(S.packet(WEB, API, 41000, 8080, flags="SYN")),
    "istio_json": json.dumps(envoy(WEB, API, 8080)),
    "istio_text": TEXT,
    "ztunnel text": ztunnel(WEB, API, 8080).rstrip(),
    "ztunnel JSON": json.dumps(ZTUNNEL),
}
STAMP = "2026-03-02T08:00:03.123456789Z"
KUBERNETES = {"pod_name": "api-x", "namespace_name": "shop", "container_name": "istio-proxy"}


def envelope(line: str, **more: object) -> str:
    return json.dumps({"log": json.loads(line) if line[0] == "{" else line, **more})


WRAPPED: dict[str, Callable[[str], str]] = {
    "kubectl --prefix": lambda line: f"[pod/api-7d9f/istio-proxy] {line}",
    "kubectl --prefix --timestamps": lambda line: f"[pod/api-7d9f/istio-proxy] {STAMP} {line}",
    "kubectl --timestamps": lambda line: f"{STAMP} {line}",
    "kubectl --timestamps elsewhere": lambda line: f"2026-03-02T09:00:03+01:00 {line}",
    "stern": lambda line: f"api-7d9f istio-proxy {line}",
    "stern of all namespaces": lambda line: f"shop api-7d9f istio-proxy {line}",
    "stern in color": lambda line: f"\x1b[38;5;1mapi-7d9f\x1b[0m \x1b[32mistio-proxy\x1b[0m {line}",
    "kubetail": lambda line: f"[api-7d9f istio-proxy] {line}",
    "CRI": lambda line: f"{STAMP} stdout F {line}",
    "CRI elsewhere": lambda line: f"2026-03-02T09:00:03.123456789+01:00 stdout F {line}",
    "Docker": lambda line: json.dumps({"log": f"{line}\n", "stream": "stdout", "time": STAMP}),
    "fluent-bit": lambda line: json.dumps({"log": line, "stream": "stdout", "kubernetes": KUBERNETES}),
    "fluent-bit, parsed": lambda line: envelope(line, kubernetes=KUBERNETES),
    "fluent-bit of a CRI file": lambda line: json.dumps({"log": f"{STAMP} stdout F {line}", "kubernetes": KUBERNETES}),
    "Loki": lambda line: json.dumps({"line": line, "timestamp": "1772438403", "labels": {"app": "api"}}),
    "Filebeat": lambda line: json.dumps({"message": line, "kubernetes": {"container": {"name": "istio-proxy"}}}),
}


def told(patterns: Patterns) -> list[tuple[int, dict[str, int]]]:
    """Ports and the records that each signal had."""
    return [(port, evidence.signals) for _, edge in patterns.sorted_edges() for port, evidence in edge.ports()]


def reading(folder: Path, *lines: str) -> Reading:
    file = folder / "capture.log"
    file.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return read([str(file)])


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("form", FORMATS)
def test_a_wrapped_line_counts_like_the_line(tmp_path: Path, form: str, wrap: Callable[[str], str]) -> None:
    plain, wrapped = reading(tmp_path, *[FORMATS[form]] * 2), reading(tmp_path, *[wrap(FORMATS[form])] * 2)
    assert told(plain.patterns)
    assert wrapped.bad == []
    assert wrapped.patterns == plain.patterns
    assert list(wrapped.formats.values()) == [form.partition(" ")[0]]


@pytest.mark.parametrize("form", FORMATS)
def test_lines_of_other_containers_are_skipped_and_told(tmp_path: Path, form: str) -> None:
    """`kubectl logs --all-containers --prefix`: the application's own lines are no damage."""
    lines = ["[pod/api-7d9f/app] started", f"[pod/api-7d9f/istio-proxy] {FORMATS[form]}", "[pod/api-7d9f/app] {}"]
    found = reading(tmp_path, *lines)
    assert told(found.patterns) == told(reading(tmp_path, FORMATS[form]).patterns)
    assert found.bad == []
    assert dict(found.patterns.quality.skipped.items())[wrappings.OTHERS] == 2


def test_what_is_damaged_or_not_wrapped_is_told_with_its_line(tmp_path: Path) -> None:
    wrap, line = WRAPPED["kubectl --prefix"], FORMATS["istio_json"]
    found = reading(tmp_path, wrap(line), "an application's own words", wrap(line[:40]), line, wrap(line))
    assert [bad.line for bad in found.bad] == [2, 3]
    assert told(found.patterns) == told(reading(tmp_path, *[line] * 3).patterns)


@pytest.mark.parametrize("form", ["istio_json", "istio_text"])
def test_an_applications_own_lines_among_a_logs_are_bad_lines(tmp_path: Path, form: str) -> None:
    line = FORMATS[form]
    found = reading(tmp_path, "listening on 8080", line, '{"msg":"hello"}', line, "bye")
    assert {bad.line for bad in found.bad} <= {1, 3, 5}
    assert {1, 5} <= {bad.line for bad in found.bad}
    assert told(found.patterns) == told(reading(tmp_path, line, line).patterns)


@pytest.mark.parametrize("size", [10, 100])
def test_parts_of_a_line_are_put_together(tmp_path: Path, size: int) -> None:
    """The runtime cuts a line at 16 KiB; the parts of two containers' lines may alternate."""
    line = FORMATS["istio_json"]
    cut = [line[start : start + size] for start in range(0, len(line), size)]
    cri, here = (
        [f"{time} stdout P {piece}" for piece in cut[:-1]] + [f"{time} stdout F {cut[-1]}"]
        for time in ("2026-03-02T09:00:03.1+01:00", STAMP)
    )
    docker = [json.dumps({"log": piece, "stream": "stdout", "time": STAMP}) for piece in (*cut[:-1], f"{cut[-1]}\n")]
    for wrap, lines in (("CRI elsewhere", cri), ("CRI", here), ("Docker", docker)):
        found = reading(tmp_path, WRAPPED[wrap](line), *lines, WRAPPED[wrap](line), lines[0])
        assert told(found.patterns) == told(reading(tmp_path, *[line] * 3).patterns)
        assert [bad.line for bad in found.bad] == [len(lines) + 3]  # the last one was broken off


def test_parts_that_never_end_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrappings, "PIECES", 50)
    whole = WRAPPED["CRI"](FORMATS["istio_json"])
    found = reading(tmp_path, whole, *[f"{STAMP} stdout P {'x' * 20}"] * 9, whole)
    assert [bad.line for bad in found.bad] == [4, 7, 10]  # given up after three of them, each time
    assert told(found.patterns) == told(reading(tmp_path, *[FORMATS["istio_json"]] * 2).patterns)


@pytest.mark.parametrize("form", ["hubble_json", "istio_json", "ztunnel JSON"])
@pytest.mark.parametrize("between", ["", " ", "\t"])
def test_several_records_on_one_line_are_several_records(tmp_path: Path, form: str, between: str) -> None:
    line = FORMATS[form]
    found = reading(tmp_path, between.join([line] * 3), line)
    assert found.bad == []
    assert told(found.patterns) == told(reading(tmp_path, *[line] * 4).patterns)


@pytest.mark.parametrize(
    "line",
    [
        '{"log":null}',
        '{"log":{}}',
        '{"log":"","kubernetes":7}',
        '{"message":' * 50_000,
        "[pod/a/b] ",
        "a b c",
        '{"log":"\\ud800"}',
    ],
)
def test_what_looks_wrapped_and_is_not_is_of_no_known_format(tmp_path: Path, line: str) -> None:
    assert wrappings.wrapping_of(line.encode()) is None
    found = reading(tmp_path, "# a comment", line, line)
    assert list(found.formats.values()) == ["unknown"]
    assert [(bad.line, bad.reason.partition(",")[0]) for bad in found.bad] == [(2, "file in no known format")]


@pytest.mark.parametrize("line", [b"", b"{}", b"{}[]", b"{} {", b"[1][2]", b"\xff{}", b"{}{}x", b'{"a":' * 100_000])
def test_only_whole_objects_in_a_row_are_several(line: bytes) -> None:
    assert several(line) == []
    assert several(b'{"a":"}{"} {"b":"\xc3\xa9"}  ') == [b'{"a":"}{"}', b'{"b":"\xc3\xa9"}']


@pytest.mark.parametrize("between", [b"", b" ", b" " * 5000])
def test_a_line_of_too_many_objects_is_one_bad_line(tmp_path: Path, between: bytes) -> None:
    line = between.join([b"{}"] * 2000)
    assert several(line) == []
    assert len(several(between.join([b"{}"] * 1000))) == 1000
    found = reading(tmp_path, FORMATS["hubble_json"], line.decode())
    assert [bad.line for bad in found.bad] == [2]


def test_hostile_lines_in_a_wrapped_file_are_bad_lines(tmp_path: Path) -> None:
    wrap = WRAPPED["fluent-bit"]
    hostile = ['{"log":7}', '{"log":"x"', '{"log":' * 100_000, '{"log":"\\ud800"}', '{"kubernetes":[]}']
    found = reading(tmp_path, wrap(FORMATS["istio_json"]), *hostile)
    assert {bad.line for bad in found.bad} <= set(range(2, 7))
    assert told(found.patterns) == told(reading(tmp_path, FORMATS["istio_json"]).patterns)
