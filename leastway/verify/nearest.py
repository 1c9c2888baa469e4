"""Which rule came closest to allowing a connection or request. Only for messages: nothing is decided here.

Invariant: a rule is named only together with the part of it that did not match.
"""

from __future__ import annotations

from leastway.verify.authorizationpolicy_schema import AuthorizationRule
from leastway.verify.compilation import PASSED_OVER, unenforceable
from leastway.verify.identity import Request, field_matches
from leastway.verify.judge import Judge, Question
from leastway.verify.networkpolicy_schema import Rule
from leastway.verify.verdict import End, Verdict, all_of


def nearest_network(judge: Judge, verdict: Verdict, source: End, destination: End, protocol: str, port: int) -> str:
    """The rule that half matches, of all policies that isolate the refusing end; "" if none does.

    A rule that names the peer is closer than one that opens the port, and one that names the port closer than one for
    any port. A rule for everyone comes last, since it was hardly meant for this peer.
    """
    own, peer = (source, destination) if verdict.direction == "egress" else (destination, source)
    if own.subject is None:
        return ""
    best: tuple[int, str] | None = None
    for index in judge.network.isolating(own.subject, verdict.direction):
        for i, rule in enumerate(index.rules):
            named = bool(judge.network.admits_peer(rule, index.policy.namespace, peer))
            opened = bool(judge.network.admits_port(rule, destination, protocol, port))
            found = _half(rule, named, opened, peer.shown, f"{port}/{protocol}")
            if found is not None and (best is None or found[0] < best[0]):
                best = found[0], f"{index.title} {verdict.direction} rule {i} {found[1]}"
    return best[1] if best else ""


def _half(rule: Rule, named: bool, opened: bool, peer: str, port: str) -> tuple[int, str] | None:
    """(distance, what the rule has instead); None if it matches neither peer nor port."""
    if named and rule.ports is not None:
        elsewhere = all(entry.protocol != port.partition("/")[2] for entry in rule.ports)
        only = ", ".join(map(str, rule.ports[:8]))
        if rule.peers is None:
            return 5 if elsewhere else 4, f"admits everyone, but only to {only}"
        return int(elsewhere), f"names {peer}, but only {only}"
    if opened and rule.peers is not None:
        return 2 if rule.ports is not None else 3, f"opens {port}, but only for {', '.join(map(str, rule.peers[:4]))}"
    return None


def nearest_authorization(judge: Judge, verdict: Verdict, question: Question, source: End, destination: End) -> str:
    """The rule of the refusing ALLOW policies with the fewest fields that do not match; "" if they have no rules.

    Where a rule can never match because the refusing proxy lacks a field of HTTP, the text says so.
    """
    subject = destination.subject
    if subject is None:
        return ""
    asked = judge.request(question, source, destination, subject)
    best: tuple[int, str] | None = None
    for policy, request in judge.authorization.refusing(subject, asked, verdict.policies):
        place = judge.authorization.place(policy, http=_http(judge, question, destination))
        for i, rule in enumerate(policy.rules):
            shown = f"{policy.title} rule {i}"
            beyond = unenforceable(rule, place)
            failing = _failing(rule, request, policy.namespace, {*beyond, *(PASSED_OVER if place == "ztunnel" else ())})
            if beyond:
                who = "ztunnel does" if place == "ztunnel" else "a port without HTTP does"
                failing.insert(0, f"{', '.join(beyond)}, which {who} not have, so that it never matches")
            if failing and (best is None or len(failing) < best[0]):
                best = len(failing), f"{shown} fails on {'; '.join(failing)}"
    return best[1] if best else ""


def _http(judge: Judge, question: Question, destination: End) -> bool:
    if question.method or question.path or question.http or destination.subject is None:
        return True
    asked = question.port, question.service, question.service_port
    return bool(judge.speaks_http(destination.subject, *asked))


def _failing(rule: AuthorizationRule, request: Request, namespace: str, beyond: set[str]) -> list[str]:
    """The parts of a rule that do not match, without the fields that are `beyond` the proxy."""
    found: list[str] = []
    for entries in (rule.sources, rule.operations):
        missed = [
            [f for f in entry if f.name not in beyond and field_matches(f, request, namespace) is False]
            for entry in entries or ()
        ]
        if missed and all(missed):
            found += [_shown(field.name, field.negated, field.values) for field in min(missed, key=len)]
    if all_of(field_matches(field, request, namespace) for field in rule.conditions) is False:
        found.append("its conditions")
    return found


def _shown(name: str, negated: bool, values: tuple[str, ...]) -> str:
    more = f" and {len(values) - 3} more" if len(values) > 3 else ""
    return f"{'not ' if negated else ''}{name} {', '.join(values[:3])}{more}"
