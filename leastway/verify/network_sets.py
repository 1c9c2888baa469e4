"""NetworkPolicy as sets: for one destination and port class, all sources that both ends allow, at once.

Invariant: `allowed` holds exactly the sources for which `NetworkPolicies.verdict` is a certain allow.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import NamedTuple

from leastway.verify.bits import Universe, indices
from leastway.verify.networkpolicy import NetworkPolicies
from leastway.verify.networkpolicy_schema import Block, Entities, Ports, Rule
from leastway.verify.ports import PortClass, admits

WIDE = 64  # a rule with more peers is tested per destination instead of being listed under each


class RuleSet(NamedTuple):
    """One rule as sets. `subjects` are the pods that it governs. `peers` are all that it names, split by how: `anyone`
    (no peer list), `wide` (every pod of a namespace or more), `narrow` (a pod selector), and `blocked4` or `blocked6`
    (an ipBlock holds all of their addresses of that family)."""

    title: str
    existing: bool
    subjects: int
    peers: int
    anyone: bool
    wide: int
    narrow: int
    blocked4: int
    blocked6: int
    ports: tuple[Ports, ...] | None
    blocks: tuple[Block, ...]
    entities: tuple[str, ...] = ()

    @property
    def blocked(self) -> int:
        """Peers with all addresses of one family in an ipBlock."""
        return self.blocked4 | self.blocked6

    def over(self, version: int) -> int:
        """Peers that the rule names, whichever of their addresses of one family they use; 0: they have only one
        family."""
        if not version:
            return self.peers
        return self.wide | self.narrow | (self.blocked4 if version == 4 else self.blocked6)


class NetworkSets:
    """All rules over a universe, listed by destination (`ingress`, `egress`) and by source (`outbound`)."""

    def __init__(self, network: NetworkPolicies, universe: Universe) -> None:
        self.universe = universe
        self.cni = network.cni
        self.isolated_in = 0
        self.isolated_out = 0
        self.ingress: dict[int, list[RuleSet]] = defaultdict(list)
        self.outbound: dict[int, list[RuleSet]] = defaultdict(list)
        self._egress: dict[int, list[RuleSet]] = defaultdict(list)
        self._wide: list[RuleSet] = []
        merged: dict[tuple[object, ...], RuleSet] = {}
        for policy in network.policies:
            subjects = universe.namespaces.get(policy.namespace, 0) & universe.selected(policy.selector)
            if policy.ingress is not None:
                self.isolated_in |= subjects
                for i, rule in enumerate(policy.ingress):
                    found = self._rule(
                        rule, policy.namespace, subjects, f"{policy.title} ingress rule {i}", policy.existing
                    )
                    for d in indices(subjects):
                        self.ingress[d].append(found)
            if policy.egress is not None:
                self.isolated_out |= subjects
                for i, rule in enumerate(policy.egress):
                    found = self._rule(
                        rule, policy.namespace, subjects, f"{policy.title} egress rule {i}", policy.existing
                    )
                    if found.anyone or found.blocks or found.entities:
                        for s in indices(subjects):
                            self.outbound[s].append(found)
                    named = (found.peers, found.anyone, found.wide, found.narrow, found.blocked4, found.blocked6)
                    key = (*named, found.ports, found.existing)
                    known = merged.get(key)
                    merged[key] = found if known is None else known._replace(subjects=known.subjects | subjects)
        for found in merged.values():
            if found.peers.bit_count() > WIDE:
                self._wide.append(found)
            else:
                for d in indices(found.peers):
                    self._egress[d].append(found)

    def _rule(self, rule: Rule, namespace: str, subjects: int, title: str, existing: bool) -> RuleSet:
        universe = self.universe
        if rule.peers is None:
            return RuleSet(title, existing, subjects, universe.all, True, universe.all, 0, 0, 0, rule.ports, ())
        wide = narrow = 0
        blocked = {4: 0, 6: 0}
        blocks = []
        entities: tuple[str, ...] = ()
        for peer in rule.peers:
            if isinstance(peer, Block):
                blocks.append(peer)
                if self.cni != "cilium":
                    blocked[peer.network.version] |= universe.block(peer)
            elif isinstance(peer, Entities):
                entities += peer.names  # nodes and the like are in no universe
            elif peer.pods.empty:
                wide |= universe.pods(peer, namespace)
            else:
                narrow |= universe.pods(peer, namespace)
        peers = wide | narrow | blocked[4] | blocked[6]
        named = (wide, narrow, blocked[4], blocked[6])
        return RuleSet(title, existing, subjects, peers, False, *named, rule.ports, tuple(blocks), entities)

    def egress(self, destination: int) -> list[RuleSet]:
        """Egress rules that name a destination."""
        return self._egress.get(destination, []) + [r for r in self._wide if r.peers >> destination & 1]

    @cached_property
    def free(self) -> int:
        """Sources without egress isolation."""
        return self.universe.all & ~self.isolated_out

    def admitted(self, destination: int, port: PortClass, version: int = 0) -> int:
        """Sources that the destination's side lets in; with a `version`, whichever of their addresses of it they
        use."""
        if not self.isolated_in >> destination & 1:
            return self.universe.all
        declared = self.universe.subjects[destination].ports
        bits = 0
        for rule in self.ingress.get(destination, ()):
            if admits(rule.ports, port, declared):
                bits |= rule.over(version)
        return bits

    def released(self, destination: int, port: PortClass, rules: list[RuleSet], version: int = 0) -> int:
        """Sources whose own side lets them out; `rules` are `egress(destination)`, `version` is of its addresses."""
        declared = self.universe.subjects[destination].ports
        bits = self.free
        for rule in rules:
            if admits(rule.ports, port, declared) and (not version or rule.over(version) >> destination & 1):
                bits |= rule.subjects
        return bits

    def allowed(self, destination: int, port: PortClass, rules: list[RuleSet]) -> int:
        """Sources that both sides allow; a single pod's own bit is left out, a workload's replicas count."""
        bits = self.universe.over_every_family(
            destination, lambda version: self._over(destination, port, rules, version)
        )
        return bits & ~(1 << destination) if self.universe.subjects[destination].single else bits

    def _over(self, destination: int, port: PortClass, rules: list[RuleSet], version: int) -> int:
        """`allowed` over the addresses of sources of one family, and of the destination if it has some of both."""
        only = self.universe.only
        outer = next((own for own in only if version and only[own] >> destination & 1), version)
        return self.admitted(destination, port, version) & self.released(destination, port, rules, outer)
