"""Ports split into classes that no rule can tell apart.

Invariant: every port of every protocol is in exactly one class, and a rule admits a whole class or none of it. Ports
that were observed, declared or named by a rule are classes of their own; the rest is one class for each set of
ranges that covers it, the uncovered rest (`other`) included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from leastway.verify.networkpolicy_schema import PROTOCOLS, Ports
from leastway.verify.world import NamedPort

LAST = 65535


class PortClass(NamedTuple):
    """`number` is a member that stands for the class; `kind` is `port`, `range` (covered by a range only) or
    `other`."""

    protocol: str
    number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}" if self.kind == "port" else f"{self.kind} {self.protocol}"


def classes(
    entries: Iterable[Ports], declared: Iterable[NamedPort], observed: Iterable[tuple[str, int]]
) -> list[PortClass]:
    """The classes of one destination, given all port entries of rules about it, its own ports and those seen."""
    known = tuple(declared)
    points: dict[str, set[int]] = {protocol: set() for protocol in PROTOCOLS}
    ranges: dict[str, set[tuple[int, int]]] = {protocol: set() for protocol in PROTOCOLS}
    for port in known:
        if port.protocol in points:
            points[port.protocol].add(port.number)
    for protocol, number in observed:
        if protocol in points:
            points[protocol].add(number)
    for entry in entries:
        if entry.name:
            continue  # a name stands for declared ports, which are points already
        if entry.low == entry.high:
            points[entry.protocol].add(entry.low)
        elif (entry.low, entry.high) != (1, LAST):
            ranges[entry.protocol].add((entry.low, entry.high))
    found: list[PortClass] = []
    for protocol in PROTOCOLS:
        found += [PortClass(protocol, number, "port") for number in sorted(points[protocol])]
        found += _rest(protocol, points[protocol], ranges[protocol])
    return found


def _rest(protocol: str, points: set[int], ranges: set[tuple[int, int]]) -> Iterator[PortClass]:
    """One class for each set of ranges that covers a port which is no point."""
    if not ranges:
        yield PortClass(protocol, _free(points, 1, LAST), "other")
        return
    cuts = sorted({1, LAST + 1} | {low for low, _ in ranges} | {high + 1 for _, high in ranges})
    seen: set[tuple[tuple[int, int], ...]] = set()
    for low, after in pairwise(cuts):
        number = _free(points, low, after - 1)
        covering = tuple(sorted(span for span in ranges if span[0] <= low <= span[1]))
        if number and covering not in seen:
            seen.add(covering)
            yield PortClass(protocol, number, "range" if covering else "other")


def _free(points: set[int], low: int, high: int) -> int:
    """The smallest port from `low` to `high` that is no point, 0 if there is none."""
    number = low
    while number in points:
        number += 1
    return number if number <= high else 0


def admits(ports: tuple[Ports, ...] | None, port: PortClass, declared: tuple[NamedPort, ...]) -> bool:
    """Does a rule's port list admit a class at a destination with these declared ports?"""
    return ports is None or any(entry_admits(entry, port, declared) for entry in ports)


def entry_admits(entry: Ports, port: PortClass, declared: tuple[NamedPort, ...]) -> bool:
    """Does one port entry admit a class?"""
    if entry.protocol != port.protocol:
        return False
    if entry.name:
        return NamedPort(entry.name, port.protocol, port.number) in declared
    return entry.low <= port.number <= entry.high
