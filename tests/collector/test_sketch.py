"""The bounded sets: their bound must not depend on the order of what went in."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import sketch
from collector.sketch import BottomK, Tally, rank

KEYS = st.lists(st.text("abcdef", max_size=2), max_size=40)


def tally(keys: list[str], limit: int) -> Tally[str]:
    counted: Tally[str] = Tally(limit)
    for key in keys:
        counted.add(key, 1)
    return counted


@given(KEYS, st.integers(1, 6))
def test_keeps_the_smallest_ranks_with_exact_counts(keys: list[str], limit: int) -> None:
    expected = sorted(set(keys), key=rank)[:limit]
    assert tally(keys, limit).items() == sorted((key, keys.count(key)) for key in expected)


@given(KEYS, st.integers(1, 6))
def test_is_saturated_exactly_when_more_keys_came_than_fit(keys: list[str], limit: int) -> None:
    assert tally(keys, limit).saturated_now == (len(set(keys)) > limit)


@given(KEYS, KEYS, KEYS, st.integers(1, 6))
def test_merging_parts_in_any_shape_equals_the_whole(a: list[str], b: list[str], c: list[str], limit: int) -> None:
    whole = tally(a + b + c, limit)
    left, right, other = tally(a, limit), tally(b, limit), tally(c, limit)
    left.merge(right)
    left.merge(other)
    assert left == whole
    inner = tally(c, limit)
    inner.merge(tally(b, limit))
    outer = tally(a, limit)
    outer.merge(inner)
    assert outer == whole


@given(st.permutations(["a", "b", "c", "d", "e"]))
def test_keys_with_the_same_rank_are_kept_in_any_order_alike(keys: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "rank", lambda _: 7)
        assert list(tally(keys, 2)) == ["a", "b"]


def test_memory_is_bounded_by_twice_the_limit() -> None:
    counted: Tally[int] = Tally(10)
    for key in range(10_000):
        counted.add(key, 1)
        assert len(counted.kept) <= 20


def test_estimate_is_exact_below_the_limit_and_close_above() -> None:
    small: Tally[int] = Tally(100)
    large: Tally[int] = Tally(1000)
    for key in range(100):
        small.add(key, 1)
    for key in range(20_000):
        large.add(key, 1)
    assert small.estimate() == 100
    assert large.estimate() == pytest.approx(20_000, rel=0.1)  # standard error of k minimum values: 1 / sqrt(1000)


def test_equality_does_not_depend_on_when_it_was_trimmed() -> None:
    lazy, eager = tally(["a", "b", "c"], 2), tally(["a", "b", "c"], 2)
    eager.trim()
    assert lazy == eager
    assert lazy != tally(["a", "b"], 2)
    assert tally(["a"], 2) != tally(["a", "a"], 2)


class Latest(BottomK[str, str]):
    @staticmethod
    def combine(old: str, new: str) -> str:
        return max(old, new)


def test_values_are_combined_in_any_bounded_map() -> None:
    latest = Latest(4)
    for value in ("x", "z", "y"):
        latest.add("k", value)
    assert latest.items() == [("k", "z")]


def test_rank_is_the_same_in_every_process() -> None:
    code = "from collector.sketch import rank; print(rank('shop'), rank((1, 'a')), rank(443))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{rank('shop')} {rank((1, 'a'))} {rank(443)}\n"}
