"""Over-permission towards the outside: external address blocks that may call a workload, and that it may call.

Invariant: a block counts once per port class, whatever its size, and not at all if each of its addresses was seen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from leastway.verify.blocks import AddressClass, sizes, split
from leastway.verify.network_sets import RuleSet
from leastway.verify.networkpolicy_schema import Block
from leastway.verify.ports import PortClass, admits, classes
from leastway.verify.world import Subject

if TYPE_CHECKING:
    from leastway.verify.overpermission import Measure

ANYWHERE = (Block(ipaddress.ip_network("0.0.0.0/0"), ()), Block(ipaddress.ip_network("::/0"), ()))
Seen = set[tuple[int, int]]


def inbound(measure: Measure, d: int, port: PortClass) -> None:
    """Count the blocks outside that may open this port class of a destination."""
    if measure.mesh is not None and port.protocol == "TCP" and not measure.mesh.outside(d, port.number):
        return
    subject = measure.universe.subjects[d]
    seen = measure.seen.inbound[d].get((port.protocol, port.number), set())
    declared = measure.declared.inbound[d].get((port.protocol, port.number), set())
    rules = measure.network.ingress.get(d, []) if measure.network.isolated_in >> d & 1 else None
    _count(measure, d, port, rules, subject, seen, declared, "{1} → {0} {2}")


def outbound(measure: Measure, s: int) -> None:
    """Count the blocks outside that a subject may call, on each port class that its rules or its traffic mention."""
    rules = measure.network.outbound.get(s, []) if measure.network.isolated_out >> s & 1 else None
    entries = {entry for rule in rules or () for entry in rule.ports or ()}
    observed = {*measure.seen.outbound[s], *measure.declared.outbound[s]}
    for port in classes(entries, (), observed):
        seen = measure.seen.outbound[s].get((port.protocol, port.number), set())
        declared = measure.declared.outbound[s].get((port.protocol, port.number), set())
        _count(measure, s, port, rules, None, seen, declared, "{0} → {1} {2}")


def _count(
    measure: Measure,
    near: int,
    port: PortClass,
    rules: list[RuleSet] | None,
    destination: Subject | None,
    seen: Seen,
    declared: Seen,
    form: str,
) -> None:
    """`rules` None: not isolated. `destination` resolves named ports; None for an external one, where they match
    nothing."""
    if port.kind != "port":
        seen = declared = set()
    ref = measure.universe.subjects[near].ref
    if rules is None:
        _add(measure, near, "unisolated", split(ANYWHERE), seen, port, form, ref)
        return
    ports = destination.ports if destination is not None else ()
    open_rules = [rule for rule in rules if admits(rule.ports, port, ports)]
    if not open_rules:
        return
    if any(rule.anyone for rule in open_rules):
        existing = all(rule.existing for rule in open_rules if rule.anyone)
        cause = "pre-existing policy" if existing else _at_port(port) or "namespace-wide rule"
        _add(measure, near, "declared intent" if declared else cause, split(ANYWHERE), seen, port, form, ref)
        return
    everything = sorted({b for rule in rules for b in rule.blocks}, key=str)
    ours = {everything.index(b) for rule in open_rules if not rule.existing for b in rule.blocks}
    theirs = {everything.index(b) for rule in open_rules if rule.existing for b in rule.blocks} - ours
    for group in split(everything):
        if group.covering & (ours | theirs):
            cause = _at_port(port) or "CIDR widening" if group.covering & ours else "pre-existing policy"
            if declared and any(group.version == v and group.seen([a]) for v, a in declared):
                cause = "declared intent"
            _add(measure, near, cause, [group], seen, port, form, ref)


def _at_port(port: PortClass) -> str:
    """A cause that the port itself gives away."""
    if port.kind == "range":
        return "endPort span"
    return "DNS" if port.number in (53, 5353) and port.kind == "port" else ""


def _add(
    measure: Measure,
    near: int,
    cause: str,
    groups: Iterable[AddressClass],
    seen: Seen,
    port: PortClass,
    form: str,
    ref: str,
) -> None:
    for group in groups:
        known = group.seen(sorted(number for version, number in seen if version == group.version))
        beyond = group.size - known
        if beyond:
            measure.addresses += beyond
            measure.count(cause, near, 1, iter([form.format(ref, _shown(group), port)]))


def _shown(group: AddressClass) -> str:
    first, last = group.spans[0]
    make = ipaddress.IPv4Address if group.version == 4 else ipaddress.IPv6Address
    more = f" and {len(group.spans) - 1} more ranges" if len(group.spans) > 1 else ""
    return f"{make(first)}-{make(last)}{more} ({sizes([group.size])} addresses)"
