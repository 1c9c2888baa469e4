"""The group of commands, which imports a command's module only when that command is run.

Invariant: `leastway --help` imports click and the standard library and nothing else, and every error that leaves a
command is printed here, as one line.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from collector.errors import LeastwayError
from leastway.cli.exit_codes import BROKEN_PIPE, FAILED, INTERRUPTED
from leastway.cli.output import say
from leastway.verify.errors import PolicyError, line

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# name → what the list of commands says about it. The command is `command` in the module of that name.
COMMANDS = {
    "generate": "Captures in, proven policies out.",
    "verify": "Replay observed traffic against policies: what they would deny, and what they allow beyond it.",
    "can": "Ask the judge whether one connection is allowed, and by which rule.",
    "explain": "Show the traffic behind the rules of a generated policy.",
    "diff": "Show which connections two policy sets let through differently.",
    "observe": "Gather patterns from live traffic into a store.",
    "replay": "Play a capture as if it were a live cluster.",
    "merge": "Merge the parts of a pattern store into one.",
}


class LazyGroup(click.Group):
    """A group whose commands are modules, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # the signature is click's
        """All names, in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as above
        """The command; its module is imported now."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"leastway.cli.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # as above
        """The list of commands, from `COMMANDS`, without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; every failure becomes one line on stderr and an exit code."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to stop
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except (LeastwayError, PolicyError) as error:
            say(str(error))
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            say("interrupted — every file is as it was or complete")
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _forget_stdout()
            ctx.exit(BROKEN_PIPE)
        except OSError as error:
            _forget_stdout()
            hint = "is the disk full?" if error.errno in _FULL else "check the path and its permissions"
            say(f"cannot go on: {error.strerror or error} — {error.filename or 'standard output'} — {hint}")
            ctx.exit(FAILED)
        except Exception as error:
            if os.environ.get("LEASTWAY_DEBUG"):
                raise
            what = line(f"{type(error).__name__}: {error}")
            say(f"this is a defect in leastway — {what} — LEASTWAY_DEBUG=1 shows where")
            ctx.exit(FAILED)
        return result


def _forget_stdout() -> None:
    """The reader of our output is gone: let the interpreter's last flush go nowhere instead of failing."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib import metadata

    try:
        click.echo(f"leastway {metadata.version('leastway')}")
    except metadata.PackageNotFoundError:
        click.echo("leastway (from a source tree, not installed)")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def cli() -> None:
    """Least-privilege NetworkPolicy and AuthorizationPolicy from observed traffic, with a proof.

    \b
    leastway generate flows.jsonl --inventory cluster.yaml -o policies
    leastway verify policies flows.jsonl --inventory cluster.yaml

    Exit codes: 0 ok; 1 cannot do it; 2 usage; 3 the policies would deny observed traffic.
    """
