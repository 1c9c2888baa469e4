"""What commands print with: the one place that knows which stream is for data, and what may be sent to a terminal.

Invariant: text from traffic, files or a cluster reaches a terminal only as printable characters, and names, addresses
and paths are never broken in two unless they are longer than a line, so that they can be copied.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import click

from leastway.verify.errors import line, wrapped

SHOWN = 20  # entries of a list that text output shows; JSON shows all
LONGEST = 2000  # characters of one piece of text
NARROWEST, PIPED = 40, 100  # columns: the fewest ever used, and those used where there is no terminal


def say(text: str) -> None:
    """One line of talk, on stderr."""
    click.echo(f"leastway: {line(text, LONGEST)}", err=True)


def columns() -> int:
    """How wide text on stdout may be: COLUMNS if it is set, else the terminal's width, or 100 without one."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and 0 < len(told) < 6:
        return max(NARROWEST, int(told))
    if not sys.stdout.isatty():
        return PIPED
    return max(NARROWEST, shutil.get_terminal_size((PIPED, 24)).columns)


def tell(text: str = "", indent: int = 0, hanging: int = 2) -> None:
    """One piece of data, on stdout; wrapped, with further lines `hanging` further in."""
    click.echo(wrapped(line(text, LONGEST), columns(), indent, hanging))


def tell_some(entries: Iterable[str]) -> None:
    """The first entries of a list, and how many more there are."""
    found = list(entries)
    for entry in found[:SHOWN]:
        tell(entry, 2)
    if len(found) > SHOWN:
        tell(f"and {len(found) - SHOWN} more (--format json lists all)", 2)


def tell_json(value: object) -> None:
    """A value as sorted JSON, on stdout."""
    click.echo(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True))


def counted(number: int, what: str) -> str:
    """`1 file`, `2 files`, `2 policies`."""
    if number == 1:
        return f"1 {what}"
    return f"{number} {what[:-1]}ies" if what.endswith("cy") else f"{number} {what}s"


def moment(seconds: object) -> str:
    """Unix seconds as a date and time in UTC; "" for none, and for what no calendar holds."""
    if not isinstance(seconds, int) or seconds <= 0:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return ""
