"""Over-permission on L7: methods and paths that authorization rules admit beyond the requests that were seen.

Invariant: only pairs that were seen talking to each other are compared here; a pair that was not is one excess
connection already. A pattern counts one for what it admits and nobody sent, and one for each path that others were
seen to send; what a wider value admits already is not counted again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from leastway.verify import httppath
from leastway.verify.authorizationpolicy_schema import Fields
from leastway.verify.bits import indices
from leastway.verify.causes import CAUSES
from leastway.verify.httppath import Normalization, is_pattern
from leastway.verify.languages import Kind, contains
from leastway.verify.mesh_sets import MeshSets, entry_opens
from leastway.verify.ports import single

if TYPE_CHECKING:
    from leastway.verify.overpermission import Measure

Requests = dict[tuple[str, str], int]
ANY = "*"


def beyond_requests(measure: Measure, mesh: MeshSets, workload: range) -> None:
    """Count the excess requests at one destination in the mesh, as a workload."""
    known = {p for protocol, p in measure.seen.sources[workload.start] if protocol == "TCP"}
    for port in sorted(known):
        excess: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for d in workload:
            for request, cause, over in _beyond(measure, mesh, d, port):
                if over:
                    excess[request][cause] |= measure.universe.folded(over)
        declared = measure.declared.requests.get((workload.start, port), {})
        for request, by_cause in sorted(excess.items()):
            left = -1
            for cause in sorted(by_cause, key=CAUSES.index):
                _count(measure, (workload.start, port), request, cause, by_cause[cause] & left, declared)
                left &= ~by_cause[cause]


def _beyond(measure: Measure, mesh: MeshSets, d: int, port: int) -> Iterator[tuple[tuple[str, str], str, int]]:
    """Requests that a destination admits to sources that were seen talking to it, but not so, by cause."""
    if not mesh.governed(d, "TCP") or not mesh.sees_requests(d, port):
        return
    owner = measure.universe.owner[d]
    admitted, by_anyone = _admitted(mesh, d, port, measure.seen.sources[owner].get(("TCP", port), 0))
    if not admitted:
        return
    open_ = measure.allowed(d, single("TCP", port), measure.network.egress(d))
    sent = measure.seen.requests.get((owner, port), {})
    for request, bits in admitted.items():
        over = bits & open_ & ~sent.get(request, 0) & ~_contained(request, admitted, mesh.mesh.normalization)
        over &= mesh.matching(d, port, request) if over else 0
        if is_pattern(request[1]):
            yield request, "path template", over
            continue
        anyone = by_anyone.get(request, 0)
        yield request, "any caller", over & anyone
        shared = _accounts(mesh, sent.get(request, 0)) & ~anyone
        yield request, "shared service account", over & shared
        yield request, "other", over & ~shared & ~anyone
    for request, bits in _swallowed(admitted, sent).items():
        over = bits & open_ & ~sent.get(request, 0) & ~admitted.get(request, 0)
        yield request, "path template", over & (mesh.matching(d, port, request) if over else 0)


def _contained(request: tuple[str, str], admitted: Requests, option: Normalization) -> int:
    """Sources to which something wider is open as well, so that a request opens nothing more to them."""
    bits = 0
    if len(admitted) == 1:
        return bits
    method, path = request
    for wider, sources in admitted.items():
        if wider[0] != method and ANY not in wider[0]:
            continue
        if wider != request and _contains(wider[1], path, "paths", option):
            bits |= sources if _contains(wider[0], method, "methods", option) else 0
    return bits


def _contains(wider: str, value: str, kind: Kind, option: Normalization) -> bool:
    """Does one value match all that the other matches?"""
    if wider in (value, ANY):
        return True
    if not is_pattern(wider):
        return False
    if not is_pattern(value):
        return httppath.path_matches(wider, value) if kind == "paths" else httppath.string_matches(wider, value)
    return contains(wider, value, kind, option)


def _accounts(mesh: MeshSets, sources: int) -> int:
    """All that present the principals of some sources."""
    found = 0
    for s in indices(sources):
        found |= mesh.by_principal.get(mesh.mesh.principal(mesh.universe.subjects[s]) or "", 0)
    return found


def _admitted(mesh: MeshSets, d: int, port: int, talking: int) -> tuple[Requests, Requests]:
    """(method value, path value) of every operation → the sources it is open to, and those to which rules open it that
    name no source. `*` stands for any.
    """
    found: Requests = defaultdict(int)
    by_anyone: Requests = defaultdict(int)
    unrestricted = 0
    for admission in mesh.admissions(d, port):
        bits = admission.sources & talking
        for entry in admission.rule.operations or ((),):
            if not bits or not entry_opens(entry, port):
                continue
            methods, paths = _values(entry, "methods"), _values(entry, "paths")
            if methods is None and paths is None:
                unrestricted |= bits  # an L4 rule: nothing on L7 that could be too wide
            for method in methods or (ANY,):
                for path in paths or (ANY,):
                    found[method, path] |= bits
                    if admission.rule.sources is None:
                        by_anyone[method, path] |= bits
    return {key: bits & ~unrestricted for key, bits in found.items() if bits & ~unrestricted}, by_anyone


def _values(entry: Fields, name: str) -> tuple[str, ...] | None:
    for field in entry:
        if field.name == name and not field.negated:
            return field.values
    return None


def _swallowed(admitted: Requests, sent: Requests) -> Requests:
    """Requests that someone was seen to send and that a pattern admits, by the sources that it is open to."""
    found: Requests = defaultdict(int)
    for (method, path), bits in admitted.items():
        if not is_pattern(method) and not is_pattern(path):
            continue
        for other_method, other_path in sent:
            if httppath.path_matches(path, other_path):
                if httppath.string_matches(method, other_method):
                    found[other_method, other_path] |= bits
                if not is_pattern(method):
                    found[method, other_path] |= bits
    return found


def _count(
    measure: Measure, where: tuple[int, int], request: tuple[str, str], cause: str, over: int, declared: Requests
) -> None:
    asked = over & declared.get(request, 0)
    for name, part in (("declared intent", asked), (cause, over & ~asked)):
        if part:
            measure.count(name, where[0], part.bit_count(), _shown(measure, where, request, part))


def _shown(measure: Measure, where: tuple[int, int], request: tuple[str, str], bits: int) -> Iterator[str]:
    names, (d, port) = measure.universe.names, where
    return (f"{names[s]} → {names[d]}:{port} {' '.join(request)}" for s in indices(bits))
