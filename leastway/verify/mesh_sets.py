"""AuthorizationPolicy as sets: for one destination and port, all sources from which some request may be admitted.

Invariant: what the client chooses (method, path, host, headers, token) is free, who it is is not; a source is in the
set unless every request of it is denied for certain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from leastway.verify.authorizationpolicy import AuthorizationPolicies, Place, compiled
from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, AuthorizationRule, Field, Fields
from leastway.verify.bits import Universe
from leastway.verify.identity import Request, value_matches
from leastway.verify.judge import Judge
from leastway.verify.mesh import PROXY_PORTS
from leastway.verify.networkpolicy_schema import Block
from leastway.verify.reading import network
from leastway.verify.world import Subject

_IDENTITY = frozenset(
    [
        "principals",
        "namespaces",
        "serviceAccounts",
        "trustDomains",
        "source.principal",
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
    ]
)
_ADDRESS = frozenset({"ipBlocks", "source.ip"})
_PORT = frozenset({"ports", "destination.port"})


class Admission(NamedTuple):
    """One ALLOW rule at a destination: the sources it names and the operations it opens there."""

    policy: AuthorizationPolicy
    rule: AuthorizationRule
    sources: int
    wide: bool


class MeshSets:
    """Source sets of authorization rules over a universe."""

    def __init__(self, judge: Judge, universe: Universe) -> None:
        self.judge = judge
        self.mesh = judge.mesh
        self.policies: AuthorizationPolicies = judge.authorization
        self.universe = universe
        self.meshed = 0
        self.unknown = 0
        self.by_principal: dict[str, int] = defaultdict(int)
        self._by_account: dict[tuple[str, str], int] = defaultdict(int)
        self._by_namespace: dict[str, int] = defaultdict(int)
        for i, subject in enumerate(universe.subjects):
            principal = self.mesh.principal(subject)
            if principal == "":
                continue
            self.meshed |= 1 << i
            self._by_namespace[subject.namespace] |= 1 << i
            if principal is None:
                self.unknown |= 1 << i
            else:
                self.by_principal[principal] |= 1 << i
                self._by_account[subject.namespace, subject.service_account] |= 1 << i
        self._named_ports: dict[int, frozenset[int]] = {}
        self._values: dict[tuple[str, str, str, bool], int] = {}
        self._sources: dict[tuple[tuple[Fields, ...] | None, str, bool], int] = {}

    def ports(self, destination: int) -> set[int]:
        """Ports of a destination in the mesh at which it may decide otherwise than at others."""
        if not self.meshed >> destination & 1:
            return set()
        subject = self.universe.subjects[destination]
        found = set(PROXY_PORTS) if self.mesh.mode == "sidecar" else set()
        for policy in (*self.policies.applying(subject), *self.policies.applying(subject, waypoint=True)):
            known = self._named_ports.get(id(policy))  # the judge keeps policies alive
            if known is None:
                known = self._named_ports[id(policy)] = frozenset(_named_ports(policy))
            found |= known
        found.update(port for peer in self.judge.policies.peer for port, _ in peer.ports if 0 < port < 65536)
        for service in self.judge.world.services_of(subject):
            found.update(entry.target for entry in service.ports if isinstance(entry.target, int))
        return {port for port in found if 0 < port < 65536}

    def governed(self, destination: int, protocol: str) -> bool:
        """Is anything in the mesh in the way of this destination?"""
        subject = self.universe.subjects[destination]
        if protocol != "TCP" or not self.meshed >> destination & 1:
            return False
        return any(p.action == "ALLOW" for p in self._policies(subject))

    def _policies(self, subject: Subject) -> tuple[AuthorizationPolicy, ...]:
        targeted = self.policies.applying(subject, waypoint=True) if self.mesh.waypoint(subject) else ()
        return self.policies.applying(subject) + targeted

    def place(self, subject: Subject, port: int) -> Place:
        """Where selector policies of a destination port are enforced, as far as sets are concerned."""
        if self.mesh.mode == "ambient":
            return "ztunnel"
        return "tcp" if self.judge.speaks_http(subject, port) is False else "http"

    def allowed(self, destination: int, port: int) -> int:
        """Sources from which some request to a TCP port of a destination may be admitted."""
        subject = self.universe.subjects[destination]
        everyone = self.universe.all
        if not self.meshed >> destination & 1 or (self.mesh.mode == "sidecar" and port in PROXY_PORTS):
            return everyone
        if self.mesh.mtls(subject, port)[0] == "STRICT":
            everyone &= self.meshed
        hop = self.mesh.hop(subject)
        if not hop:
            return everyone & self._decide(self.policies.applying(subject), port, self.place(subject, port))
        targeted = self._decide(self.policies.applying(subject, waypoint=True), port, "http")
        passed = self.policies.verdict_at_ztunnel(subject, Request(principal=hop, port=port))
        # The waypoint's own calls go straight to the destination.
        return everyone & (targeted | self.by_principal.get(hop, 0)) if passed.outcome != "deny" else 0

    def _decide(self, policies: tuple[AuthorizationPolicy, ...], port: int, place: Place) -> int:
        allowing = [p for p in policies if p.action == "ALLOW"]
        bits = 0 if allowing else self.universe.all
        for policy in allowing:
            for admission in self._rules(policy, port, place):
                bits |= admission.sources
        for policy in policies:
            if policy.action == "DENY":
                for denial in self._rules(policy, port, place):
                    bits &= ~(denial.sources if _certain(denial.rule, port) else 0)
        return bits

    def admissions(self, destination: int, port: int) -> list[Admission]:
        """The ALLOW rules that open a port of a destination to someone, at the place that sees requests if there is
        one."""
        subject = self.universe.subjects[destination]
        waypoint = bool(self.mesh.waypoint(subject))
        policies = self.policies.applying(subject, waypoint=waypoint)
        place: Place = "http" if waypoint else self.place(subject, port)
        return [a for p in policies if p.action == "ALLOW" for a in self._rules(p, port, place)]

    def _rules(self, policy: AuthorizationPolicy, port: int, place: Place) -> Iterator[Admission]:
        for rule in policy.rules:
            effective = compiled(rule, policy.action, place)
            if effective is None or not _opens(effective.operations, port):
                continue
            sources = self._entries(effective.sources, policy.namespace, place == "ztunnel")
            for field in effective.conditions:
                sources &= self._field(field, port, policy.namespace, place == "ztunnel")
            if sources:
                yield Admission(policy, effective, sources, _is_wide(effective))

    def _entries(self, entries: tuple[Fields, ...] | None, namespace: str, ztunnel: bool) -> int:
        known = self._sources.get((entries, namespace, ztunnel))
        if known is None:
            known = self.universe.all if entries is None else 0
            for entry in entries or ():
                bits = self.universe.all
                for field in entry:
                    bits &= self._field(field, 0, namespace, ztunnel)
                known |= bits
            self._sources[entries, namespace, ztunnel] = known
        return known

    def _field(self, field: Field, port: int, namespace: str, ztunnel: bool) -> int:
        if field.name in _PORT:
            inside = str(port) in {str(int(value)) for value in field.values}
            return self.universe.all if inside != field.negated else 0
        if field.name not in _IDENTITY and field.name not in _ADDRESS:
            return self.universe.all
        bits = 0
        for value in field.values:
            key = (field.name, value, namespace, ztunnel)
            found = self._values.get(key)
            if found is None:
                found = self._values[key] = self._value(field.name, value, namespace, ztunnel)
            bits |= found
        unknown = self.unknown if field.name in _IDENTITY else self.universe.addressless
        return self.universe.all & ~bits & ~unknown if field.negated else bits

    def _value(self, name: str, value: str, namespace: str, ztunnel: bool) -> int:
        if name in _ADDRESS:
            return self.universe.block(Block(network(value), ()))
        if name in ("namespaces", "source.namespace") and "*" not in value:
            return self._by_namespace.get(value, 0)
        if name in ("serviceAccounts", "source.serviceAccount"):
            owner, slash, account = value.partition("/")
            return self._by_account.get((owner, account) if slash else (namespace, value), 0)
        if name in ("principals", "source.principal") and "*" not in value:
            domain, _, rest = value.partition("/")
            stands = not ztunnel and (domain in self.mesh.trust_domains or domain == "cluster.local")
            domains = self.mesh.trust_domains if stands else (domain,)
            return _union(self.by_principal.get(f"{d}/{rest}", 0) for d in domains)
        return _union(
            bits
            for principal, bits in self.by_principal.items()
            if value_matches(
                name, value, Request(principal, trust_domains=self.mesh.trust_domains, ztunnel=ztunnel), namespace
            )
        )

    def outside(self, destination: int, port: int) -> bool:
        """May a plaintext peer from outside be admitted?"""
        subject = self.universe.subjects[destination]
        if not self.meshed >> destination & 1:
            return True
        request = Request(principal="", port=port, trust_domains=self.mesh.trust_domains)
        return self.policies.verdict(subject, request, http=self.place(subject, port) != "tcp").outcome != "deny"


def _named_ports(policy: AuthorizationPolicy) -> Iterator[int]:
    for rule in policy.rules:
        for entry in [*(rule.operations or ()), rule.conditions]:
            for field in entry:
                if field.name in _PORT:
                    yield from (int(value) for value in field.values)


def _union(parts: Iterator[int]) -> int:
    bits = 0
    for part in parts:
        bits |= part
    return bits


def _opens(operations: tuple[Fields, ...] | None, port: int) -> bool:
    """Can some request to this port match the operations?"""
    return operations is None or any(entry_opens(entry, port) for entry in operations)


def entry_opens(entry: Fields, port: int) -> bool:
    """Can some request to this port match one operation?"""
    return all((str(port) in field.values) != field.negated for field in entry if field.name == "ports")


def _certain(rule: AuthorizationRule, port: int) -> bool:
    """Does the rule match whatever the client chooses to send to this port?"""
    free = {"hosts", "methods", "paths", "requestPrincipals", "remoteIpBlocks"}
    if any(f.name not in _IDENTITY | _ADDRESS | _PORT for f in rule.conditions):
        return False
    if any(f.name in free for entry in rule.sources or () for f in entry):
        return False
    if rule.operations is None:
        return True
    return any(entry_opens(entry, port) and all(f.name == "ports" for f in entry) for entry in rule.operations)


def _is_wide(rule: AuthorizationRule) -> bool:
    """Does the rule name its sources by no account: anyone, whole namespaces, or a pattern?"""
    if rule.sources is None:
        return True
    return any(
        field.name in ("namespaces", "trustDomains") or field.negated or any("*" in value for value in field.values)
        for entry in rule.sources
        for field in entry
    )
