"""What a command that runs for weeks says on stderr: log records, and one line of status on a terminal.

Invariant: a log record is one line of printable characters or one JSON object, whatever came over the wire; the status
line is drawn only on a terminal, and never mixes with a log line.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from leastway.verify.errors import line

WIDTH = 1000  # characters of one field
ROOMS = ("leastway", "collector")  # whose log records are shown; other libraries keep theirs


class StatusLine:
    """The last line of a terminal; `draw` replaces it, `clear` takes it away."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.drawn = False

    def draw(self, text: str) -> None:
        """Show a line, cut to the terminal's width."""
        if self.wanted:
            width = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[2K{line(text, max(20, width - 1))}")
            sys.stderr.flush()
            self.drawn = True

    def clear(self) -> None:
        """Leave an empty line for what comes next."""
        if self.drawn:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self.drawn = False


class _Handler(logging.Handler):
    """Writes records to stderr, above the status line."""

    def __init__(self, status: StatusLine, form: Callable[[logging.LogRecord], str]) -> None:
        super().__init__()
        self.status = status
        self.form = form

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.status.clear()
            sys.stderr.write(self.form(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # the reader of stderr is gone; observing goes on


@contextmanager
def talking(form: str) -> Iterator[StatusLine]:
    """Log records go to stderr from here on: `text`, `json`, or by what stderr is (`auto`)."""
    terminal = sys.stderr.isatty()
    text = form == "text" or (form == "auto" and terminal)
    status = StatusLine(terminal and text)
    handler = _Handler(status, _text if text else _json)
    before = []
    for logger in map(logging.getLogger, ROOMS):
        before.append((logger, logger.level, logger.propagate))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield status
    finally:
        status.clear()
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def _text(record: logging.LogRecord) -> str:
    when = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
    level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
    facts = "".join(f" {name}={line(str(value), WIDTH)}" for name, value in _fields(record).items())
    return f"{when} {level}{line(record.getMessage(), WIDTH)}{facts}"


def _json(record: logging.LogRecord) -> str:
    told = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "message": record.getMessage(),
    }
    return json.dumps({**told, **_fields(record)}, ensure_ascii=True, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = dict(getattr(record, "fields", {}))
    if record.exc_info:  # a defect, which somebody will want to find
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields
