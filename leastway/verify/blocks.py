"""External addresses as ranges.

Invariant: ranges neither overlap nor touch, so they depend only on the addresses, not on how blocks are cut.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from leastway.verify.networkpolicy_schema import Block, Network

Span = tuple[int, int]  # first and last address


class AddressRange(NamedTuple):
    """Neighbouring addresses of one family."""

    version: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return self.last - self.first + 1

    def seen(self, addresses: Iterable[tuple[int, int]]) -> int:
        """How many of the given (version, address) pairs are in it."""
        return sum(version == self.version and self.first <= ip <= self.last for version, ip in addresses)


Ranges = tuple[AddressRange, ...]  # ascending, with a gap between any two of a family


@lru_cache(maxsize=1 << 12)
def ranges(blocks: frozenset[Block]) -> Ranges:
    """All addresses of some blocks."""
    found: list[AddressRange] = []
    for version in (4, 6):
        parts = [span for block in blocks if block.network.version == version for span in spans(block)]
        found += _joined(version, sorted(parts))
    return tuple(found)


def joined(parts: Iterable[AddressRange]) -> Ranges:
    """The addresses that are in any of the given ranges."""
    ordered = sorted(parts)
    return tuple(found for v in (4, 6) for found in _joined(v, [part[1:] for part in ordered if part.version == v]))


def split(networks: Iterable[Network]) -> list[AddressRange]:
    """All addresses, cut at the ends of the given networks."""
    found = []
    cuts = list(networks)
    for whole in EVERYWHERE:
        inner = {
            n for net in cuts if net.version == whole.version for n in (int(net[0]), int(net.broadcast_address) + 1)
        }
        ends = sorted({whole.first, whole.last + 1} | inner)
        found += [AddressRange(whole.version, first, after - 1) for first, after in pairwise(ends)]
    return found


def _joined(version: int, parts: Iterable[Span]) -> list[AddressRange]:
    found: list[AddressRange] = []
    for first, last in parts:
        if found and first <= found[-1].last + 1:
            found[-1] = found[-1]._replace(last=max(last, found[-1].last))
        else:
            found.append(AddressRange(version, first, last))
    return found


def near(parts: Ranges) -> Iterator[Ranges]:
    """Ranges of one family in groups: the gaps within a group hold only addresses that are not on the internet (RFC
    6890), such as private, shared and link-local ones."""
    group: list[AddressRange] = []
    for part in parts:
        if group and not _special(group[-1], part):
            yield tuple(group)
            group = []
        group.append(part)
    if group:
        yield tuple(group)


def subtracted(parts: Ranges, less: Ranges) -> Ranges:
    """The addresses of `parts` that are not in `less`."""
    found: list[AddressRange] = []
    behind = list(less[::-1])
    for part in parts:
        first = part.first
        while behind and (behind[-1].version, behind[-1].last) < (part.version, first):
            behind.pop()
        for other in behind[::-1]:
            if other.version != part.version or other.first > part.last:
                break
            if other.first > first:
                found.append(part._replace(first=first, last=other.first - 1))
            first = max(first, other.last + 1)
        if first <= part.last:
            found.append(part._replace(first=first))
    return tuple(found)


def common(parts: Ranges, others: Ranges) -> Ranges:
    """The addresses that are in both."""
    return parts if others == EVERYWHERE else subtracted(parts, subtracted(parts, others))


def _special(before: AddressRange, behind: AddressRange) -> bool:
    """Are all addresses between two ranges special?"""
    gap = AddressRange(before.version, before.last + 1, behind.first - 1)
    return before.version == behind.version and not subtracted((gap,), SPECIAL)


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


def shortened(size: int) -> str:
    """A number of addresses that a person can read."""
    return str(size) if size < 1 << 20 else f"2^{size.bit_length() - 1}"


ANYWHERE = (Block(ipaddress.ip_network("0.0.0.0/0"), ()), Block(ipaddress.ip_network("::/0"), ()))
EVERYWHERE = ranges(frozenset(ANYWHERE))
_SPECIAL = """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3
::/127 fc00::/7 fe80::/10 ff00::/8"""
SPECIAL = ranges(frozenset(Block(ipaddress.ip_network(text), ()) for text in _SPECIAL.split()))
