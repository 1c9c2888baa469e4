"""What the policies allow beyond what was observed: exact over the closed world, broken down by cause.

Invariant: every (source, destination, port class) that is allowed for certain and was not observed is counted once,
under the first cause that explains it. The outside counts by blocks that no rule can tell apart, not by addresses.
Workloads on the host network are nodes to NetworkPolicy, and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from leastway.verify.bits import Universe, indices
from leastway.verify.judge import Judge
from leastway.verify.mesh import HBONE
from leastway.verify.mesh_sets import MeshSets
from leastway.verify.network_sets import NetworkSets, RuleSet
from leastway.verify.networkpolicy_schema import Ports
from leastway.verify.ports import LAST, PortClass, classes, entry_admits
from leastway.verify.sightings import Sightings
from leastway.verify.soundness import Observed
from leastway.verify.world import NamedPort

CAUSES = (
    "declared intent",
    "unisolated",
    "pre-existing policy",
    "DNS",
    "endPort span",
    "namespace-wide rule",
    "CIDR widening",
    "any caller",
    "shared service account",
    "selector bleed",
    "path template",
    "mesh tunnel",
    "other",
)
DNS_PORTS = (53, 5353)
EXAMPLES = 5  # per cause


class OverPermission(msgspec.Struct, frozen=True):
    """`total` classes allowed beyond what was seen. `by_cause` has the causes that occur, `by_workload` the
    destinations (for the outside, the workload at the near end). `addresses` is how many external addresses are open
    beyond those seen, summed over ports. `examples` are the first few of each cause, `left_out` workloads on the
    host network."""

    total: int
    by_cause: dict[str, int]
    by_workload: dict[str, int]
    addresses: int
    examples: dict[str, list[str]]
    left_out: list[str]


class Measure:
    """The state of one measurement; `over_permission` is the way in."""

    def __init__(self, judge: Judge, observed: Iterable[Observed]) -> None:
        items = list(observed)
        option = judge.mesh.normalization
        self.universe = Universe(judge.world)
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
        from leastway.verify.outside import inbound, outbound
        from leastway.verify.requests import beyond_requests

        for d in range(len(self.universe.subjects)):
            rules = self.network.egress(d)
            for port in self._classes(d, rules):
                self._pods(d, port, rules)
                inbound(self, d, port)
            if self.mesh is not None and self.mesh.governed(d, "TCP"):
                beyond_requests(self, self.mesh, d)
            outbound(self, d)
        order = {cause: i for i, cause in enumerate(CAUSES)}
        return OverPermission(
            total=sum(self.by_cause.values()),
            by_cause={cause: self.by_cause[cause] for cause in sorted(self.by_cause, key=lambda c: order[c])},
            by_workload=dict(sorted(self.by_workload.items())),
            addresses=self.addresses,
            examples={cause: self.examples[cause] for cause in sorted(self.examples, key=lambda c: order[c])},
            left_out=self.universe.left_out,
        )

    def count(self, cause: str, subject: int, number: int, examples: Iterator[str]) -> None:
        """Add to one cause and one workload."""
        self.by_cause[cause] += number
        self.by_workload[self.universe.subjects[subject].ref] += number
        shown = self.examples.setdefault(cause, [])
        while len(shown) < EXAMPLES:
            text = next(examples, None)
            if text is None:
                break
            shown.append(text)

    def _classes(self, d: int, rules: list[RuleSet]) -> list[PortClass]:
        entries = {entry for rule in [*self.network.ingress.get(d, ()), *rules] for entry in rule.ports or ()}
        observed = {*self.seen.sources[d], *self.declared.sources[d], *self.seen.inbound[d], *self.declared.inbound[d]}
        return classes(entries, self.universe.subjects[d].ports, observed)

    def allowed(self, d: int, port: PortClass, rules: list[RuleSet]) -> int:
        """Sources that may open a connection of this class, by every policy."""
        network = self.network.allowed(d, port, rules)
        mesh = self.mesh
        if mesh is None or port.protocol != "TCP" or not mesh.meshed >> d & 1:
            return network
        if mesh.mesh.mode == "ambient":
            if port.number == HBONE:
                return 0  # the tunnel is counted by the ports inside it
            tunnel = self.network.allowed(d, PortClass("TCP", HBONE, "port"), rules)
            network = network & ~mesh.meshed | tunnel & mesh.meshed
        return network & mesh.allowed(d, port.number) if network else 0

    def _pods(self, d: int, port: PortClass, rules: list[RuleSet]) -> None:
        over = self.allowed(d, port, rules)
        if port.kind == "port":
            over &= ~self.seen.sources[d].get((port.protocol, port.number), 0)
        if not over:
            return
        declared = self.declared.sources[d].get((port.protocol, port.number), 0) if port.kind == "port" else 0
        for cause, bits in self._explained(d, port, rules, over, declared):
            if bits:
                self.count(cause, d, bits.bit_count(), self._shown(d, port, bits))

    def _shown(self, d: int, port: PortClass, bits: int) -> Iterator[str]:
        subjects = self.universe.subjects
        return (f"{subjects[s].ref} → {subjects[d].ref} {port}" for s in indices(bits))

    def _explained(
        self, d: int, port: PortClass, rules: list[RuleSet], over: int, declared: int
    ) -> Iterator[tuple[str, int]]:
        """Split `over` by cause; the parts are disjoint and together all of it."""
        yield "declared intent", over & declared
        over &= ~declared
        inside = bool(self.network.isolated_in >> d & 1)
        governing = self.mesh if self.mesh is not None and self.mesh.governed(d, port.protocol) else None
        if not inside and governing is None:
            yield "unisolated", over & self.network.free
            over &= ~self.network.free
        by_cause: dict[str, int] = {}
        deciding = self.network.ingress.get(d, []) if inside else [] if governing else rules
        for rule in deciding:
            admitted = over & (rule.peers if inside else rule.subjects)
            if admitted:
                entry = _entry(rule, port, self.universe.subjects[d].ports)
                if entry is not None:
                    self._by_rule(by_cause, rule, entry, d, port, admitted, inside)
        if governing is not None and not inside:
            self._by_identity(governing, by_cause, d, port, over)
        for cause in CAUSES:
            bits = by_cause.get(cause, 0) & over
            over &= ~bits
            yield cause, bits
        if self.mesh is not None and self.mesh.mesh.mode == "ambient" and port.protocol == "TCP":
            # Where the tunnel is open and nobody judges inside it, it leads to every port.
            yield "mesh tunnel", over & self.mesh.meshed
            over &= ~self.mesh.meshed
        yield "other", over

    def _by_rule(
        self,
        by_cause: dict[str, int],
        rule: RuleSet,
        entry: Ports,
        d: int,
        port: PortClass,
        bits: int,
        inside: bool,
    ) -> None:
        def add(cause: str, part: int) -> None:
            by_cause[cause] = by_cause.get(cause, 0) | part

        if rule.existing:
            add("pre-existing policy", bits)
        elif port.number in DNS_PORTS and port.kind == "port":
            add("DNS", bits)
        elif entry.low < entry.high and (entry.low, entry.high) != (1, LAST) and not self._anyone(d, port):
            add("endPort span", bits)
        else:
            wide = rule.wide if inside else bits if rule.wide >> d & 1 else 0
            blocked = rule.blocked if inside else bits if rule.blocked >> d & 1 else 0
            known = self.seen.partners[d] | self.declared.partners[d]
            narrow = bits & (rule.narrow if inside else -(rule.narrow >> d & 1))
            add("other", narrow & known)
            add("selector bleed", narrow & ~known)
            add("CIDR widening", bits & blocked)
            add("namespace-wide rule", bits & wide & ~narrow)

    def _anyone(self, d: int, port: PortClass) -> bool:
        """Was this port of the destination seen at all?"""
        key = (port.protocol, port.number)
        return port.kind == "port" and (key in self.seen.sources[d] or key in self.seen.inbound[d])

    def _by_identity(self, mesh: MeshSets, by_cause: dict[str, int], d: int, port: PortClass, over: int) -> None:
        """Causes of what authorization rules alone decide."""
        seen = self.seen.sources[d].get((port.protocol, port.number), 0)
        accounts = {mesh.mesh.principal(self.universe.subjects[s]) for s in indices(seen)} - {"", None}
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
        by_cause["selector bleed"] = by_cause.get("selector bleed", 0) | narrow & ~self.seen.partners[d]


def _entry(rule: RuleSet, port: PortClass, declared: tuple[NamedPort, ...]) -> Ports | None:
    """The narrowest port entry of a rule that admits a class, None if none does."""
    if rule.ports is None:
        return Ports(port.protocol, 1, LAST)
    found = [entry for entry in rule.ports if entry_admits(entry, port, declared)]
    return min(found, key=lambda e: e.high - e.low) if found else None


def over_permission(judge: Judge, observed: Iterable[Observed]) -> OverPermission:
    """Measure what `judge`'s policies allow beyond `observed`: pods, the outside, and requests.

    Raises nothing: observed ends that the world does not know are ignored here (replay lists them).
    """
    return Measure(judge, observed).run()
