"""Over-permission on L7: requests that the mesh admits beyond those that were sent.

Invariant: for pairs whose requests were seen, every request that is admitted but was not sent is matched by something
counted, and everything counted matches such a request. A value of a rule counts once for what it admits and nobody
sent, and once for each request that only others sent. What a wider value admits already is not counted again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from leastway.verify import httppath
from leastway.verify.authorizationpolicy_schema import Fields
from leastway.verify.bits import indices, union
from leastway.verify.causes import CAUSES
from leastway.verify.httppath import Normalization, is_pattern
from leastway.verify.languages import Kind, contains
from leastway.verify.mesh_rules import entry_opens
from leastway.verify.mesh_sets import MeshSets
from leastway.verify.ports import single
from leastway.verify.witnesses import ANY

if TYPE_CHECKING:
    from leastway.verify.overpermission import Measure

Requests = dict[tuple[str, str], int]
EVERYTHING = (ANY, ANY)


def beyond_requests(measure: Measure, mesh: MeshSets, workload: range) -> None:
    """Count the excess requests at one destination in the mesh."""
    known = {p for protocol, p in measure.seen.sources[workload.start] if protocol == "TCP"}
    for port in sorted(known):
        excess: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for d in workload:
            for request, cause, over in _beyond(measure, mesh, d, port):
                if over:
                    excess[request][cause] |= measure.universe.folded(over)
        declared = _declared(measure, workload.start, port)
        for request, by_cause in sorted(excess.items()):
            left = -1
            for cause in sorted(by_cause, key=CAUSES.index):
                _count(measure, (workload.start, port), request, cause, by_cause[cause] & left, declared)
                left &= ~by_cause[cause]


def _declared(measure: Measure, owner: int, port: int) -> Requests:
    """Declared requests; a declared connection declares any request."""
    found = measure.declared.requests.get((owner, port), {})
    return {**found, EVERYTHING: measure.declared.sources[owner].get(("TCP", port), 0) & ~union(found.values())}


def _beyond(measure: Measure, mesh: MeshSets, d: int, port: int) -> Iterator[tuple[tuple[str, str], str, int]]:
    """By cause, requests that a destination admits from sources that were seen talking to it, but not sending them."""
    if not mesh.sees_requests(d, port):
        return
    owner = measure.universe.owner[d]
    sent = measure.seen.requests.get((owner, port), {})
    talking = measure.seen.sources[owner].get(("TCP", port), 0)
    admitted, by_anyone, direct = _admitted(mesh, d, port, talking)
    known = union(sent.values())
    direct &= known & ~measure.seen.direct[owner].get(("TCP", port), 0)
    admitted[EVERYTHING] = admitted.get(EVERYTHING, 0) & known | direct
    admitted = {request: bits for request, bits in admitted.items() if bits}
    if not admitted:
        return
    may_connect = measure.allowed(d, single("TCP", port), measure.network.egress(d))
    for request, bits in admitted.items():
        over = bits & may_connect & ~sent.get(request, 0) & ~_contained(request, admitted, mesh.mesh.normalization)
        over &= mesh.matching(d, port, request, sent) if over else 0
        if request == EVERYTHING:
            yield request, "past the waypoint", over & direct
            yield request, "any request", over & ~direct
            continue
        if is_pattern(request[1]):
            yield request, "path template", over
            continue
        anyone = by_anyone.get(request, 0)
        yield request, "any caller", over & anyone
        shared = _accounts(mesh, sent.get(request, 0)) & ~anyone
        yield request, "shared service account", over & shared
        yield request, "other", over & ~shared & ~anyone
    for request, bits in _swallowed(admitted, sent).items():
        over = bits & may_connect & ~sent.get(request, 0) & ~admitted.get(request, 0)
        over &= mesh.matching(d, port, request, sent) if over else 0
        yield request, "past the waypoint", over & direct
        yield request, "any request", over & ~direct & admitted.get(EVERYTHING, 0)
        yield request, "path template", over & ~direct & ~admitted.get(EVERYTHING, 0)


def _contained(request: tuple[str, str], admitted: Requests, option: Normalization) -> int:
    """Sources to which something wider is open as well, so that this request opens nothing more to them.

    Of two equal ones the first counts as wider.
    """
    bits = 0
    if len(admitted) == 1:
        return bits
    for wider, sources in admitted.items():
        if wider[0] != request[0] and ANY not in wider[0]:
            continue
        if (
            wider != request
            and _wider(wider, request, option)
            and (wider < request or not _wider(request, wider, option))
        ):
            bits |= sources
    return bits


def _wider(wider: tuple[str, str], request: tuple[str, str], option: Normalization) -> bool:
    return _contains(wider[1], request[1], "paths", option) and _contains(wider[0], request[0], "methods", option)


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
    """Everyone who presents the principal of one of the given sources."""
    found = 0
    for s in indices(sources):
        found |= mesh.by_principal.get(mesh.mesh.principal(mesh.universe.subjects[s]) or "", 0)
    return found


def _admitted(mesh: MeshSets, d: int, port: int, talking: int) -> tuple[Requests, Requests, int]:
    """(method value, path value) of every operation → the sources it is open to, and those for whom a rule without
    sources opens it; and the sources that may call past the proxy that reads requests. `*` stands for any value.
    """
    found: Requests = defaultdict(int)
    by_anyone: Requests = defaultdict(int)
    if not mesh.restricts_requests(d, port):
        found[EVERYTHING] = talking
    for admission in mesh.admissions(d, port):
        bits = admission.sources & talking
        for entry in admission.rule.operations or ((),):
            if not bits or not entry_opens(entry, admission.port):
                continue
            for method in _values(entry, "methods"):
                for path in _values(entry, "paths"):
                    found[method, path] |= bits
                    if admission.rule.sources is None:
                        by_anyone[method, path] |= bits
    return found, by_anyone, mesh.direct(d, port) & talking


def _values(entry: Fields, name: str) -> tuple[str, ...]:
    return next((field.values for field in entry if field.name == name and not field.negated), (ANY,))


def _swallowed(admitted: Requests, sent: Requests) -> Requests:
    """Requests that someone was seen sending and that a pattern admits, with the sources it is open to."""
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
