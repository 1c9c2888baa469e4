"""Why a pair of pods that was not seen talking may connect: the rule, identity or lack of isolation that lets it.

Invariant: the parts that `explained` gives are disjoint, cover everything that was asked about, and come in the order
of `CAUSES`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from leastway.verify.bits import indices
from leastway.verify.mesh_sets import MeshSets
from leastway.verify.network_sets import RuleSet
from leastway.verify.networkpolicy_schema import Ports
from leastway.verify.ports import DNS_PORTS, LAST, PortClass, entry_admits
from leastway.verify.world import NamedPort

if TYPE_CHECKING:
    from leastway.verify.overpermission import Measure

CAUSES = (
    "declared intent",
    "unisolated",
    "pre-existing policy",
    "DNS",
    "endPort span",
    "entity",
    "namespace-wide rule",
    "CIDR widening",
    "any caller",
    "shared service account",
    "selector bleed",
    "path template",
    "any request",
    "past the waypoint",
    "mesh tunnel",
    "other",
)
Bits = dict[str, int]


def explained(measure: Measure, d: int, port: PortClass, rules: list[RuleSet], over: int) -> Iterator[tuple[str, int]]:
    """Split the sources `over` that may open a port class of a destination by cause; `rules` are its egress rules."""
    key, owner = (port.protocol, port.number), measure.universe.owner[d]
    declared = measure.declared.sources[owner].get(key, 0) if port.point else 0
    yield "declared intent", over & declared
    over &= ~declared
    inside = bool(measure.network.isolated_in >> d & 1)
    governing = measure.mesh if measure.mesh is not None and measure.mesh.governed(d, port.protocol) else None
    if not inside and governing is None:
        yield "unisolated", over & measure.network.free
        over &= ~measure.network.free
    by_cause: Bits = {}
    for rule in measure.network.ingress.get(d, []) if inside else [] if governing else rules:
        admitted = over & (rule.peers if inside else rule.subjects)
        if admitted:
            entry = _entry(rule, port, measure.universe.subjects[d].ports)
            if entry is not None:
                _by_rule(measure, by_cause, rule, entry, (d, port), admitted, inside)
    if governing is not None and not inside:
        _by_identity(measure, governing, by_cause, d, port, over)
    for cause in CAUSES:
        bits = by_cause.get(cause, 0) & over
        over &= ~bits
        yield cause, bits
    if measure.mesh is not None and measure.mesh.mesh.mode == "ambient" and port.protocol == "TCP":
        past = measure.mesh.bypassed(d, port.number) if over else 0
        yield "past the waypoint", over & past
        over &= ~past
        # Where the tunnel is open and no policy judges what is inside, it leads to every port.
        yield "mesh tunnel", over & measure.mesh.meshed
        over &= ~measure.mesh.meshed
    yield "other", over


def _by_rule(
    measure: Measure, by_cause: Bits, rule: RuleSet, entry: Ports, to: tuple[int, PortClass], bits: int, inside: bool
) -> None:
    d, port = to

    def add(cause: str, part: int) -> None:
        by_cause[cause] = by_cause.get(cause, 0) | part

    if rule.existing:
        add("pre-existing policy", bits)
    elif port.number in DNS_PORTS and port.number == port.last:
        add("DNS", bits)
    elif entry.low < entry.high and (entry.low, entry.high) != (1, LAST) and not _anyone(measure, d, port):
        add("endPort span", bits)
    else:
        wide = rule.wide if inside else bits if rule.wide >> d & 1 else 0
        blocked = rule.blocked if inside else bits if rule.blocked >> d & 1 else 0
        owner = measure.universe.owner[d]
        known = measure.seen.partners[owner] | measure.declared.partners[owner]
        narrow = bits & (rule.narrow if inside else -(rule.narrow >> d & 1))
        add("other", narrow & known)
        add("selector bleed", narrow & ~known)
        add("CIDR widening", bits & blocked)
        add("namespace-wide rule", bits & wide & ~narrow)


def _anyone(measure: Measure, d: int, port: PortClass) -> bool:
    """Was anyone seen at this port of the destination?"""
    key, owner = (port.protocol, port.number), measure.universe.owner[d]
    return port.point and (key in measure.seen.sources[owner] or key in measure.seen.inbound[owner])


def _by_identity(measure: Measure, mesh: MeshSets, by_cause: Bits, d: int, port: PortClass, over: int) -> None:
    """Causes where authorization rules alone decide."""
    owner = measure.universe.owner[d]
    seen = measure.seen.sources[owner].get((port.protocol, port.number), 0) if port.point else 0
    accounts = {mesh.mesh.principal(measure.universe.subjects[s]) for s in indices(seen)} - {"", None}
    shared = 0
    for principal in accounts:
        shared |= mesh.by_principal.get(principal or "", 0)
    wide = narrow = existing = 0
    for admission in mesh.admissions(d, port.number):
        existing |= admission.sources if admission.policy.existing else 0
        wide |= admission.sources if admission.wide else 0
        narrow |= 0 if admission.wide else admission.sources
    by_cause["pre-existing policy"] = by_cause.get("pre-existing policy", 0) | existing & ~narrow
    by_cause["shared service account"] = by_cause.get("shared service account", 0) | over & shared & narrow
    by_cause["namespace-wide rule"] = by_cause.get("namespace-wide rule", 0) | wide & ~(shared & narrow)
    by_cause["selector bleed"] = by_cause.get("selector bleed", 0) | narrow & ~measure.seen.partners[owner]


def _entry(rule: RuleSet, port: PortClass, declared: tuple[NamedPort, ...]) -> Ports | None:
    """The narrowest port entry of a rule that admits a class, None if none does."""
    if rule.ports is None:
        return Ports(port.protocol, 1, LAST)
    found = [entry for entry in rule.ports if entry_admits(entry, port, declared)]
    return min(found, key=lambda e: e.high - e.low) if found else None
