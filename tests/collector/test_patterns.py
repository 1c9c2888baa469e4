"""Aggregation is a commutative, associative merge, whether or not the bounds are reached."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.endpoints import ADDRESS, Endpoint
from collector.evidence import PARTIES, Evidence
from collector.flow import Flow, Signal
from collector.patterns import PORTS, EdgeKey, Patterns
from collector.times import seconds
from tests.collector.traffic import captures, limits, patterns_of

WEB = Endpoint("pod", "", "shop", (("app", "web"),))
BOUNDS = pytest.mark.parametrize("bound", [None, 3, 1], ids=["as shipped", "three", "one"])


@BOUNDS
@given(capture=captures(), data=st.data())
def test_order_does_not_matter(bound: int | None, capture: list[Flow], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(capture))
    with limits(bound):
        assert patterns_of(shuffled) == patterns_of(capture)


@BOUNDS
@given(capture=captures(), cut=st.integers(0, 30))
def test_a_capture_may_be_split_anywhere_and_merged_either_way(
    bound: int | None, capture: list[Flow], cut: int
) -> None:
    with limits(bound):
        whole = patterns_of(capture)
        forward = patterns_of(capture[:cut])
        forward.merge(patterns_of(capture[cut:]))
        backward = patterns_of(capture[cut:])
        backward.merge(patterns_of(capture[:cut]))
    assert forward == whole
    assert backward == whole


def _merge_randomly(parts: list[Patterns], choose: Callable[[int], int]) -> Patterns:
    """Merge two parts, drawn anywhere, until one is left: any binary tree over any permutation."""
    while len(parts) > 1:
        mine = parts.pop(choose(len(parts)))
        mine.merge(parts.pop(choose(len(parts))))
        parts.append(mine)
    return parts[0]


@BOUNDS
@given(parts=st.lists(captures(8), min_size=1, max_size=6), data=st.data())
def test_parts_may_be_merged_in_any_shape(bound: int | None, parts: list[list[Flow]], data: st.DataObject) -> None:
    with limits(bound):
        whole = patterns_of([flow for part in parts for flow in part])
        merged = _merge_randomly(
            [patterns_of(part) for part in parts], lambda count: data.draw(st.integers(0, count - 1))
        )
    assert merged == whole


@given(capture=captures(8), times=st.integers(1, 4))
def test_equal_records_may_be_counted_at_once(capture: list[Flow], times: int) -> None:
    together = Patterns()
    for flow in capture:
        together.add(flow, times)
    assert together == patterns_of(capture * times)


@given(captures())
def test_merging_into_nothing_changes_nothing(capture: list[Flow]) -> None:
    merged = Patterns()
    merged.merge(patterns_of(capture))
    assert merged == patterns_of(capture)


@given(captures())
def test_joining_the_classes_of_a_port_leaves_the_patterns_as_they_are(capture: list[Flow]) -> None:
    patterns = patterns_of(capture)
    for _, edge in patterns.sorted_edges():
        records = sum(sum(evidence.signals.values()) for _, evidence in edge.ports())
        apart = [evidence for ports in (edge.spoken, edge.knocked) for _, evidence in ports.items()]
        assert records == sum(sum(evidence.signals.values()) for evidence in apart)
    assert patterns == patterns_of(capture)


@given(captures(6), captures(6))
def test_one_more_flow_is_never_unseen(capture: list[Flow], more: list[Flow]) -> None:
    assert (patterns_of(capture + more) == patterns_of(capture)) == (not more)


def test_a_port_scan_is_bounded_and_does_not_push_a_real_port_out() -> None:
    patterns = Patterns()
    patterns.add(Flow(WEB, WEB, port=8080, signal=Signal.ANSWERED))
    for port in range(1, 20_000):
        patterns.add(Flow(WEB, WEB, port=port, signal=Signal.DENIED))
    (edge,) = patterns.edges.values()
    assert list(edge.spoken) == [8080]
    assert not edge.spoken.saturated_now
    assert len(edge.knocked) == PORTS
    assert edge.knocked.saturated_now


def test_a_million_addresses_become_a_bounded_sample_and_an_estimate() -> None:
    patterns = Patterns()
    for number in range(20_000):
        patterns.add(Flow(ADDRESS, WEB, port=80, source_address=f"198.51.{number >> 8}.{number & 255}"))
    sources = patterns.edges[EdgeKey(ADDRESS, WEB, "TCP")].knocked.kept[80].sources
    assert len(sources) == PARTIES
    assert sources.estimate() == pytest.approx(20_000, rel=0.1)


def test_a_connection_seen_at_two_points_is_one() -> None:
    patterns = Patterns()
    for point in ("from-endpoint", "to-endpoint"):
        for _ in range(3):
            patterns.add(Flow(WEB, WEB, port=80, point=point))
    (edge,) = patterns.edges.values()
    assert [evidence.connections for _, evidence in edge.ports()] == [3]


def test_evidence_without_any_record_counts_no_connection() -> None:
    assert Evidence().connections == 0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("2024-03-01T10:00:00.999999999Z", 1709287200),
        ("2024-03-01T11:00:00.5+01:00", 1709287200),
        ("2024-03-01T10:00:00", 1709287200),
        ("1969-12-31T23:00:00Z", 0),
        ("2024-13-01T10:00:00Z", 0),
        ("9999-12-31T23:59:59-23:59", 253402387139),
        ("not a time, and a long one at that", 0),
        ("", 0),
    ],
)
def test_times_are_unix_seconds_and_nonsense_is_no_time(text: str, moment: int) -> None:
    assert seconds(text) == moment


def test_a_time_without_a_zone_is_utc_wherever_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        assert seconds("2024-03-01T10:00:00") == 1709287200
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text())
def test_no_text_breaks_the_clock(text: str) -> None:
    assert seconds(text) >= 0
    assert seconds(f"2024-03-01T10:00:00{text}") >= 0
