"""What two policy sets let through differently on L7: requests between pairs that both let connect.

Invariant: every method and path value that a rule of either set names is tried with a request that matches it, so a
change of any of them is seen; sources that no rule can tell apart are asked about once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy
from leastway.verify.bits import indices
from leastway.verify.judge import Judge, Question
from leastway.verify.mesh_sets import MeshSets
from leastway.verify.overpermission import Measure
from leastway.verify.verdict import End
from leastway.verify.world import Address, Subject, address

ADDRESSES = frozenset({"ipBlocks", "source.ip", "remoteIpBlocks"})
NOBODY = "leastway-witness"  # a path segment and method that no rule is likely to name
ANY = "*"


class RequestChange(NamedTuple):
    """Requests that match `method` and `path` (values of rules): sources newly allowed and newly denied, as sets."""

    method: str
    path: str
    allowed: int
    denied: int


def request_changes(before: Measure, after: Measure, d: int, port: int, both: int) -> Iterator[RequestChange]:
    """The changes at one port of one destination, among the sources `both` that may connect before and after."""
    subject = before.universe.subjects[d]
    was, now = _policies(before, subject), _policies(after, subject)
    if was == now or after.mesh is None:
        return
    if after.mesh.place(subject, port) != "http" and not after.mesh.mesh.waypoint(subject):
        return
    groups = _groups(after, after.mesh, both, was | now)
    judges = before.mesh.judge if before.mesh else None, after.mesh.judge
    for method, path in _requests(was | now):
        allowed = denied = 0
        for source, bits in groups:
            old, new = (_admits(judge, source, subject, port, method, path) for judge in judges)
            allowed |= bits if new and not old else 0
            denied |= bits if old and not new else 0
        if allowed or denied:
            yield RequestChange(method, path, allowed, denied)


def _policies(measure: Measure, subject: Subject) -> frozenset[AuthorizationPolicy]:
    if measure.mesh is None:
        return frozenset()
    policies = measure.mesh.policies
    found = {*policies.applying(subject), *policies.applying(subject, waypoint=True)}
    return frozenset(policy._replace(existing=False) for policy in found)


def _groups(
    measure: Measure, mesh: MeshSets, bits: int, policies: frozenset[AuthorizationPolicy]
) -> list[tuple[Subject, int]]:
    """Sources that the policies cannot tell apart, each group with one that stands for all: by identity, and by address
    if any rule names addresses."""
    entries = [e for p in policies for rule in p.rules for e in [*(rule.sources or ()), rule.conditions]]
    by_address = any(field.name in ADDRESSES for entry in entries for field in entry)
    groups: dict[tuple[object, ...], int] = defaultdict(int)
    for s in indices(bits):
        subject = measure.universe.subjects[s]
        principal = mesh.mesh.principal(subject)
        groups[principal, "" if principal is not None else subject.namespace, s if by_address else 0] |= 1 << s
    return [(measure.universe.subjects[next(indices(found))], found) for found in groups.values()]


def _requests(policies: frozenset[AuthorizationPolicy]) -> list[tuple[str, str]]:
    """Every (method, path) of one operation of some rule; `*` where it names none."""
    found = {(ANY, ANY)}
    for policy in policies:
        for rule in policy.rules:
            for entry in rule.operations or ():
                named = {
                    name: {v for f in entry if f.name == name for v in f.values} or {ANY}
                    for name in ("methods", "paths")
                }
                found |= {(method, path) for method in named["methods"] for path in named["paths"]}
    return sorted(found)


def _admits(judge: Judge | None, source: Subject, destination: Subject, port: int, method: str, path: str) -> bool:
    if judge is None:
        return True
    asked = Question(source.ref, destination.ref, "TCP", port, _method(method), _path(path))
    return judge.decide(asked, End(source, _only(source)), End(destination, _only(destination))).outcome == "allow"


def _only(subject: Subject) -> Address | None:
    return address(subject.ips[0]) if len(subject.ips) == 1 else None


def _method(value: str) -> str:
    return value.replace(ANY, NOBODY.upper()) if ANY in value else value


def _path(value: str) -> str:
    """A path that a value matches, and as few others as possible."""
    path = value.replace("{**}", f"{NOBODY}/{NOBODY}").replace("{*}", NOBODY)
    path = path.replace(ANY, f"/{NOBODY}" if path == ANY else NOBODY)
    return path if path.startswith("/") else f"/{path}"
