"""What two policy sets let through differently, in connections: exact over the closed world, however they are written.

Invariant: a source, destination and port is in a change if and only if one side certainly allows it and the other does
not. A change names workloads if it is the same for all of their pods, else the pods. Requests are compared only where
both sides let the connection itself through.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from leastway.verify.bits import Universe
from leastway.verify.blocks import AddressRange, shortened, subtracted
from leastway.verify.entity_sets import entity_changes
from leastway.verify.judge import Judge
from leastway.verify.network_sets import RuleSet
from leastway.verify.networkpolicy_schema import PROTOCOLS
from leastway.verify.outside import (
    Opened,
    open_ranges,
    opened_inward,
    opened_outward,
    outbound_ports,
    stretches_by_family,
)
from leastway.verify.overpermission import Measure
from leastway.verify.pairs import Pairs
from leastway.verify.policies import PolicySet
from leastway.verify.ports import PortClass, PortRun, runs
from leastway.verify.reading import Document, identity
from leastway.verify.request_difference import request_changes
from leastway.verify.variants import Variants

SPANS = 4  # CIDRs that may name a range of addresses; beyond that its ends do
WHOLE = ("", "")  # no request in particular
Far = TypeVar("Far", AddressRange, str)
LISTED = 10_000  # changes of each kind that are listed; all are counted


class Change(NamedTuple):
    """One connection at ports `port` to `last`: `ports` is `port` (one), `range` (without the known ports in it) or
    `other` (all ports that are not known). Ends are workloads, or single pods where not all pods are concerned.
    `method` and `path` are values of rules, "" below L7."""

    source: str
    destination: str
    protocol: str
    port: int
    last: int
    ports: str
    method: str = ""
    path: str = ""

    def entry(self) -> dict[str, Any]:
        """The change with the keys of a report."""
        found = self._asdict()
        return {"from": found.pop("source"), "to": found.pop("destination"), **found}


class Changes:
    """Changes of one kind: all are counted, the first `LISTED` are kept."""

    def __init__(self) -> None:
        self.total = 0
        self.listed: list[Change] = []

    def add(self, number: int, changes: Iterable[Change]) -> None:
        """Count `number` changes, and keep as many as there is room for."""
        self.total += number
        self.listed += islice(changes, LISTED - len(self.listed))


class Difference(NamedTuple):
    """What `new` allows that `old` does not, and the other way round, sorted by destination. `incomplete` lists
    destinations whose policies distinguish more requests than are tried."""

    allowed: Changes
    denied: Changes
    incomplete: list[str]

    @property
    def empty(self) -> bool:
        """True if both sets let the same through."""
        return not self.allowed.total and not self.denied.total


def unmanaged(standing: Iterable[Document], *sets: PolicySet) -> list[Document]:
    """The policies of a world that are in none of the sets: a snapshot of a cluster holds the old set as well."""
    managed = {(policy.kind, policy.namespace, policy.name) for found in sets for policy in found.network}
    managed |= {
        (kind, policy.namespace, policy.name)
        for found in sets
        for kind, policies in (("AuthorizationPolicy", found.authorization), ("PeerAuthentication", found.peer))
        for policy in policies
    }
    return [document for document in standing if identity(document) not in managed]


def difference(old: Judge, new: Judge) -> Difference:
    """Compare two judges of the same world. Raises nothing."""
    universe = Universe(old.world, Variants(old.world, old.policies, new.policies, meshes=[old.mesh, new.mesh]))
    before, after = Measure(old, (), universe), Measure(new, (), universe)
    found = Difference(Changes(), Changes(), [])
    for workload in universe.workloads:
        ports = before.ports(workload, (), after)
        _pods(found, before, after, workload, ports)
        _outside(found, before, after, workload, ports, opened_inward)
        _outside(found, before, after, workload, outbound_ports([before, after], workload, ()), opened_outward)
        if any(mesh.unfinished.intersection(workload) for mesh in (before.mesh, after.mesh) if mesh is not None):
            found.incomplete.append(universe.names[workload.start])
    return found


def _pods(found: Difference, before: Measure, after: Measure, workload: range, ports: list[PortClass]) -> None:
    """Changes between pods: of whole connections, and of requests in those that both sides let through."""
    allowed: _Sets = defaultdict(lambda: [0] * len(ports))
    denied: _Sets = defaultdict(lambda: [0] * len(ports))
    for d in workload:
        rules = before.network.egress(d), after.network.egress(d)
        known: dict[tuple[str, bool, int], list[tuple[tuple[str, str], int, int]]] = {}
        for at, port in enumerate(ports):
            if port.key not in known:
                known[port.key] = list(_changed(before, after, d, port, rules))
            for request, gained, lost in known[port.key]:
                for sets, bits in ((allowed, gained), (denied, lost)):
                    if bits:
                        sets[request, d][at] = bits
    for changes, sets in ((found.allowed, allowed), (found.denied, denied)):
        _add(changes, before.universe, workload, ports, sets)


_Sets = dict[tuple[tuple[str, str], int], list[int]]  # by request and destination: changed sources for each port class


def _changed(
    before: Measure, after: Measure, d: int, port: PortClass, rules: tuple[list[RuleSet], list[RuleSet]]
) -> Iterator[tuple[tuple[str, str], int, int]]:
    was, now = before.allowed(d, port, rules[0]), after.allowed(d, port, rules[1])
    yield WHOLE, now & ~was, was & ~now
    if was & now and port.protocol == "TCP":
        changes = request_changes(before, after, d, port.number, was & now)
        yield from (((change.method, change.path), change.allowed, change.denied) for change in changes)


def _add(
    changes: Changes, universe: Universe, workload: range, ports: Sequence[PortClass], sets: Mapping[Any, list[int]]
) -> None:
    """Add the longest runs of ports, with the pods concerned."""
    found: dict[tuple[PortRun, tuple[str, str]], dict[int, int]] = defaultdict(dict)
    for (request, d), by_port in sets.items():
        for run, bits, _ in runs(ports, by_port):
            found[run, request][d] = found[run, request].get(d, 0) | bits
    order = {protocol: i for i, protocol in enumerate(PROTOCOLS)}
    for run, request in sorted(found, key=lambda key: (order[key[0].protocol], key[0][1:], key[1])):
        by_destination = found[run, request]
        pairs = Pairs(universe, workload, by_destination)
        changes.add(pairs.total, (_change(ends, run, request) for ends in pairs.ends()))


def _change(ends: tuple[str, str], run: PortRun, request: tuple[str, str]) -> Change:
    return Change(*ends, run.protocol, run.number, run.last, run.kind, *request)


def _outside(
    found: Difference, before: Measure, after: Measure, workload: range, ports: list[PortClass], opened: Opened
) -> None:
    inward = opened is opened_inward
    addresses: dict[tuple[bool, AddressRange, PortRun], list[int]] = {}
    entities: dict[tuple[bool, str, PortRun], list[int]] = {}
    for member in workload:
        for change in _outside_changes(before, after, member, ports, opened):
            addresses.setdefault(change, []).append(member)
        for named in entity_changes(before, after, member, ports, inward):
            entities.setdefault(named, []).append(member)
    _beside(found, before.universe, workload, addresses, _addresses, inward)
    _beside(found, before.universe, workload, entities, str, inward)


def _beside(
    found: Difference,
    universe: Universe,
    workload: range,
    shown: dict[tuple[bool, Far, PortRun], list[int]],
    called: Callable[[Far], str],
    inward: bool,
) -> None:
    """Add changes between a workload's classes and ends that are no workloads."""
    order = {protocol: i for i, protocol in enumerate(PROTOCOLS)}
    for kind, far, run in sorted(shown, key=lambda key: (order[key[2].protocol], key[2][1:], key[1], key[0])):
        members = shown[kind, far, run]
        names = [universe.names[workload.start]]
        if len(members) < len(workload):
            names = [pod for member in members for pod in universe.members[member]]
        ends = ((called(far), name) if inward else (name, called(far)) for name in names)
        changes = found.allowed if kind else found.denied
        changes.add(len(names), (_change(pair, run, WHOLE) for pair in ends))


def _outside_changes(
    before: Measure, after: Measure, member: int, ports: list[PortClass], opened: Opened
) -> Iterator[tuple[bool, AddressRange, PortRun]]:
    """(newly allowed, addresses, ports) between one subject and the outside; ranges of pods' addresses only are left
    out."""
    was, now = (open_ranges(measure, [member], ports, opened) for measure in (before, after))
    if was == now:
        return
    for kind, less, more in ((True, was, now), (False, now, was)):
        changed = [subtracted(*both) for both in zip(more, less, strict=True)]
        for run, found, _ in stretches_by_family(ports, changed):
            yield from ((kind, part, run) for part in found if before.universe.occupied(part) < part.size)


def _addresses(part: AddressRange) -> str:
    """A range of addresses as CIDRs if they are few, else as its ends and its size."""
    make = ipaddress.IPv4Address if part.version == 4 else ipaddress.IPv6Address
    first, last = make(part.first), make(part.last)
    networks = list(islice(ipaddress.summarize_address_range(first, last), SPANS + 1))
    if len(networks) <= SPANS:
        return ", ".join(map(str, networks))
    return f"{first}-{last} ({shortened(part.size)} addresses)"
