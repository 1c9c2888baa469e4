"""`leastway merge`: many parts become one, and the store holds the same."""

from __future__ import annotations

from pathlib import Path

from collector import store
from tests.cli.conftest import Run
from tests.collector.test_store import FIRST, SECOND
from tests.collector.traffic import patterns_of


def test_the_parts_become_one(run: Run, tmp_path: Path) -> None:
    store.save(patterns_of(FIRST), tmp_path)
    store.save(patterns_of(SECOND), tmp_path)
    result = run("merge", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "2 parts merged into one\n")
    assert store.load(tmp_path) == patterns_of(FIRST + SECOND)
    assert run("merge", tmp_path).stdout == "nothing to merge\n"


def test_what_is_no_store_is_told(run: Run, tmp_path: Path) -> None:
    result = run("merge", tmp_path)
    assert result.exit_code == 1
    assert "not a pattern store" in result.stderr
