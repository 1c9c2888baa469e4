"""Decisions → NetworkPolicy intents: what each workload's pods may open and accept.

Invariant: a connection that became policy is allowed on both sides, by the source's egress and the destination's ingress
rule, unless that side's namespace is not ours to isolate.
"""

from __future__ import annotations

import msgspec

from synthesizer.decisions import Decision, Decisions, Fate, block_of
from synthesizer.intent import (
    BlockPeer,
    Cause,
    Direction,
    NetworkIntent,
    Peer,
    PodPeer,
    Port,
    Rule,
    Target,
    fewest_rules,
)
from synthesizer.inventory import Inventory
from synthesizer.lines import Line, Outside, Place, party_key
from synthesizer.options import Options
from synthesizer.review import ReviewItem, item_id
from synthesizer.rules import dns, external
from synthesizer.workloads import Workload, Workloads

_BOTH: tuple[Direction, ...] = ("ingress", "egress")
_ISTIOD: Peer = PodPeer("istio-system", (("app", "istiod"),))
# The address that istio-cni gives to kubelet probes of ambient pods (istio, cni/README.md).
_AMBIENT_PROBES = BlockPeer("169.254.7.127/32")
HBONE = 15008

Pairs = dict[tuple[Peer, Port], Cause]


class Network(msgspec.Struct):
    """The intents, which namespaces got a default deny, and notes for the reader."""

    intents: list[NetworkIntent]
    review: list[ReviewItem]


def network_intents(decided: Decisions, workloads: Workloads, inventory: Inventory, options: Options) -> Network:
    """One intent a workload that Hubble observed, one default deny and one DNS intent a namespace."""
    ours = [w for w in workloads.all if options.wants(w.namespace)]
    seen = _observed(decided, ours)
    ingress, egress, resolvers = _permissions(decided, inventory, options)
    intents: list[NetworkIntent] = []
    review: list[ReviewItem] = []
    everyone = {line for questions in resolvers.values() for line in questions}
    for namespace in sorted({w.namespace for w in seen}):
        here = [w for w in seen if w.namespace == namespace]
        unseen = [w for w in ours if w.namespace == namespace and w not in seen and not w.host_network]
        name = item_id("default-deny", namespace)
        held = bool(unseen) and name not in options.accepted
        lookup = {pair: Cause.DNS for pair in dns.permissions(resolvers.get(namespace) or everyone)}
        for workload in here:
            out = dict(egress.get(workload.key, {}))
            if held:
                out.update(lookup)
            intents.append(
                NetworkIntent(
                    Target(namespace, workload.policy_name, workload.selector),
                    _BOTH,
                    fewest_rules(ingress.get(workload.key, {}), "ingress") + fewest_rules(out, "egress"),
                )
            )
        if held:
            review.append(_held_default_deny(name, namespace, unseen))
        else:
            intents.append(NetworkIntent(Target(namespace, "default-deny"), _BOTH, ()))
            intents.append(NetworkIntent(Target(namespace, "allow-dns"), ("egress",), fewest_rules(lookup, "egress")))
    return Network(intents, review)


def _observed(decided: Decisions, ours: list[Workload]) -> list[Workload]:
    """Workloads with a selector and traffic of theirs in Hubble flows (an access log does not show every connection)."""
    active = {party_key(party) for d in decided.decisions for party in (d.line.source, d.line.destination)}
    return [w for w in ours if w.selectable and party_key(w) in active and (not w.observed or "hubble" in w.observed)]


def _permissions(
    decided: Decisions, inventory: Inventory, options: Options
) -> tuple[dict[tuple[str, str, str], Pairs], dict[tuple[str, str, str], Pairs], dict[str, set[dns.Resolver]]]:
    ingress: dict[tuple[str, str, str], Pairs] = {}
    egress: dict[tuple[str, str, str], Pairs] = {}
    resolvers: dict[str, set[dns.Resolver]] = {}
    outside: dict[tuple[tuple[str, str, str], Port, Cause], set[str]] = {}
    internet: dict[tuple[tuple[str, str, str], Port], list[Line]] = {}
    for decision in decided.decisions:
        if decision.fate is not Fate.POLICY or decision.review:
            continue
        line, cause = decision.line, decision.cause
        port = Port(line.protocol, line.port)
        source, destination = line.source, line.destination
        resolver = dns.resolver_of(line)
        if isinstance(source, Workload) and resolver is not None and cause is Cause.DNS:
            resolvers.setdefault(source.namespace, set()).add(resolver)
            if isinstance(destination, Workload):
                _grant(ingress, destination, _pods(source), port, cause)
            continue
        if isinstance(source, Workload) and isinstance(destination, Workload):
            _grant(egress, source, _pods(destination), port, cause)
            _grant(ingress, destination, _pods(source), port, cause)
        elif isinstance(source, Workload) and isinstance(destination, Outside):
            if destination.place is Place.EXTERNAL and destination.address and cause is Cause.OBSERVED:
                outside.setdefault((source.key, port, cause), set()).add(destination.address)
            else:
                for block in block_of(destination.address):
                    _grant(egress, source, block, port, cause)
        elif isinstance(destination, Workload) and isinstance(source, Outside):
            if cause is Cause.INTERNET:
                internet.setdefault((destination.key, port), []).append(line)
            else:
                for block in block_of(source.address):
                    _grant(ingress, destination, block, port, cause)
    for (key, port, cause), addresses in outside.items():
        for block in external.blocks(addresses):
            egress.setdefault(key, {}).setdefault((block, port), cause)
    for (key, port), lines in internet.items():
        for block in _published(lines, inventory):
            ingress.setdefault(key, {}).setdefault((block, port), Cause.INTERNET)
    if options.mesh != "none":
        _mesh_infrastructure(decided, ingress, egress, options)
    return ingress, egress, resolvers


def _pods(workload: Workload) -> PodPeer:
    return PodPeer(workload.namespace, workload.selector)


def _grant(table: dict[tuple[str, str, str], Pairs], workload: Workload, peer: Peer, port: Port, cause: Cause) -> None:
    """Grant once; of two causes the observation wins, since it needs nobody's word."""
    pairs = table.setdefault(workload.key, {})
    known = pairs.get((peer, port))
    if known is None or cause is Cause.OBSERVED:
        pairs[peer, port] = cause


def _published(lines: list[Line], inventory: Inventory) -> tuple[BlockPeer, ...]:
    """Who may come in from outside: the internet on the published port, and each private network address seen."""
    addresses = {line.source.address for line in lines if isinstance(line.source, Outside) and line.source.address}
    by_node = any(isinstance(line.source, Outside) and line.source.place is Place.NODE for line in lines)
    public = {a for a in addresses if external.is_internet(a)}
    versions = {6 if ":" in a else 4 for a in public} or ({4} if by_node else set())
    nodes = sorted(inventory.node_addresses) if by_node else []
    return external.internet(versions, nodes) + external.blocks(addresses - public)


def _mesh_infrastructure(
    decided: Decisions,
    ingress: dict[tuple[str, str, str], Pairs],
    egress: dict[tuple[str, str, str], Pairs],
    options: Options,
) -> None:
    """What the mesh itself needs although it may predate the window: xDS for sidecars, HBONE and probes for ambient."""
    members = {
        party.key: party
        for d in decided.decisions
        for party in (d.line.source, d.line.destination)
        if isinstance(party, Workload) and party.mesh == options.mesh
    }
    for key, workload in members.items():
        if options.mesh == "sidecar":
            egress.setdefault(key, {}).setdefault((_ISTIOD, Port("TCP", 15012)), Cause.MESH)
        else:
            for (peer, port), _ in list(ingress.get(key, {}).items()):
                if isinstance(peer, PodPeer) and port.protocol == "TCP" and port.number != HBONE:
                    ingress[key].setdefault((peer, Port("TCP", HBONE)), Cause.MESH)
            for (peer, port), _ in list(egress.get(key, {}).items()):
                if isinstance(peer, PodPeer) and port.protocol == "TCP" and port.number != HBONE:
                    egress[key].setdefault((peer, Port("TCP", HBONE)), Cause.MESH)
            for _, number in sorted(workload.ports):
                ingress.setdefault(key, {}).setdefault((_AMBIENT_PROBES, Port("TCP", number)), Cause.MESH)


def _held_default_deny(name: str, namespace: str, unseen: list[Workload]) -> ReviewItem:
    names = sorted(w.name for w in unseen)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return ReviewItem(
        name,
        "default-deny",
        namespace,
        f"no default deny for namespace {namespace}: {shown} was never observed",
        "a default deny would cut off workloads whose needs are unknown; observe longer, declare them, or accept it",
        True,
        {"never_observed": names},
    )


__all__ = ["Decision", "Network", "Rule", "network_intents"]
