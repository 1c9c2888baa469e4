"""Minimality: which parts of the rules could go without denying an observed legitimate connection.

Invariant: all reported parts may go together. Parts are tried in a fixed order, unused ones first; a part stays if some
connection has no other way left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, AuthorizationRule
from leastway.verify.gates import VALUES, Part, Way, gates
from leastway.verify.judge import Judge
from leastway.verify.soundness import Observed


def redundant_parts(judge: Judge, observed: Iterable[Observed]) -> list[dict[str, str]]:
    """Parts that can be removed: `policy`, `rule` (`egress rule 0`), `part` (text) and `kind` (rule, peer, port,
    principal, method, path, ...), sorted. Existing policies are not questioned."""
    parts = all_parts(judge)
    gone = removable(judge, observed, parts)
    kept = [part for part in gone if not part.kind or Part(*part[:3]) not in gone]
    found = [(part.policy, part.side, part.rule, _shown(part, parts[part])) for part in kept]
    return [
        {
            "policy": title,
            "rule": f"{side} rule {i}",
            "part": text or f"{side} rule {i}",
            "kind": text.partition(" ")[0] or "rule",
        }
        for title, side, i, text in sorted(found)
    ]


def removable(judge: Judge, observed: Iterable[Observed], parts: Iterable[Part]) -> set[Part]:
    """Those of the given parts that may go, all together."""
    questioned = set(parts)
    needed: set[Part] = set()
    choices: list[set[Way]] = []  # gates with several ways through
    for gate in gates(judge, observed):
        if len(gate) == 1:
            needed.update(*gate)
        else:
            choices.append(gate)
    using: dict[Part, list[int]] = defaultdict(list)
    for number, gate in enumerate(choices):
        for part in {part for way in gate for part in way}:
            using[part].append(number)
    gone: set[Part] = set()
    for part in sorted(questioned - needed, key=lambda p: (p in using, p.kind != "", p)):
        if Part(*part[:3]) in gone:
            continue
        if all(any(part not in way for way in choices[number]) for number in using.get(part, ())):
            gone.add(part)
            for number in using.get(part, ()):
                choices[number] = {way for way in choices[number] if part not in way}
    return gone


def _shown(part: Part, value: object) -> str:
    return f"{part.kind} {value}" + (f" (entry {part.entry})" if part.entry else "") if part.kind else ""


def all_parts(judge: Judge) -> dict[Part, object]:
    """Every part that may be questioned, with its text."""
    parts: dict[Part, object] = {}
    for policy in judge.network.policies:
        title = policy.title
        for side in ("ingress", "egress"):
            for i, rule in enumerate(policy.rules(side) or ()) if not policy.existing else ():
                parts[Part(title, side, i)] = ""
                for kind, values in (("peer", rule.peers), ("port", rule.ports)):
                    if values is not None and len(values) > 1:
                        parts.update((Part(title, side, i, kind, 0, at), value) for at, value in enumerate(values))
    if judge.mesh.mode == "none":
        return parts
    for access in judge.policies.authorization:
        if access.action == "ALLOW" and not access.existing and not access.dry_run:
            for i, granted in enumerate(access.rules):
                parts |= _granted_parts(access, i, granted)
    return parts


def _granted_parts(policy: AuthorizationPolicy, i: int, rule: AuthorizationRule) -> dict[Part, object]:
    parts: dict[Part, object] = {Part(policy.title, "allow", i): ""}
    for entries in (rule.sources, rule.operations):
        for e, entry in enumerate(entries or ()):
            for field in entry:
                if not field.negated and field.name in VALUES and (len(field.values) > 1 or len(entries or ()) > 1):
                    kind = field.name.removesuffix("s")
                    parts.update((Part(policy.title, "allow", i, kind, e, at), v) for at, v in enumerate(field.values))
    return parts
