"""Decisions → AuthorizationPolicy and PeerAuthentication intents: who may call a mesh workload, and how.

Invariant: a workload that is in the mesh and was called gets a policy, or a question for the reader; nothing is
denied by default where a workload was never seen.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from synthesizer.access_review import (
    held_default_deny,
    partly_plaintext,
    plaintext_caller,
    unknown_waypoint,
    unselectable_member,
)
from synthesizer.access_rules import Ports, access_rules, by_requests
from synthesizer.callers import caller_blocks, callers, enforced, in_mesh, partly_secured
from synthesizer.calls import gathered
from synthesizer.decisions import Decision, Decisions
from synthesizer.intent import Access, AccessIntent, MutualTLSIntent, Target
from synthesizer.inventory import Inventory
from synthesizer.lines import Line
from synthesizer.mutual_tls import mutual_tls
from synthesizer.options import Options
from synthesizer.party import Outside, Place
from synthesizer.review import ReviewItem
from synthesizer.rules.view import View
from synthesizer.waypoints import beyond, hops, waypoint_ports
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
            layer.add(_at_workload(workload, called, led.get(key, ()), options, decided.view))
    for service, called in sorted(calls.behind.items()):
        known = [d for d in called if isinstance(d.line.destination, Workload) and d.line.destination.key in members]
        if known:
            layer.add(_at_waypoint(service, known, inventory, options))
    written: dict[str, set[str]] = {}
    for intent in layer.intents:
        written.setdefault(intent.target.namespace, set()).add(intent.target.name)
    for namespace in sorted({workload.namespace for workload in members.values()}):
        layer.add(
            _default_deny(
                namespace, written.get(namespace, set()), shut_out.get(namespace, []), members, workloads, options
            )
        )
        wanted = mutual_tls(namespace, decided, options)
        if isinstance(wanted, MutualTLSIntent):
            layer.mutual_tls.append(wanted)
        elif wanted is not None:
            layer.review.append(wanted)
    return layer


def _members(decided: Decisions, options: Options) -> dict[WorkloadKey, Workload]:
    """The workloads in the mesh that were observed and may get policies."""
    parties = (party for d in decided.decisions for party in (d.line.source, d.line.destination))
    return {
        party.key: party
        for party in parties
        if isinstance(party, Workload) and in_mesh(party, options) and options.wants(party.namespace)
    }


def _at_workload(
    workload: Workload, called: list[Decision], led: tuple[Access, ...], options: Options, view: View
) -> AccessLayer:
    """What a workload's own proxy lets through; callers that it could not tell from anyone are held.

    `led` is what waypoints in front of it need.
    """
    by_ports: dict[Ports, list[Decision]] = {}
    partly: list[ReviewItem] = []
    review: list[ReviewItem] = []
    for decision in called:
        line = decision.line
        item = _plaintext_question(workload, line, options, view)
        if item is not None:
            decision.access_review = item.id
            review.append(item)
            continue
        by_ports.setdefault((line.port,), []).append(decision)
        if callers(line, options) and partly_secured(line.evidence):
            partly.append(partly_plaintext(workload, line))
    rules = access_rules(by_ports, options)
    accesses = rules.accesses + beyond(led, rules.accesses)
    target = Target(workload.namespace, workload.policy_name, workload.selector)
    return AccessLayer(_dealt(target, accesses), review=[*review, *partly, *rules.review])


def _default_deny(
    namespace: str,
    written: set[str],
    shut_out: list[Decision],
    members: dict[WorkloadKey, Workload],
    workloads: Workloads,
    options: Options,
) -> AccessLayer:
    """A default deny, if the namespace has policies and every mesh workload there was seen and can be let in.

    `written` are the names of its policies, `shut_out` the calls that they cannot let in: accepting the deny gives
    those up.
    """
    unseen = sorted(
        w.name
        for w in workloads.all
        if w.namespace == namespace and not (w.host_network or w.covered or w.key in members)
        if in_mesh(w, options)
    )
    # What is published has callers, seen or not: a log of its other side does not show them.
    public = sorted(
        w.name
        for w in members.values()
        if written and w.namespace == namespace and workloads.published(w) and w.policy_name not in written
    )
    cut_off = shut_out if written else []
    item = held_default_deny(namespace, unseen, cut_off, public)
    if (unseen or cut_off or public) and item.id not in options.accepted:
        return AccessLayer(review=[item])
    if not written:
        return AccessLayer()
    for decision in cut_off:
        decision.access_review = decision.access_review or item.id
    return AccessLayer([AccessIntent(Target(namespace, "default-deny"), ())])


def _dealt(target: Target, accesses: tuple[Access, ...]) -> list[AccessIntent]:
    """One intent, or several if the accesses exceed Istio's limit for one policy: ALLOW policies of a target add up.

    The others are named `<name>.2` and so on; `<name>-2` might be another workload.
    """
    parts = [accesses[start : start + MAX_RULES] for start in range(0, len(accesses), MAX_RULES)] or [accesses]
    names = [target.name, *(f"{target.name}.{number}" for number in range(2, len(parts) + 1))]
    return [
        AccessIntent(msgspec.structs.replace(target, name=name), part) for name, part in zip(names, parts, strict=True)
    ]


def _at_waypoint(service: str, called: Iterable[Decision], inventory: Inventory, options: Options) -> AccessLayer:
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
    rules = access_rules(by_ports, options, at_waypoint=True)
    target = Target(namespace, f"{name}-waypoint", service=name)
    return AccessLayer(_dealt(target, rules.accesses), review=rules.review)


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
