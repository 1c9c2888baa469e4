"""A playback from captures to an address: what `leastway replay --hubble` and the tests start.

Invariant: when the context ends, nothing listens any more and nothing is left on the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from collector.transport import TLS, Address
from leastway.playback.capture import Capture
from leastway.playback.chaos import Chaos
from leastway.playback.clock import Clock
from leastway.playback.cutting import Cutter
from leastway.playback.observer import serve
from leastway.playback.stream import Playback


@dataclass
class Played:
    """What is being played: where, and `remarks` for whoever started it."""

    capture: Capture
    playback: Playback
    address: Address
    chaos: Chaos | None = None
    wire: Cutter | None = None
    remarks: list[str] = field(default_factory=list)


@contextmanager
def play(
    captures: Sequence[str],
    address: Address,
    tls: TLS | None = None,
    *,
    speed: float = 0.0,
    loop: bool = False,
    seed: int | None = None,
    grace: float = 0.0,
) -> Iterator[Played]:
    """Serve captures on `address` at a `speed` (0: all at once); with a `seed`, chaos.

    Raises SourceError when there is nothing to play or nowhere to listen.
    """
    capture = Capture(captures)
    chaos = None if seed is None else Chaos(seed, capture)
    playback = Playback(capture, Clock(capture, speed, loop), chaos)
    with ExitStack() as stack:
        behind, wire = address, None
        if seed is not None:  # clients come through a wire that can be cut
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="leastway-replay-"))
            behind = Address(path=str(Path(folder) / "socket"))
        server, bound = serve(playback, behind, tls)
        stack.callback(lambda: server.stop(grace).wait(grace + 1))
        if seed is not None:
            wire = stack.enter_context(Cutter(address, bound, seed))
            bound = wire.address
        yield Played(capture, playback, bound, chaos, wire, _remarks(capture, chaos, seed))


def _remarks(capture: Capture, chaos: Chaos | None, seed: int | None) -> list[str]:
    remarks = [f"a file ends early or is damaged — {text}" for text in capture.broken]
    if capture.unread:
        remarks.append(f"{capture.unread} records are no Hubble events and are left out")
    if chaos is not None:
        remarks.append(f"chaos {seed}: {chaos}")
    return remarks
