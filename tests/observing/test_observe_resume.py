"""A collector that was stopped or killed goes on where it was: no flow is counted twice, and none is lost."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from collector import store
from collector.reading import read
from collector.sessions import breaks
from tests.observing.processes import observe, until
from tests.observing.replays import EARLY, FLOWS, counted, minute, replaying


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minute(tmp_path_factory.mktemp("capture") / "flows.jsonl")


def test_a_killed_collector_goes_on_where_it_was_and_counts_nothing_twice(tmp_path: Path, capture: Path) -> None:
    place = tmp_path / "store"
    chance = random.Random(7)
    kills = 0
    with replaying(capture, speed="20x") as address:  # three seconds
        while counted(place) < FLOWS:
            assert kills < 60
            options = ("--hubble", address, *EARLY, "--flush", "50ms", "--name", "east", "--merge-every", "7")
            with observe(place, *options) as process:
                seen = counted(place)
                until(lambda seen=seen: counted(place) > seen or counted(place) >= FLOWS)  # type: ignore[misc]  # bound now
                time.sleep(chance.uniform(0, 0.3))
                process.process.kill()
                kills += 1
    assert kills >= 2  # many more, unless a start takes as long as the capture lasts
    found = store.load(place)
    expected = read([str(capture)]).patterns
    assert found.edges == expected.edges
    assert found.sightings == expected.sightings
    assert found.quality.total == FLOWS
    gaps = breaks(mark for _, mark in found.quality.sessions.items())
    assert [gap.torn for gap in gaps] == [True] * len(gaps)
    assert len(gaps) >= kills - 1  # one may have been killed before it said anything


def test_a_clean_end_and_a_new_start_count_every_flow_once(tmp_path: Path, capture: Path) -> None:
    place = tmp_path / "store"
    with replaying(capture, speed="20x") as address:
        for seconds in ("700ms", "500ms", "10s"):
            options = ("--hubble", address, *EARLY, "--name", "east", "--flush", "200ms", "--for", seconds)
            with observe(place, *options) as process:
                until(lambda process=process: process.process.poll() is not None or counted(place) >= FLOWS)  # type: ignore[misc]
                if process.process.poll() is None:
                    process.running().end()
    assert store.load(place).edges == read([str(capture)]).patterns.edges
    assert not any(gap.torn for gap in breaks(mark for _, mark in store.quality(place).sessions.items()))


def test_another_name_does_not_go_on_where_the_first_was(tmp_path: Path, capture: Path) -> None:
    place = tmp_path / "store"
    with replaying(capture) as address:
        for name, expected in (("east", FLOWS), ("east", FLOWS), ("west", 2 * FLOWS)):
            with observe(place, "--hubble", address, "--name", name, "--flush", "100ms") as process:
                until(lambda expected=expected: counted(place) >= expected)  # type: ignore[misc]  # bound now
                assert process.running().end() == 0
            assert counted(place) == expected
