"""Decisions → AuthorizationPolicy and PeerAuthentication intents: who may call a mesh workload, and how.

Invariant: every access names ports and never mixes layers: either methods and paths of HTTP, or a TCP port alone. A
rule with an HTTP field on a TCP port would silently allow nothing (Istio, "AuthorizationPolicy", TCP filter chains).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from collector.paths import Request, Templates, templates
from synthesizer.access_review import (
    held_default_deny,
    inexpressible_requests,
    partly_plaintext,
    plaintext_caller,
    rejected_requests,
    requests_together,
    template_sibling,
    unknown_waypoint,
    unnamed_requests,
    unselectable_member,
)
from synthesizer.callers import (
    caller_blocks,
    callers,
    enforced,
    in_mesh,
    legitimate_requests,
    partly_secured,
    reads_http,
)
from synthesizer.calls import gathered
from synthesizer.decisions import Decision, Decisions
from synthesizer.intent import Access, AccessIntent, MutualTLSIntent, Target, fewest_accesses
from synthesizer.inventory import Inventory
from synthesizer.lines import Line, past_waypoint
from synthesizer.mutual_tls import mutual_tls
from synthesizer.options import Options
from synthesizer.party import Outside, Place, party_key
from synthesizer.review import ReviewItem
from synthesizer.rules.view import View
from synthesizer.waypoints import beyond, hops, waypoint_ports
from synthesizer.workload import Workload, WorkloadKey
from synthesizer.workloads import Workloads

MAX_RULES = 512  # CRD limit of AuthorizationPolicy.spec.rules

Ports = tuple[int, ...]  # that one rule names


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
    calls = gathered(decided, inventory, options)
    led = hops(calls.behind, inventory, options)
    shut_out: dict[str, list[Decision]] = {}  # calls that cannot be let in, by namespace
    for key, workload in sorted(members.items()):
        called = [d for d in calls.itself.get(key, ()) if enforced(d.line, options)]
        if key in calls.unclear:
            layer.review.append(unknown_waypoint(workload, calls.unclear[key]))
        if not workload.selectable:
            layer.review.append(unselectable_member(workload))
        if turned_away := calls.turned_away(workload, called, workloads):
            shut_out.setdefault(workload.namespace, []).extend(turned_away)
        elif workload.selectable and (called or key in led):
            given = _own_accesses(workload, called, decided.view, options, layer.review)
            layer.intents += _dealt(_target(workload), given + beyond(led.get(key, ()), given))
    for service, called in sorted(calls.behind.items()):
        known = [d for d in called if isinstance(d.line.destination, Workload) and d.line.destination.key in members]
        if known:
            layer.intents += _at_waypoint(service, known, inventory, options, layer.review, workloads)
    _add_default_denies(layer, members, shut_out, workloads, options)
    for namespace in sorted({workload.namespace for workload in members.values()}):
        wanted = mutual_tls(namespace, decided, options)
        if isinstance(wanted, MutualTLSIntent):
            layer.mutual_tls.append(wanted)
        elif wanted is not None:
            layer.review.append(wanted)
    return layer


def _own_accesses(
    workload: Workload, called: list[Decision], view: View, options: Options, review: list[ReviewItem]
) -> tuple[Access, ...]:
    """What the workload's own proxy lets through, and the questions about callers without a name."""
    named = [d for d in called if not _held_plaintext(workload, d, options, view, review)]
    review += [
        partly_plaintext(workload, d.line)
        for d in named
        if callers(d.line, options) and partly_secured(d.line.evidence)
    ]
    by_port: dict[Ports, list[Decision]] = {}
    for decision in named:
        by_port.setdefault((decision.line.port,), []).append(decision)
    return _accesses(by_port, options, review)


def _members(decided: Decisions, options: Options) -> dict[WorkloadKey, Workload]:
    """The workloads in the mesh that were observed and may get policies."""
    parties = (party for d in decided.decisions for party in (d.line.source, d.line.destination))
    return {
        party.key: party
        for party in parties
        if isinstance(party, Workload) and in_mesh(party, options) and options.wants(party.namespace)
    }


def _add_default_denies(
    layer: AccessLayer,
    members: dict[WorkloadKey, Workload],
    shut_out: dict[str, list[Decision]],
    workloads: Workloads,
    options: Options,
) -> None:
    """Add a default deny to each namespace with policies in which every mesh workload was seen and can be selected."""
    written = {intent.target.namespace for intent in layer.intents}
    named = {(intent.target.namespace, intent.target.name) for intent in layer.intents}
    for namespace in sorted({workload.namespace for workload in members.values()}):
        unseen = sorted(
            w.name
            for w in workloads.all
            if w.namespace == namespace and not (w.host_network or w.covered or w.key in members)
            if in_mesh(w, options)
        )
        cut_off = shut_out.get(namespace, []) if namespace in written else []
        # What is published has callers, seen or not: a log of its other side does not show them.
        public = sorted(
            w.name
            for w in members.values()
            if w.namespace == namespace and workloads.published(w) and (namespace, w.policy_name) not in named
        )
        item = held_default_deny(namespace, unseen, cut_off, public if namespace in written else [])
        if (unseen or cut_off or (public and namespace in written)) and item.id not in options.accepted:
            layer.review.append(item)
        elif namespace in written:
            layer.intents.append(AccessIntent(Target(namespace, "default-deny"), ()))
            for decision in cut_off:
                decision.access_review = decision.access_review or item.id


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


def _at_waypoint(
    service: str,
    called: list[Decision],
    inventory: Inventory,
    options: Options,
    review: list[ReviewItem],
    workloads: Workloads,
) -> list[AccessIntent]:
    """What the waypoint in front of a Service lets through: it sees the clients' identities and their requests.

    One policy for all that is behind the Service, which may be several workloads (versions).
    """
    namespace, _, name = service.partition("/")
    front = inventory.service(namespace, name)
    named: dict[Workload, dict[int, set[int]]] = {}
    by_ports: dict[Ports, list[Decision]] = {}
    for decision in called:
        port, workload = decision.line.port, decision.line.destination
        if isinstance(workload, Workload):
            if workload not in named:
                named[workload] = waypoint_ports(front, workload, inventory)
            by_ports.setdefault(tuple(sorted(named[workload].get(port, {port}))), []).append(decision)
    accesses = _accesses(by_ports, options, review, at_waypoint=True)
    title = f"{name}-waypoint"
    if any((workload.namespace, workload.policy_name) == (namespace, title) for workload in workloads.all):
        title += "-service"
    return _dealt(Target(namespace, title, service=name), accesses)


def _accesses(
    by_ports: Mapping[Ports, list[Decision]], options: Options, review: list[ReviewItem], at_waypoint: bool = False
) -> tuple[Access, ...]:
    """The fewest accesses that let exactly these callers through, by the ports that their rules name."""
    found: list[Access] = []
    for ports, here in sorted(by_ports.items()):
        web = [decision for decision in here if _by_requests(decision.line, options, at_waypoint)]
        found += (_access(decision, options, ports) for decision in here if decision not in web)
        found += _http(ports, web, options, review)
    return fewest_accesses(found)


def _by_requests(line: Line, options: Options, at_waypoint: bool = False) -> bool:
    """Whether rules may name requests: callers past the waypoint reach ztunnel, which sees none."""
    return reads_http(line, options) and (options.mesh == "sidecar" or at_waypoint or not past_waypoint(line))


def _access(
    decision: Decision, options: Options, ports: Ports, methods: tuple[str, ...] = (), paths: tuple[str, ...] = ()
) -> Access:
    """What a decision lets its caller do; a caller without a principal may be named by its address."""
    principals = callers(decision.line, options)
    blocks = () if principals else caller_blocks(decision.line)
    return Access(decision.cause, principals, ports, methods, paths, blocks)


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


def _http(ports: Ports, called: list[Decision], options: Options, review: list[ReviewItem]) -> list[Access]:
    """What the callers of one HTTP port may ask for, and the questions that come up."""
    usage: dict[str, dict[Request, int]] = {}
    by_client: dict[str, list[Decision]] = {}  # several of a client if there are several workloads behind a Service
    for decision in called:
        line, requests = decision.line, legitimate_requests(decision.line.own)
        only_rejected = sorted(set(line.own.rejected) - {f"{r.method} {r.path}" for r in requests})
        if only_rejected:
            item = rejected_requests(line, only_rejected)
            review.append(item)
            decision.access_review = "" if requests else item.id
        if requests:
            others = by_client.setdefault(party_key(line.source), [])
            used = usage.setdefault(party_key(line.source), {})
            if all(line.own.requests is not other.line.own.requests for other in others):
                for request, count in requests.items():
                    used[request] = used.get(request, 0) + count
            others.append(decision)
    mixed = [decisions[0].line for _, decisions in sorted(by_client.items()) if decisions[0].line.together]
    several = len({request for client in usage for request in usage[client]}) > 1
    if several and len({callers(line, options) for line in mixed}) > 1:  # one identity cannot be split anyway
        review.append(requests_together(mixed))
    chosen = templates(usage)
    review += (template_sibling(by_client[found.client][0].line, found) for found in chosen.swallowed)
    review += _inexpressible(chosen, by_client)
    return [
        _access(decision, options, ports, (choice.method,), (choice.path,) if choice.path else ())
        for client, choices in sorted(chosen.per_client.items())
        for choice in choices
        for decision in by_client[client]
    ]


def _inexpressible(chosen: Templates, by_client: Mapping[str, list[Decision]]) -> Iterator[ReviewItem]:
    """The questions about requests that no rule can name; holds them."""
    refused: dict[str, list[Request]] = {}
    for client, request in chosen.inexpressible:
        refused.setdefault(client, []).append(request)
    for client, listed in refused.items():
        for decision in by_client[client]:
            used = legitimate_requests(decision.line.own)
            unnamed = unnamed_requests(listed, used, chosen.per_client.get(client, ()))
            if unnamed:
                yield inexpressible_requests(decision, unnamed, used)
