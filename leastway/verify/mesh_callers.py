"""Who may call a destination in the mesh, as sets: subjects by the identity they present, and the addresses outside.

Invariant: `lenient` gives those for whom a condition may hold; otherwise it certainly holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy
from leastway.verify.bits import Universe, union
from leastway.verify.blocks import AddressRange, split
from leastway.verify.identity import Request, value_matches
from leastway.verify.mesh import Mesh
from leastway.verify.mesh_rules import ADDRESS
from leastway.verify.networkpolicy_schema import Block, Network
from leastway.verify.reading import network
from leastway.verify.verdict import Tri


class Within:
    """The subjects of a universe as callers."""

    def __init__(self, universe: Universe, mesh: Mesh) -> None:
        self.universe = universe
        self.all = universe.all
        self.meshed = 0
        self.proxied = 0
        self.by_principal: dict[str, int] = defaultdict(int)
        self._domains = mesh.trust_domains
        self._unknown: dict[str, int] = defaultdict(int)  # by namespace, those whose account is not known
        self._by_account: dict[tuple[str, str], int] = defaultdict(int)
        self._by_namespace: dict[str, int] = defaultdict(int)
        self._values: dict[tuple[str, str, str, bool, bool], int] = {}
        for i, subject in enumerate(universe.subjects):
            principal = mesh.principal(subject)
            if principal == "":
                continue
            self.meshed |= 1 << i
            self.proxied |= subject.proxied << i
            self._by_namespace[subject.namespace] |= 1 << i
            if principal is None:
                self._unknown[subject.namespace] |= 1 << i
            else:
                self.by_principal[principal] |= 1 << i
                self._by_account[subject.namespace, subject.service_account] |= 1 << i

    def within(self, block: Network, version: int, lenient: bool) -> int:
        """Subjects with an address in a block."""
        unknown = self.universe.addressless if lenient else 0
        if version and version != block.version:
            return unknown
        return (self.universe.touched(block) if lenient else self.universe.block(Block(block, ()))) | unknown

    def identified(self, name: str, value: str, namespace: str, ztunnel: bool, lenient: bool) -> int:
        """Subjects with a principal that a value names."""
        key = (name, value, namespace, ztunnel, lenient)
        found = self._values.get(key)
        if found is None:
            found = self._named(name, value, namespace, ztunnel)
            for own, bits in self._unknown.items():
                held = self._held(name, value, namespace, ztunnel, None, own)
                if held or (held is None and lenient):
                    found |= bits
            self._values[key] = found
        return found

    def _named(self, name: str, value: str, namespace: str, ztunnel: bool) -> int:
        """`identified`, among those whose principal is known."""
        if name in ("namespaces", "source.namespace") and "*" not in value:
            return self._by_namespace.get(value, 0) & ~self._unknown.get(value, 0)
        if name in ("serviceAccounts", "source.serviceAccount"):
            owner, slash, account = value.partition("/")
            return self._by_account.get((owner, account) if slash else (namespace, value), 0)
        if name in ("principals", "source.principal") and "*" not in value:
            domain, _, rest = value.partition("/")
            stands = not ztunnel and (domain in self._domains or domain == "cluster.local")
            return union(self.by_principal.get(f"{d}/{rest}", 0) for d in (self._domains if stands else (domain,)))
        return union(
            bits
            for principal, bits in self.by_principal.items()
            if self._held(name, value, namespace, ztunnel, principal)
        )

    def _held(
        self, name: str, value: str, policy: str, ztunnel: bool, principal: str | None, namespace: str | None = None
    ) -> Tri:
        request = Request(principal, namespace, trust_domains=self._domains, ztunnel=ztunnel)
        return value_matches(name, value, request, policy)


class Beyond:
    """The addresses outside as callers without an identity, cut wherever the policies may distinguish them."""

    def __init__(self, policies: Iterable[AuthorizationPolicy]) -> None:
        entries = [e for p in policies for rule in p.rules for e in [*(rule.sources or ()), rule.conditions]]
        values = {value for entry in entries for field in entry if field.name in ADDRESS for value in field.values}
        self.parts = split(map(network, sorted(values)))
        self.all = (1 << len(self.parts)) - 1
        self.meshed = self.proxied = 0
        self.by_principal: dict[str, int] = {}

    def identified(self, *_: object) -> int:
        """Nobody."""
        return 0

    def within(self, block: Network, version: int, lenient: bool) -> int:  # noqa: ARG002 # an address is known for certain
        """The parts that are in a block."""
        first, last = int(block[0]), int(block.broadcast_address)
        inside = (p.version == block.version and first <= p.first and p.last <= last for p in self.parts)
        return union(1 << i for i, held in enumerate(inside) if held)

    def ranges(self, bits: int, version: int) -> list[AddressRange]:
        """Parts of one family."""
        return [part for i, part in enumerate(self.parts) if bits >> i & 1 and part.version == version]
