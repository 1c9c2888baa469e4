"""AuthorizationPolicy as sets: for one destination and port, all sources that it admits.

Invariant: what the client can choose (method, path, host, headers, token) is free, its identity is not. A source is in
the set if some request from it is certainly admitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from leastway.verify.authorizationpolicy import AuthorizationPolicies
from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, AuthorizationRule
from leastway.verify.bits import Universe, union
from leastway.verify.blocks import EVERYWHERE, AddressRange, Ranges, joined
from leastway.verify.compilation import Place
from leastway.verify.identity import Request
from leastway.verify.judge import Judge
from leastway.verify.mesh import PROXY_PORTS, Way
from leastway.verify.mesh_callers import Beyond, Within
from leastway.verify.mesh_rules import At, RuleSets, forbids_requests, is_wide, named_ports
from leastway.verify.witnesses import Asked, Called, Requests
from leastway.verify.world import Address, Subject, address


class Admission(NamedTuple):
    """One ALLOW rule at a destination and the sources that it names there, at `port` as the proxy sees it. `wide`: it
    names no single accounts (`mesh_rules.is_wide`)."""

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
        self.unfinished: set[int] = set()  # workloads whose policies distinguish too many requests to try them all
        # By the ids of policies, which the judge keeps alive.
        self._named_ports: dict[int, frozenset[int]] = {}
        self._requests: dict[tuple[object, ...], Requests | None] = {}
        self._beyond: dict[tuple[int, ...], tuple[Beyond, RuleSets]] = {}
        self._passed: dict[tuple[Subject, int, tuple[int, ...]], list[Way]] = {}

    def ports(self, destination: int) -> set[int]:
        """Ports of a destination in the mesh at which the answer may differ from other ports."""
        if not self.meshed >> destination & 1:
            return set()
        subject = self.universe.subjects[destination]
        found = set(PROXY_PORTS) if self.mesh.mode == "sidecar" else set()
        for policy in self.applying(destination):
            known = self._named_ports.get(id(policy))
            if known is None:
                known = self._named_ports[id(policy)] = frozenset(named_ports(policy))
            found |= known
        found.update(port for peer in self.judge.policies.peer for port, _ in peer.ports if 0 < port < 65536)
        for service in self.judge.world.services_of(subject):
            found.update(entry.target for entry in service.ports if isinstance(entry.target, int))
        found.update(port.number for port in subject.ports)  # a Service may lead there by name
        return {port for port in found if 0 < port < 65536}

    def applying(self, destination: int) -> tuple[AuthorizationPolicy, ...]:
        """All policies of a destination, at its waypoints and at its own proxy."""
        subject = self.universe.subjects[destination]
        targeted = [policy for way in self.mesh.behind(subject) for policy in self.policies.targeting(way)]
        return tuple(dict.fromkeys((*self.policies.applying(subject), *targeted)))

    def governed(self, destination: int, protocol: str) -> bool:
        """Does an ALLOW policy of the mesh restrict this destination?"""
        if protocol != "TCP" or not self.meshed >> destination & 1:
            return False
        return any(p.action == "ALLOW" for p in self.applying(destination))

    def restricts_requests(self, destination: int, port: int) -> bool:
        """Does every request need a rule that allows it, wherever requests are read?"""
        subject = self.universe.subjects[destination]
        placed = [self.policies.applying(subject)]
        if self.mesh.mode == "ambient":
            placed = [self.policies.targeting(way) for way in self._passing(subject, port)]
        return all(any(policy.action == "ALLOW" for policy in policies) for policies in placed)

    def sees_requests(self, destination: int, port: int) -> bool:
        """Is there a proxy that reads HTTP on this port?"""
        subject = self.universe.subjects[destination]
        if not self.meshed >> destination & 1:
            return False
        if self.mesh.mode == "ambient":
            return any(way.waypoint and self._reads(subject, port, way) for way in self._ways_to(subject, port))
        return self.judge.speaks_http(subject, port) is not False

    def _reads(self, subject: Subject, port: int, way: Way) -> bool:
        """May the waypoint on a way read HTTP, by what the Service called says of its port?"""
        called = (way.service, way.port) if way.service else ()
        return self.judge.speaks_http(subject, port, *called) is not False

    def allowed(self, destination: int, port: int) -> int:
        """Sources with some request to a TCP port of a destination that is admitted."""
        return self.universe.over_every_family(
            destination, lambda version: self._some(self._rules, destination, port, version)
        )

    def requested(self, destination: int, port: int, request: Asked, best: bool) -> int:
        """Sources whose given request is admitted; `best`: with the headers and tokens that suit them."""
        return self.universe.over_every_family(
            destination,
            lambda version: self._over(
                self._rules, destination, At(port, "http", version=version, request=request, best=best)
            ),
        )

    def matching(self, destination: int, port: int, request: Called, sent: Mapping[Called, int]) -> int:
        """Sources with an admitted request that a method value and a path value match and that they have not `sent`;
        everyone where policies only allow, since then the rules themselves tell."""
        requests = self._known_requests(destination, frozenset(sent))
        if requests is None:
            return self.universe.all
        bits = 0
        for asked in requests.matching(*request):
            bits |= self.requested(destination, port, asked, best=True) & ~sent.get(asked[:2], 0)
        return bits

    def direct(self, destination: int, port: int) -> int:
        """Sources that may call a destination past the waypoint in front of it, where nobody reads their requests."""
        if not any(way.waypoint for way in self._ways_to(self.universe.subjects[destination], port)):
            return 0
        return self.universe.over_every_family(
            destination, lambda version: self._ways(self._rules, destination, At(port, "tcp", version=version))[0]
        )

    def bypassed(self, destination: int, port: int) -> int:
        """Those of `direct` with no request that a waypoint admits."""
        through = self.universe.over_every_family(
            destination, lambda version: self._some(self._rules, destination, port, version, (1,))
        )
        return self.direct(destination, port) & ~through

    def outside(self, destination: int, port: int) -> Ranges:
        """The addresses outside with some request that is admitted."""
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
        """Those with some request that is admitted."""
        place: Place = "http" if self.sees_requests(destination, port) else "tcp"
        bits = 0
        for request in self._worth_asking(destination) if place == "http" else (None,):
            found = self._ways(rules, destination, At(port, place, version=version, request=request))
            bits |= union(found[way] for way in ways)
        return bits

    def _worth_asking(self, destination: int) -> Sequence[Asked | None]:
        """Requests of which at least one is admitted if any request is; None stands for whatever suits the client."""
        requests = self._known_requests(destination)
        return (None,) if requests is None else requests.telling()

    def _known_requests(self, destination: int, sent: frozenset[Called] = frozenset()) -> Requests | None:
        """The requests that a destination's policies distinguish, and each that was `sent`; None where policies only
        allow."""
        policies = self.applying(destination)
        key = (*map(id, policies), sent)
        if key not in self._requests:
            forbidding = any(map(forbids_requests, policies))
            self._requests[key] = Requests(policies, self.mesh.normalization, sent) if forbidding else None
        known = self._requests[key]
        if known is not None and not known.complete:
            self.unfinished.add(self.universe.owner[destination])
        return known

    def _over(self, rules: RuleSets, destination: int, at: At) -> int:
        """Those that all proxies on some way let through; `at` is as the proxy sees it that reads requests, if any."""
        return union(self._ways(rules, destination, at))

    def _ways(self, rules: RuleSets, destination: int, at: At) -> tuple[int, int]:
        """`_over`, split into those that reach the destination past all waypoints, and those that pass one."""
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
        past = everyone & rules.admitted(own, at._replace(place="ztunnel"))
        passing = self._passing(subject, at.port, at.version)
        direct = through = 0
        for way in self._ways_to(subject, at.port):
            hop = self.mesh.hop(way)
            itself = self._past(rules, way, hop) if hop else everyone
            direct |= past & itself
            if way in passing:
                front = self._front(subject, way, at)
                through |= everyone & ~itself & rules.admitted(self.policies.targeting(way), front)
        return direct, through

    def _front(self, subject: Subject, way: Way, at: At) -> At:
        """A port of a destination as the waypoint on a way sees it."""
        place = at.place if self._reads(subject, at.port, way) else "tcp"
        return at._replace(place=place, port=way.port, destination=_of_family(way.addresses, at.version))

    @staticmethod
    def _past(rules: RuleSets, way: Way, hop: str) -> int:
        """Who does not pass a waypoint: plaintext, gateways (`AuthorizationPolicies.ways`) and the waypoint itself."""
        own = rules.sources.by_principal.get(hop, 0)
        return ~rules.sources.meshed | own | (0 if way.ingress else rules.sources.proxied)

    def _passing(self, subject: Subject, port: int, *versions: int) -> list[Way]:
        """The ways through waypoints that the destination's ztunnel admits in some family; it sees the waypoint, not
        the client."""
        key = subject, port, versions
        if key in self._passed:
            return self._passed[key]
        own = self.policies.applying(subject)
        found = self._passed[key] = []
        for way in self._ways_to(subject, port):
            for version in (versions or (4, 6)) if way.waypoint else ():
                ips = _of_family(subject.ips, version)
                there = ips[0] if len(ips) == 1 else None
                seen = Request(self.mesh.hop(way), port=port, destination=there, ztunnel=True)
                if way not in found and self.policies.at_place(own, subject, seen, "ztunnel").outcome == "allow":
                    found.append(way)
        return found

    def _ways_to(self, subject: Subject, port: int) -> tuple[Way, ...]:
        return (*self.mesh.ways(subject, port), self.mesh.itself(subject, port)) if self.mesh.mode == "ambient" else ()

    def admissions(self, destination: int, port: int) -> list[Admission]:
        """The ALLOW rules that open a port of a destination to someone, at the proxy that sees requests if there is
        one."""
        subject = self.universe.subjects[destination]
        if any(way.waypoint for way in self._ways_to(subject, port)):
            placed = [
                (self._front(subject, way, At(port, "http")), self.policies.targeting(way))
                for way in self._passing(subject, port)
            ]
        else:
            reads: Place = "http" if self.sees_requests(destination, port) else "tcp"
            place: Place = "ztunnel" if self.mesh.mode == "ambient" else reads
            placed = [(At(port, place, _of_family(subject.ips, 0)), self.policies.applying(subject))]
        found = []
        for at, policies in placed:
            for policy, rule in ((p, rule) for p in policies if p.action == "ALLOW" for rule in p.rules):
                sources = self._rules.matching(policy, rule, at, lenient=False)
                if sources:
                    found.append(Admission(policy, rule, sources, is_wide(rule), at.port))
        return found


def _of_family(addresses: Iterable[str], version: int) -> tuple[Address, ...]:
    """A destination's addresses: those of one family, or all of them if it has none of that family."""
    found = [ip for text in addresses if (ip := address(text)) is not None]
    return tuple([ip for ip in found if ip.version == version] or found)
