"""What two policy sets let through differently on L7: requests between pairs that both let connect.

Invariant: every class of requests that the rules of either set distinguish by method, path or host is tried, so any
change is found. A destination with too many classes is noted as `unfinished`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy
from leastway.verify.mesh_sets import MeshSets
from leastway.verify.overpermission import Measure
from leastway.verify.witnesses import ANY, Asked, Requests


class RequestChange(NamedTuple):
    """The sources newly allowed and newly denied some requests, which are named by the narrowest values of rules that
    they match."""

    method: str
    path: str
    allowed: int
    denied: int


def request_changes(before: Measure, after: Measure, d: int, port: int, both: int) -> Iterator[RequestChange]:
    """The changes at one port of one destination, among the sources `both` that may connect before and after."""
    was, now = before.mesh, after.mesh
    if was is None or now is None or not now.sees_requests(d, port) or _said(was, d, port) == _said(now, d, port):
        return
    requests = _requests(_policies(was, d) | _policies(now, d), now.mesh.normalization)
    if not requests.complete:
        now.unfinished.add(now.universe.owner[d])

    def change(asked: Asked) -> tuple[int, int]:
        old, new = (mesh.requested(d, port, asked, best=False) & both for mesh in (was, now))
        return new & ~old, old & ~new

    changed = requests.changed(change)
    for (method, path), (allowed, denied) in sorted(changed.items(), key=lambda found: (-found[0].count(ANY), found)):
        for wider in {(ANY, ANY), (method, ANY), (ANY, path)} - {(method, path)}:
            told = changed.get(wider, (0, 0))  # it says so already
            allowed, denied = allowed & ~told[0], denied & ~told[1]
        if allowed or denied:
            yield RequestChange(method, path, allowed, denied)


_requests = lru_cache(maxsize=64)(Requests)


def _policies(mesh: MeshSets, d: int) -> frozenset[AuthorizationPolicy]:
    return frozenset(policy._replace(existing=False) for policy in mesh.applying(d))


def _said(mesh: MeshSets, d: int, port: int) -> tuple[object, ...]:
    """Everything that decides about requests."""
    mtls = mesh.mesh.mtls(mesh.universe.subjects[d], port)[0]
    return _policies(mesh, d), mtls, mesh.mesh.trust_domains, mesh.mesh.normalization
