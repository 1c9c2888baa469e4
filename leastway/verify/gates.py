"""The gates that observed connections pass, each with the ways through it as the parts of rules that they need.

Invariant: a connection stays allowed as long as one way through each of its gates is left. A gate is one side's
NetworkPolicies, or one proxy's ALLOW policies, for one pair of pods, one address family and one reading of what the
specification leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import NamedTuple

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, Fields
from leastway.verify.compilation import Place, compiled
from leastway.verify.errors import PolicyError
from leastway.verify.families import families
from leastway.verify.identity import Request, field_matches, value_matches
from leastway.verify.judge import Judge, Question
from leastway.verify.mesh import PROXY_PORTS
from leastway.verify.networkpolicy import loopback, port_matches
from leastway.verify.rule_index import Candidate, RuleIndex
from leastway.verify.services import targets
from leastway.verify.soundness import Observed, http_ports, question, spoken
from leastway.verify.verdict import End, Tri, all_of
from leastway.verify.world import Subject

WAYS = 64  # ways through one gate that are followed for one connection
VALUES = ("principals", "namespaces", "serviceAccounts", "ports", "methods", "paths", "hosts")


class Part(NamedTuple):
    """A rule of a policy, or one value in it. `kind` is "" for the rule itself, "peer", "port" or the field's name."""

    policy: str  # its title
    side: str  # ingress, egress or allow
    rule: int
    kind: str = ""
    entry: int = 0  # of a rule's sources or operations
    position: int = 0  # of the value among its likes


Way = frozenset[Part]  # parts that together let one connection through one gate
Gate = set[Way]
Holds = Callable[[Tri], bool]


def gates(judge: Judge, observed: Iterable[Observed]) -> Iterator[Gate]:
    """The gates of everything that is not held back."""
    items = list(observed)
    http = http_ports(judge, items)
    layers = (_network,) if judge.mesh.mode == "none" else (_network, _mesh)
    known: set[tuple[object, ...]] = set()
    for item in items:
        if item.held:
            continue
        asked = question(item, spoken(item, http))
        try:
            ends = list(_ends(judge, asked))
        except PolicyError:
            continue
        for exact, source, destination in ends:
            for sides in layers:
                key = _key(judge, exact, source, destination, sides is _mesh)
                if key not in known:
                    known.add(key)
                    yield from filter(None, _of_all_pods(judge, exact, source, destination, sides))


def _ends(judge: Judge, asked: Question) -> Iterator[tuple[Question, End, End]]:
    """A question with its ends; for a Service's address once per backend."""
    source = judge.end(asked.source, asked.source_address)
    service = judge.world.service_at(asked.destination) if asked.destination not in judge.world.subjects else None
    if service is None:
        yield asked, source, judge.end(asked.destination, asked.destination_address)
        return
    for exact, backend in targets(judge, asked, service):
        yield exact, source, judge.end(backend.ref)


def _key(judge: Judge, asked: Question, source: End, destination: End, mesh: bool) -> tuple[object, ...]:
    """Everything that the gates of a question depend on."""
    ends = asked.source, asked.source_address, asked.destination, asked.destination_address
    if mesh:
        return (*ends, asked)
    return (*ends, asked.protocol, asked.port, judge.network_port(asked, source, destination))


Sides = Callable[[Judge, Question, End, End, Holds], Iterator[Gate]]


def _certain(held: Tri) -> bool:
    return held is True


def _perhaps(held: Tri) -> bool:
    return held is not False


def _of_all_pods(judge: Judge, asked: Question, source: End, destination: End, sides: Sides) -> list[Gate]:
    """The gates of two ends, for the pods that the judge distinguishes. Where nothing certainly lets a connection
    through, everything that may do so is a way."""
    told = [(one, other) for _, one, other in judge.variants.pairs(source, destination)]
    found = [
        gate for pair in told or [(source, destination)] for gate in _of_pair(judge, asked, *pair, sides, _certain)
    ]
    if all(found):
        return found
    if not told:
        pairs = judge.variants.by_address(source, destination)
        alone = [gate for pair in pairs for gate in _of_pair(judge, asked, *pair, sides, _certain)]
        if alone and all(alone):
            return alone
    return [gate for pair in told or [(source, destination)] for gate in _of_pair(judge, asked, *pair, sides, _perhaps)]


def _of_pair(judge: Judge, asked: Question, one: End, other: End, sides: Sides, holds: Holds) -> list[Gate]:
    return [gate for pair in families(one, other) for gate in sides(judge, asked, *pair, holds)]


def _network(judge: Judge, asked: Question, source: End, destination: End, holds: Holds) -> Iterator[Gate]:
    """The sides of a connection that NetworkPolicy isolates."""
    network = judge.network
    there = asked.protocol.upper(), judge.network_port(asked, source, destination)
    if loopback(source, destination):
        return
    for pods_only in network.readings(source, destination):
        for side, own, peer in (("egress", source, destination), ("ingress", destination, source)):
            if own.subject is None or (own.subject.host_network and pods_only):
                continue
            isolating = network.isolating(own.subject, side)
            if not isolating or (side == "ingress" and network.own_node(own.subject, peer)):
                continue
            yield {
                way
                for index in isolating
                for candidate in index.near(peer)
                for way in _rule_ways(judge, index, side, candidate, peer, destination, there, pods_only, holds)
            }


def _rule_ways(
    judge: Judge,
    index: RuleIndex,
    side: str,
    candidate: Candidate,
    peer: End,
    destination: End,
    there: tuple[str, int],
    pods_only: bool,
    holds: Holds,
) -> list[Way]:
    title, i, rule = index.title, candidate.number, candidate.rule
    ports: list[Part | None] = [None]
    if rule.ports is not None:
        ports = [
            Part(title, side, i, "port", 0, at)
            for at, entry in enumerate(rule.ports)
            if holds(port_matches(entry, destination, *there, pods_only))
        ]
        if not ports:
            return []
    peers: list[Part | None] = [None]
    if rule.peers is not None and candidate.peers is not None:
        peers = [
            Part(title, side, i, "peer", 0, at)
            for at in candidate.peers
            if holds(judge.network.peer_matches(rule.peers[at], index.policy.namespace, peer, pods_only))
        ]
    whole = Part(title, side, i)
    return [frozenset(part for part in (whole, a, b) if part is not None) for a, b in product(peers, ports)]


def _mesh(judge: Judge, asked: Question, source: End, destination: End, holds: Holds) -> Iterator[Gate]:
    """The proxies that a connection or request passes."""
    subject = destination.subject
    if asked.protocol.upper() != "TCP" or subject is None or not judge.mesh.meshed(subject):
        return
    if judge.bypasses(asked, source) or (judge.mesh.mode == "sidecar" and asked.port in PROXY_PORTS):
        return
    request = judge.request(asked, source, destination, subject)
    holds = _perhaps if asked.http else holds  # at a port that speaks HTTP, some allowed request is enough
    places = _places(judge, asked, subject)
    authorization = judge.authorization
    own = authorization.applying(subject)
    if judge.mesh.mode == "sidecar":
        yield from _granted(own, request, places, holds)
        return
    for way in authorization.ways(subject, request):
        seen = authorization.at_waypoint(way, request)
        if seen is not None:
            yield from _granted(authorization.targeting(way), seen, places, holds)
        yield from _granted(own, authorization.at_ztunnel(way, request), ("ztunnel",), holds)


def _places(judge: Judge, asked: Question, subject: Subject) -> tuple[Place, ...]:
    """As what a proxy may see a connection; if that is not known, it must be allowed as both."""
    if asked.method or asked.path:
        return ("http",)
    http = (
        judge.speaks_http(subject, asked.port, asked.service, asked.service_port) if asked.http is None else asked.http
    )
    return ("tcp", "http") if http is None else ("http",) if http else ("tcp",)


def _granted(
    policies: tuple[AuthorizationPolicy, ...], request: Request, places: tuple[Place, ...], holds: Holds
) -> Iterator[Gate]:
    allowing = [policy for policy in policies if policy.action == "ALLOW"]
    for place in places if allowing else ():
        ways: Gate = set()
        for policy in allowing:
            for i in range(len(policy.rules)):
                if len(ways) < WAYS:
                    ways |= _granted_ways(policy, i, request, place, holds)
        yield ways


def _granted_ways(policy: AuthorizationPolicy, i: int, request: Request, place: Place, holds: Holds) -> Gate:
    effective = compiled(policy.rules[i], "ALLOW", place)
    if effective is None:
        return set()
    if not holds(all_of(field_matches(f, request, policy.namespace) for f in effective.conditions)):
        return set()
    sources = _entry_ways(effective.sources, request, policy, i, holds)
    operations = _entry_ways(effective.operations, request, policy, i, holds)
    whole = Part(policy.title, "allow", i)
    return {a | b | {whole} for a, b in list(product(sources, operations))[:WAYS]}


def _entry_ways(
    entries: tuple[Fields, ...] | None, request: Request, policy: AuthorizationPolicy, i: int, holds: Holds
) -> list[Way]:
    """Ways through the alternatives of one half of a rule."""
    if entries is None:
        return [frozenset()]
    ways: list[Way] = []
    for e, entry in enumerate(entries):
        if not all(holds(field_matches(field, request, policy.namespace)) for field in entry):
            continue
        choices = []
        for field in entry:
            if not field.negated and field.name in VALUES:
                kind = field.name.removesuffix("s")
                fitting = [
                    Part(policy.title, "allow", i, kind, e, at)
                    for at, value in enumerate(field.values)
                    if holds(value_matches(field.name, value, request, policy.namespace))
                ]
                choices.append(fitting[:WAYS])
        for chosen in product(*choices):
            ways.append(frozenset(chosen))
            if len(ways) >= WAYS:
                return ways
    return ways
