"""Options that mean the same on every command that has them.

Invariant: a wrong value is a usage error that names its option.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from synthesizer.options import valid_trust_domain

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value", bound=str | tuple[str, ...] | None)


def not_empty(ctx: click.Context, param: click.Parameter, value: Value) -> Value:
    """What was given, if it is no empty text: that comes of a variable that is not set, and would name this folder."""
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise click.BadParameter("it is empty", ctx, param)
    return value


def read_share(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """`1%`, or a number: below 1 a share (`0.01`), from 1 on a percentage (`1`); gives the share, 0 to 1."""
    text = value.strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise click.BadParameter(f"{text[:40]!r} is neither a percentage (1%) nor a share (0.01)", ctx, param) from None
    share = number / 100 if text.endswith("%") or number >= 1 else number
    if not 0 <= share <= 1:
        raise click.BadParameter(f"{text[:40]!r} is not between 0% and 100%", ctx, param)
    return share


_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def read_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """`90`, `90s`, `5m`, `2h` or `7d` in seconds."""
    return _scaled(ctx, param, value, _SECONDS, "a duration, such as 90s, 5m, 2h or 7d")


def read_time(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """`2h` (that long ago) or `2026-03-01T08:00:00Z` in unix seconds; times before 1970 are its first second."""
    if value is None or not re.match(r"[0-9]{4}-", value.strip(), re.ASCII):
        what = "a duration ago, such as 5m or 2h, or a time, such as 2026-03-01T08:00:00Z"
        ago = _scaled(ctx, param, value, _SECONDS, what)
        return None if ago is None else max(1.0, time.time() - ago)
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        raise click.BadParameter(f"{value[:40]!r} is no time, such as 2026-03-01T08:00:00Z", ctx, param) from None
    return max(1.0, (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def read_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """`500MiB` or `2GB` in bytes."""
    size = _scaled(ctx, param, value, _BYTES, "a size, such as 500MiB or 2GB")
    return None if size is None else int(size)


def _scaled(
    ctx: click.Context, param: click.Parameter, value: str | None, units: Mapping[str, float], what: str
) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s?([A-Za-z]*)", value.strip(), re.ASCII)
    if found is None or found[2] not in units:
        raise click.BadParameter(f"{value[:40]!r} is not {what}", ctx, param)
    return float(found[1]) * units[found[2]]


def read_trust_domain(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A SPIFFE trust domain's name."""
    if value is not None and not valid_trust_domain(value):
        raise click.BadParameter(f"{value[:40]!r} is not a trust domain, such as cluster.local", ctx, param)
    return value


def inventory_option(command: Command) -> Command:
    """`--inventory FILE`, repeatable."""
    return click.option(
        "--inventory",
        "inventories",
        multiple=True,
        metavar="FILE",
        callback=not_empty,
        help="Kubernetes objects, as `kubectl get -o yaml` prints them; a file or a folder. Repeatable.",
    )(command)


def profile_options(command: Command) -> Command:
    """`--cni`, `--mesh` and `--trust-domain`; None where nothing was given."""
    for option in (
        click.option(
            "--trust-domain",
            metavar="DOMAIN",
            callback=read_trust_domain,
            help="Trust domain of the mesh.  [default: as the inventory's mesh configuration says, else cluster.local]",
        ),
        click.option(
            "--mesh",
            type=click.Choice(["none", "sidecar", "ambient"]),
            help="Which proxies enforce AuthorizationPolicy.  [default: detected]",
        ),
        click.option(
            "--cni",
            type=click.Choice(["generic", "cilium", "calico"]),
            help="Whose reading of NetworkPolicy counts; give cilium where Cilium enforces.  [default: generic]",
        ),
    ):
        command = option(command)
    return command


def declared_option(command: Command) -> Command:
    """`--declared FILE`."""
    return click.option(
        "--declared",
        metavar="FILE",
        callback=not_empty,
        help="Connections that must work although they may not be observed: a list of from, to, port, because.",
    )(command)


def accept_option(command: Command) -> Command:
    """`--accept ID`, repeatable."""
    return click.option(
        "--accept",
        "accepted",
        multiple=True,
        metavar="ID",
        callback=not_empty,
        help="Accept a review item, by its id. Repeatable.",
    )(command)


def bad_lines_option(command: Command) -> Command:
    """`--max-bad-lines`."""
    return click.option(
        "--max-bad-lines",
        metavar="PERCENT",
        callback=read_share,
        default="1%",
        show_default=True,
        help="More unreadable lines than this make the exit code 1, after the work is done.",
    )(command)


def format_option(command: Command) -> Command:
    """`--format text|json`."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How the result is printed on stdout.",
    )(command)
