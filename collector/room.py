"""How much an aggregate may hold between two `take`s of a live source, whatever its senders do.

Invariant: flows of known patterns are always counted. Only what would make the aggregate grow is refused, first to
the senders that brought most of it. Sizes are estimates on the safe side; once they add up to the room allowed, the
aggregate is weighed.
"""

from __future__ import annotations

from collections.abc import Callable

from collector.evidence import SKETCHES, Evidence
from collector.patterns import Edge, Patterns
from collector.sketch import BottomK

GROWTH = 6144  # bytes that one new flow may add to an aggregate at most, besides its own text

# Bytes on CPython 3.11 (tests/collector/test_room.py): evidence without keys, a key without text, what is around it.
_EVIDENCE = 2200
_KEY = 110
_EDGE = 1000


class Overload(Exception):
    """There is no room for what a sender brings; it may try again after the next `take`. `records` were turned away."""

    def __init__(self, records: int) -> None:
        super().__init__("no room")
        self.records = records


class Room:
    """The room of one aggregate. `limit` in bytes."""

    __slots__ = ("allowed", "brought", "full", "grown", "limit", "pressed")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.grown = 0
        self.allowed = limit // 2
        self.brought: dict[str, int] = {}
        self.pressed = False
        self.full = False

    def grow(self, sender: str, size: int, weigh: Callable[[], int]) -> bool:
        """Whether there is room for `size` bytes more of one sender; `weigh` tells what the aggregate really holds."""
        brought = self.brought[sender] = self.brought.get(sender, 0) + size
        self.grown += size
        if self.grown > self.allowed and not self.full:
            held = weigh()
            self.pressed = held > self.limit // 2
            self.full = held > self.limit * 3 // 4
            self.allowed = self.grown + (self.limit - held) // 2
        return not self.full and not (self.pressed and brought > self.limit // 4)


def weight(patterns: Patterns) -> int:
    """About how many bytes of memory an aggregate takes."""
    edges = sum(_edge_weight(edge) for edge in patterns.edges.values())
    return edges + sum(_EDGE + _sketch_weight(sighting.pods) for sighting in patterns.sightings.values())


def _edge_weight(edge: Edge) -> int:
    held = [*edge.spoken.kept.values(), *edge.knocked.kept.values(), *edge.open.kept.values()]
    return _EDGE + sum(map(_evidence_weight, held))


def _evidence_weight(evidence: Evidence) -> int:
    return _EVIDENCE + sum(_sketch_weight(getattr(evidence, name)) for name in SKETCHES)


def _sketch_weight(sketch: BottomK[str, int]) -> int:
    sketch.trim()
    return sum(map(len, map(str, sketch.kept))) + _KEY * len(sketch.kept)
