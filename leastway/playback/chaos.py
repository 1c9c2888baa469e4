"""What goes wrong in a playback with `--chaos SEED`: decided before it begins, from the seed and the capture alone.

Invariant: two plans of one seed and one capture are equal, and every record that is not `missing` reaches a client that
resumes as it should. Records are only moved within `DISORDER`, which is less than the overlap of any sound client.
"""

from __future__ import annotations

from random import Random

from leastway.playback.capture import Capture

DISORDER = 2_000_000_000  # nanoseconds that a record may come late
REACH = 16  # positions over which records are moved, repeated or lost
DISCONNECTS = 50


class Chaos:
    """The plan, by position in the capture.

    `disconnects` break the stream, once each, before their position. `repeats` sends an earlier record again. `moved`
    swaps two records. `lost` records are announced: of `lost[p]` = (node, count) a LostEvent tells before position p.
    `away` announces a node as unavailable before a position and as connected before the second. `overruns`, each at a
    disconnect, is a node whose buffer runs over meanwhile: all its records up to there cannot be asked for again.
    `missing` are all the positions that are never sent.
    """

    def __init__(self, seed: int, capture: Capture, disconnects: int = DISCONNECTS) -> None:
        rng = Random(seed)  # noqa: S311  # it is meant to be foreseen
        count = len(capture)
        every = range(1, count)
        self.disconnects = sorted(rng.sample(every, min(disconnects, len(every))))
        some = max(1, count // 100) if count > 1 else 0
        self.repeats = {p: max(0, p - rng.randrange(1, REACH)) for p in rng.sample(every, some)}
        self.missing: set[int] = set()
        self.lost: dict[int, list[tuple[str, int]]] = {}
        self.away: dict[int, list[tuple[str, bool]]] = {}
        self.overruns: dict[int, tuple[str, int]] = {}
        for start in rng.sample(every, some):
            self._lose(start, rng.randrange(1, REACH), capture)
        for start in rng.sample(every, min(some, 3)):
            self._send_away(start, start + rng.randrange(1, REACH), capture)
        for start in rng.sample(self.disconnects, min(len(self.disconnects), 3)):
            self._overrun(start, rng.randrange(1, REACH), capture)
        self.moved: dict[int, int] = {}
        for p in rng.sample(every, some):
            q = min(p + rng.randrange(1, REACH), count - 1)
            near = capture.times[q] - capture.times[p] <= DISORDER
            apart = any(p < start <= q for start in self.overruns)  # the one would be forgotten before it was sent
            if p != q and near and not apart and not {p, q} & self.moved.keys():
                self.moved |= {p: q, q: p}

    def _lose(self, start: int, length: int, capture: Capture) -> None:
        gone = [p for p in range(start, min(start + length, len(capture))) if p not in self.missing]
        self.missing.update(gone)
        nodes = [capture.names[capture.nodes[p]] for p in gone]
        self.lost.setdefault(start, []).extend((node, nodes.count(node)) for node in sorted(set(nodes)))

    def _send_away(self, start: int, end: int, capture: Capture) -> None:
        node = capture.nodes[start]
        self.missing.update(p for p in range(start, min(end, len(capture))) if capture.nodes[p] == node)
        self.away.setdefault(start, []).append((capture.names[node], False))
        self.away.setdefault(end, []).append((capture.names[node], True))

    def _overrun(self, start: int, length: int, capture: Capture) -> None:
        node = capture.nodes[start]
        end = min(start + length, len(capture))
        self.missing.update(p for p in range(start, end) if capture.nodes[p] == node)
        self.overruns[start] = (capture.names[node], end)

    def __str__(self) -> str:
        told = sum(count for losses in self.lost.values() for _, count in losses)
        return (
            f"{len(self.disconnects)} disconnects, {len(self.repeats)} records repeated, {len(self.moved)} moved, "
            f"{len(self.missing)} missing: {told} told as lost events, nodes away {len(self.away) // 2} times, "
            f"{len(self.overruns)} buffers run over"
        )
