"""What two policy sets let through differently on L7: requests between pairs that both let connect.

Invariant: every pair of a method and a path value that rules of either set name is tried with requests that match
both, so a change of any of them is seen; sources that no rule can tell apart are asked about once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import msgspec

from leastway.verify import witnesses
from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy
from leastway.verify.bits import indices
from leastway.verify.judge import Judge, Question
from leastway.verify.mesh_sets import MeshSets
from leastway.verify.overpermission import Measure
from leastway.verify.verdict import End
from leastway.verify.witnesses import ANY
from leastway.verify.world import Address, Subject, address

ADDRESSES = frozenset({"ipBlocks", "source.ip", "remoteIpBlocks"})


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
    named = was | now
    groups = _groups(after, after.mesh, both, named)
    judges = before.mesh.judge if before.mesh else None, after.mesh.judge
    values, asked = witnesses.named(named, "paths"), witnesses.hosts(named)
    told: dict[tuple[str, str], RequestChange] = {}
    for method, path in witnesses.requests(named):
        allowed = denied = 0
        for witness, host in product(witnesses.paths(path, values), asked):
            request = Question("", "", "TCP", port, witnesses.method(method), witness, host=host)
            for source, bits in groups:
                old, new = (_admits(judge, source, subject, request) for judge in judges)
                allowed |= bits if new and not old else 0
                denied |= bits if old and not new else 0
        for wider in ((ANY, ANY), (method, ANY), (ANY, path)):
            known = told.get(wider)
            if known is not None and wider != (method, path):  # it says so already
                allowed, denied = allowed & ~known.allowed, denied & ~known.denied
        if allowed or denied:
            told[method, path] = RequestChange(method, path, allowed, denied)
            yield told[method, path]


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


def _admits(judge: Judge | None, source: Subject, destination: Subject, request: Question) -> bool:
    if judge is None:
        return True
    asked = msgspec.structs.replace(request, source=source.ref, destination=destination.ref)
    return judge.decide(asked, End(source, _only(source)), End(destination, _only(destination))).outcome == "allow"


def _only(subject: Subject) -> Address | None:
    return address(subject.ips[0]) if len(subject.ips) == 1 else None
