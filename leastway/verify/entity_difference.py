"""What two policy sets let through differently between workloads and Cilium's entities: nodes, the API server, the
ingress.

Invariant: an entity is in a change if and only if one side names it, or names nobody, and the other does neither. On
other CNIs these ends have no names, and there is nothing to compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leastway.verify.blocks import EVERYWHERE
from leastway.verify.cilium_schema import ENTITIES
from leastway.verify.overpermission import Measure
from leastway.verify.ports import PortClass, PortRun, admits, runs

NAMES = tuple(sorted(ENTITIES))
ALL = (1 << len(NAMES)) - 1
_OWN_NODE = 1 << NAMES.index("host")


def entity_changes(
    before: Measure, after: Measure, member: int, ports: Sequence[PortClass], inward: bool
) -> Iterator[tuple[bool, str, PortRun]]:
    """(newly allowed, entity, ports) of one subject; `inward`: what may open its ports, else what it may call."""
    if before.network.cni != "cilium":
        return
    was, now = ([_opened(measure, member, port, inward) for port in ports] for measure in (before, after))
    for kind, less, more in ((True, was, now), (False, now, was)):
        for run, bits, _ in runs(ports, [b & ~a for a, b in zip(less, more, strict=True)]):
            yield from ((kind, name, run) for at, name in enumerate(NAMES) if bits >> at & 1)


def _opened(measure: Measure, member: int, port: PortClass, inward: bool) -> int:
    """The entities, as bits in the order of `NAMES`, that a class of ports is open to."""
    network = measure.network
    isolated = (network.isolated_in if inward else network.isolated_out) >> member & 1
    found = 0 if isolated else ALL
    if isolated:
        declared = measure.universe.subjects[member].ports if inward else ()
        for rule in (network.ingress if inward else network.outbound).get(member, ()):
            if admits(rule.ports, port, declared):
                found |= ALL if rule.anyone else sum(1 << NAMES.index(name) for name in set(rule.entities))
    if not inward:
        return found
    mesh = measure.mesh
    if mesh is not None and found and port.protocol == "TCP":
        anywhere = mesh.outside(member, port.number)  # entities have no identity that a proxy knows, and any address
        found = found if all(whole in anywhere for whole in EVERYWHERE) else 0
    return found & ~_OWN_NODE  # which is let in whatever the policies are
