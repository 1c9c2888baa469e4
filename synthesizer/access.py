"""Decisions → AuthorizationPolicy and PeerAuthentication intents: who may call a mesh workload, and how.

Invariant: every access names ports and never mixes layers: either methods and paths of HTTP, or a TCP port alone. A
rule with an HTTP field on a TCP port would silently allow nothing (Istio, "AuthorizationPolicy", TCP filter chains).
"""

from __future__ import annotations

from collections.abc import Iterable

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
from synthesizer.intent import Access, AccessIntent, Cause, MutualTLSIntent, Target
from synthesizer.inventory import Inventory
from synthesizer.lines import Line, past_waypoint, via_waypoint
from synthesizer.options import Options
from synthesizer.party import Outside, Place, party_key
from synthesizer.review import ReviewItem
from synthesizer.rules.view import View
from synthesizer.workload import Workload
from synthesizer.workloads import Workloads

MAX_RULES = 512  # CRD limit of AuthorizationPolicy.spec.rules


class AccessLayer(msgspec.Struct):
    """The intents of the identity layer, and notes for the reader."""

    intents: list[AccessIntent]
    mutual_tls: list[MutualTLSIntent]
    review: list[ReviewItem]


def access_intents(decided: Decisions, workloads: Workloads, inventory: Inventory, options: Options) -> AccessLayer:
    """One ALLOW intent a mesh workload whose callers were seen, a default deny and mutual TLS where they are safe."""
    layer = AccessLayer([], [], [])
    if options.mesh == "none":
        return layer
    calls: dict[tuple[str, str, str], list[Decision]] = {}
    behind: dict[tuple[str, tuple[str, str, str]], list[Decision]] = {}  # by Service and workload, through a waypoint
    members: dict[tuple[str, str, str], Workload] = {}
    nameless: dict[str, list[Decision]] = {}  # calls to workloads that no selector can pick, by namespace
    for decision in decided.decisions:
        for party in (decision.line.source, decision.line.destination):
            if isinstance(party, Workload) and in_mesh(party, options) and options.wants(party.namespace):
                members[party.key] = party
        line = decision.line
        if decision.fate is Fate.POLICY and isinstance(line.destination, Workload):
            through = line.via if options.mesh == "ambient" and via_waypoint(line) else ()
            gates = [service for service in through if _has_waypoint(service, inventory)]
            for service in gates:
                behind.setdefault((service, line.destination.key), []).append(decision)
            if not gates or past_waypoint(line):
                calls.setdefault(line.destination.key, []).append(decision)
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


def _add_default_denies(
    layer: AccessLayer,
    members: dict[tuple[str, str, str], Workload],
    nameless: dict[str, list[Decision]],
    workloads: Workloads,
    options: Options,
) -> None:
    """An empty policy for each namespace with others, where every workload in the mesh is known and can be selected."""
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
    """STRICT where every inbound connection was mutual TLS; a question where some were and some were not."""
    inbound = [
        d.line
        for d in decided.decisions
        # A caller that is held for review counts too: nobody decided yet that it may be cut off.
        if d.fate in (Fate.POLICY, Fate.HELD)
        and d.line.standing not in (Standing.DENIED, Standing.OPEN, Standing.UNANSWERED)
        and isinstance(d.line.destination, Workload)
        and d.line.destination.namespace == namespace
        and enforced(d.line, options)
        and d.cause is not Cause.DECLARED
    ]
    plaintext = sorted({str(line.source) for line in inbound if line.evidence.plaintext or not line.evidence.mtls})
    if inbound and not plaintext:
        layer.mutual_tls.append(MutualTLSIntent(namespace))
    elif any(line.evidence.mtls for line in inbound):
        layer.review.append(mutual_tls_optional(namespace, plaintext))


def _target(workload: Workload) -> Target:
    return Target(workload.namespace, workload.policy_name, workload.selector)


def _dealt(target: Target, accesses: tuple[Access, ...]) -> list[AccessIntent]:
    """One intent, or several where Istio takes no more rules in one: ALLOW policies of a target add up.

    The further ones are named `<name>.2` and so on: a workload may well be called `<name>-2`.
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
    """What the waypoint in front of a Service lets through: it sees the clients' identities and their requests.

    It listens on the Service's ports and compares rules with them (istio pilot/pkg/networking/core/
    listener_waypoint.go), which is not documented: every one that leads to the pod's port is named, and that itself,
    unless the Service's port of that number leads elsewhere.
    """
    namespace, _, name = service.partition("/")
    known = inventory.service(namespace, name)
    item = inventory.workload(workload.object_key)
    leading: dict[int, set[int]] = {}
    for port in known.ports if known is not None else ():
        for target, number in inventory.target_ports(known, port.protocol, port.port) if known is not None else ():
            if target is item and port.protocol == "TCP":
                leading.setdefault(number, set()).add(port.port)
    taken = {port for ports in leading.values() for port in ports}
    named = {number: ports if number in taken else {number, *ports} for number, ports in leading.items()}
    accesses = tuple(
        msgspec.structs.replace(
            access, ports=tuple(sorted({p for number in access.ports for p in named.get(number, {number})}))
        )
        for access in _accesses(workload, called, options, review, at_waypoint=True)
    )
    return _dealt(Target(namespace, f"{name}-waypoint", service=name), accesses)


# -- one workload -----------------------------------------------------------------------------------------------------


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
    return _grouped(found)


def _by_requests(line: Line, options: Options, at_waypoint: bool = False) -> bool:
    """Whether callers are let in by what they ask for: ztunnel, which those past a waypoint reach, sees no requests."""
    return reads_http(line, options) and (options.mesh == "sidecar" or at_waypoint or not past_waypoint(line))


def _access(
    decision: Decision, options: Options, port: int, methods: tuple[str, ...] = (), paths: tuple[str, ...] = ()
) -> Access:
    """What a decision lets its caller do; who has no principal may have an address."""
    principals = callers(decision.line, options)
    blocks = () if principals else caller_blocks(decision.line)
    return Access(decision.cause, principals, (port,), methods, paths, blocks)


def _held_plaintext(
    workload: Workload, decision: Decision, options: Options, view: View, review: list[ReviewItem]
) -> bool:
    """Who speaks plaintext on a TCP port has no name here, and a rule without one would let anyone in.

    (HTTP in plaintext is let through by method and path, which is narrow enough to spare Prometheus an outage.)
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
    """Whether a caller stands for the public: an address outside, or a node that masks such addresses (SNAT)."""
    if not isinstance(line.source, Outside):
        return False
    if line.source.place in (Place.LINK_LOCAL, Place.PROBE, Place.API_SERVER):
        return False
    return line.source.place is not Place.NODE or view.published(workload, line.protocol, line.port)


def _http(
    workload: Workload, port: int, called: list[Decision], options: Options, review: list[ReviewItem]
) -> list[Access]:
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
    if several and len({callers(line, options) for line in mixed}) > 1:  # one identity cannot be told apart anyway
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


def _grouped(accesses: Iterable[Access]) -> tuple[Access, ...]:
    """Join accesses that differ in one field only: paths, then methods, then the callers, then ports."""
    current = sorted(set(accesses))
    for field in ("paths", "methods", "principals", "blocks", "ports"):
        groups: dict[tuple[object, ...], list[Access]] = {}
        for access in current:
            rest = tuple(getattr(access, name) for name in Access.__struct_fields__ if name != field)
            # An empty field means "any", so it must not be joined with a list.
            groups.setdefault((*rest, bool(getattr(access, field))), []).append(access)
        current = [
            msgspec.structs.replace(group[0], **{field: tuple(sorted({v for a in group for v in getattr(a, field)}))})
            for group in groups.values()
        ]
    return tuple(sorted(current, key=lambda a: (a.ports, a.principals, a.blocks, a.paths, a.methods, a.cause)))
