"""The chaos plan: foreseeable, and true to what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.errors import SourceError
from leastway.playback.capture import Capture
from leastway.playback.chaos import DISORDER, Chaos
from tests.goldens import SAMPLES

BOUTIQUE = str(SAMPLES / "online-boutique" / "flows.jsonl.gz")


@pytest.fixture(scope="module")
def capture() -> Capture:
    return Capture([BOUTIQUE])


def test_a_seed_gives_one_plan(capture: Capture) -> None:
    assert vars(Chaos(7, capture)) == vars(Chaos(7, capture))
    assert vars(Chaos(7, capture)) != vars(Chaos(8, capture))


def test_records_move_by_less_than_an_overlap(capture: Capture) -> None:
    for seed in range(10):
        moved = Chaos(seed, capture).moved
        assert all(moved[moved[p]] == p for p in moved)
        assert all(abs(capture.times[p] - capture.times[q]) <= DISORDER for p, q in moved.items())


def test_every_announced_loss_is_missing(capture: Capture) -> None:
    chaos = Chaos(3, capture)
    assert sum(count for losses in chaos.lost.values() for _, count in losses) <= len(chaos.missing)
    assert chaos.missing
    assert str(len(chaos.missing)) in str(chaos)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_smallest_captures_have_a_plan(count: int, tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    lines = (SAMPLES / "hostile" / "bare.jsonl").read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:count]))
    small = Capture([str(path)])
    assert len(small) == count
    Chaos(1, small)


def test_records_are_in_the_order_of_time(capture: Capture) -> None:
    assert list(capture.times) == sorted(capture.times)
    assert capture.unread == 0


def test_nothing_to_play_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(SourceError, match="no Hubble flows"):
        Capture([str(tmp_path / "empty.jsonl")])
    with pytest.raises(SourceError, match="no Hubble flows"):
        Capture([str(SAMPLES / "bookinfo" / "access-log.jsonl")])
