"""Minimality: which parts of the rules could go without denying an observed legitimate connection.

Invariant: all reported parts may go together. Parts are taken in a fixed order, those that nothing uses first; a
part stays if some connection has no other way left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import product

from leastway.verify.authorizationpolicy import Place, compiled
from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, AuthorizationRule, Fields
from leastway.verify.errors import PolicyError
from leastway.verify.identity import Request, field_matches, value_matches
from leastway.verify.judge import Judge
from leastway.verify.mesh import HBONE
from leastway.verify.networkpolicy import port_matches
from leastway.verify.networkpolicy_schema import NetworkPolicy, Rule
from leastway.verify.replay import Observed, question
from leastway.verify.verdict import End, all_of
from leastway.verify.world import Subject

Part = tuple[str, str, int, str]  # policy title, direction, rule index, what of the rule ("" = the rule itself)
Way = frozenset[Part]  # parts that together let one connection through one gate
WAYS = 64  # ways through one gate that are followed for one connection
VALUES = ("principals", "namespaces", "serviceAccounts", "ports", "methods", "paths", "hosts")


def redundant_parts(judge: Judge, observed: Iterable[Observed]) -> list[dict[str, str]]:
    """Parts that can be removed: `policy`, `rule` (`egress rule 0`), `part` (text) and `kind` (rule, peer, port,
    principal, method, path, ...), sorted. Existing policies are not questioned."""
    gates = _gates(judge, observed)
    parts = _all_parts(judge)
    using: dict[Part, list[int]] = defaultdict(list)
    for number, gate in enumerate(gates):
        for part in {part for way in gate for part in way}:
            using[part].append(number)
    gone: set[Part] = set()
    for part in sorted(parts, key=lambda p: (p in using, p[3] != "", _order(p))):
        rule = (*part[:3], "")
        if rule in gone:
            continue
        if all(any(part not in way for way in gates[number]) for number in using.get(part, ())):
            gone.add(part)
            for number in using.get(part, ()):
                gates[number] = {way for way in gates[number] if part not in way}
    kept = [part for part in gone if part[3] == "" or (*part[:3], "") not in gone]
    return [
        {
            "policy": title,
            "rule": f"{side} rule {i}",
            "part": text or f"{side} rule {i}",
            "kind": text.partition(" ")[0] or "rule",
        }
        for title, side, i, text in sorted(kept, key=_order)
    ]


def _order(part: Part) -> tuple[str, str, int, str]:
    return part


def _all_parts(judge: Judge) -> set[Part]:
    parts: set[Part] = set()
    for policy in judge.policies.network:
        for side in ("ingress", "egress"):
            for i, rule in enumerate(policy.rules(side) or ()) if not policy.existing else ():
                parts.add((policy.title, side, i, ""))
                if rule.peers is not None and len(rule.peers) > 1:
                    parts |= {(policy.title, side, i, f"peer {peer}") for peer in rule.peers}
                if rule.ports is not None and len(rule.ports) > 1:
                    parts |= {(policy.title, side, i, f"port {port}") for port in rule.ports}
    if judge.mesh.mode == "none":
        return parts
    for access in judge.policies.authorization:
        if access.action == "ALLOW" and not access.existing and not access.dry_run:
            for i, granted in enumerate(access.rules):
                parts |= _granted_parts(access, i, granted)
    return parts


def _granted_parts(policy: AuthorizationPolicy, i: int, rule: AuthorizationRule) -> set[Part]:
    parts = {(policy.title, "allow", i, "")}
    for entries in (rule.sources, rule.operations):
        for e, entry in enumerate(entries or ()):
            for field in entry:
                if not field.negated and field.name in VALUES and (len(field.values) > 1 or len(entries or ()) > 1):
                    parts |= {(policy.title, "allow", i, _value(field.name, e, value)) for value in field.values}
    return parts


def _value(name: str, entry: int, value: str) -> str:
    return f"{name.removesuffix('s')} {value}" + (f" (entry {entry})" if entry else "")


def _gates(judge: Judge, observed: Iterable[Observed]) -> list[set[Way]]:
    """For every distinct connection and every side that restricts it, the ways through."""
    gates: list[set[Way]] = []
    seen: set[Observed] = set()
    for item in observed:
        if item.held or item in seen:
            continue
        seen.add(item)
        try:
            source = judge.end(item.source, item.source_address)
            destination = judge.end(item.destination, item.destination_address)
        except PolicyError:
            continue
        port = item.port
        if (
            judge.mesh.mode == "ambient"
            and judge.mesh.meshed(source.subject)
            and judge.mesh.meshed(destination.subject)
        ):
            port = HBONE if item.protocol == "TCP" else port
        for side, own, peer in (("egress", source, destination), ("ingress", destination, source)):
            if own.subject is not None and not own.subject.host_network:
                policies = judge.network.isolating(own.subject, side)
                ways = {
                    way
                    for policy in policies
                    for way in _network_ways(judge, policy, side, peer, destination, item.protocol, port)
                }
                if ways:
                    gates.append(ways)
        subject = destination.subject
        if item.protocol == "TCP" and subject is not None and judge.mesh.meshed(subject):
            ways = _granted_ways(judge, item, source, destination, subject)
            if ways:
                gates.append(ways)
    return gates


def _network_ways(
    judge: Judge, policy: NetworkPolicy, side: str, peer: End, destination: End, protocol: str, port: int
) -> set[Way]:
    ways: set[Way] = set()
    for i, rule in enumerate(policy.rules(side) or ()):
        ways |= _rule_ways(judge, policy, side, i, rule, peer, destination, protocol, port)
    return ways


def _rule_ways(
    judge: Judge,
    policy: NetworkPolicy,
    side: str,
    i: int,
    rule: Rule,
    peer: End,
    destination: End,
    protocol: str,
    port: int,
) -> set[Way]:
    whole = (policy.title, side, i, "")
    peers: list[Part | None] = [None]
    if rule.peers is not None:
        found = [p for p in rule.peers if judge.network.peer_matches(p, policy.namespace, peer)]
        peers = [(policy.title, side, i, f"peer {p}") for p in found]
    ports: list[Part | None] = [None]
    if rule.ports is not None:
        ports = [
            (policy.title, side, i, f"port {p}") for p in rule.ports if port_matches(p, destination, protocol, port)
        ]
    return {frozenset(part for part in (whole, a, b) if part is not None) for a, b in product(peers, ports)}


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
            whole: Part = (policy.title, "allow", i, "")
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
                fitting = [
                    v for v in field.values if value_matches(field.name, v, request, policy.namespace) is not False
                ]
                choices.append([(policy.title, "allow", i, _value(field.name, e, v)) for v in fitting[:WAYS]])
        for chosen in product(*choices):
            ways.append(frozenset(chosen))
            if len(ways) >= WAYS:
                return ways
    return ways
