"""Decisions → AuthorizationPolicy and PeerAuthentication intents: who may call a mesh workload, and how.

Invariant: every access names ports and never mixes layers: either methods and paths of HTTP, or a TCP port alone. A
rule with an HTTP field on a TCP port would silently allow nothing (Istio, "AuthorizationPolicy", TCP filter chains).
"""

from __future__ import annotations

import msgspec

from collector.paths import Request, templates
from collector.settlement import Standing
from synthesizer.access_review import (
    held_default_deny,
    inexpressible_requests,
    mutual_tls_optional,
    partly_plaintext,
    plaintext_caller,
    rejected_requests,
    requests_together,
    template_sibling,
    unselectable_member,
)
from synthesizer.callers import caller_blocks, callers, enforced, in_mesh, legitimate_requests, reads_http
from synthesizer.decisions import Decision, Decisions, Fate
from synthesizer.intent import Access, AccessIntent, Cause, MutualTLSIntent, Target, fewest_accesses
from synthesizer.inventory import Inventory, ServiceObject
from synthesizer.lines import Line, past_waypoint, via_waypoint
from synthesizer.options import Options
from synthesizer.party import Outside, Place, party_key
from synthesizer.review import ReviewItem
from synthesizer.rules.view import View
from synthesizer.workload import Workload, WorkloadKey
from synthesizer.workloads import Workloads

MAX_RULES = 512  # CRD limit of AuthorizationPolicy.spec.rules


class AccessLayer(msgspec.Struct):
    """The intents of the identity layer, and questions for the reader."""

    intents: list[AccessIntent]
    mutual_tls: list[MutualTLSIntent]
    review: list[ReviewItem]


def access_intents(decided: Decisions, workloads: Workloads, inventory: Inventory, options: Options) -> AccessLayer:
    """An ALLOW intent for each mesh workload with known callers; default deny and mutual TLS where they are safe."""
    layer = AccessLayer([], [], [])
    if options.mesh == "none":
        return layer
    members = _members(decided, options)
    calls, behind = _calls(decided, inventory, options)
    nameless: dict[str, list[Decision]] = {}  # calls to workloads that no selector can pick, by namespace
    for key, workload in sorted(members.items()):
        called = [d for d in calls.get(key, ()) if enforced(d.line, options)]
        if not workload.selectable:
            layer.review.append(unselectable_member(workload))
            if called:
                nameless.setdefault(workload.namespace, []).extend(called)
            continue
        named = [d for d in called if not _held_plaintext(workload, d, options, decided.view, layer.review)]
        layer.review += [
            partly_plaintext(workload, d.line) for d in named if d.line.principals and d.line.evidence.plaintext
        ]
        if called:
            layer.intents += _dealt(_target(workload), _accesses(workload, named, options, layer.review))
    for (service, key), called in sorted(behind.items()):
        if key in members:
            layer.intents += _at_waypoint(service, members[key], called, inventory, options, layer.review)
    _add_default_denies(layer, members, nameless, workloads, options)
    for namespace in sorted({workload.namespace for workload in members.values()}):
        _require_mutual_tls(namespace, decided, options, layer)
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


def _add_default_denies(
    layer: AccessLayer,
    members: dict[WorkloadKey, Workload],
    nameless: dict[str, list[Decision]],
    workloads: Workloads,
    options: Options,
) -> None:
    """Add a default deny to each namespace with policies in which every mesh workload was seen and can be selected."""
    written = {intent.target.namespace for intent in layer.intents}
    for namespace in sorted({workload.namespace for workload in members.values()}):
        unseen = sorted(
            w.name
            for w in workloads.all
            if w.namespace == namespace and not (w.host_network or w.covered or w.key in members)
            if in_mesh(w, options)
        )
        cut_off = nameless.get(namespace, []) if namespace in written else []
        item = held_default_deny(namespace, unseen, cut_off)
        if (unseen or cut_off) and item.id not in options.accepted:
            layer.review.append(item)
        elif namespace in written:
            layer.intents.append(AccessIntent(Target(namespace, "default-deny"), ()))
            for decision in cut_off:
                decision.access_review = decision.access_review or item.id


def _require_mutual_tls(namespace: str, decided: Decisions, options: Options, layer: AccessLayer) -> None:
    """Demand mutual TLS where every inbound connection used it, and who called is known by an identity of the mesh; ask
    where that holds for some and not for others."""
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
    others = sorted({str(line.source) for line in inbound if not _trusted(line, options)})
    if inbound and not others:
        layer.mutual_tls.append(MutualTLSIntent(namespace))
    elif any(line.evidence.mtls for line in inbound):
        layer.review.append(mutual_tls_optional(namespace, others))


def _trusted(line: Line, options: Options) -> bool:
    """Whether a line's caller used mutual TLS only, with a certificate of the mesh. One of another make (SPIRE's, a
    client's own) has no identity that is known here; whether the mesh trusts it under STRICT, nobody can tell."""
    if line.evidence.plaintext or not line.evidence.mtls:
        return False
    return bool(line.principals) or (isinstance(line.source, Workload) and in_mesh(line.source, options))


def _target(workload: Workload) -> Target:
    return Target(workload.namespace, workload.policy_name, workload.selector)


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
    service: str,
    workload: Workload,
    called: list[Decision],
    inventory: Inventory,
    options: Options,
    review: list[ReviewItem],
) -> list[AccessIntent]:
    """What the waypoint in front of a Service lets through: it sees the clients' identities and their requests."""
    namespace, _, name = service.partition("/")
    named = _waypoint_ports(inventory.service(namespace, name), workload, inventory)
    accesses = tuple(
        msgspec.structs.replace(
            access, ports=tuple(sorted({p for number in access.ports for p in named.get(number, {number})}))
        )
        for access in _accesses(workload, called, options, review, at_waypoint=True)
    )
    return _dealt(Target(namespace, f"{name}-waypoint", service=name), accesses)


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


def _accesses(
    workload: Workload, called: list[Decision], options: Options, review: list[ReviewItem], at_waypoint: bool = False
) -> tuple[Access, ...]:
    """The fewest accesses that let exactly these callers through."""
    by_port: dict[int, list[Decision]] = {}
    for decision in called:
        by_port.setdefault(decision.line.port, []).append(decision)
    found: list[Access] = []
    for port, here in sorted(by_port.items()):
        web = [decision for decision in here if _by_requests(decision.line, options, at_waypoint)]
        found += (_access(decision, options, port) for decision in here if decision not in web)
        found += _http(workload, port, web, options, review)
    return fewest_accesses(found)


def _by_requests(line: Line, options: Options, at_waypoint: bool = False) -> bool:
    """Whether rules may name requests: callers past the waypoint reach ztunnel, which sees none."""
    return reads_http(line, options) and (options.mesh == "sidecar" or at_waypoint or not past_waypoint(line))


def _access(
    decision: Decision, options: Options, port: int, methods: tuple[str, ...] = (), paths: tuple[str, ...] = ()
) -> Access:
    """What a decision lets its caller do; a caller without a principal may be named by its address."""
    principals = callers(decision.line, options)
    blocks = () if principals else caller_blocks(decision.line)
    return Access(decision.cause, principals, (port,), methods, paths, blocks)


def _held_plaintext(
    workload: Workload, decision: Decision, options: Options, view: View, review: list[ReviewItem]
) -> bool:
    """Hold a caller that speaks plaintext on a TCP port: it has no name here, and a rule without one admits anyone.

    (HTTP in plaintext is let through by method and path, which is narrow enough, and spares Prometheus an outage.)
    """
    line = decision.line
    named = callers(line, options) or caller_blocks(line)
    if named or _by_requests(line, options) or _may_be_anyone(line, workload, view):
        return False
    item = plaintext_caller(workload, line)
    if item.id in options.accepted:
        return False
    decision.access_review = item.id
    review.append(item)
    return True


def _may_be_anyone(line: Line, workload: Workload, view: View) -> bool:
    """Whether a caller stands for the public: an address outside, or a node that hides such addresses (SNAT)."""
    if not isinstance(line.source, Outside):
        return False
    if line.source.place in (Place.LINK_LOCAL, Place.PROBE, Place.API_SERVER):
        return False
    return line.source.place is not Place.NODE or view.published(workload, line.protocol, line.port)


def _http(
    workload: Workload, port: int, called: list[Decision], options: Options, review: list[ReviewItem]
) -> list[Access]:
    """What the callers of one HTTP port may ask for, and the questions that come up."""
    usage: dict[str, dict[Request, int]] = {}
    by_client = {party_key(decision.line.source): decision for decision in called}
    for client, decision in by_client.items():
        line = decision.line
        requests = legitimate_requests(line.own)
        only_rejected = sorted(set(line.own.rejected) - {f"{r.method} {r.path}" for r in requests})
        if only_rejected:
            item = rejected_requests(workload, port, line, only_rejected)
            review.append(item)
            decision.access_review = "" if requests else item.id
        if requests:
            usage[client] = requests
    mixed = [by_client[client].line for client in sorted(usage) if by_client[client].line.together]
    several = len({request for client in usage for request in usage[client]}) > 1
    if several and len({callers(line, options) for line in mixed}) > 1:  # one identity cannot be split anyway
        review.append(requests_together(workload, port, sorted(str(line.source) for line in mixed)))
    chosen = templates(usage)
    for swallowed in chosen.swallowed:
        review.append(template_sibling(workload, port, by_client[swallowed.client].line, swallowed))
    refused: dict[str, list[Request]] = {}
    for client, request in chosen.inexpressible:
        refused.setdefault(client, []).append(request)
    for client, unnamed in refused.items():
        review.append(inexpressible_requests(workload, port, by_client[client], unnamed, usage[client], chosen))
    return [
        _access(by_client[client], options, port, (choice.method,), (choice.path,) if choice.path else ())
        for client, choices in sorted(chosen.per_client.items())
        for choice in choices
    ]
