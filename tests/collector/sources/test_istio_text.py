"""Istio's default text access log, and lines that try to be more than one."""

from __future__ import annotations

import pytest

from collector.sources import istio_text
from tests.collector.sources.entries import folded, told

HTTP = (
    '[2026-03-01T08:00:00.250Z] "GET /carts/7?full=yes HTTP/1.1" 200 - via_upstream - "-" 0 12 3 2 "-" "shopper/1" '
    '"b6f0" "cart:80" "10.9.0.20:8080" outbound|80||cart.shop.svc.cluster.local 10.9.0.10:40000 10.200.0.5:80 '
    "10.9.0.10:50000 - default"
)
TCP = (
    '[2026-03-01T08:00:00.250Z] "- - -" 0 - - - "-" 5 12 3 - "-" "-" "-" "-" "10.9.0.30:5432" '
    "outbound|5432||db.shop.svc.cluster.local 10.9.0.10:40001 10.200.0.6:5432 10.9.0.10:50001 - -"
)
OLD = HTTP.replace("200 - via_upstream - ", '200 - "-" ')
AMBIGUOUS = "not in the default text format, or ambiguous"


def test_http_and_tcp_lines_become_edges() -> None:
    patterns, bad = folded(istio_text, HTTP, TCP)
    assert told(patterns) == [
        "address 10.9.0.10 -> service shop/cart:8080 answered:outbound 1",
        "address 10.9.0.10 -> service shop/db:5432 answered:outbound 1",
    ]
    assert bad == []


def test_the_form_before_response_code_details_is_read_too() -> None:
    assert folded(istio_text, OLD)[0] == folded(istio_text, HTTP)[0]


@pytest.mark.parametrize("prefix", ["2026-03-01T08:00:01.12Z ", "2026-03-01T08:00:01.123456789Z stdout F "])
def test_a_time_stamp_in_front_is_cut_off(prefix: str) -> None:
    assert istio_text.recognises((prefix + HTTP).encode())
    assert folded(istio_text, prefix + HTTP)[0] == folded(istio_text, HTTP)[0]


def test_a_time_stamp_inside_an_address_is_taken_out() -> None:
    broken = HTTP.replace("10.9.0.20:8080", "10.9.2026-03-01T08:00:01.123456789Z 0.20:8080")
    assert folded(istio_text, broken)[0] == folded(istio_text, HTTP)[0]


def test_a_path_that_ends_in_a_time_stamp_is_left_alone() -> None:
    stamped = HTTP.replace("/carts/7?full=yes", "/at/2026-03-01T08:00:01.123456789Z")
    ((_, edge),) = folded(istio_text, stamped)[0].sorted_edges()
    ((_, evidence),) = edge.ports()
    assert list(evidence.requests) == ["GET /at/2026-03-01T08:00:01.123456789Z"]


@pytest.mark.parametrize(
    "line",
    [
        HTTP.replace("shopper/1", 'x" "id" "a" "10.9.0.99:80" outbound|80||bank.shop.svc.cluster.local 1 2 3 - -'),
        HTTP.replace("shopper/1", 'x"y'),
        HTTP.replace("shopper/1", 'x" "y'),
        HTTP.replace("/carts/7", '/x" 200 - via_upstream - "-" 0 0 0 0 "-" "'),
        HTTP[:150],
    ],
)
def test_a_client_cannot_write_fields_of_its_own(line: str) -> None:
    patterns, bad = folded(istio_text, line)
    assert patterns.edges == {}
    assert bad == [(1, AMBIGUOUS)]


def test_messages_of_the_proxy_are_no_bad_lines() -> None:
    lines = [
        "2026-03-01T08:00:00.123456Z\tinfo\tFLAG: --concurrency",
        "[2026-03-01 08:00:00.123][15][warning][config] gRPC config stream closed",
        "hello",
    ]
    patterns, bad = folded(istio_text, *lines)
    assert bad == [(3, "not an access log line")]
    assert dict(patterns.quality.skipped.items()) == {"message of the proxy": 2}


def test_bytes_that_are_no_utf8_spoil_a_path_but_not_a_user_agent() -> None:
    path, agent = (HTTP.encode().replace(old, old + b"\xff") for old in (b"/carts", b"shopper"))
    assert folded(istio_text, agent)[1] == []
    assert folded(istio_text, path)[1] == [(1, "control character in the path")]


@pytest.mark.parametrize(
    "head", ["", "{}", "[1]", "2026-03-01T08:00:00.1Z\tinfo\taccess\tconnection complete\tsrc.addr=1"]
)
def test_other_formats_are_not_recognised(head: str) -> None:
    assert not istio_text.recognises(head.encode())
