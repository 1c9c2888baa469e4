"""Lines → decisions: each line is policy (and for what cause), implied, held back for a person, or not asked about.

Invariant: every line gets exactly one fate, and every held line is in the review with its evidence.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from collector.errors import SourceError
from collector.evidence import Evidence
from collector.paths import Request
from collector.standing import Standing
from synthesizer import rules
from synthesizer.intent import BlockPeer, Cause
from synthesizer.lines import Line
from synthesizer.options import Declared, Options
from synthesizer.party import Outside, Party, Place
from synthesizer.review import ReviewItem, item_id, listed, summary
from synthesizer.rules import control_plane, dns, external
from synthesizer.rules.entities import entities
from synthesizer.rules.view import Held, View
from synthesizer.workload import Workload
from synthesizer.workloads import Workloads

_OUTSIDERS = {Place.API_SERVER: Cause.CONTROL_PLANE, Place.PROBE: Cause.MESH}  # all others: the internet


class Fate(StrEnum):
    """What becomes of a line."""

    POLICY = "policy"
    IMPLIED = "implied"  # allowed by every CNI without a rule: the pod's own node, the CNI's own health checks
    HELD = "held"
    NOT_ASKED = "not asked"  # neither end is in a namespace that gets policies


class Decision(msgspec.Struct, eq=False):
    """A line and what becomes of it.

    `review` is the id of its review item if it is held, or if it is policy that NetworkPolicy cannot express;
    `access_review` is the same for AuthorizationPolicy, and `held_requests` for single HTTP requests.
    """

    line: Line
    fate: Fate
    cause: Cause = Cause.OBSERVED
    review: str = ""
    access_review: str = ""
    held_requests: dict[Request, str] = {}


class Decisions(msgspec.Struct):
    """All decisions, sorted by line, and the review items that they gave."""

    decisions: list[Decision]
    review: list[ReviewItem]
    view: View


def decide(lines: list[Line], workloads: Workloads, options: Options, network: bool = True) -> Decisions:
    """Judge every line by `rules.RULES`, and by `rules.NETWORK_RULES` as well if NetworkPolicies are to be written.

    Adds what the user declared and what the API server needs.
    """
    view = View(lines, workloads, options.cni)
    judged = [_decided(line, view, options) for line in lines]
    decisions = [decision for decision, _ in judged]
    unseen = _unseen(lines, workloads, options)
    if network:
        wanted = [decision for decision in (*decisions, *unseen) if decision.fate is Fate.POLICY]
        judged += [(decision, _unfit_for_network(decision, view, options)) for decision in wanted]
    held: dict[str, list[tuple[Line, Held]]] = {}  # lines with the objection to them, by the id of their review item
    for decision, objection in judged:
        if objection is not None:
            held.setdefault(decision.review, []).append((decision.line, objection))
    everywhere, questions = _internet_at_large(decisions, options)
    review = [*(_item(name, members) for name, members in held.items()), *questions]
    return Decisions(
        [*decisions, *everywhere, *unseen],
        sorted(review, key=lambda item: (item.kind, item.subject, item.what, item.id)),
        view,
    )


def _decided(line: Line, view: View, options: Options) -> tuple[Decision, Held | None]:
    """What becomes of a line, and what holds it back."""
    ends = (line.source, line.destination)
    if not any(isinstance(end, Workload) and options.wants(end.namespace) for end in ends):
        return Decision(line, Fate.NOT_ASKED), None
    if _implied(line):
        return Decision(line, Fate.IMPLIED), None
    objection = rules.objection(line, view)
    if objection is None:
        return Decision(line, Fate.POLICY, _cause(line, options.cni)), None
    name = item_id(objection.kind, *_subject(line, objection.kind))
    if objection.acceptable and name in options.accepted:
        return Decision(line, Fate.POLICY, Cause.ACCEPTED), None
    return Decision(line, Fate.HELD, review=name), objection


def _unfit_for_network(decision: Decision, view: View, options: Options) -> Held | None:
    """Why NetworkPolicy cannot express a decision, which is then held back from the network layer alone."""
    line = decision.line
    objection = rules.objection(line, view, rules.NETWORK_RULES)
    if objection is None:
        return None
    name = item_id(objection.kind, *_subject(line, objection.kind))
    if objection.acceptable and name in options.accepted:
        decision.cause = Cause.ACCEPTED
        return None
    decision.review = name
    return objection


def _unseen(lines: list[Line], workloads: Workloads, options: Options) -> list[Decision]:
    """What is allowed without having been observed: declared intents, and webhooks for the API server."""
    declared = [_declared_line(wanted, number, workloads) for number, wanted in enumerate(options.declared)]
    called = [
        line
        for line in control_plane.webhook_calls(lines, workloads)
        if isinstance(line.destination, Workload) and options.wants(line.destination.namespace)
    ]
    return [
        *(Decision(line, Fate.POLICY, Cause.DECLARED) for line in declared),
        *(Decision(line, Fate.POLICY, Cause.CONTROL_PLANE) for line in called),
    ]


def _implied(line: Line) -> bool:
    if line.standing is Standing.DENIED:
        return False
    return isinstance(line.source, Outside) and line.source.place in (Place.OWN_NODE, Place.HEALTH)


def _cause(line: Line, cni: str) -> Cause:
    source, destination = line.source, line.destination
    if isinstance(destination, Outside) and destination.place is Place.API_SERVER:
        return Cause.CONTROL_PLANE
    if isinstance(source, Outside):
        return _OUTSIDERS.get(source.place, Cause.OBSERVED if entities(line, cni) else Cause.INTERNET)
    return Cause.DNS if dns.resolver_of(line) is not None else Cause.OBSERVED


def _subject(line: Line, kind: str) -> tuple[str, ...]:
    """What an item is about. A scan is one item per source, whatever it tried; addresses outside count as one place."""
    source, destination = line.key[:2]
    if isinstance(line.destination, Outside) and line.destination.place is not Place.METADATA:
        destination = f"o/{line.destination.place.value}"
    if isinstance(line.source, Outside):
        source = f"o/{line.source.place.value}"
    if kind == "scan":
        return (source,)
    if kind in ("unanswered", "denied", "direction"):
        return (source, destination, line.protocol)
    return (source, destination, line.protocol, str(line.port))


def _item(name: str, members: list[tuple[Line, Held]]) -> ReviewItem:
    line, held = members[0]
    sources = sorted({str(member.source) for member, _ in members})
    targets = sorted({str(member.destination) for member, _ in members})
    ports = [f"{protocol} {port}" for protocol, port in sorted({(m.protocol, m.port) for m, _ in members})]
    evidence = Evidence()
    for joined in {id(member.evidence): member.evidence for member, _ in members}.values():
        evidence.merge(joined)
    subject = str(line.source) if isinstance(line.source, Workload) else str(line.destination)
    what = f"{listed(sources, 3)} → {listed(targets, 5)} at {listed(ports)}"
    return ReviewItem(name, held.kind, subject, what, held.why, acceptable=held.acceptable, evidence=summary(evidence))


def _internet_at_large(decisions: list[Decision], options: Options) -> tuple[list[Decision], list[ReviewItem]]:
    """Ask about workloads with more outside addresses than the evidence holds: they talk to the internet at large.

    Holds their decisions. Gives a review item for each, or, where that was accepted, decisions for every address.
    """
    added: list[Decision] = []
    review: list[ReviewItem] = []
    for (source, protocol, port), group in sorted(_too_many_addresses(decisions).items()):
        name = item_id("internet-egress", source, protocol, str(port))
        for decision in group:
            decision.fate, decision.review = Fate.HELD, name
        if name in options.accepted:
            added += _everywhere(group)
        else:
            review.append(_internet_item(name, group[0].line))
    return added, review


def _too_many_addresses(decisions: list[Decision]) -> dict[tuple[str, str, int], list[Decision]]:
    """Policy to the internet whose evidence could not hold all addresses, by source, protocol and port."""
    found: dict[tuple[str, str, int], list[Decision]] = {}
    for decision in decisions:
        line = decision.line
        if decision.fate is not Fate.POLICY or not isinstance(line.destination, Outside):
            continue
        outside = line.destination.place is Place.EXTERNAL and external.is_internet(line.destination.address)
        if outside and line.evidence.destinations.saturated:
            found.setdefault((line.key[0], line.protocol, line.port), []).append(decision)
    return found


def _everywhere(group: list[Decision]) -> Iterator[Decision]:
    """One accepted decision for every address of each address family in the group."""
    one = group[0].line
    families = {":" in d.line.destination.address for d in group if isinstance(d.line.destination, Outside)}
    for network in ("::/0" if six else "0.0.0.0/0" for six in sorted(families)):
        anyone = Outside(Place.EXTERNAL, network, "the internet at large")
        line = Line(one.source, anyone, one.protocol, one.port, one.standing, one.evidence, one.own, one.records)
        yield Decision(line, Fate.POLICY, Cause.ACCEPTED)


def _internet_item(name: str, line: Line) -> ReviewItem:
    count = line.evidence.destinations.estimate()
    return ReviewItem(
        name,
        "internet-egress",
        str(line.source),
        f"{line.source!s} talks to the internet at large on {line.protocol} {line.port}: about {count} addresses",
        "too many addresses to list; accepting allows every internet address on this port",
        acceptable=True,
        evidence=summary(line.evidence),
    )


def _declared_line(wanted: Declared, number: int, workloads: Workloads) -> Line:
    def party(text: str) -> Party:
        namespace, slash, name = text.partition("/")
        workload = workloads.named(namespace, name) if slash else None
        if workload is not None:
            return workload
        try:
            return Outside(Place.EXTERNAL, str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            raise SourceError(
                f"declared intent {number + 1} names {text!r}, which is neither a known workload nor an address",
                where="--declared",
                hint="write namespace/workload as the inventory or the flows name it, or a CIDR",
            ) from None

    ends = party(wanted.source), party(wanted.destination)
    if all(isinstance(end, Outside) for end in ends):
        raise SourceError(
            f"declared intent {number + 1} joins two addresses", where="--declared", hint="name a workload"
        )
    because = wanted.because or "declared"
    none = Evidence()
    return Line(*ends, wanted.protocol, wanted.port, Standing.INITIATED, none, none, 0, because)


def blocks_of(address: str, cause: Cause) -> tuple[BlockPeer, ...]:
    """The blocks of one outside address or declared CIDR.

    A whole address family means the internet, without private ranges, if it was accepted in review; if the user
    declared it, it means every address.
    """
    if cause is Cause.ACCEPTED and address in ("0.0.0.0/0", "::/0"):
        return (external.everywhere(6 if ":" in address else 4),)
    return (BlockPeer(str(ipaddress.ip_network(address, strict=False))),)
