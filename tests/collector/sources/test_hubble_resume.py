"""Positions of a stream: what counts as met before, and what is a gap."""

from __future__ import annotations

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
