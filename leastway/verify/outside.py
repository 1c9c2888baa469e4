"""The outside: ranges of external addresses that may call a workload, and that it may call.

Invariant: for each run of ports that are open to the same addresses, each range counts once, whatever its size and
whatever private addresses it leaves out, and not at all if each of its addresses was seen or is a pod's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from leastway.verify.blocks import EVERYWHERE, AddressRange, Ranges, common, joined, near, ranges, shortened
from leastway.verify.network_sets import RuleSet
from leastway.verify.networkpolicy import block_contains
from leastway.verify.ports import DNS_PORTS, PortClass, PortRun, admits, classes, stretches
from leastway.verify.world import NamedPort

if TYPE_CHECKING:
    from leastway.verify.overpermission import Measure

Seen = set[tuple[int, int]]
Opened = Callable[["Measure", int, PortClass], Ranges]


def opened_inward(measure: Measure, d: int, port: PortClass) -> Ranges:
    """The outside addresses that may open a port class of a destination."""
    isolated, ports = measure.network.isolated_in >> d & 1, measure.universe.subjects[d].ports
    found = _ranges(measure.network.ingress.get(d, []), port, ports) if isolated else EVERYWHERE
    mesh = measure.mesh
    return found if mesh is None or not found or port.protocol != "TCP" else common(found, mesh.outside(d, port.number))


def opened_outward(measure: Measure, s: int, port: PortClass) -> Ranges:
    """The outside addresses that a subject may call on a port class; port names mean nothing there."""
    if not measure.network.isolated_out >> s & 1:
        return EVERYWHERE
    return _ranges(measure.network.outbound.get(s, []), port, ())


def _ranges(rules: list[RuleSet], port: PortClass, declared: tuple[NamedPort, ...]) -> Ranges:
    opened = [rule for rule in rules if admits(rule.ports, port, declared)]
    if any(rule.anyone for rule in opened):
        return EVERYWHERE
    return ranges(frozenset(block for rule in opened for block in rule.blocks))


def open_ranges(measure: Measure, members: Sequence[int], ports: Sequence[PortClass], opened: Opened) -> list[Ranges]:
    """For each class of ports, the addresses that some of `members` may use."""
    known: dict[tuple[str, bool, int], Ranges] = {}
    for port in ports:
        if port.key not in known:
            each = {opened(measure, member, port) for member in members}
            known[port.key] = each.pop() if len(each) == 1 else joined(part for parts in each for part in parts)
    return [known[port.key] for port in ports]


def stretches_by_family(ports: Sequence[PortClass], opened: Sequence[Ranges]) -> Iterator[tuple[PortRun, Ranges, int]]:
    """Runs of ports that are open to the same addresses of one family."""
    for version in (4, 6):
        yield from stretches(ports, [tuple(r for r in found if r.version == version) for found in opened])


def inbound(measure: Measure, workload: range, ports: Sequence[PortClass]) -> None:
    """Count the outside addresses that may open ports of a workload."""
    seen, declared = measure.seen.inbound[workload.start], measure.declared.inbound[workload.start]
    _count(measure, workload, ports, _Side(opened_inward, seen, declared, "{1} → {0} {2}"))


def outbound(measure: Measure, workload: range) -> None:
    """Count the outside addresses that a workload may call."""
    seen, declared = measure.seen.outbound[workload.start], measure.declared.outbound[workload.start]
    ports = outbound_ports([measure], workload, {*seen, *declared})
    _count(measure, workload, ports, _Side(opened_outward, seen, declared, "{0} → {1} {2}"))


def outbound_ports(
    measures: Iterable[Measure], workload: range, observed: Iterable[tuple[str, int]]
) -> list[PortClass]:
    """The classes of outside ports that a workload's egress rules distinguish."""
    rules = [rule for measure in measures for s in workload for rule in measure.network.outbound.get(s, ())]
    return classes({entry for rule in rules for entry in rule.ports or ()}, observed)


class _Side(NamedTuple):
    opened: Opened
    seen: dict[tuple[str, int], Seen]
    declared: dict[tuple[str, int], Seen]
    form: str


def _count(measure: Measure, workload: range, ports: Sequence[PortClass], side: _Side) -> None:
    ref = measure.universe.names[workload.start]
    for run, found, at in stretches_by_family(ports, open_ranges(measure, workload, ports, side.opened)):
        key = (run.protocol, run.number)
        seen, declared = (of.get(key, ()) if ports[at].point else () for of in (side.seen, side.declared))
        for parts in near(found):
            size = sum(part.size - measure.universe.occupied(part) for part in parts)
            beyond = size - sum(part.seen(seen) for part in parts)
            if not beyond:
                continue
            cause = _cause(measure, workload, ports[at], run, parts[0], side)
            if any(part.seen(declared) for part in parts):
                cause = "declared intent"
            measure.addresses += beyond
            measure.count(cause, workload.start, 1, iter([side.form.format(ref, _shown(parts, size), run)]))


def _cause(measure: Measure, workload: range, port: PortClass, run: PortRun, found: AddressRange, side: _Side) -> str:
    """Why the first address of a range is let through on a port class."""
    network = measure.network
    inward = side.opened is opened_inward
    existing = True
    address = (ipaddress.IPv4Address if found.version == 4 else ipaddress.IPv6Address)(found.first)
    causes = set()
    for member in workload:
        if not (network.isolated_in if inward else network.isolated_out) >> member & 1:
            if side.opened(measure, member, port):
                return "unisolated"
            continue
        ports = measure.universe.subjects[member].ports if inward else ()
        for rule in (network.ingress if inward else network.outbound).get(member, ()):
            if admits(rule.ports, port, ports):
                named = rule.anyone or any(block_contains(block, address) for block in rule.blocks)
                existing = existing and (rule.existing or not named)
                if named and not rule.existing:
                    causes.add("namespace-wide rule" if rule.anyone else "CIDR widening")
    return "pre-existing policy" if existing else cause_at_port(run) or max(causes)


def cause_at_port(run: PortRun) -> str:
    """A cause that follows from the port alone; "" if none does."""
    if run.kind == "range":
        return "endPort span"
    return "DNS" if run.number in DNS_PORTS and run.kind == "port" else ""


def _shown(parts: Ranges, size: int) -> str:
    first = parts[0]
    make = ipaddress.IPv4Address if first.version == 4 else ipaddress.IPv6Address
    more = f" and {len(parts) - 1} more ranges" if len(parts) > 1 else ""
    return f"{make(first.first)}-{make(first.last)}{more} ({shortened(size)} addresses)"
