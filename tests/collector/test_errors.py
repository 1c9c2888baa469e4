"""Errors read as one line and say what, where and what to do."""

from __future__ import annotations

import pickle

import pytest

from collector.errors import (
    PART,
    InventoryError,
    LeastwayError,
    PatternStoreError,
    RenderError,
    SourceError,
)

TREE = [SourceError, PatternStoreError, InventoryError, RenderError]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_a_leastway_error(kind: type[LeastwayError]) -> None:
    with pytest.raises(LeastwayError, match="no such file"):
        raise kind("no such file")


def test_the_line_joins_what_where_and_hint() -> None:
    error = SourceError("cannot read it", where="flows.json, line 3", hint="export it again")
    assert str(error) == "cannot read it — flows.json, line 3 — export it again"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (LeastwayError("what"), "what"),
        (LeastwayError("what", where="here"), "what — here"),
        (LeastwayError("what", hint="do this"), "what — do this"),
    ],
)
def test_missing_parts_leave_no_dash(error: LeastwayError, line: str) -> None:
    assert str(error) == line


def test_hostile_text_stays_one_bounded_printable_line() -> None:
    line = str(RenderError("bad\nname\x1b[31m\u202e", where="x" * 100_000, hint="a\tb\r\nc"))
    assert line.isprintable()
    assert line.startswith("bad name")
    assert line.endswith("a b c")
    assert len(line) <= 3 * PART + 6


def test_an_error_survives_the_way_back_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(SourceError("refused", where="10.0.0.1:443", hint="check the address")))
    assert isinstance(error, SourceError)
    assert (error.message, error.where, error.hint) == ("refused", "10.0.0.1:443", "check the address")
    assert str(error) == "refused — 10.0.0.1:443 — check the address"
