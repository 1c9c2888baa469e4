"""What policies open between workloads and Cilium's entities (nodes, the API server, the ingress), as sets of names.

Invariant: an entity is in a set if a rule names it, if a rule names no peers, or if nothing isolates. On other CNIs
entities have no names, and there is nothing to count or compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from leastway.verify.bits import indices
from leastway.verify.blocks import EVERYWHERE
from leastway.verify.entities import NAMES, bits_of
from leastway.verify.network_sets import RuleSet
from leastway.verify.outside import cause_at_port, outbound_ports
from leastway.verify.ports import PortClass, PortRun, admits, runs

if TYPE_CHECKING:
    from leastway.verify.overpermission import Measure

_ALL = (1 << len(NAMES)) - 1
_OWN_NODE = 1 << NAMES.index("host")  # always let in, whatever the policies


def entity_changes(
    before: Measure, after: Measure, member: int, ports: Sequence[PortClass], inward: bool
) -> Iterator[tuple[bool, str, PortRun]]:
    """(newly allowed, entity, ports) for one subject; `inward`: what may open its ports, else what it may call."""
    if before.network.cni != "cilium":
        return
    was, now = ([_opened(measure, member, port, inward) for port in ports] for measure in (before, after))
    for kind, less, more in ((True, was, now), (False, now, was)):
        for run, bits, _ in runs(ports, [b & ~a for a, b in zip(less, more, strict=True)]):
            yield from ((kind, NAMES[at], run) for at in indices(bits))


def _opened(measure: Measure, member: int, port: PortClass, inward: bool) -> int:
    """The entities that a class of ports is open to."""
    network = measure.network
    if not (network.isolated_in if inward else network.isolated_out) >> member & 1:
        found = _ALL
    else:
        rules = _rules(measure, member, port, inward)
        found = _ALL if any(rule.anyone for rule in rules) else _named(rules)
    return _passed(measure, member, port, found) if inward else found


def _rules(measure: Measure, member: int, port: PortClass, inward: bool) -> list[RuleSet]:
    """The rules that open a class of ports; names of ports mean nothing outside."""
    declared = measure.universe.subjects[member].ports if inward else ()
    rules = (measure.network.ingress if inward else measure.network.outbound).get(member, ())
    return [rule for rule in rules if admits(rule.ports, port, declared)]


def _named(rules: Sequence[RuleSet]) -> int:
    return bits_of([name for rule in rules for name in rule.entities])


def _passed(measure: Measure, member: int, port: PortClass, found: int) -> int:
    """The entities that a pod's proxy lets in too; to it they have no identity, and may have any address."""
    mesh = measure.mesh
    if mesh is not None and found and port.protocol == "TCP":
        anywhere = mesh.outside(member, port.number)
        found = found if all(whole in anywhere for whole in EVERYWHERE) else 0
    return found & ~_OWN_NODE


def beyond_entities(measure: Measure, workload: range, ports: Sequence[PortClass]) -> None:
    """Count the entities that rules name for a workload beyond those that were seen, per run of ports.

    Where nobody isolates, or a rule names nobody, the outside and all other workloads are counted already.
    """
    if measure.network.cni != "cilium":
        return
    first = workload.start
    for inward in (True, False):
        seen, declared = (
            of.called_by[first] if inward else of.called[first] for of in (measure.seen, measure.declared)
        )
        at = ports if inward else outbound_ports([measure], workload, {*seen, *declared})
        sets = []
        for port in at:
            found = 0
            for member in workload:
                named = _named(_rules(measure, member, port, inward))
                found |= _passed(measure, member, port, named) if inward else named
            sets.append(found & ~(seen.get((port.protocol, port.number), 0) if port.point else 0))
        for run, bits, position in runs(at, sets):
            rules = [rule for member in workload for rule in _rules(measure, member, at[position], inward)]
            existing = all(rule.existing for rule in rules if _named([rule]) & bits)
            cause = "pre-existing policy" if existing else cause_at_port(run) or "entity"
            if declared.get((run.protocol, run.number), 0) & bits and at[position].point:
                cause = "declared intent"
            form = "{1} → {0} {2}" if inward else "{0} → {1} {2}"
            shown = (form.format(measure.universe.names[first], NAMES[i], run) for i in indices(bits))
            measure.count(cause, first, bits.bit_count(), shown)
