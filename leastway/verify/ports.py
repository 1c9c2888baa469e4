"""Ports split into classes that no rule can distinguish, and joined again into runs that are treated alike.

Invariant: every port of every protocol is in exactly one class, and a rule admits a whole class or none of it. Runs
depend only on what is allowed: a port that the world knows (declared or observed) stands for itself, the others for the
longest range that is treated alike, skipping known ports in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, TypeVar

from leastway.verify.networkpolicy_schema import PROTOCOLS, Ports
from leastway.verify.world import NamedPort

LAST = 65535
DNS_PORTS = (53, 5353)  # of resolvers; 5353 on OpenShift
Value = TypeVar("Value")


class PortClass(NamedTuple):
    """Ports from `number` to `last`, inclusive. A `point` is one known port; the other classes exclude the points among
    them. Classes of one protocol that are no points and have the same `alike` are covered by the same ranges."""

    protocol: str
    number: int
    last: int
    point: bool = True
    alike: int = 0

    @property
    def key(self) -> tuple[str, bool, int]:
        """What an answer about the class depends on."""
        return self.protocol, self.point, self.number if self.point else self.alike


class PortRun(NamedTuple):
    """Ports treated alike: `kind` is `port` (one), `range` (without the known ports in it) or `other` (all that are not
    known)."""

    protocol: str
    number: int
    last: int
    kind: str

    def __str__(self) -> str:
        if self.kind == "other":
            return f"other {self.protocol}"
        return f"{self.number}/{self.protocol}" if self.kind == "port" else f"{self.number}-{self.last}/{self.protocol}"


def single(protocol: str, number: int) -> PortClass:
    """The class of one port."""
    return PortClass(protocol, number, number)


def classes(entries: Iterable[Ports], known: Iterable[tuple[str, int]]) -> list[PortClass]:
    """The classes of one destination, given all port entries in rules about it and its known ports, declared or seen.
    In each protocol the points come first, then the others in ascending order."""
    points: dict[str, set[int]] = {protocol: set() for protocol in PROTOCOLS}
    ranges: dict[str, set[tuple[int, int]]] = {protocol: set() for protocol in PROTOCOLS}
    for protocol, number in known:
        if protocol in points:
            points[protocol].add(number)
    for entry in entries:
        # A name stands for declared ports, which are points already.
        if not entry.name and (entry.low, entry.high) != (1, LAST):
            ranges[entry.protocol].add((entry.low, entry.high))
    found: list[PortClass] = []
    for protocol in PROTOCOLS:
        found += [single(protocol, number) for number in sorted(points[protocol])]
        found += _rest(protocol, points[protocol], ranges[protocol])
    return found


def _rest(protocol: str, points: set[int], ranges: set[tuple[int, int]]) -> Iterator[PortClass]:
    """The ports that are no points, cut at the ends of every range."""
    if not ranges:
        yield PortClass(protocol, _free(points, 1, 1), _free(points, LAST, -1), False)
        return
    cuts = sorted({1, LAST + 1} | {low for low, _ in ranges} | {high + 1 for _, high in ranges})
    alike: dict[tuple[tuple[int, int], ...], int] = {}
    for low, after in pairwise(cuts):
        number = _free(points, low, 1)
        if number >= after:
            continue
        covering = tuple(sorted(span for span in ranges if span[0] <= low <= span[1]))
        yield PortClass(protocol, number, _free(points, after - 1, -1), False, alike.setdefault(covering, len(alike)))


def _free(points: set[int], number: int, step: int) -> int:
    """The nearest port from `number` on, up or down, that is no point."""
    while number in points:
        number += step
    return number


def runs(ports: Sequence[PortClass], sets: Sequence[int]) -> Iterator[tuple[PortRun, int, int]]:
    """For `classes` and a set for each: every longest run, the members that are in the sets of exactly this run, and
    the position of its first class."""
    by_protocol: dict[str, list[int]] = {}
    for at, port in enumerate(ports):
        if not port.point:
            by_protocol.setdefault(port.protocol, []).append(at)
        elif sets[at]:
            yield PortRun(port.protocol, port.number, port.number, "port"), sets[at], at
    for rest in by_protocol.values():
        yield from _rest_runs([ports[at] for at in rest], [sets[at] for at in rest], rest)


def _rest_runs(
    ports: Sequence[PortClass], sets: Sequence[int], positions: Sequence[int]
) -> Iterator[tuple[PortRun, int, int]]:
    began: dict[int, int] = {}  # where open runs began
    before = 0
    for at, now in enumerate([*sets, 0]):
        ended = before & ~now
        for start in list(began) if ended else ():
            bits = began[start] & ended
            if bits:
                yield _run(ports, start, at - 1), bits, positions[start]
            began[start] &= ~ended
            if not began[start]:
                del began[start]
        if now & ~before:
            began[at] = now & ~before
        before = now


def stretches(ports: Sequence[PortClass], values: Sequence[Value]) -> Iterator[tuple[PortRun, Value, int]]:
    """For `classes` and a value for each: the longest runs of one value that is not empty, the value, and the position
    of the first class."""
    rest: dict[str, list[int]] = {}
    for at, port in enumerate(ports):
        if not port.point:
            rest.setdefault(port.protocol, []).append(at)
        elif values[at]:
            yield PortRun(port.protocol, port.number, port.number, "port"), values[at], at
    for positions in rest.values():
        listed = [ports[at] for at in positions]
        for value, group in groupby(enumerate(positions), key=lambda numbered: values[numbered[1]]):
            among = list(group)
            if value:
                yield _run(listed, among[0][0], among[-1][0]), value, among[0][1]


def _run(ports: Sequence[PortClass], start: int, end: int) -> PortRun:
    first, last = ports[start].number, ports[end].last
    kind = "port" if first == last else "other" if start == 0 and end == len(ports) - 1 else "range"
    return PortRun(ports[start].protocol, first, last, kind)


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
