"""Marks of sessions: merged in any order, and every break is found."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import quality as quality_module
from collector import store
from collector.patterns import Patterns
from collector.quality import Quality
from collector.sessions import Break, Mark, Overlap, breaks, overlaps


def mark(sequence: int, name: str, started: int, flushed: int, ended: bool = False) -> Mark:
    return Mark(sequence, name, started, flushed, 60, ended)


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([], []),
        ([mark(3, "a", 0, 180, True)], []),
        ([mark(3, "a", 0, 180)], [Break("a", 180, 0, 60, True)]),
        ([mark(3, "a", 0, 180), mark(0, "a", 500, 500, True)], [Break("a", 180, 500, 60, True)]),
        ([mark(3, "a", 0, 180, True), mark(9, "a", 500, 900, True)], [Break("a", 180, 500, 60, False)]),
        ([mark(3, "a", 0, 180, True), mark(9, "a", 180, 900, True)], []),
        ([mark(3, "a", 0, 180, True), mark(9, "b", 500, 900, True)], []),  # another collector's
        ([mark(3, "a", 0, 180, True), mark(9, "a", 100, 900, True)], []),  # they overlapped
    ],
)
def test_a_break_is_what_no_session_of_that_name_saw(marks: list[Mark], expected: list[Break]) -> None:
    assert breaks(marks) == expected
    assert breaks(reversed(marks)) == expected


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([mark(3, "a", 0, 180, True), mark(9, "a", 100, 900, True)], [Overlap("a", 100, 180)]),
        (
            [mark(3, "a", 0, 900, True), mark(9, "a", 100, 200), mark(2, "a", 300, 400)],
            [Overlap("a", 100, 200), Overlap("a", 300, 400)],
        ),
        ([mark(3, "a", 0, 180, True), mark(9, "a", 177, 900, True)], []),  # two machines' clocks
        ([mark(3, "a", 0, 180, True), mark(9, "b", 100, 900, True)], []),  # another collector's
        ([mark(3, "a", 0, 180), mark(0, "a", 500, 500, True)], []),
        (
            [mark(3, "a", 0, 180, True), mark(9, "a", 100, 900, True), mark(9, "a", 800, 1000, True)],
            [Overlap("a", 100, 180), Overlap("a", 800, 900)],
        ),
    ],
)
def test_two_sessions_of_one_name_at_the_same_time_are_found(marks: list[Mark], expected: list[Overlap]) -> None:
    assert overlaps(marks) == expected
    assert overlaps(reversed(marks)) == expected


few = st.integers(0, 3)
marked = st.builds(Mark, few, st.sampled_from("ab"), st.integers(0, 99), st.integers(0, 99), st.just(60), st.booleans())


def quality_of(found: list[tuple[str, Mark]], cursors: dict[str, int]) -> Quality:
    quality = Quality()
    for session, one in found:
        quality.sessions.add(session, one)
    for node, moment in cursors.items():
        quality.cursors.add(node, moment)
    return quality


@pytest.mark.parametrize("bound", [None, 2])
@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("xyzw"), marked), max_size=6),
    st.dictionaries(st.sampled_from("lmno"), st.integers(0, 1 << 62)),
    st.integers(0, 6),
)
def test_marks_and_cursors_merge_in_any_order_and_survive_the_store(
    bound: int | None, found: list[tuple[str, Mark]], cursors: dict[str, int], cut: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        if bound is not None:
            patch.setattr(quality_module, "SESSIONS", bound)
            patch.setattr(quality_module, "CURSORS", bound)
        whole = quality_of(found, cursors)
        one, other = quality_of(found[:cut], cursors), quality_of(found[cut:], {})
        other.merge(one)
        assert other == whole
        parts = [Patterns(), Patterns()]
        parts[0].quality, parts[1].quality = quality_of(found[:cut], cursors), quality_of(found[cut:], {})
        for part in parts:
            store.save(part, folder)
        assert store.quality(folder) == whole
        store.merge(folder)
        assert store.load(folder).quality == whole
