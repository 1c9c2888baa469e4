"""Minimality: which parts of the rules could go without denying an observed legitimate connection.

Invariant: all reported parts may go together. Parts are taken in a fixed order, those that nothing uses first; a
part stays if some connection has no other way left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from leastway.verify.authorizationpolicy import Place, compiled
from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, AuthorizationRule, Fields
from leastway.verify.errors import PolicyError
from leastway.verify.identity import Request, field_matches, value_matches
from leastway.verify.judge import Judge
from leastway.verify.mesh import HBONE
from leastway.verify.networkpolicy import port_matches
from leastway.verify.rule_index import Candidate, RuleIndex
from leastway.verify.soundness import Observed, question
from leastway.verify.verdict import End, all_of
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


def redundant_parts(judge: Judge, observed: Iterable[Observed]) -> list[dict[str, str]]:
    """Parts that can be removed: `policy`, `rule` (`egress rule 0`), `part` (text) and `kind` (rule, peer, port,
    principal, method, path, ...), sorted. Existing policies are not questioned."""
    parts = _all_parts(judge)
    needed: set[Part] = set()
    choices: list[set[Way]] = []  # gates with several ways through
    for gate in _gates(judge, observed):
        if len(gate) == 1:
            needed.update(*gate)
        else:
            choices.append(gate)
    using: dict[Part, list[int]] = defaultdict(list)
    for number, gate in enumerate(choices):
        for part in {part for way in gate for part in way}:
            using[part].append(number)
    gone: set[Part] = set()
    for part in sorted(parts.keys() - needed, key=lambda p: (p in using, p.kind != "", p)):
        if Part(*part[:3]) in gone:
            continue
        if all(any(part not in way for way in choices[number]) for number in using.get(part, ())):
            gone.add(part)
            for number in using.get(part, ()):
                choices[number] = {way for way in choices[number] if part not in way}
    kept = [part for part in gone if not part.kind or Part(*part[:3]) not in gone]
    found = [(part.policy, part.side, part.rule, _shown(part, parts[part])) for part in kept]
    return [
        {
            "policy": title,
            "rule": f"{side} rule {i}",
            "part": text or f"{side} rule {i}",
            "kind": text.partition(" ")[0] or "rule",
        }
        for title, side, i, text in sorted(found)
    ]


def _shown(part: Part, value: object) -> str:
    return f"{part.kind} {value}" + (f" (entry {part.entry})" if part.entry else "") if part.kind else ""


def _all_parts(judge: Judge) -> dict[Part, object]:
    """Every part that may be questioned, and what it says."""
    parts: dict[Part, object] = {}
    for policy in judge.network.policies:
        title = policy.title
        for side in ("ingress", "egress"):
            for i, rule in enumerate(policy.rules(side) or ()) if not policy.existing else ():
                parts[Part(title, side, i)] = ""
                for kind, values in (("peer", rule.peers), ("port", rule.ports)):
                    if values is not None and len(values) > 1:
                        parts.update((Part(title, side, i, kind, 0, at), value) for at, value in enumerate(values))
    if judge.mesh.mode == "none":
        return parts
    for access in judge.policies.authorization:
        if access.action == "ALLOW" and not access.existing and not access.dry_run:
            for i, granted in enumerate(access.rules):
                parts |= _granted_parts(access, i, granted)
    return parts


def _granted_parts(policy: AuthorizationPolicy, i: int, rule: AuthorizationRule) -> dict[Part, object]:
    parts: dict[Part, object] = {Part(policy.title, "allow", i): ""}
    for entries in (rule.sources, rule.operations):
        for e, entry in enumerate(entries or ()):
            for field in entry:
                if not field.negated and field.name in VALUES and (len(field.values) > 1 or len(entries or ()) > 1):
                    kind = field.name.removesuffix("s")
                    parts.update((Part(policy.title, "allow", i, kind, e, at), v) for at, v in enumerate(field.values))
    return parts


def _gates(judge: Judge, observed: Iterable[Observed]) -> Iterator[set[Way]]:
    """For every distinct connection and every side that restricts it, the ways through."""
    connections: set[tuple[str | int, ...]] = set()
    requests: set[Observed] = set()
    for item in observed:
        if item.held:
            continue
        try:
            source = judge.end(item.source, item.source_address)
            destination = judge.end(item.destination, item.destination_address)
        except PolicyError:
            continue
        subject = destination.subject
        ends = (item.source, item.source_address, item.destination, item.destination_address)
        connection = (*ends, item.protocol, item.port)
        if connection not in connections:
            connections.add(connection)
            yield from _network_gates(judge, source, destination, item.protocol, item.port)
        if item.protocol == "TCP" and subject is not None and judge.mesh.meshed(subject) and item not in requests:
            requests.add(item)
            ways = _granted_ways(judge, item, source, destination, subject)
            if ways:
                yield ways


def _network_gates(judge: Judge, source: End, destination: End, protocol: str, port: int) -> Iterator[set[Way]]:
    if (
        protocol == "TCP"
        and judge.mesh.mode == "ambient"
        and judge.mesh.meshed(source.subject)
        and judge.mesh.meshed(destination.subject)
    ):
        port = HBONE
    for side, own, peer in (("egress", source, destination), ("ingress", destination, source)):
        if own.subject is None or own.subject.host_network:
            continue
        ways = {
            way
            for index in judge.network.isolating(own.subject, side)
            for candidate in index.near(peer)
            for way in _rule_ways(judge, index, side, candidate, peer, destination, protocol, port)
        }
        if ways:
            yield ways


def _rule_ways(
    judge: Judge,
    index: RuleIndex,
    side: str,
    candidate: Candidate,
    peer: End,
    destination: End,
    protocol: str,
    port: int,
) -> list[Way]:
    title, i, rule = index.title, candidate.number, candidate.rule
    ports: list[Part | None] = [None]
    if rule.ports is not None:
        ports = [
            Part(title, side, i, "port", 0, at)
            for at, entry in enumerate(rule.ports)
            if port_matches(entry, destination, protocol, port)
        ]
        if not ports:
            return []
    peers: list[Part | None] = [None]
    if rule.peers is not None and candidate.peers is not None:
        peers = [
            Part(title, side, i, "peer", 0, at)
            for at in candidate.peers
            if judge.network.peer_matches(rule.peers[at], index.policy.namespace, peer)
        ]
    whole = Part(title, side, i)
    return [frozenset(part for part in (whole, a, b) if part is not None) for a, b in product(peers, ports)]


def _granted_ways(judge: Judge, item: Observed, source: End, destination: End, subject: Subject) -> set[Way]:
    request = judge.request(question(item), source, destination, subject)
    hop = judge.mesh.hop(subject)
    waypoint = bool(hop) and request.principal != hop
    place: Place = "http" if judge.mesh.mode == "sidecar" or waypoint else "ztunnel"
    ways: set[Way] = set()
    for policy in judge.authorization.applying(subject, waypoint):
        if policy.action != "ALLOW":
            continue
        for i, rule in enumerate(policy.rules):
            effective = compiled(rule, "ALLOW", place)
            if effective is None or len(ways) >= WAYS:
                continue
            if all_of(field_matches(f, request, policy.namespace) for f in effective.conditions) is False:
                continue
            sources = _entry_ways(effective.sources, request, policy, i)
            operations = _entry_ways(effective.operations, request, policy, i)
            whole = Part(policy.title, "allow", i)
            ways |= {a | b | {whole} for a, b in list(product(sources, operations))[:WAYS]}
    return ways


def _entry_ways(entries: tuple[Fields, ...] | None, request: Request, policy: AuthorizationPolicy, i: int) -> list[Way]:
    """Ways through the alternatives of one half of a rule. What the observation does not say may have matched."""
    if entries is None:
        return [frozenset()]
    ways: list[Way] = []
    for e, entry in enumerate(entries):
        if any(field_matches(field, request, policy.namespace) is False for field in entry):
            continue
        choices = []
        for field in entry:
            if not field.negated and field.name in VALUES:
                kind = field.name.removesuffix("s")
                fitting = [
                    Part(policy.title, "allow", i, kind, e, at)
                    for at, value in enumerate(field.values)
                    if value_matches(field.name, value, request, policy.namespace) is not False
                ]
                choices.append(fitting[:WAYS])
        for chosen in product(*choices):
            ways.append(frozenset(chosen))
            if len(ways) >= WAYS:
                return ways
    return ways
