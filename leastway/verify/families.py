"""Which address family a connection takes: one that both ends have.

Invariant: for two ends without particular addresses, what holds in every family given here holds for every connection
between them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from leastway.verify.verdict import End, Verdict
from leastway.verify.world import Subject, address


def families(one: End, other: End) -> list[tuple[End, End]]:
    """The two ends once for each family that they share, IPv4 first; unchanged if there is only one, or it is not
    known."""
    first, second = _versions(one), _versions(other)
    if len(first) < 2 and len(second) < 2:
        return [(one, other)]
    common = first & second if first and second else first | second
    return [(_narrowed(one, version), _narrowed(other, version)) for version in sorted(common)] or [(one, other)]


def in_every_family(source: End, destination: End, decide: Callable[[End, End], Verdict]) -> Verdict:
    """The verdict whichever family a connection takes; undefined if that makes a difference."""
    ends = families(source, destination)
    found = [decide(one, other) for one, other in ends]
    if len({verdict.outcome for verdict in found}) == 1:
        return found[0]
    denied = next((verdict for verdict in found if verdict.outcome == "deny"), found[0])
    shown = (
        f"IPv{one.family or other.family}: {v.outcome} ({v.because})"
        for (one, other), v in zip(ends, found, strict=True)
    )
    return denied._replace(outcome="undefined", because=f"it depends on the address family: {'; '.join(shown)}")


def _narrowed(end: End, version: int) -> End:
    return end if end.address is not None or end.subject is None else end._replace(family=version)


def _versions(end: End) -> frozenset[int]:
    """The address families of an end; empty if they are not known."""
    if end.address is not None:
        return frozenset((end.address.version,))
    if end.family:
        return frozenset((end.family,))
    return frozenset() if end.subject is None else _families_of(end.subject)


@lru_cache(maxsize=1 << 16)
def _families_of(subject: Subject) -> frozenset[int]:
    return frozenset(ip.version for ip in map(address, subject.ips) if ip is not None)
