"""What the log says of the sources, once; and merges that go wrong beside the collector."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from collector import store
from collector.errors import PatternStoreError
from collector.storage import storage
from leastway.observing.merging import Merging
from leastway.observing.session import Session
from leastway.observing.watch import Watch
from tests.collector.test_store import FIRST, SECOND
from tests.collector.traffic import patterns_of
from tests.observing.processes import until
from tests.observing.ticking import Ticking


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    source = Ticking()
    watch = Watch([source])
    for connected in (False, True, True, False, False):
        source.status.connected = connected
        watch.look()
    assert caplog.messages == ["connected", "not connected"]
    assert list(watch.losses()) == []
    source.status.lost, source.status.refused = 3, 1
    assert list(watch.losses()) == [("ticking", "lost", 3), ("ticking", "refused", 1)]
    assert list(watch.losses()) == []
    source.status.lost = 5
    assert list(watch.losses()) == [("ticking", "lost", 2)]


def test_a_merge_that_fails_is_told_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for flows in (FIRST, SECOND):
        store.save(patterns_of(flows), tmp_path)
    merging = Merging(str(tmp_path), every=2)
    with storage(tmp_path).exclusive():  # another collector merges at the moment
        merging.flushed()
        merging.flushed()
        until(lambda: merging._process is not None and merging._process.poll() is not None)
    merging.flushed()
    assert caplog.messages == ["the store's parts were not merged; the next flushes try again"]
    assert "another process is merging" in str(caplog.records[0].__dict__["fields"]["said"])
    merging.flushed()
    until(lambda: merging._process is not None and merging._process.poll() is not None)
    merging.flushed()
    assert caplog.messages[1:] == ["merged the store's parts"]
    assert store.count(tmp_path) == 1


def test_a_merge_that_runs_is_ended_with_the_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/sleep")  # a merge that takes its time
    monkeypatch.setattr("leastway.observing.merging.COMMAND", ("60",))
    merging = Merging(str(tmp_path), every=1)
    merging.place = "1"
    merging.flushed()
    process = merging._process
    assert process is not None
    merging.stop()
    assert process.returncode not in (0, None)
    merging.stop()


def test_the_final_flush_is_tried_although_the_one_before_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session([source := Ticking()], str(tmp_path), name="one")
    source.add()

    def full(*_: object) -> str:
        raise PatternStoreError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store, "save", full)
        assert not session.flush()
    source.add()
    assert session._end()
    assert store.load(tmp_path).quality.total == 2
    assert caplog.messages[-1] == "stopped; everything that was seen is in the store"
