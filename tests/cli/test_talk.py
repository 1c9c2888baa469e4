"""The log of a command that runs for weeks: one line a record, whatever the wire put into it."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from leastway.cli.talk import StatusLine, talking
from leastway.observing.journal import fail, note, warn

HOSTILE = "x\n\x1b[2J\u202e" + "y" * 5000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with talking("auto") as status:
        assert not status.wanted
        note("flushed", patterns=3)
        warn("records are missing", source=HOSTILE)
        fail("the store cannot be written", error=OSError("full"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert lines[0] | {"time": ""} == {"time": "", "level": "info", "message": "flushed", "patterns": 3}
    assert lines[1]["source"] == HOSTILE
    assert lines[0]["time"].endswith("Z")


def test_text_is_one_printable_line_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    with talking("text"):
        warn("records are missing", source=HOSTILE, number=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line[8:].startswith(" warning: records are missing source=x")
    assert line.isprintable()
    assert len(line) < 1100


def test_the_collectors_own_loggers_are_heard_and_a_defect_can_be_found(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("collector.sources.anything")
    for form in ("json", "text"):
        with talking(form):
            log.warning("hubble: %s", "no route\x1b[2J")
            try:
                raise ValueError("wrong")
            except ValueError:
                log.exception("a defect")
            logging.getLogger("asyncio").warning("not ours")
    first, second, third, fourth = capsys.readouterr().err.splitlines()
    assert json.loads(first)["message"] == "hubble: no route\x1b[2J"
    assert "test_talk.py" in json.loads(second)["exception"]
    assert third.isprintable()
    assert fourth.isprintable()
    assert "ValueError: wrong" in fourth


def test_the_status_line_makes_way_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with talking("auto") as status:
        assert status.wanted
        status.draw("hubble: 1 records " + HOSTILE)
        note("flushed")
        status.draw("hubble: 2 records")
    first, second = terminal.getvalue().split("\n")
    drawn, cleared, logged = first.removeprefix("\r\x1b[2K").partition("\r\x1b[2K")
    assert drawn.startswith("hubble: 1 records x")
    assert "\x1b" not in drawn
    assert len(drawn) < 200
    assert cleared
    assert logged.endswith(" flushed")
    assert second.endswith("\r\x1b[2K")


def test_without_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with talking("text") as status:
        status.draw("anything")
    StatusLine(wanted=False).draw("anything")
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_gone_does_not_stop_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    with talking("json"):
        monkeypatch.setattr(sys, "stderr", closed)
        note("flushed")
        monkeypatch.undo()
