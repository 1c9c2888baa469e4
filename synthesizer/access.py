"""Decisions → AuthorizationPolicy and PeerAuthentication intents: who may call a mesh workload, and how.

Invariant: a workload that is in the mesh and was called gets a policy, or a question for the reader; nothing is
denied by default where a workload was never seen.
"""

from __future__ import annotations

import msgspec

from collector.standing import Standing
from synthesizer.access_review import (
    held_default_deny,
    mutual_tls_optional,
    partly_plaintext,
    plaintext_caller,
    unselectable_member,
)
from synthesizer.access_rules import access_rules, by_requests
from synthesizer.callers import caller_blocks, callers, enforced, in_mesh
from synthesizer.decisions import Decision, Decisions, Fate
from synthesizer.intent import Access, AccessIntent, Cause, MutualTLSIntent, Target
from synthesizer.inventory import Inventory, ServiceObject
from synthesizer.lines import Line, past_waypoint, via_waypoint
from synthesizer.options import Options
from synthesizer.party import Outside, Place
from synthesizer.review import ReviewItem
from synthesizer.rules.view import View
from synthesizer.workload import Workload, WorkloadKey
from synthesizer.workloads import Workloads

MAX_RULES = 512  # CRD limit of AuthorizationPolicy.spec.rules


class AccessLayer(msgspec.Struct):
    """The intents of the identity layer, or of a part of it, and questions for the reader."""

    intents: list[AccessIntent] = []
    mutual_tls: list[MutualTLSIntent] = []
    review: list[ReviewItem] = []

    def add(self, part: AccessLayer) -> None:
        """Take in another part of the layer."""
        self.intents += part.intents
        self.mutual_tls += part.mutual_tls
        self.review += part.review


def access_intents(decided: Decisions, workloads: Workloads, inventory: Inventory, options: Options) -> AccessLayer:
    """An ALLOW intent for each mesh workload with known callers; default deny and mutual TLS where they are safe."""
    layer = AccessLayer()
    if options.mesh == "none":
        return layer
    members = _members(decided, options)
    calls, behind = _calls(decided, inventory, options)
    nameless: dict[str, list[Decision]] = {}  # calls to workloads that no selector can pick, by namespace
    for key, workload in sorted(members.items()):
        called = [d for d in calls.get(key, ()) if enforced(d.line, options)]
        if workload.selectable:
            layer.add(_at_workload(workload, called, options, decided.view))
            continue
        layer.review.append(unselectable_member(workload))
        if called:
            nameless.setdefault(workload.namespace, []).extend(called)
    for (service, key), called in sorted(behind.items()):
        if key in members:
            layer.add(_at_waypoint(service, members[key], called, inventory, options))
    written = {intent.target.namespace for intent in layer.intents}
    for namespace in sorted({workload.namespace for workload in members.values()}):
        cut_off = nameless.get(namespace, []) if namespace in written else []
        layer.add(_default_deny(namespace, namespace in written, cut_off, members, workloads, options))
    for namespace in sorted({workload.namespace for workload in members.values()}):
        layer.add(_mutual_tls(namespace, decided, options))
    return layer


def _members(decided: Decisions, options: Options) -> dict[WorkloadKey, Workload]:
    """The workloads in the mesh that were observed and may get policies."""
    parties = (party for d in decided.decisions for party in (d.line.source, d.line.destination))
    return {
        party.key: party
        for party in parties
        if isinstance(party, Workload) and in_mesh(party, options) and options.wants(party.namespace)
    }


def _calls(
    decided: Decisions, inventory: Inventory, options: Options
) -> tuple[dict[WorkloadKey, list[Decision]], dict[tuple[str, WorkloadKey], list[Decision]]]:
    """The calls that became policy: to a workload itself, and to one through the waypoint of a Service."""
    itself: dict[WorkloadKey, list[Decision]] = {}
    behind: dict[tuple[str, WorkloadKey], list[Decision]] = {}
    for decision in decided.decisions:
        line = decision.line
        if decision.fate is not Fate.POLICY or not isinstance(line.destination, Workload):
            continue
        through = line.via if options.mesh == "ambient" and via_waypoint(line) else ()
        gates = [service for service in through if _has_waypoint(service, inventory)]
        for service in gates:
            behind.setdefault((service, line.destination.key), []).append(decision)
        if not gates or past_waypoint(line):
            itself.setdefault(line.destination.key, []).append(decision)
    return itself, behind


def _at_workload(workload: Workload, called: list[Decision], options: Options, view: View) -> AccessLayer:
    """What a workload's own proxy lets through; callers that it could not tell from anyone are held."""
    if not called:
        return AccessLayer()
    named: list[Decision] = []
    review: list[ReviewItem] = []
    for decision in called:
        item = _plaintext_question(workload, decision.line, options, view)
        if item is None:
            named.append(decision)
        else:
            decision.access_review = item.id
            review.append(item)
    partly = [d.line for d in named if d.line.principals and d.line.evidence.plaintext]
    rules = access_rules(workload, named, options)
    target = Target(workload.namespace, workload.policy_name, workload.selector)
    questions = [*review, *(partly_plaintext(workload, line) for line in partly), *rules.review]
    return AccessLayer(_dealt(target, rules.accesses), review=questions)


def _default_deny(
    namespace: str,
    written: bool,
    cut_off: list[Decision],
    members: dict[WorkloadKey, Workload],
    workloads: Workloads,
    options: Options,
) -> AccessLayer:
    """A default deny, if the namespace has policies and every mesh workload there was seen and can be selected.

    `cut_off` are the calls to workloads that no selector can pick: accepting the deny gives them up.
    """
    unseen = sorted(
        w.name
        for w in workloads.all
        if w.namespace == namespace and not (w.host_network or w.covered or w.key in members)
        if in_mesh(w, options)
    )
    item = held_default_deny(namespace, unseen, cut_off)
    if (unseen or cut_off) and item.id not in options.accepted:
        return AccessLayer(review=[item])
    if not written:
        return AccessLayer()
    for decision in cut_off:
        decision.access_review = decision.access_review or item.id
    return AccessLayer([AccessIntent(Target(namespace, "default-deny"), ())])


def _mutual_tls(namespace: str, decided: Decisions, options: Options) -> AccessLayer:
    """Demand mutual TLS where every inbound connection used it; ask where some did and some did not."""
    inbound = [
        d.line
        for d in decided.decisions
        # A caller that is held for review counts too: nobody has decided yet to cut it off.
        if d.fate in (Fate.POLICY, Fate.HELD)
        and d.line.standing not in (Standing.DENIED, Standing.OPEN, Standing.UNANSWERED)
        and isinstance(d.line.destination, Workload)
        and d.line.destination.namespace == namespace
        and enforced(d.line, options)
        and d.cause is not Cause.DECLARED
    ]
    plaintext = sorted({str(line.source) for line in inbound if line.evidence.plaintext or not line.evidence.mtls})
    if inbound and not plaintext:
        return AccessLayer(mutual_tls=[MutualTLSIntent(namespace)])
    if any(line.evidence.mtls for line in inbound):
        return AccessLayer(review=[mutual_tls_optional(namespace, plaintext)])
    return AccessLayer()


def _dealt(target: Target, accesses: tuple[Access, ...]) -> list[AccessIntent]:
    """One intent, or several if the accesses exceed Istio's limit for one policy: ALLOW policies of a target add up.

    The others are named `<name>.2` and so on; `<name>-2` might be another workload.
    """
    parts = [accesses[start : start + MAX_RULES] for start in range(0, len(accesses), MAX_RULES)] or [accesses]
    names = [target.name, *(f"{target.name}.{number}" for number in range(2, len(parts) + 1))]
    return [
        AccessIntent(msgspec.structs.replace(target, name=name), part) for name, part in zip(names, parts, strict=True)
    ]


def _has_waypoint(service: str, inventory: Inventory) -> bool:
    """Whether the inventory names a waypoint for a Service, so that a policy may attach there."""
    namespace, _, name = service.partition("/")
    known = inventory.service(namespace, name)
    return known is not None and bool(known.waypoint)


def _at_waypoint(
    service: str, workload: Workload, called: list[Decision], inventory: Inventory, options: Options
) -> AccessLayer:
    """What the waypoint in front of a Service lets through: it sees the clients' identities and their requests."""
    namespace, _, name = service.partition("/")
    named = _waypoint_ports(inventory.service(namespace, name), workload, inventory)
    rules = access_rules(workload, called, options, at_waypoint=True)
    accesses = tuple(
        msgspec.structs.replace(
            access, ports=tuple(sorted({p for number in access.ports for p in named.get(number, {number})}))
        )
        for access in rules.accesses
    )
    target = Target(namespace, f"{name}-waypoint", service=name)
    return AccessLayer(_dealt(target, accesses), review=rules.review)


def _waypoint_ports(service: ServiceObject | None, workload: Workload, inventory: Inventory) -> dict[int, set[int]]:
    """The ports that a waypoint's policy names for each port of a pod behind a Service.

    A waypoint compares rules with the Service's ports, on which it listens (undocumented; istio
    pilot/pkg/networking/core/listener_waypoint.go). So a policy names every Service port that leads to the pod's port,
    and the pod's port itself unless the Service's port of that number leads elsewhere.
    """
    if service is None:
        return {}
    item = inventory.workload(workload.object_key)
    leading: dict[int, set[int]] = {}
    for port in service.ports:
        for target, number in inventory.target_ports(service, port.protocol, port.port):
            if target is item and port.protocol == "TCP":
                leading.setdefault(number, set()).add(port.port)
    taken = {port for ports in leading.values() for port in ports}
    return {number: ports if number in taken else {number, *ports} for number, ports in leading.items()}


def _plaintext_question(workload: Workload, line: Line, options: Options, view: View) -> ReviewItem | None:
    """The question about a caller in plaintext on a TCP port; None if its call may be allowed as it is.

    Such a caller has no name here, and a rule without one admits anyone. (HTTP in plaintext is let through by method
    and path, which is narrow enough, and spares Prometheus an outage.)
    """
    named = callers(line, options) or caller_blocks(line)
    if named or by_requests(line, options) or _may_be_anyone(line, workload, view):
        return None
    item = plaintext_caller(workload, line)
    return None if item.id in options.accepted else item


def _may_be_anyone(line: Line, workload: Workload, view: View) -> bool:
    """Whether a caller stands for the public: an address outside, or a node that hides such addresses (SNAT)."""
    if not isinstance(line.source, Outside):
        return False
    if line.source.place in (Place.LINK_LOCAL, Place.PROBE, Place.API_SERVER):
        return False
    return line.source.place is not Place.NODE or view.published(workload, line.protocol, line.port)
