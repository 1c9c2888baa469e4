"""How a proof, and what could not be read, are shown.

Invariant: the first line is the result, and nothing in the text is missing from the JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from collector.reading import Reading
from leastway.cli.output import SHOWN, columns, counted, say
from leastway.verify.errors import line
from leastway.verify.proof import render


def tell_proof(proof: Mapping[str, Any]) -> None:
    """Print a proof as wide as the terminal."""
    click.echo(render(dict(proof), columns()), nl=False)


def tell_bad_lines(reading: Reading, limit: float) -> bool:
    """Say which lines could not be read; True if they are more than `limit`, a share, allows."""
    if not reading.bad_lines:
        return False
    say(f"{counted(reading.bad_lines, 'line')} could not be read ({reading.bad_share:.2%} of all)")
    for bad in reading.bad[:SHOWN]:
        say(f"  {bad.file}:{bad.line} {line(bad.reason)}" if bad.line else f"  {bad.file} {line(bad.reason)}")
    if reading.bad_lines > SHOWN:
        say(f"  and {reading.bad_lines - SHOWN} more")
    exceeded = reading.bad_share > limit
    if exceeded:
        say(f"that is more than --max-bad-lines {limit:.2%} — the work is done, but the exit code is not 0")
    return exceeded


def bad_lines(reading: Reading) -> dict[str, Any]:
    """The bad lines for JSON; `first` holds those whose position was kept."""
    first = [{"file": bad.file, "line": bad.line, "reason": bad.reason} for bad in sorted(reading.bad)]
    return {"count": reading.bad_lines, "share": reading.bad_share, "first": first}
