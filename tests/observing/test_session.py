"""The session: everything that was gathered is in the store once, and what is not can be seen."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from collector import store
from collector.errors import PatternStoreError
from collector.sessions import breaks
from leastway.observing.session import Session, resume_points
from leastway.observing.stopping import Stop
from tests.conftest import ROOT
from tests.observing.processes import until
from tests.observing.ticking import NODE, Ticking


def counted(place: Path | str) -> int:
    return store.load(place).quality.total


def written(place: Path | str, parts: int) -> bool:
    return store.is_store(place) and store.count(place) >= parts


def observing(place: Path | str, *more: str, resume: bool = False) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.observing.ticking", str(place), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"RESUME": "1" if resume else ""},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_all_that_was_gathered_is_in_the_store_after_a_clean_end(tmp_path: Path) -> None:
    source = Ticking(limit=200)
    session = Session([source], str(tmp_path), name="one", interval=0.05)
    with Stop() as stop:
        assert session.run(stop, seconds=0.5)
    assert source.number > 50
    assert counted(tmp_path) == source.number
    assert session.flushes > 3
    found = store.quality(tmp_path)
    assert breaks(mark for _, mark in found.sessions.items()) == []
    assert resume_points(found, "one") == {NODE: source.number}
    assert resume_points(found, "another") == {}


def test_a_store_that_cannot_be_written_is_told_before_anything_is_observed(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    source = Ticking()
    with Stop() as stop, pytest.raises(PatternStoreError):
        Session([source], str(tmp_path / "store"), name="one").run(stop, seconds=1)
    assert source.number == 0


def test_what_could_not_be_saved_is_saved_later_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Ticking()
    session = Session([source], str(tmp_path), name="one")
    save = store.save
    assert session.flush()

    def full(*_: object) -> str:
        raise PatternStoreError("no space left")

    def saved_but_not_told(*arguments: object) -> str:
        save(*arguments)  # type: ignore[arg-type]  # passed through
        raise PatternStoreError("the answer was lost")

    for broken in (full, saved_but_not_told, full):
        monkeypatch.setattr(store, "save", broken)
        for _ in range(3):
            source.add()
            assert not session.flush()
    assert session.failing
    monkeypatch.setattr(store, "save", save)
    source.add()
    assert session.flush()
    assert not session.failing
    assert counted(tmp_path) == source.number == 10


def test_a_killed_collector_leaves_a_readable_store_and_loses_at_most_an_interval(tmp_path: Path) -> None:
    chance = random.Random(4)
    flushed = 0
    sessions: set[str] = set()
    for number in range(9):
        parts = store.count(tmp_path) if store.is_store(tmp_path) else 0
        process = observing(tmp_path, "0.02", resume=flushed > 0)
        if number % 3:  # the others are killed at their start
            until(partial(written, tmp_path, parts + chance.randint(1, 4)))
        time.sleep(chance.uniform(0, 0.05))  # the instant is what is tried
        process.kill()
        process.communicate()
        if not store.is_store(tmp_path):
            continue  # killed before its first flush: there is no store yet, and nothing was observed
        found = store.load(tmp_path)
        last = resume_points(found.quality, "one").get(NODE, 0)
        assert found.quality.total == last >= flushed  # each record up to the cursor, once
        flushed = last
        marks = dict(found.quality.sessions.items())
        assert sessions <= set(marks)
        sessions = set(marks)
        assert [gap.torn for gap in breaks(marks.values())] == [True] * len(marks)
    assert flushed > 0
    assert len(sessions) >= 6


def test_a_term_during_a_flush_ends_cleanly_and_in_time(tmp_path: Path) -> None:
    for place in (tmp_path / "first", tmp_path / "second"):
        process = observing(place, "0.001")  # always in a flush
        until(partial(written, place, 3))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert time.monotonic() - began < 5
        assert process.returncode == 0, err
        assert counted(place) == int(out)
        assert breaks(mark for _, mark in store.quality(place).sessions.items()) == []


def test_several_collectors_write_to_one_store_without_talking_to_each_other(tmp_path: Path) -> None:
    processes = [observing(tmp_path, "0.03", name) for name in ("one", "two", "three")]
    until(partial(written, tmp_path, 12))
    store.merge(tmp_path)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    numbers = [int(process.communicate(timeout=10)[0]) for process in processes]
    assert counted(tmp_path) == sum(numbers)
    store.merge(tmp_path)
    found = store.load(tmp_path).quality
    assert found.total == sum(numbers)
    assert {name: resume_points(found, name)[NODE] for name in ("one", "two", "three")} == dict(
        zip(("one", "two", "three"), numbers, strict=True)
    )


def test_a_signal_at_any_instant_wakes_who_waits() -> None:
    """With `threading.Event` this hangs: its `set` takes the lock that `wait` holds for a moment."""
    for _ in range(200):
        with Stop() as stop:
            before = signal.signal(signal.SIGALRM, lambda *_, stop=stop: stop.set())
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.0005))
            end = time.monotonic() + 5
            while not stop.wait(0):
                assert time.monotonic() < end
            signal.signal(signal.SIGALRM, before)
            assert stop.is_set()
            assert stop.wait(0.5)
