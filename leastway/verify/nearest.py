"""Which AuthorizationPolicy rule came closest to allowing a request. Only for messages: nothing is decided here.

Invariant: a rule is named only with the part of it that did not match.
"""

from __future__ import annotations

from leastway.verify.identity import field_matches
from leastway.verify.judge import Judge, Question
from leastway.verify.verdict import End, all_of


def nearest_authorization(judge: Judge, question: Question, source: End, destination: End) -> str:
    """The ALLOW rule of the destination with the fewest fields that do not match, "" if it has none."""
    subject = destination.subject
    if subject is None:
        return ""
    request = judge.request(question, source, destination, subject)
    best: tuple[int, str] | None = None
    for policy in judge.authorization.applying(subject):
        if policy.action != "ALLOW":
            continue
        for i, rule in enumerate(policy.rules):
            failing: list[str] = []
            for entries in (rule.sources, rule.operations):
                missed = [
                    [field for field in entry if field_matches(field, request, policy.namespace) is False]
                    for entry in entries or ()
                ]
                if missed and all(missed):
                    failing += [_shown(field.name, field.negated, field.values) for field in min(missed, key=len)]
            if all_of(field_matches(field, request, policy.namespace) for field in rule.conditions) is False:
                failing.append("its conditions")
            if failing and (best is None or len(failing) < best[0]):
                best = len(failing), f"{policy.title} rule {i} fails on {'; '.join(failing)}"
    return best[1] if best else ""


def _shown(name: str, negated: bool, values: tuple[str, ...]) -> str:
    more = f" and {len(values) - 3} more" if len(values) > 3 else ""
    return f"{'not ' if negated else ''}{name} {', '.join(values[:3])}{more}"
