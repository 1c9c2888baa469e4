"""`leastway replay`: a capture as a live cluster.

Invariant: the addresses are printed once it listens and before it plays, so that whoever started it can connect.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from collector.transport import TLS, parse_address
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
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...")
@click.option(
    "--hubble", required=True, metavar="LISTEN", help="Serve Hubble's Observer API here: host:port or unix:///path."
)
@click.option("--speed", callback=read_speed, default="1x", show_default=True, help="1x, 10x, ... or max: all at once.")
@click.option("--loop", is_flag=True, help="Begin anew after the end, with later times and other ids.")
@click.option("--chaos", "seed", type=int, metavar="SEED", help="Break off streams, repeat, move and lose records.")
@click.option("--server-cert", type=_FILE, metavar="FILE", help="Our certificate: serve over TLS.")
@click.option("--server-key", type=_FILE, metavar="FILE", help="Its key.")
@click.option("--server-ca", type=_FILE, metavar="FILE", help="Clients need a certificate of this authority.")
def command(
    captures: tuple[str, ...],
    hubble: str,
    speed: float,
    loop: bool,
    seed: int | None,
    server_cert: Path | None,
    server_key: Path | None,
    server_ca: Path | None,
) -> None:
    """Play a capture as if it were a live cluster, until it is stopped.

    CAPTURE is as INPUT in `leastway generate`, in any form of Hubble's JSON. The clock starts with the first client.

    \b
    leastway replay flows.jsonl.gz --hubble localhost:4245 --speed 10x
    hubble observe --server localhost:4245 --follow
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its messages about broken clients are not for a terminal
    address = parse_address(hubble, listen=True)
    tls = TLS(server_ca, server_cert, server_key) if server_ca or server_cert or server_key else None
    from leastway.playback.server import play

    with _signals() as stopped, ExitStack() as stack:
        played = stack.enter_context(play(captures, address, tls, speed=speed, loop=loop, seed=seed, grace=GRACE))
        for line in played.remarks:
            say(line)
        say(f"serving {len(played.capture)} Hubble records on {played.address}")
        stopped.wait()


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
