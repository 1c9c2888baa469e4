"""What is remembered of text from the wire: much of what is short, nothing of what is long."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from collector.endpoints import parse_principal, stable_labels
from collector.memo import memo
from collector.sources import accesslog_names, accesslog_record, hubble_endpoints

LONG = "x" * 300_000


@pytest.mark.parametrize(
    "read",
    [
        accesslog_names.cluster_of,
        accesslog_names.service_of,
        accesslog_names.service_of_sni,
        accesslog_record.ip_of,
        accesslog_record.peer_of_node,
        accesslog_record.first_principal,
        accesslog_record.flags_of,
        hubble_endpoints.canonical_address,
        hubble_endpoints._label,
        parse_principal,
        lambda text: stable_labels([(text, "")]),
        lambda text: stable_labels([("app", text)]),
    ],
)
def test_long_text_is_read_and_not_remembered(read: Callable[[str], object]) -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(30):
        read(f"{number}{LONG}")
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2 * len(LONG)


def test_short_text_is_read_once() -> None:
    seen: list[str] = []

    @memo(2, longest=3)
    def read(text: str) -> str:
        seen.append(text)
        return text.upper()

    assert [read(text) for text in ("a", "a", "abcd", "abcd", "b", "c", "a")] == [
        "A",
        "A",
        "ABCD",
        "ABCD",
        "B",
        "C",
        "A",
    ]
    assert seen == ["a", "abcd", "abcd", "b", "c", "a"]
