"""What two policy sets let through differently, in connections: exact over the closed world, however they are written.

Invariant: a source, destination and class of ports is a change if and only if one side allows it for certain and the
other does not. Requests are compared only where both sides let the connection itself through.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from leastway.verify.bits import indices
from leastway.verify.blocks import AddressClass, sizes, split
from leastway.verify.judge import Judge
from leastway.verify.network_sets import RuleSet
from leastway.verify.networkpolicy_schema import Block
from leastway.verify.outside import ANYWHERE
from leastway.verify.overpermission import Measure
from leastway.verify.policies import PolicySet
from leastway.verify.ports import PortClass, admits, classes
from leastway.verify.reading import Document, identity
from leastway.verify.request_difference import RequestChange, request_changes
from leastway.verify.world import Subject

SPANS = 4  # CIDRs by which a class of addresses is called
LISTED = 10_000  # changes of each kind that are listed; all are counted


class Change(NamedTuple):
    """One connection. `port` stands for its class: `ports` is `port` (itself), `range` (all ports that the same ranges
    cover) or `other` (all ports that nobody mentions). `method` and `path` are values of rules, "" below L7."""

    source: str
    destination: str
    protocol: str
    port: int
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
        """Count `number` changes, and keep what there is room for."""
        self.total += number
        self.listed += islice(changes, LISTED - len(self.listed))


class Difference(NamedTuple):
    """What `new` allows that `old` does not, and the other way round, sorted by destination."""

    allowed: Changes
    denied: Changes

    @property
    def empty(self) -> bool:
        """True if both sets let the same through."""
        return not self.allowed.total and not self.denied.total


def unmanaged(standing: Iterable[Document], *sets: PolicySet) -> list[Document]:
    """The policies of a world that are in none of the sets: a snapshot of a cluster holds the old set as well."""
    managed = {
        (kind, policy.namespace, policy.name)
        for found in sets
        for kind, policies in (
            ("NetworkPolicy", found.network),
            ("AuthorizationPolicy", found.authorization),
            ("PeerAuthentication", found.peer),
        )
        for policy in policies
    }
    return [document for document in standing if identity(document) not in managed]


def difference(old: Judge, new: Judge) -> Difference:
    """Compare two judges of the same world. Raises nothing."""
    before, after = Measure(old, ()), Measure(new, ())
    found = Difference(Changes(), Changes())
    for d, subject in enumerate(before.universe.subjects):
        rules = before.network.egress(d), after.network.egress(d)
        for port in _ports(before, after, d, rules):
            _pods(found, before, after, d, port, rules)
            _outside(found, subject, port, [_inbound(m, d, port) for m in (before, after)], inward=True)
        for port in _outbound_ports(before, after, d):
            _outside(found, subject, port, [_outbound(m, d, port) for m in (before, after)], inward=False)
    return found


def _pods(
    found: Difference,
    before: Measure,
    after: Measure,
    d: int,
    port: PortClass,
    rules: tuple[list[RuleSet], list[RuleSet]],
) -> None:
    was, now = before.allowed(d, port, rules[0]), after.allowed(d, port, rules[1])
    subjects = before.universe.subjects
    for changes, bits in ((found.allowed, now & ~was), (found.denied, was & ~now)):
        if bits:
            changes.add(bits.bit_count(), (_change(subjects[s].ref, subjects[d].ref, port) for s in indices(bits)))
    if was & now and port.protocol == "TCP":
        for change in request_changes(before, after, d, port.number, was & now):
            _add_request(found, subjects, d, port, change)


def _add_request(found: Difference, subjects: list[Subject], d: int, port: PortClass, change: RequestChange) -> None:
    for changes, bits in ((found.allowed, change.allowed), (found.denied, change.denied)):
        if bits:
            plain = (_change(subjects[s].ref, subjects[d].ref, port) for s in indices(bits))
            named = (one._replace(method=change.method, path=change.path) for one in plain)
            changes.add(bits.bit_count(), named)


def _change(source: str, destination: str, port: PortClass) -> Change:
    return Change(source, destination, port.protocol, port.number, port.kind)


def _ports(before: Measure, after: Measure, d: int, rules: tuple[list[RuleSet], list[RuleSet]]) -> list[PortClass]:
    """The port classes of a destination that no rule of either set can tell apart."""
    subject = before.universe.subjects[d]
    entries = {
        entry
        for measure, outer in zip((before, after), rules, strict=True)
        for rule in [*measure.network.ingress.get(d, ()), *outer]
        for entry in rule.ports or ()
    }
    named = {("TCP", port) for measure in (before, after) for port in _mesh_ports(measure, subject)}
    return classes(entries, subject.ports, named)


def _mesh_ports(measure: Measure, subject: Subject) -> Iterator[int]:
    """Ports that Istio policies about a destination name."""
    if measure.mesh is None:
        return
    policies = measure.mesh.policies
    for policy in {*policies.applying(subject), *policies.applying(subject, waypoint=True)}:
        for rule in policy.rules:
            for entry in [*(rule.operations or ()), rule.conditions]:
                for field in entry:
                    if field.name in ("ports", "destination.port"):
                        yield from (int(value) for value in field.values if 0 < int(value) < 65536)
    for peer in measure.mesh.judge.policies.peer:
        yield from (port for port, _ in peer.ports if 0 < port < 65536)


def _outbound_ports(before: Measure, after: Measure, s: int) -> list[PortClass]:
    entries = {e for m in (before, after) for rule in m.network.outbound.get(s, ()) for e in rule.ports or ()}
    return classes(entries, (), ())


def _inbound(measure: Measure, d: int, port: PortClass) -> tuple[Block, ...]:
    """The outside that may open a port class of a destination."""
    if measure.mesh is not None and port.protocol == "TCP" and not measure.mesh.outside(d, port.number):
        return ()
    if not measure.network.isolated_in >> d & 1:
        return ANYWHERE
    return _blocks(measure.network.ingress.get(d, []), port, measure.universe.subjects[d])


def _outbound(measure: Measure, s: int, port: PortClass) -> tuple[Block, ...]:
    """The outside that a subject may call on a port class."""
    if not measure.network.isolated_out >> s & 1:
        return ANYWHERE
    return _blocks(measure.network.outbound.get(s, []), port, None)


def _blocks(rules: list[RuleSet], port: PortClass, destination: Subject | None) -> tuple[Block, ...]:
    declared = destination.ports if destination is not None else ()
    opened = [rule for rule in rules if admits(rule.ports, port, declared)]
    if any(rule.anyone for rule in opened):
        return ANYWHERE
    return tuple({block: None for rule in opened for block in rule.blocks})


def _outside(
    found: Difference, subject: Subject, port: PortClass, sides: list[tuple[Block, ...]], inward: bool
) -> None:
    was, now = map(set, sides)
    if was == now:
        return
    every = sorted(was | now, key=str)
    for group in split(every):
        open_before = any(every[i] in was for i in group.covering)
        open_after = any(every[i] in now for i in group.covering)
        if open_before != open_after:
            ends = (_addresses(group), subject.ref) if inward else (subject.ref, _addresses(group))
            (found.allowed if open_after else found.denied).add(1, [_change(*ends, port)])


def _addresses(group: AddressClass) -> str:
    """A class of addresses as CIDRs if they are few, else as its first range and its size."""
    make = ipaddress.IPv4Address if group.version == 4 else ipaddress.IPv6Address
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for first, last in group.spans[:SPANS]:
        networks += ipaddress.summarize_address_range(make(first), make(last))
    if len(group.spans) <= SPANS and len(networks) <= SPANS:
        return ", ".join(map(str, networks))
    first, last = group.spans[0]
    more = f" and {len(group.spans) - 1} more ranges" if len(group.spans) > 1 else ""
    return f"{make(first)}-{make(last)}{more} ({sizes([group.size])} addresses)"
