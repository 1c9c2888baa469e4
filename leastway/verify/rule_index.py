"""The rules of one policy and direction, found by the peer that they may name.

Invariant: a peer entry that `near` leaves out certainly does not match, whatever is unknown. So checking only what it
returns gives the same decision as checking every entry.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from leastway.verify.networkpolicy_schema import Block, Entities, NetworkPolicy, Peer, Rule
from leastway.verify.verdict import End
from leastway.verify.world import Address, address

# Entities whose pods exist but have no known labels yet: a selector may or may not match them.
UNRESOLVED = frozenset({"init", "unmanaged", "unknown", "health"})


class Candidate(NamedTuple):
    """A rule, and the positions of those of its peer entries that may name the peer; None if it has no peers and so
    admits everyone."""

    number: int
    rule: Rule
    peers: tuple[int, ...] | None
    title: str  # how messages call the rule


Position = tuple[int, int]  # of a peer entry: the rule's number, the entry's position in it


class RuleIndex:
    """One policy's `ingress` or `egress` rules."""

    def __init__(self, policy: NetworkPolicy, direction: str) -> None:
        self.policy = policy
        self.title = policy.title
        self.rules = policy.rules(direction) or ()
        self._titles = [f"{self.title} {direction} rule {number}" for number in range(len(self.rules))]
        self._open: list[int] = []  # rules without a peer list
        # By one pair of the pod selector: its key, then its value.
        self._labelled: dict[str, dict[str, list[Position]]] = defaultdict(lambda: defaultdict(list))
        self._unlabelled: list[Position] = []
        self._single: dict[Address, list[Position]] = defaultdict(list)  # blocks of one address
        self._ranges: list[Position] = []
        self._entities: list[Position] = []
        for number, rule in enumerate(self.rules):
            if rule.peers is None:
                self._open.append(number)
            for position, peer in enumerate(rule.peers or ()):
                self._list(peer, (number, position))

    def _list(self, peer: Peer, place: Position) -> None:
        if isinstance(peer, Block):
            network = peer.network
            if network.prefixlen == network.max_prefixlen:
                self._single[network.network_address].append(place)
            else:
                self._ranges.append(place)
        elif isinstance(peer, Entities):
            self._entities.append(place)
        elif peer.pods.pairs:
            key, value = peer.pods.pairs[0]
            self._labelled[key][value].append(place)
        else:
            self._unlabelled.append(place)

    def near(self, peer: End) -> list[Candidate]:
        """The rules that may name this peer, in their order."""
        if not self.rules:
            return []
        places = self._pods(peer)
        if self._single or self._ranges:
            places += self._blocks(peer)
        if self._entities and (peer.subject is None or peer.subject.host_network):
            places += self._entities
        by_rule: dict[int, list[int]] = {}
        for number, position in sorted(set(places)):
            by_rule.setdefault(number, []).append(position)
        found = [
            Candidate(number, self.rules[number], tuple(at), self._titles[number]) for number, at in by_rule.items()
        ]
        if self._open:
            found += [Candidate(number, self.rules[number], None, self._titles[number]) for number in self._open]
            found.sort(key=lambda candidate: candidate.number)
        return found

    def _pods(self, peer: End) -> list[Position]:
        if peer.subject is None:
            if peer.entity not in UNRESOLVED:
                return []
            places = [place for values in self._labelled.values() for listed in values.values() for place in listed]
            return places + self._unlabelled
        found = list(self._unlabelled)
        labels = peer.subject.labels
        for key, by_value in self._labelled.items():
            if key in labels:
                found += by_value.get(labels[key], ())
        return found

    def _blocks(self, peer: End) -> list[Position]:
        addresses = [peer.address] if peer.address is not None else known_addresses(peer)
        if not addresses:
            return [place for places in self._single.values() for place in places] + self._ranges
        found = list(self._ranges)
        if self._single:
            for one in addresses:
                found += self._single.get(one, ())
        return found


def known_addresses(peer: End) -> list[Address]:
    """Every address that a peer without a particular one may have; empty if unknown."""
    subject = peer.subject
    if subject is None:
        return []
    texts = subject.ips or ((subject.node_ip,) if subject.host_network else ())
    found = [one for text in texts if (one := address(text)) is not None]
    return [one for one in found if one.version == peer.family] if peer.family else found
