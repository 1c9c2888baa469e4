"""Decisions → NetworkPolicy intents: what each workload's pods may open and accept.

Invariant: a connection that became policy is allowed on both sides, by the source's egress rule and the destination's
ingress rule, except on a side whose namespace gets no policies.
"""

from __future__ import annotations

from itertools import product

import msgspec

from synthesizer.address_ranges import AMBIENT_PROBE
from synthesizer.callers import HBONE, in_mesh
from synthesizer.decisions import Decision, Decisions, Fate, blocks_of
from synthesizer.intent import (
    BlockPeer,
    Cause,
    Direction,
    EntityIntent,
    EntityPeer,
    NetworkIntent,
    Peer,
    PodPeer,
    Port,
    Rule,
    Target,
    fewest_rules,
)
from synthesizer.inventory import Inventory
from synthesizer.lines import Line
from synthesizer.options import Options
from synthesizer.party import Outside, Place, party_key
from synthesizer.review import ReviewItem, item_id, listed
from synthesizer.rules import dns, external
from synthesizer.rules.entities import entities
from synthesizer.workload import Workload, WorkloadKey
from synthesizer.workloads import Workloads

_BOTH: tuple[Direction, ...] = ("ingress", "egress")
# Where sidecars fetch their configuration and certificates (Istio, "Ports used by Istio").
_ISTIOD: Peer = PodPeer("istio-system", (("app", "istiod"),))
_XDS = 15012
_AMBIENT_PROBES = {4: BlockPeer(f"{AMBIENT_PROBE[4]}/32"), 6: BlockPeer(f"{AMBIENT_PROBE[6]}/128")}

Pairs = dict[tuple[Peer, Port], Cause]


class NetworkLayer(msgspec.Struct):
    """The intents of the network layer, and questions for the reader."""

    intents: list[NetworkIntent | EntityIntent]
    review: list[ReviewItem]


def network_intents(decided: Decisions, workloads: Workloads, inventory: Inventory, options: Options) -> NetworkLayer:
    """An intent for each workload that Hubble observed, and a default deny and a DNS intent for each namespace."""
    ours = [w for w in workloads.all if options.wants(w.namespace)]
    seen = _observed(decided, ours)
    granted = _Permissions(decided, inventory, options)
    intents: list[NetworkIntent | EntityIntent] = []
    review: list[ReviewItem] = []
    everyone = {line for questions in granted.resolvers.values() for line in questions}
    resolver = dns.known(workloads)
    for namespace in sorted({w.namespace for w in seen}):
        here = [w for w in seen if w.namespace == namespace]
        unseen = [w for w in ours if w.namespace == namespace and w not in seen and not (w.host_network or w.covered)]
        name = item_id("default-deny", namespace)
        held = bool(unseen) and name not in options.accepted
        lookup = dict.fromkeys(dns.permissions(granted.resolvers.get(namespace) or everyone, resolver), Cause.DNS)
        for workload in here:
            out = dict(granted.egress.get(workload.key, {}))
            if held:
                out.update(lookup)
            target = Target(namespace, workload.policy_name, workload.selector)
            rules = fewest_rules(granted.ingress.get(workload.key, {}), "ingress") + fewest_rules(out, "egress")
            intents.append(NetworkIntent(target, _BOTH, rules))
            if named := granted.named(workload):
                intents.append(EntityIntent(target, named))
        review += [_bleeding(workload) for workload in here if workload.also_selects]
        if held:
            review.append(_held_default_deny(name, namespace, unseen))
        else:
            intents.append(NetworkIntent(Target(namespace, "default-deny"), _BOTH, ()))
            intents.append(NetworkIntent(Target(namespace, "allow-dns"), ("egress",), fewest_rules(lookup, "egress")))
    return NetworkLayer(intents, review)


def _observed(decided: Decisions, ours: list[Workload]) -> list[Workload]:
    """The workloads with a selector that Hubble flows show (an access log does not show every connection)."""
    active = {key for d in decided.decisions for key in d.line.key[:2]}
    return [w for w in ours if w.selectable and party_key(w) in active and (not w.observed or "hubble" in w.observed)]


class _Permissions:
    """What each workload may open and accept, gathered from the decisions."""

    def __init__(self, decided: Decisions, inventory: Inventory, options: Options) -> None:
        self.options = options
        self.ingress: dict[WorkloadKey, Pairs] = {}
        self.egress: dict[WorkloadKey, Pairs] = {}
        self.from_entities: dict[WorkloadKey, Pairs] = {}
        self.to_entities: dict[WorkloadKey, Pairs] = {}
        self.resolvers: dict[str, set[dns.Resolver]] = {}
        self._outside: dict[tuple[WorkloadKey, Port], set[str]] = {}
        self._internet: dict[tuple[WorkloadKey, Port], list[Line]] = {}
        for decision in decided.decisions:
            if decision.fate is Fate.POLICY and not decision.review:
                if names := entities(decision.line, options.cni):
                    self._name(decision, names)
                else:
                    self._take(decision)
        for (key, port), addresses in self._outside.items():
            for block in external.blocks(addresses):
                self.egress.setdefault(key, {}).setdefault((block, port), Cause.OBSERVED)
        for (key, port), lines in self._internet.items():
            for block in _published(lines, inventory):
                self.ingress.setdefault(key, {}).setdefault((block, port), Cause.INTERNET)
        self._grant_mesh_infrastructure(decided, options)

    def _take(self, decision: Decision) -> None:
        line, cause = decision.line, decision.cause
        source, destination = line.source, line.destination
        port = Port(line.protocol, line.port)
        if isinstance(source, Workload) and isinstance(destination, Workload):
            _grant(self.ingress, destination, _pods(source), port, cause)
            if not self._asks_resolver(decision):
                _grant(self.egress, source, _pods(destination), port, cause)
            elif self.options.mesh == "ambient" and port.protocol == "TCP" and in_mesh(destination, self.options):
                _grant(self.egress, source, _pods(destination), Port("TCP", HBONE), Cause.MESH)
        elif isinstance(source, Workload) and isinstance(destination, Outside):
            if destination.place is Place.EXTERNAL and destination.address and cause is Cause.OBSERVED:
                self._outside.setdefault((source.key, port), set()).add(destination.address)
            elif not self._asks_resolver(decision):
                for block in blocks_of(destination.address, cause):
                    _grant(self.egress, source, block, port, cause)
        elif isinstance(destination, Workload) and isinstance(source, Outside):
            if cause is Cause.INTERNET:
                self._internet.setdefault((destination.key, port), []).append(line)
            else:
                for block in blocks_of(source.address, cause):
                    _grant(self.ingress, destination, block, port, cause)

    def _name(self, decision: Decision, names: tuple[str, ...]) -> None:
        """Grant what Cilium's entities may open at a workload, or a workload at them; look-ups in both protocols."""
        line, cause = decision.line, decision.cause
        protocols = ("TCP", "UDP") if cause is Cause.DNS else (line.protocol,)
        for table, end in ((self.from_entities, line.destination), (self.to_entities, line.source)):
            if isinstance(end, Workload):
                for name, protocol in product(names, protocols):
                    _grant(table, end, EntityPeer(name), Port(protocol, line.port), cause)

    def named(self, workload: Workload) -> tuple[Rule, ...]:
        """The rules of a workload that name Cilium's entities."""
        rules = fewest_rules(self.from_entities.get(workload.key, {}), "ingress")
        return rules + fewest_rules(self.to_entities.get(workload.key, {}), "egress")

    def _asks_resolver(self, decision: Decision) -> bool:
        """Whether a line asks the cluster's DNS, which is then allowed for its whole namespace, see `rules.dns`."""
        source, resolver = decision.line.source, dns.resolver_of(decision.line)
        if resolver is None or decision.cause is not Cause.DNS or not isinstance(source, Workload):
            return False
        self.resolvers.setdefault(source.namespace, set()).add(resolver)
        return True

    def _grant_mesh_infrastructure(self, decided: Decisions, options: Options) -> None:
        """Grant what the mesh needs even if it was not observed: xDS for sidecars, HBONE and probes for ambient.

        A proxy needs it whether or not its policies are written here, so the inventory's word for one is enough.
        """
        versions = sorted({6 if ":" in address else 4 for address in decided.view.workloads.by_address}) or [4]
        parties = {
            party.key: party
            for d in decided.decisions
            for party in (d.line.source, d.line.destination)
            if isinstance(party, Workload)
        }
        for key, workload in parties.items():
            mesh = options.mesh if in_mesh(workload, options) else workload.mesh
            if mesh == "sidecar":
                self.egress.setdefault(key, {}).setdefault((_ISTIOD, Port("TCP", _XDS)), Cause.MESH)
            elif mesh == "ambient":
                for table in (self.ingress, self.egress):
                    for peer, port in list(table.get(key, {})):
                        if isinstance(peer, PodPeer) and port.protocol == "TCP" and port.number != HBONE:
                            table[key].setdefault((peer, Port("TCP", HBONE)), Cause.MESH)
                for _, number in sorted(workload.ports):
                    for version in versions:
                        probes = _AMBIENT_PROBES[version], Port("TCP", number)
                        self.ingress.setdefault(key, {}).setdefault(probes, Cause.MESH)


def _pods(workload: Workload) -> PodPeer:
    return PodPeer(workload.namespace, workload.selector)


def _grant(table: dict[WorkloadKey, Pairs], workload: Workload, peer: Peer, port: Port, cause: Cause) -> None:
    """Grant once; of two causes, observation wins."""
    pairs = table.setdefault(workload.key, {})
    known = pairs.get((peer, port))
    if known is None or cause is Cause.OBSERVED:
        pairs[peer, port] = cause


def _published(lines: list[Line], inventory: Inventory) -> tuple[BlockPeer, ...]:
    """Who may come in from outside: the whole internet at a published port, and each private address that was seen."""
    sources = [line.source for line in lines if isinstance(line.source, Outside)]
    addresses = {source.address for source in sources if source.place is Place.EXTERNAL and source.address}
    through = [source for source in sources if source.place is Place.NODE]
    public = {a for a in addresses if external.is_internet(a)}
    masks = {source.address for source in through if source.address}
    nodes = sorted(inventory.node_addresses | masks) if through else []
    behind = masks if all(source.address for source in through) else nodes  # without an address it may be any of them
    versions = {6 if ":" in a else 4 for a in {*public, *behind}}
    # Over an overlay a node sends from its address among the pods'.
    overlaid = behind is not masks or any(inventory.owner_of_address(mask) == "pod" for mask in masks)
    pods = () if overlaid else inventory.pod_cidrs
    return external.internet(versions, nodes, pods) + external.blocks(addresses - public)


def _bleeding(workload: Workload) -> ReviewItem:
    others = ", ".join(workload.also_selects[:8])
    why = "their labels cannot be told apart, so each has the other's permissions too; give one a label of its own"
    if any(other.labels != workload.labels for other in workload.alike):
        why = "flows show the same labels of them, so each has the other's permissions too; Cilium's `labels` setting "
        why += "leaves out what tells them apart"
    return ReviewItem(
        item_id("selector-bleed", str(workload)),
        "selector-bleed",
        str(workload),
        f"the selector of {workload} also picks {others}",
        why,
        evidence={"also_selects": list(workload.also_selects)},
    )


def _held_default_deny(name: str, namespace: str, unseen: list[Workload]) -> ReviewItem:
    names = sorted(w.name for w in unseen)
    unselectable = {w.name for w in unseen if "hubble" in w.observed and not w.selectable}
    quiet = [n for n in names if n not in unselectable]
    reasons = [f"{listed(quiet)} {'was' if len(quiet) == 1 else 'were'} never observed"] if quiet else []
    reasons += [f"no selector can pick {listed(sorted(unselectable))}"] if unselectable else []
    return ReviewItem(
        name,
        "default-deny",
        namespace,
        f"no default deny for namespace {namespace}: {', '.join(reasons)}",
        "a default deny would cut off workloads whose needs are unknown; observe longer, declare them, or accept it",
        acceptable=True,
        evidence={"never_observed": quiet, "unselectable": sorted(unselectable)}
        if unselectable
        else {"never_observed": quiet},
    )
