"""The command line: the only room that prints, exits, and imports click and rich.

Invariant: data goes to stdout and talk to stderr, and every failure ends in one line and an exit code, not a traceback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from collector.beside import abandon
from leastway.cli.exit_codes import INTERRUPTED

if TYPE_CHECKING:
    import click

    cli: click.Group


def main() -> NoReturn:
    """Run the command line and exit: 0 ok, 1 cannot do it, 2 usage, 3 the policies would deny observed traffic."""
    _open_streams()
    try:
        sys.modules[__name__].cli(prog_name="leastway")  # imported only now: an interrupt is no traceback then, either
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        _leave(ended.code or 0)
    except KeyboardInterrupt:  # before a command began or after it ended
        _leave(INTERRUPTED)
    _leave(0)


def __getattr__(name: str) -> object:
    """`cli`, the group of commands, which is imported with what it needs when it is asked for."""
    if name != "cli":
        raise AttributeError(name)
    from leastway.cli.group import cli

    return cli


def _open_streams() -> None:
    """A stream that the caller closed is nobody's: what is said goes nowhere, and nothing can be read."""
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  # for as long as the process
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # as above
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # as above


def _leave(code: int) -> NoReturn:
    """End the process at once: freeing millions of objects one by one would keep the user waiting for nothing."""
    abandon()  # after an interrupt, other processes may still read for this one
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # the reader of our output is gone; the interpreter knows how to end then
        raise SystemExit(code) from None
    os._exit(code)


__all__ = ["cli", "main"]
