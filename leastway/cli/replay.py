"""`leastway replay`: a capture as a live cluster.

Invariant: the address is printed after it listens and before it plays, so that a client can connect in time.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from collector.transport import TLS, Address, parse_address
from leastway.cli.exit_codes import FAILED
from leastway.cli.options import not_empty
from leastway.cli.output import say

GRACE = 1.0  # seconds that open streams get at the end
_FILE = click.Path(path_type=Path, dir_okay=False)


def read_speed(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """`1x`, `10x`, `0.5x`; `max` is 0: everything at once."""
    text = value.strip().lower()
    if text == "max":
        return 0.0
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e6:
        raise click.BadParameter(f"{text[:40]!r} is no speed: give 1x, 10x or max", ctx, param)
    return speed


@click.command("replay")
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...", callback=not_empty)
@click.option("--hubble", metavar="LISTEN", help="Serve Hubble's Observer API here: host:port or unix:///path.")
@click.option("--als", metavar="TARGET", help="Send access logs to the service there: host:port or unix:///path.")
@click.option("--speed", callback=read_speed, default="1x", show_default=True, help="1x, 10x, ... or max: all at once.")
@click.option("--loop", is_flag=True, help="Begin anew after the end, with later times and other ids.")
@click.option("--chaos", "seed", type=int, metavar="SEED", help="Break off streams; repeat, move and lose records.")
@click.option("--server-cert", type=_FILE, metavar="FILE", help="Our certificate: serve Hubble's API over TLS.")
@click.option("--server-key", type=_FILE, metavar="FILE", help="Its key.")
@click.option("--server-ca", type=_FILE, metavar="FILE", help="Clients need a certificate of this authority.")
@click.option("--als-tls", is_flag=True, help="TLS to the target, with the system's authorities.")
@click.option("--als-ca", type=_FILE, metavar="FILE", help="TLS to the target, with this authority.")
@click.option("--als-cert", type=_FILE, metavar="FILE", help="Our certificate for the target (mutual TLS).")
@click.option("--als-key", type=_FILE, metavar="FILE", help="Its key.")
@click.option("--als-server-name", metavar="NAME", help="The name that the target's certificate must carry.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    captures: tuple[str, ...],
    hubble: str | None,
    als: str | None,
    speed: float,
    loop: bool,
    seed: int | None,
    **files: Any,
) -> None:
    """Play a capture as if it were a live cluster.

    CAPTURE is as INPUT in `leastway generate`. With --hubble, any form of Hubble's JSON is served until it is stopped;
    the clock starts with the first client. With --als, recorded messages of Envoy's access log service are sent, each
    proxy's on a stream of its own.

    \b
    leastway replay flows.jsonl.gz --hubble localhost:4245 --speed 10x
    leastway replay als.jsonl.zst --als localhost:9001 --speed max
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its messages about broken clients are not for a terminal
    own = [files[f"server_{name}"] for name in ("ca", "cert", "key")]
    theirs = [files[f"als_{name}"] for name in ("ca", "cert", "key")]
    name = files["als_server_name"] or ""
    if (hubble is None) == (als is None):
        raise click.UsageError("give either --hubble or --als")
    if hubble is not None:
        if any(theirs) or name or files["als_tls"]:
            raise click.UsageError("the --als-... options need --als")
        _serve(captures, parse_address(hubble, listen=True), TLS(*own) if any(own) else None, speed, loop, seed)
    elif als is not None:
        if any(own):
            raise click.UsageError("the --server-... options need --hubble")
        ca, certificate, key = theirs
        tls = TLS(ca, certificate, key, name) if any(theirs) or name or files["als_tls"] else None
        if not _send(captures, parse_address(als), tls, speed, loop, seed):
            ctx.exit(FAILED)


def _serve(
    captures: tuple[str, ...], address: Address, tls: TLS | None, speed: float, loop: bool, seed: int | None
) -> None:
    from leastway.playback.server import play

    with _signals() as stopped, ExitStack() as stack:
        played = stack.enter_context(play(captures, address, tls, speed=speed, loop=loop, seed=seed, grace=GRACE))
        for line in played.remarks:
            say(line)
        say(f"serving {len(played.capture)} Hubble records on {played.address}")
        stopped.wait()


def _send(
    captures: tuple[str, ...], target: Address, tls: TLS | None, speed: float, loop: bool, seed: int | None
) -> bool:
    """Send the captures; True if all messages were taken, or lost on purpose."""
    from leastway.playback.access_logs import stream_access_logs

    with _signals() as stopped:
        sent = stream_access_logs(captures, target, tls, speed=speed, loop=loop, seed=seed, stopped=stopped)
    for text in sent.broken:
        say(f"a file ends early or is damaged — {text}")
    if sent.unread:
        say(f"{sent.unread} records are no access log messages and are left out")
    if sent.lost:
        say(f"{sent.lost} messages were not taken: {sent.refusal}")
    say(f"sent {sent.entries} entries in {sent.messages} messages on {sent.streams} streams to {target}")
    return not sent.lost or seed is not None


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set."""
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
