"""The command line: the only room that prints, exits, and imports click and rich.

Invariant: data on stdout, talk on stderr, and whatever happens ends in one line and an exit code, never in a traceback.
"""

from __future__ import annotations

from leastway.cli.group import cli


def main() -> None:
    """Run the command line and exit: 0 ok, 1 cannot do it, 2 usage, 3 the policies would deny observed traffic."""
    try:
        cli(prog_name="leastway")
    except KeyboardInterrupt:  # before a command began or after it ended
        raise SystemExit(130) from None


__all__ = ["cli", "main"]
