"""NetworkPolicy v1 as a decision: may this connection be opened, under one CNI's reading of the specification?

Invariant: allow means that both ends allow it: each is not isolated, or has a rule that names the connection; rules
only add. What implementations may read either way (host network pods, unknown addresses, other protocols) is undefined,
unless every reading gives the same answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Literal

from leastway.verify.cilium_schema import CILIUM
from leastway.verify.entities import is_entity
from leastway.verify.families import in_every_family
from leastway.verify.networkpolicy_schema import (
    PROTOCOLS,
    Block,
    Entities,
    NetworkPolicy,
    Peer,
    Ports,
    Rule,
    is_network_policy,
    read_network_policy,
)
from leastway.verify.rule_index import UNRESOLVED, Candidate, RuleIndex, known_addresses
from leastway.verify.verdict import End, Tri, Verdict, all_of, any_of
from leastway.verify.world import Subject, World, address

__all__ = ["CNIS", "NetworkPolicies", "NetworkPolicy", "is_network_policy", "read_network_policy"]

Cni = Literal["generic", "cilium", "calico"]
CNIS: tuple[Cni, ...] = ("generic", "cilium", "calico")
LAYER = "networkpolicy"


class NetworkPolicies:
    """A set of policies in a world. Policies are indexed by namespace and label, and each subject's isolation is
    cached."""

    def __init__(self, policies: Iterable[NetworkPolicy], world: World, cni: Cni = "generic") -> None:
        given = list(policies)
        found = [policy for policy in given if policy.kind != CILIUM or cni == "cilium"]
        self.unenforced = [policy.title for policy in given if policy.kind == CILIUM and cni != "cilium"]
        names = Counter((p.namespace, p.name) for p in found)  # of two kinds with one name, the text decides
        self.policies = sorted(
            found, key=lambda p: (p.namespace, p.name, str(p) if names[p.namespace, p.name] > 1 else "")
        )
        self.world = world
        self.cni: Cni = cni
        self._by_label: dict[tuple[str, str, str], list[NetworkPolicy]] = defaultdict(list)
        self._by_namespace: dict[str, list[NetworkPolicy]] = defaultdict(list)
        for policy in self.policies:
            if policy.selector.pairs:
                self._by_label[(policy.namespace, *policy.selector.pairs[0])].append(policy)
            else:
                self._by_namespace[policy.namespace].append(policy)
        self._isolating: dict[tuple[Subject, str], tuple[RuleIndex, ...]] = {}
        self._indexed: dict[tuple[int, str], RuleIndex] = {}

    def isolating(self, subject: Subject, direction: str) -> tuple[RuleIndex, ...]:
        """The policies that select a subject and isolate it for `ingress` or `egress`, sorted, with their rules."""
        known = self._isolating.get((subject, direction))
        if known is None:
            near = list(self._by_namespace.get(subject.namespace, ()))
            for pair in subject.labels.items():
                near += self._by_label.get((subject.namespace, *pair), ())
            found = [p for p in near if p.rules(direction) is not None and p.selector.matches(subject.labels)]
            known = tuple(self._index(policy, direction) for policy in sorted(found, key=lambda p: p.name))
            self._isolating[subject, direction] = known
        return known

    def _index(self, policy: NetworkPolicy, direction: str) -> RuleIndex:
        key = (id(policy), direction)  # `policies` keeps them alive; comparing whole policies would cost more
        known = self._indexed.get(key)
        if known is None:
            known = self._indexed[key] = RuleIndex(policy, direction)
        return known

    def verdict(self, source: End, destination: End, protocol: str, port: int) -> Verdict:
        """May `source` open a connection to `port` (the pod port) of `destination`, whatever family it takes?"""
        return in_every_family(source, destination, lambda one, other: self._in_family(one, other, protocol, port))

    def _in_family(self, source: End, destination: End, protocol: str, port: int) -> Verdict:
        plain = self._verdict(source, destination, protocol, port, pods_only=True)
        if len(self.readings(source, destination)) == 1:
            return plain
        other = self._verdict(source, destination, protocol, port, pods_only=False)
        if other.outcome == plain.outcome:
            return plain
        hosts = [e for e in (source, destination) if e.subject is not None and e.subject.host_network]
        shown = ", ".join(e.shown for e in hosts)
        return Verdict(
            "undefined",
            f"{shown} is on the host network, where NetworkPolicy is undefined: {plain.outcome} if it counts as its "
            f"node ({plain.because}), {other.outcome} if it counts as a pod ({other.because})",
            LAYER,
            plain.direction or other.direction,
            plain.policies or other.policies,
        )

    def readings(self, source: End, destination: End) -> tuple[bool, ...]:
        """The values of `pods_only` (host network pods count as their node) to decide with: the specification lets a
        network plugin treat them either way (Kubernetes, "Network Policies", hostNetwork pods)."""
        hosts = any(e.subject is not None and e.subject.host_network for e in (source, destination))
        return (True, False) if hosts and self.cni == "generic" else (True,)

    def _verdict(self, source: End, destination: End, protocol: str, port: int, pods_only: bool) -> Verdict:
        if loopback(source, destination):
            return Verdict("allow", "a pod always reaches itself")
        sides = []
        for direction, own, peer in (("egress", source, destination), ("ingress", destination, source)):
            if own.subject is None or (own.subject.host_network and pods_only):
                continue
            side = self._side(direction, own.subject, peer, destination, protocol, port, pods_only)
            if side.outcome == "deny":
                return side
            sides.append(side)
        if not sides:
            return Verdict("allow", "neither end is a pod that NetworkPolicy governs")
        undefined = [side for side in sides if side.outcome == "undefined"]
        if undefined:
            return undefined[0]
        return Verdict("allow", "; ".join(dict.fromkeys(side.because for side in sides)), sides[-1].layer)

    def _side(
        self, direction: str, own: Subject, peer: End, destination: End, protocol: str, port: int, pods_only: bool
    ) -> Verdict:
        policies = self.isolating(own, direction)
        if not policies:
            return Verdict("allow", f"no policy isolates {own.ref} for {direction}")
        if direction == "ingress" and self.own_node(own, peer):
            return Verdict("allow", f"{peer.shown} is the own node of {own.ref}, which is always let in", LAYER)
        if protocol not in PROTOCOLS:
            names = tuple(index.title for index in policies)
            why = f"NetworkPolicy does not define what happens to {protocol} of a pod isolated for {direction}"
            return Verdict("undefined", f"{why} (by {_list(names)})", LAYER, direction, names)
        unknown = ""
        for index in policies:
            namespace = index.policy.namespace
            for candidate in index.near(peer):
                matched = self.matches(candidate, namespace, peer, destination, protocol, port, pods_only)
                if matched is False:
                    continue
                if matched:
                    return Verdict("allow", candidate.title, LAYER, direction)
                if not unknown:
                    unknown = f"whether {candidate.title} matches depends on what is not known of "
                    unknown += self._unknown(candidate.rule, namespace, peer, destination, pods_only)
        names = tuple(index.title for index in policies)
        if not unknown and self._maybe_own_node(direction, own, peer):
            unknown = f"{peer.shown} may be the own node of {own.ref}, whose traffic no policy is sure to stop"
        if unknown:
            return Verdict("undefined", unknown, LAYER, direction, names)
        plural = "" if len(names) == 1 else "s"
        because = f"{own.ref} is isolated for {direction} by {_list(names)}, and no rule of the polic"
        because += ("y" if not plural else "ies") + f" matches {peer.shown} {port}/{protocol}"
        return Verdict("deny", because, LAYER, direction, names)

    def matches(
        self,
        candidate: Candidate,
        namespace: str,
        peer: End,
        destination: End,
        protocol: str,
        port: int,
        pods_only: bool = True,
    ) -> Tri:
        """Does a rule of a policy in `namespace` match this peer and port?"""
        rule = candidate.rule
        ports = self.admits_port(rule, destination, protocol, port, pods_only)
        if ports is False or rule.peers is None or candidate.peers is None:
            return ports
        named = any_of(self.peer_matches(rule.peers[at], namespace, peer, pods_only) for at in candidate.peers)
        return all_of((ports, named))

    def admits_peer(self, rule: Rule, namespace: str, peer: End, pods_only: bool = True) -> Tri:
        """The peer half of `matches`."""
        if rule.peers is None:
            return True
        return any_of(self.peer_matches(candidate, namespace, peer, pods_only) for candidate in rule.peers)

    def admits_port(self, rule: Rule, destination: End, protocol: str, port: int, pods_only: bool = True) -> Tri:
        """The port half of `matches`."""
        if rule.ports is None:
            return True
        return any_of(port_matches(entry, destination, protocol, port, pods_only) for entry in rule.ports)

    def peer_matches(self, candidate: Peer, namespace: str, peer: End, pods_only: bool = True) -> Tri:
        """Does one peer entry name this end?"""
        subject = peer.subject
        if isinstance(candidate, Block):
            return self._in_block(candidate, peer)
        if isinstance(candidate, Entities):
            return is_entity(candidate.names, peer, self.world.api_servers)
        if subject is None:
            return None if peer.entity in UNRESOLVED else False
        if subject.host_network and pods_only:
            return False
        if candidate.namespaces is None:
            if subject.namespace != namespace:
                return False
        elif not candidate.namespaces.matches(self.world.namespaces.get(subject.namespace, {})):
            return False
        return candidate.pods.matches(subject.labels)

    def _in_block(self, block: Block, peer: End) -> Tri:
        inside = peer.subject is not None or peer.entity not in ("", "world")
        if self.cni == "cilium" and inside:
            return False  # Cilium's CIDR rules never match pods or nodes
        if peer.address is not None:
            return block_contains(block, peer.address)
        if peer.subject is None:
            return None
        found = {block_contains(block, ip) for ip in known_addresses(peer)}
        return found.pop() if len(found) == 1 else None

    def _maybe_own_node(self, direction: str, own: Subject, peer: End) -> bool:
        """Whether the exemption of a pod's own node may apply, without being certain."""
        if peer.entity == "host":
            return direction == "ingress" or self.cni == "generic"
        if peer.entity != "node" and not (peer.subject is not None and peer.subject.host_network):
            return False
        somewhere = not own.node_ip or (peer.subject is not None and not peer.subject.node_ip)
        if direction == "ingress":
            return somewhere
        # The documentation exempts traffic to the own node as well; the API types name only traffic from it, and
        # Cilium and Calico apply a pod's egress policy to it.
        return self.cni == "generic" and (somewhere or self.own_node(own, peer))

    def own_node(self, own: Subject, peer: End) -> bool:
        """Is this certainly the pod's own node, which is always let in?"""
        if peer.entity == "host":
            return True
        node = address(own.node_ip) if own.node_ip else None
        if peer.subject is not None:
            return peer.subject.host_network and self.world.same_node(address(peer.subject.node_ip), node)
        return self.world.same_node(peer.address, node)

    def _unknown(self, rule: Rule, namespace: str, peer: End, destination: End, pods_only: bool) -> str:
        if self.admits_peer(rule, namespace, peer, pods_only) is None:
            return f"{peer.shown}: its address" if peer.address is None else f"{peer.shown}"
        return f"{destination.shown}: its named ports"


def port_matches(entry: Ports, destination: End, protocol: str, port: int, pods_only: bool = True) -> Tri:
    """Does one port entry admit this port of this destination? A name is resolved on the destination's containers."""
    if entry.protocol != protocol:
        return False
    if not entry.name:
        return entry.low <= port <= entry.high
    subject = destination.subject
    if subject is None or (subject.host_network and pods_only):
        return False
    numbers = [p.number for p in subject.ports if p.name == entry.name and p.protocol == protocol]
    return port in numbers if numbers or subject.inventoried else None


def block_contains(block: Block, ip: object) -> bool:
    """True if an address is in the block and in none of its exceptions; families never match each other."""
    return ip in block.network and not any(ip in inner for inner in block.excepts)


def loopback(source: End, destination: End) -> bool:
    """Is it a pod that connects to itself?"""
    if source.subject is None or source.subject is not destination.subject:
        return False
    if source.address is not None and destination.address is not None:
        return source.address == destination.address
    return source.subject.single


def _list(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
