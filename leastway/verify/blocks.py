"""External addresses split into blocks that no rule can tell apart.

Invariant: blocks are split at every CIDR and exception boundary that the given rules mention, and counted by the set of
rules' blocks that cover them: one for each such set, whatever its size.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from leastway.verify.networkpolicy_schema import Block

Span = tuple[int, int]  # first and last address


class AddressClass(NamedTuple):
    """Addresses of one family that are covered by exactly the blocks `covering` (indices into the list that was
    split)."""

    version: int
    covering: frozenset[int]
    spans: tuple[Span, ...]

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return sum(last - first + 1 for first, last in self.spans)

    def seen(self, addresses: Sequence[int]) -> int:
        """How many of the given sorted addresses are in it."""
        return sum(bisect_right(addresses, last) - bisect_left(addresses, first) for first, last in self.spans)


def split(blocks: Sequence[Block]) -> list[AddressClass]:
    """The classes of addresses that are in at least one of the blocks."""
    found: list[AddressClass] = []
    for version in (4, 6):
        opening: dict[int, list[int]] = {}
        closing: dict[int, list[int]] = {}
        for i, block in enumerate(blocks):
            if block.network.version != version:
                continue
            for first, last in spans(block):
                opening.setdefault(first, []).append(i)
                closing.setdefault(last + 1, []).append(i)
        grouped: dict[frozenset[int], list[Span]] = {}
        active: set[int] = set()
        cuts = sorted({*opening, *closing})
        for cut, after in pairwise(cuts):
            active.difference_update(closing.get(cut, ()))
            active.update(opening.get(cut, ()))
            if active:
                grouped.setdefault(frozenset(active), []).append((cut, after - 1))
        found += [AddressClass(version, covering, tuple(parts)) for covering, parts in grouped.items()]
    return found


def spans(block: Block) -> list[Span]:
    """A block without its exceptions, as address ranges."""
    first, last = int(block.network.network_address), int(block.network.broadcast_address)
    parts: list[Span] = []
    for inner in sorted(block.excepts, key=lambda n: int(n.network_address)):
        begin = int(inner.network_address)
        if begin > first:
            parts.append((first, begin - 1))
        first = max(first, int(inner.broadcast_address) + 1)
    if first <= last:
        parts.append((first, last))
    return parts


def sizes(count: Iterable[int]) -> str:
    """A number of addresses that a person can read."""
    total = sum(count)
    return str(total) if total < 1 << 20 else f"2^{total.bit_length() - 1}"
