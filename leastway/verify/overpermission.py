"""What the policies allow beyond what was observed: exact over the closed world, broken down by cause.

Invariant: a connection is a pair of workloads and a run of ports. It is counted once, under the first cause that
explains it, if some pod of one may certainly open it to some pod of the other and it was not observed. The total
depends on what is allowed, not on how policies are written. The outside counts by ranges that are treated alike, not by
addresses. Workloads on the host network are nodes to NetworkPolicy, and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from leastway.verify.bits import Universe, indices
from leastway.verify.causes import CAUSES, explained
from leastway.verify.judge import Judge
from leastway.verify.mesh import HBONE, PROXY_PORTS
from leastway.verify.mesh_sets import MeshSets
from leastway.verify.network_sets import NetworkSets, RuleSet
from leastway.verify.networkpolicy_schema import Ports
from leastway.verify.ports import PortClass, PortRun, classes, runs, single
from leastway.verify.sightings import Sightings
from leastway.verify.soundness import Observed

EXAMPLES = 5  # per cause


class OverPermission(msgspec.Struct, frozen=True):
    """`total` connections are allowed beyond what was seen. `by_cause` counts them by cause, `by_workload` by
    destination (for the outside, by the workload at the near end). `addresses` is how many external addresses are open
    beyond those seen, summed over runs of ports. `examples` are the first few of each cause, `left_out` the workloads
    on the host network, `incomplete` those whose policies distinguish more requests than are tried."""

    total: int
    by_cause: dict[str, int]
    by_workload: dict[str, int]
    addresses: int
    examples: dict[str, list[str]]
    left_out: list[str]
    incomplete: list[str] = []


class Measure:
    """The state of one measurement; start with `over_permission`. A given `universe` may also distinguish what other
    policies do."""

    def __init__(self, judge: Judge, observed: Iterable[Observed], universe: Universe | None = None) -> None:
        items = list(observed)
        option = judge.mesh.normalization
        self.universe = Universe(judge.world, judge.variants) if universe is None else universe
        self.network = NetworkSets(judge.network, self.universe)
        self.mesh = MeshSets(judge, self.universe) if judge.mesh.mode != "none" else None
        self.seen = Sightings(self.universe, (i for i in items if not i.held and not i.declared), option)
        self.declared = Sightings(self.universe, (i for i in items if i.declared), option)
        self.by_cause: Counter[str] = Counter()
        self.by_workload: Counter[str] = Counter()
        self.addresses = 0
        self.examples: dict[str, list[str]] = {}

    def run(self) -> OverPermission:
        """Measure everything."""
        from leastway.verify.entity_sets import beyond_entities
        from leastway.verify.outside import inbound, outbound
        from leastway.verify.requests import beyond_requests

        for workload in self.universe.workloads:
            ports = self.ports(workload, self._observed(workload))
            self._pods(workload, ports)
            inbound(self, workload, ports)
            if self.mesh is not None:
                beyond_requests(self, self.mesh, workload)
            outbound(self, workload)
            beyond_entities(self, workload, ports)
        order = {cause: i for i, cause in enumerate(CAUSES)}
        return OverPermission(
            total=sum(self.by_cause.values()),
            by_cause={cause: self.by_cause[cause] for cause in sorted(self.by_cause, key=lambda c: order[c])},
            by_workload=dict(sorted(self.by_workload.items())),
            addresses=self.addresses,
            examples={cause: self.examples[cause] for cause in sorted(self.examples, key=lambda c: order[c])},
            left_out=self.universe.left_out,
            incomplete=sorted(self.universe.names[d] for d in self.mesh.unfinished) if self.mesh else [],
        )

    def count(self, cause: str, subject: int, number: int, examples: Iterator[str]) -> None:
        """Add to one cause and one workload, by the index of one of its classes."""
        self.by_cause[cause] += number
        self.by_workload[self.universe.names[subject]] += number
        shown = self.examples.setdefault(cause, [])
        while len(shown) < EXAMPLES:
            text = next(examples, None)
            if text is None:
                break
            shown.append(text)

    def _observed(self, workload: range) -> set[tuple[str, int]]:
        first = workload.start
        seen = (of for by in (self.seen, self.declared) for of in (by.sources, by.inbound, by.called_by))
        return {port for of in seen for port in of[first]}

    def entries(self, workload: range) -> set[Ports]:
        """Every port entry in rules about a destination, and the ports that Istio policies name."""
        found: set[Ports] = set()
        for d in workload:
            for rule in [*self.network.ingress.get(d, ()), *self.network.egress(d)]:
                found.update(rule.ports or ())
            if self.mesh is not None:
                found.update(Ports("TCP", port, port) for port in self.mesh.ports(d))
        return found

    def ports(self, workload: range, observed: Iterable[tuple[str, int]], *others: Measure) -> list[PortClass]:
        """The classes of a destination's ports that no rule here or in `others` can distinguish.

        Ports of the mesh itself are left out unless they were declared or seen: traffic in ambient's tunnel is counted
        by the ports inside it, and the sidecar's own ports (health, metrics) are not the workload's.
        """
        entries = self.entries(workload).union(*(other.entries(workload) for other in others))
        known = {(port.protocol, port.number) for d in workload for port in self.universe.subjects[d].ports}
        known.update(observed)
        silent = {port for measure in (self, *others) for port in measure.silent(workload, bool(others))} - known
        found = classes(entries, known | silent)
        return [port for port in found if (port.protocol, port.number) not in silent] if silent else found

    def silent(self, workload: range, compared: bool = False) -> Iterator[tuple[str, int]]:
        """The mesh's own ports at a destination. Where policies are `compared`, the sidecar's count like any others."""
        mesh = self.mesh
        if mesh is not None and any(mesh.meshed >> d & 1 for d in workload):
            if mesh.mesh.mode == "ambient":
                yield "TCP", HBONE
            elif not compared:
                yield from (("TCP", port) for port in PROXY_PORTS)

    def allowed(self, d: int, port: PortClass, rules: list[RuleSet]) -> int:
        """Sources that may open a connection of this class, by every policy."""
        network = self.network.allowed(d, port, rules)
        mesh = self.mesh
        if mesh is None or port.protocol != "TCP" or not mesh.meshed >> d & 1:
            return network
        if mesh.mesh.mode == "ambient":
            if port.number == HBONE:
                return 0  # the tunnel is counted by the ports inside it
            tunnel = self.network.allowed(d, single("TCP", HBONE), rules)
            network = network & ~mesh.meshed | tunnel & mesh.meshed
        return network & mesh.allowed(d, port.number) if network else 0

    def _pods(self, workload: range, ports: list[PortClass]) -> None:
        rules = [self.network.egress(d) for d in workload]
        seen = self.seen.sources[workload.start]
        known: dict[tuple[str, bool, int], int] = {}
        sets = []
        for port in ports:
            over = known.get(port.key)
            if over is None:
                over = 0
                for d, outer in zip(workload, rules, strict=True):
                    over |= self.allowed(d, port, outer)
                known[port.key] = over = self.universe.folded(over)
            if port.point:
                over &= ~seen.get((port.protocol, port.number), 0)
            sets.append(over)
        for run, bits, at in runs(ports, sets):
            self._attribute(workload, ports[at], rules, run, bits)

    def _attribute(self, workload: range, port: PortClass, rules: list[list[RuleSet]], run: PortRun, left: int) -> None:
        """Count the sources `left` for one run of ports by cause, as in its first class."""
        by_cause: Counter[str] = Counter()
        for d, outer in zip(workload, rules, strict=True):
            over = left
            if self.universe.split:
                over = self.allowed(d, port, outer) & self.universe.spread(left)
            for cause, bits in explained(self, d, port, outer, over):
                by_cause[cause] |= self.universe.folded(bits)
        for cause in CAUSES:
            bits = by_cause[cause] & left
            if bits:
                left &= ~bits
                self.count(cause, workload.start, bits.bit_count(), self._shown(workload.start, run, bits))

    def _shown(self, d: int, run: PortRun, bits: int) -> Iterator[str]:
        names = self.universe.names
        return (f"{names[s]} → {names[d]} {run}" for s in indices(bits))


def over_permission(judge: Judge, observed: Iterable[Observed]) -> OverPermission:
    """Measure what `judge`'s policies allow beyond `observed`: pods, the outside, and requests.

    Raises nothing: observed ends that the world does not know are ignored here (replay lists them).
    """
    return Measure(judge, observed).run()
