"""Positions of a stream: what counts as met before, and what is a gap."""

from __future__ import annotations

import time

import pytest

from collector.sources import hubble_resume
from collector.sources.hubble_resume import OVERLAP, Positions

SECOND = 1_000_000_000
Gap = tuple[str, int, int]


@pytest.fixture
def gaps() -> list[Gap]:
    return []


@pytest.fixture
def positions(gaps: list[Gap]) -> Positions:
    return Positions(lambda *gap: gaps.append(gap))


def test_nothing_met_means_no_position(positions: Positions) -> None:
    assert positions.since() == 0


def test_the_overlap_begins_before_the_slowest_node(positions: Positions) -> None:
    positions.fresh("a", 100 * SECOND, 1, "x")
    positions.fresh("b", 50 * SECOND, 2, "y")
    assert positions.since() == 50 * SECOND - OVERLAP


def test_flows_without_any_time_are_told_apart_after_a_reconnect(positions: Positions) -> None:
    assert positions.fresh("a", 0, 1, "")
    assert positions.fresh("a", 0, 1, "")  # two equal ones in a file are two as well
    assert positions.since() == 0
    assert not positions.fresh("a", 0, 1, "")
    assert positions.fresh("a", 0, 2, "")


def test_what_is_no_longer_remembered_is_taken_as_counted(
    positions: Positions, gaps: list[Gap], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubble_resume, "REMEMBERED", 4)
    for n in range(1, 13):
        assert positions.fresh("a", n * SECOND // 10, n, "id")
    positions.since()
    again = [n for n in range(1, 15) if positions.fresh("a", n * SECOND // 10, n, "id")]
    assert again == [13, 14]
    assert gaps == []
    assert len(positions.recent) + len(positions.older) <= 8


def test_a_gap_is_from_the_last_known_flow_to_the_first_new_one(positions: Positions, gaps: list[Gap]) -> None:
    positions.fresh("a", 10 * SECOND, 1, "x")
    positions.since()
    positions.fresh("a", 20 * SECOND, 2, "y")
    positions.fresh("a", 30 * SECOND, 3, "z")
    assert gaps == [("a", 10 * SECOND, 20 * SECOND)]


def test_a_position_may_come_from_another_process(positions: Positions, gaps: list[Gap]) -> None:
    positions.restore({"a": 10 * SECOND})
    assert positions.since() == 10 * SECOND - OVERLAP
    assert not positions.fresh("a", 9 * SECOND, 1, "x")
    assert not positions.fresh("a", 10 * SECOND, 2, "y")
    assert positions.fresh("a", 11 * SECOND, 3, "z")
    assert gaps == []


def test_a_position_beyond_hope_is_a_gap_of_every_node(positions: Positions, gaps: list[Gap]) -> None:
    positions.fresh("a", 10 * SECOND, 1, "x")
    positions.give_up()
    assert gaps == [("a", 10 * SECOND, 10 * SECOND)]
    assert not positions.fresh("a", 9 * SECOND, 2, "late")
    assert positions.fresh("a", 11 * SECOND, 3, "new")
    assert len(gaps) == 1


def test_a_clock_that_was_set_back_moves_the_position_back(
    positions: Positions, gaps: list[Gap], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubble_resume, "REMEMBERED", 4)
    positions.fresh("a", 7200 * SECOND, 1, "ahead")
    for n in range(2, 100):
        assert positions.fresh("a", n * SECOND, n, "id")
    assert positions.since() == 99 * SECOND - OVERLAP
    assert [n for n in range(95, 102) if positions.fresh("a", n * SECOND, n, "id")] == [100, 101]
    assert gaps == []


def test_a_few_late_flows_do_not_move_the_position(positions: Positions) -> None:
    for n in range(1000):
        positions.fresh("a", (1000 if n % 10 else 1) * SECOND, n, "id")
    assert positions.since() == 1000 * SECOND - OVERLAP


def test_a_position_in_the_future_is_not_what_another_process_begins_at(positions: Positions) -> None:
    positions.fresh("a", time.time_ns() + 7200 * SECOND, 1, "ahead")
    positions.fresh("b", 50 * SECOND, 2, "x")
    assert positions.reached(1000 * SECOND) == {"a": 1060 * SECOND, "b": 50 * SECOND}


def test_flows_that_will_look_otherwise_are_not_counted_again(positions: Positions) -> None:
    positions.fresh("a", 10 * SECOND, 1, "with a mask")
    positions.forget()
    positions.since()
    assert not positions.fresh("a", 10 * SECOND, 2, "without")
