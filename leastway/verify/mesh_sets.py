"""AuthorizationPolicy as sets: for one destination and port, all sources that it admits.

Invariant: what the client chooses (method, path, host, headers, token) is free, who it is is not; a source is in the
set if some request of it is admitted for certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from leastway.verify.authorizationpolicy import AuthorizationPolicies, Place
from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, AuthorizationRule, Fields
from leastway.verify.bits import Universe, union
from leastway.verify.blocks import EVERYWHERE, AddressRange, Ranges, joined
from leastway.verify.identity import Request
from leastway.verify.judge import Judge
from leastway.verify.mesh import PROXY_PORTS
from leastway.verify.mesh_callers import Beyond, Within
from leastway.verify.mesh_rules import ASKED, PORT, At, RuleSets
from leastway.verify.witnesses import Asked, Called, Requests
from leastway.verify.world import Address, Subject, address


class Admission(NamedTuple):
    """One ALLOW rule at a destination: the sources it names and the operations it opens there, at `port` as the proxy
    sees it."""

    policy: AuthorizationPolicy
    rule: AuthorizationRule
    sources: int
    wide: bool
    port: int


class MeshSets:
    """Source sets of authorization rules over a universe."""

    def __init__(self, judge: Judge, universe: Universe) -> None:
        self.judge = judge
        self.mesh = judge.mesh
        self.policies: AuthorizationPolicies = judge.authorization
        self.universe = universe
        self._sources = Within(universe, judge.mesh)
        self.meshed = self._sources.meshed
        self.by_principal = self._sources.by_principal
        self._rules = RuleSets(self._sources)
        self.unfinished: set[int] = set()  # workloads whose policies tell too many requests apart to try all
        # By the ids of policies, which the judge keeps alive.
        self._named_ports: dict[int, frozenset[int]] = {}
        self._requests: dict[tuple[object, ...], Requests | None] = {}
        self._beyond: dict[tuple[int, ...], tuple[Beyond, RuleSets]] = {}

    def ports(self, destination: int) -> set[int]:
        """Ports of a destination in the mesh at which it may decide otherwise than at others."""
        if not self.meshed >> destination & 1:
            return set()
        subject = self.universe.subjects[destination]
        found = set(PROXY_PORTS) if self.mesh.mode == "sidecar" else set()
        for policy in self.applying(destination):
            known = self._named_ports.get(id(policy))
            if known is None:
                known = self._named_ports[id(policy)] = frozenset(_named_ports(policy))
            found |= known
        found.update(port for peer in self.judge.policies.peer for port, _ in peer.ports if 0 < port < 65536)
        for service in self.judge.world.services_of(subject):
            found.update(entry.target for entry in service.ports if isinstance(entry.target, int))
        found.update(port.number for port in subject.ports)  # a Service may lead there by name
        return {port for port in found if 0 < port < 65536}

    def applying(self, destination: int) -> tuple[AuthorizationPolicy, ...]:
        """All policies of a destination, at its waypoint and at itself."""
        subject = self.universe.subjects[destination]
        targeted = self.policies.applying(subject, waypoint=True) if self.mesh.waypoint(subject) else ()
        return self.policies.applying(subject) + targeted

    def governed(self, destination: int, protocol: str) -> bool:
        """Is anything in the mesh in the way of this destination?"""
        if protocol != "TCP" or not self.meshed >> destination & 1:
            return False
        return any(p.action == "ALLOW" for p in self.applying(destination))

    def restricts_requests(self, destination: int) -> bool:
        """Must a rule allow a request, where requests are read?"""
        subject = self.universe.subjects[destination]
        placed = self.policies.applying(subject, waypoint=bool(self.mesh.waypoint(subject)))
        return any(policy.action == "ALLOW" for policy in placed)

    def sees_requests(self, destination: int, port: int) -> bool:
        """Is there a proxy that reads HTTP on this port?"""
        subject = self.universe.subjects[destination]
        if self.mesh.mode == "ambient" and not self.mesh.waypoint(subject):
            return False
        return bool(self.meshed >> destination & 1) and self.judge.speaks_http(subject, port) is not False

    def allowed(self, destination: int, port: int) -> int:
        """Sources of which some request to a TCP port of a destination is admitted."""
        return self.universe.over_every_family(
            destination, lambda version: self._some(self._rules, destination, port, version)
        )

    def requested(self, destination: int, port: int, request: Asked, best: bool) -> int:
        """Sources of which one request is admitted; `best`: with headers and tokens that suit them."""
        return self.universe.over_every_family(
            destination,
            lambda version: self._over(self._rules, destination, At(port, "http", (), version, False, request, best)),
        )

    def matching(self, destination: int, port: int, request: Called, sent: Mapping[Called, int]) -> int:
        """Sources of which some request is admitted that a method value and a path value match, and that they have not
        `sent`; everyone where policies only allow, and rules say it themselves."""
        requests = self._known_requests(destination, frozenset(sent))
        if requests is None:
            return self.universe.all
        bits = 0
        for asked in requests.matching(*request):
            bits |= self.requested(destination, port, asked, best=True) & ~sent.get(asked[:2], 0)
        return bits

    def direct(self, destination: int, port: int) -> int:
        """Sources that may call a destination past the waypoint in front of it, where nobody reads requests."""
        if not self.mesh.hop(self.universe.subjects[destination]):
            return 0
        return self.universe.over_every_family(
            destination, lambda version: self._ways(self._rules, destination, At(port, "tcp", (), version))[0]
        )

    def bypassed(self, destination: int, port: int) -> int:
        """Those of `direct` of which the waypoint admits no request."""
        through = self.universe.over_every_family(
            destination, lambda version: self._some(self._rules, destination, port, version, (1,))
        )
        return self.direct(destination, port) & ~through

    def outside(self, destination: int, port: int) -> Ranges:
        """The addresses outside of which some request is admitted."""
        if not self.meshed >> destination & 1:
            return EVERYWHERE
        policies = self.applying(destination)
        key = tuple(map(id, policies))
        known = self._beyond.get(key)
        if known is None:
            beyond = Beyond(policies)
            known = self._beyond[key] = beyond, RuleSets(beyond)
        beyond, rules = known
        found: list[AddressRange] = []
        for version in (4, 6):
            found += beyond.ranges(self._some(rules, destination, port, version), version)
        return joined(found)

    def _some(self, rules: RuleSets, destination: int, port: int, version: int, ways: tuple[int, ...] = (0, 1)) -> int:
        """Those of which some request is admitted."""
        place: Place = "http" if self.sees_requests(destination, port) else "tcp"
        bits = 0
        for request in self._worth_asking(destination) if place == "http" else (None,):
            found = self._ways(rules, destination, At(port, place, (), version, False, request))
            bits |= union(found[way] for way in ways)
        return bits

    def _worth_asking(self, destination: int) -> Sequence[Asked | None]:
        """Requests of which one is admitted if any is; None for any one that suits the client."""
        requests = self._known_requests(destination)
        return (None,) if requests is None else requests.telling()

    def _known_requests(self, destination: int, sent: frozenset[Called] = frozenset()) -> Requests | None:
        """The requests that a destination's policies tell apart, each that was `sent` by itself; None where policies
        only allow."""
        policies = self.applying(destination)
        key = (*map(id, policies), sent)
        if key not in self._requests:
            forbidding = any(map(_forbids, policies))
            self._requests[key] = Requests(policies, self.mesh.normalization, sent) if forbidding else None
        known = self._requests[key]
        if known is not None and not known.complete:
            self.unfinished.add(self.universe.owner[destination])
        return known

    def _over(self, rules: RuleSets, destination: int, at: At) -> int:
        """Those that all proxies on some way let through; `at` as the proxy sees it that reads requests, if any."""
        return union(self._ways(rules, destination, at))

    def _ways(self, rules: RuleSets, destination: int, at: At) -> tuple[int, int]:
        """`_over` of those who call the destination itself, and of those who call it by its waypoint."""
        subject = self.universe.subjects[destination]
        everyone = rules.sources.all
        if not self.meshed >> destination & 1 or (self.mesh.mode == "sidecar" and at.port in PROXY_PORTS):
            return everyone, 0
        mode = self.mesh.mtls(subject, at.port)[0]
        if mode == "STRICT":
            everyone &= rules.sources.meshed
        at = at._replace(
            destination=_of_family(subject.ips, at.version), plaintext=mode == "DISABLE" and self.mesh.mode == "sidecar"
        )
        own = self.policies.applying(subject)
        if self.mesh.mode == "sidecar":
            return everyone & rules.admitted(own, at), 0
        direct = everyone & rules.admitted(own, at._replace(place="ztunnel"))
        hop = self.mesh.hop(subject)
        # The waypoint's own calls do not pass it; the destination's ztunnel sees it behind all others.
        others = everyone & ~rules.sources.by_principal.get(hop, 0)
        only = at.destination[0] if len(at.destination) == 1 else None
        seen = Request(principal=hop, port=at.port, destination=only)
        if not hop or self.policies.verdict_at_ztunnel(subject, seen).outcome != "allow":
            return direct, 0
        targeted = self.policies.applying(subject, waypoint=True)
        for front in self._fronted(subject, at):
            others &= rules.admitted(targeted, front)
        return direct, others

    def _fronted(self, subject: Subject, at: At) -> list[At]:
        """A port as the waypoint in front of it sees it, for each Service's port that leads there."""
        fronts = self.mesh.fronts(subject, at.port)
        return [at._replace(port=f.port, destination=_of_family(f.addresses, at.version)) for f in fronts] or [at]

    def admissions(self, destination: int, port: int) -> list[Admission]:
        """The ALLOW rules that open a port of a destination to someone, at the place that sees requests if there is
        one."""
        subject = self.universe.subjects[destination]
        waypoint = bool(self.mesh.waypoint(subject))
        ztunnel = self.mesh.mode == "ambient" and not waypoint
        place: Place = "ztunnel" if ztunnel else "http" if self.sees_requests(destination, port) else "tcp"
        at = At(port, place, _of_family(subject.ips, 0))
        found = []
        for policy in self.policies.applying(subject, waypoint=waypoint):
            for rule in policy.rules if policy.action == "ALLOW" else ():
                for seen in self._fronted(subject, at) if waypoint else (at,):
                    sources = self._rules.matching(policy, rule, seen, lenient=False)
                    if sources:
                        found.append(Admission(policy, rule, sources, _is_wide(rule), seen.port))
        return found


def _of_family(addresses: Iterable[str], version: int) -> tuple[Address, ...]:
    """A destination's addresses, of one family if it has some of that."""
    found = [ip for text in addresses if (ip := address(text)) is not None]
    return tuple([ip for ip in found if ip.version == version] or found)


def _forbids(policy: AuthorizationPolicy) -> bool:
    """May it depend on the method, path or host whether a request is refused?"""
    return any(
        field.name in ASKED and (field.negated or policy.action != "ALLOW")
        for rule in policy.rules
        for entry in rule.operations or ()
        for field in entry
    )


def _named_ports(policy: AuthorizationPolicy) -> Iterator[int]:
    for rule in policy.rules:
        for entry in [*(rule.operations or ()), rule.conditions]:
            for field in entry:
                if field.name in PORT:
                    yield from (int(value) for value in field.values)


def entry_opens(entry: Fields, port: int) -> bool:
    """Can some request to this port match one operation?"""
    return all((str(port) in field.values) != field.negated for field in entry if field.name == "ports")


def _is_wide(rule: AuthorizationRule) -> bool:
    """Does the rule name its sources by no account: anyone, whole namespaces, or a pattern?"""
    if rule.sources is None:
        return True
    return any(
        field.name in ("namespaces", "trustDomains") or field.negated or any("*" in value for value in field.values)
        for entry in rule.sources
        for field in entry
    )
