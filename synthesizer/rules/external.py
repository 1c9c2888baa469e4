"""Addresses outside the cluster: exact while they are few, then covering prefixes within a stated budget.

Invariant: a prefix never reaches into private, shared, link-local or metadata ranges, and allows at most `BUDGET`
addresses per address seen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from synthesizer.address_ranges import METADATA, Address, Network, collapsed, parsed
from synthesizer.intent import BlockPeer

EXACT = 32  # distinct addresses for one workload and port that are listed one by one
BUDGET = 4  # addresses allowed per address seen, in a covering prefix
# The shortest prefix length that is tried, by IP version. Nothing longer than an IPv4 /24 or an IPv6 /48 is generally
# announced on its own (RFC 7454, 6.1.3), so such a block stays within one network; a shorter one may not.
_WIDEST = {4: 24, 6: 112}

# Not the internet: RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291.
NOT_INTERNET = {
    4: tuple(
        map(ipaddress.ip_network, ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"))
    ),
    6: tuple(map(ipaddress.ip_network, ("fc00::/7", "fe80::/10"))),
}


def is_internet(address: str) -> bool:
    """Whether an address lies outside the private ranges."""
    one = parsed(address)
    return not any(one in network for network in NOT_INTERNET[one.version])


def blocks(addresses: Iterable[str]) -> tuple[BlockPeer, ...]:
    """The blocks that let these addresses through: `/32` and `/128` each, or merged when there are many.

    Private addresses (a database on premises) are never merged.
    """
    ordered = sorted({parsed(a) for a in addresses}, key=lambda a: (a.version, int(a)))
    if len(ordered) <= EXACT:
        return tuple(BlockPeer(_single(a)) for a in ordered)
    found: list[str] = []
    for version, widest in _WIDEST.items():
        public = [a for a in ordered if a.version == version and is_internet(str(a))]
        found += [_single(a) for a in ordered if a.version == version and not is_internet(str(a))]
        found += _merged(public, 32 if version == 4 else 128, widest)
    return tuple(BlockPeer(cidr) for cidr in sorted(found))


def _single(address: Address) -> str:
    return f"{address}/{address.max_prefixlen}"


def _merged(addresses: list[Address], full: int, widest: int) -> list[str]:
    """Greedily take the widest prefixes that keep the budget."""
    left = list(addresses)
    found: list[str] = []
    for length in range(widest, full):
        groups: dict[str, list[Address]] = {}
        for address in left:
            groups.setdefault(str(ipaddress.ip_network((address, length), strict=False)), []).append(address)
        taken = {
            cidr
            for cidr, group in groups.items()
            if len(group) > 1 and 2 ** (full - length) <= BUDGET * len(group) and not _apart_from_internet(cidr)
        }
        found += sorted(taken)
        left = [a for cidr, group in groups.items() if cidr not in taken for a in group]
    return found + [_single(address) for address in left]


def _apart_from_internet(cidr: str) -> list[str]:
    """The metadata services at public addresses that a block covers."""
    network = ipaddress.ip_network(cidr)
    covered = sorted(parsed(ip) for ip in METADATA if is_internet(ip) and parsed(ip) in network)
    return [_single(address) for address in covered]


def everywhere(version: int) -> BlockPeer:
    """Where a workload may go that talks to the internet at large: all of it, and no cloud's metadata service."""
    (block,) = internet((version,))
    return BlockPeer(block.cidr, (*block.excepted, *_apart_from_internet(block.cidr)))


def internet(
    versions: Iterable[int], node_addresses: Iterable[str] = (), others: Iterable[Network] = ()
) -> tuple[BlockPeer, ...]:
    """The internet at large, per address family, without what is not the internet, and without `others`.

    `node_addresses` are those that outsiders seem to have (SNAT); a range that holds one of them is not excepted.
    """
    inside = [ipaddress.ip_address(address) for address in node_addresses]
    apart = tuple(others)
    found = []
    for version in sorted(set(versions)):
        ranges = (*NOT_INTERNET[version], *(net for net in apart if net.version == version))
        closed = [net for net in ranges if not any(a.version == version and a in net for a in inside)]
        excepted = collapsed(map(str, closed))
        found.append(BlockPeer("0.0.0.0/0" if version == 4 else "::/0", tuple(map(str, excepted))))
    return tuple(found)
