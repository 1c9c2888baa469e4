"""What the breaks of live observations become in words."""

from __future__ import annotations

from collector.patterns import Patterns
from collector.quality import SESSIONS, Quality
from collector.sessions import Mark
from leastway.continuity import sentences


def quality(*marks: Mark) -> Quality:
    found = Patterns().quality
    for number, mark in enumerate(marks):
        found.sessions.add(str(number), mark)
    return found


def test_an_observation_that_ended_as_it_should_needs_no_words() -> None:
    assert list(sentences(quality())) == []
    assert list(sentences(quality(Mark(9, "east", 1000, 2000, 60, True)))) == []


def test_one_that_broke_off_says_after_when_and_how_much() -> None:
    (told,) = sentences(quality(Mark(9, "east", 1000, 2000, 60), Mark(3, "east", 2500, 3000, 60, True)))
    assert "east broke off after 1970-01-01 00:33:20 UTC" in told
    assert "up to 60 s" in told
    assert "until 1970-01-01 00:41:40 UTC" in told


def test_one_without_an_end_says_both_that_it_can_be() -> None:
    (told,) = sentences(quality(Mark(9, "east", 1000, 2000, 60)))
    assert "has no end yet; everything until 1970-01-01 00:33:20 UTC is here" in told
    assert "If it broke off, up to 60 s after that are missing" in told


def test_two_of_one_name_at_once_may_have_counted_twice() -> None:
    (told,) = sentences(quality(Mark(9, "east", 1000, 2000, 60, True), Mark(3, "east", 1500, 3000, 60, True)))
    assert "Two collectors named east ran at the same time, from 1970-01-01 00:25:00 UTC to 1970-01-01 00:33:20" in told
    assert "counted twice" in told


def test_pauses_are_summed_up() -> None:
    (told,) = sentences(
        quality(
            Mark(1, "east", 0, 100, 60, True), Mark(1, "east", 150, 200, 60, True), Mark(1, "east", 300, 400, 60, True)
        )
    )
    assert "east was stopped 2 times in between, 150 s in total, longest from 1970-01-01 00:03:20" in told


def test_many_are_counted_and_the_order_is_the_same_whatever_came_first() -> None:
    marks = [Mark(1, f"name-{number:02}", number, number + 5, 60) for number in range(9)]
    told = list(sentences(quality(*marks)))
    assert len(told) == 6
    assert told[-1].startswith("4 more observations broke off")
    assert list(sentences(quality(*reversed(marks)))) == told


def test_sessions_beyond_the_bound_are_a_finding() -> None:
    marks = [Mark(1, "east", 10, 20, 60, True)] * (SESSIONS + 1)
    assert "more than 1024 sessions" in " ".join(sentences(quality(*marks)))


def test_times_that_no_calendar_holds_do_not_stop_it() -> None:
    assert "second" in next(sentences(quality(Mark(1, "east", 1 << 62, 1 << 62, 60))))


def test_hours_without_a_connection_or_with_a_gap_are_named() -> None:
    found = quality()
    found.blind_spot(1_772_352_000, "other:80", "not connected")  # for a moment
    for hour in range(3):
        for _ in range(3):
            found.blind_spot(1_772_352_000 + 3600 * hour, "relay:80", "not connected")
    found.blind_spot(1_772_352_000, "east/node-1", "gap")
    found.blind_spot(1_772_352_000, "east/node-1", "PERF_EVENT_RING_BUFFER")  # told as lost events
    missing = "what was no longer there afterwards is missing."
    assert list(sentences(found)) == [
        f"east/node-1: gap in 2026-03-01T08 (UTC); {missing}",
        f"relay:80: not connected in 2026-03-01T08 to 2026-03-01T10 (3 hours) (UTC); {missing}",
    ]
    for number in range(9):
        found.blind_spot(0, f"node-{number}", "gap")
    assert list(sentences(found))[-1] == "6 more nodes have gaps."
