"""Over-permission on L7: methods and paths that authorization rules admit beyond the requests that were seen.

Invariant: only pairs that were seen talking to each other are compared here; a pair that was not is one excess
connection already. A pattern counts one for what it admits and nobody sent, and one for each path that others were
seen to send.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from leastway.verify import httppath
from leastway.verify.authorizationpolicy_schema import Fields
from leastway.verify.bits import indices
from leastway.verify.mesh_sets import MeshSets, entry_opens
from leastway.verify.ports import PortClass

if TYPE_CHECKING:
    from leastway.verify.overpermission import Measure

Requests = dict[tuple[str, str], int]
ANY = "*"


def beyond_requests(measure: Measure, mesh: MeshSets, d: int) -> None:
    """Count the excess requests at one destination in the mesh."""
    rules = measure.network.egress(d)
    known = {p for protocol, p in measure.seen.sources[d] if protocol == "TCP"}
    for port in sorted(known):
        if mesh.place(measure.universe.subjects[d], port) != "http" and not mesh.mesh.waypoint(
            measure.universe.subjects[d]
        ):
            continue
        talking = measure.seen.sources[d].get(("TCP", port), 0)
        admitted, by_anyone = _admitted(mesh, d, port, talking)
        if not admitted:
            continue
        open_ = measure.allowed(d, PortClass("TCP", port, "port"), rules)
        sent = measure.seen.requests.get((d, port), {})
        declared = measure.declared.requests.get((d, port), {})
        for request, bits in sorted(admitted.items()):
            over = bits & open_ & ~sent.get(request, 0)
            if _is_path_pattern(request[1]):
                _count(measure, (d, port), request, "path template", over, declared)
                continue
            anyone = by_anyone.get(request, 0)
            _count(measure, (d, port), request, "any caller", over & anyone, declared)
            shared = _accounts(mesh, sent.get(request, 0)) & ~anyone
            _count(measure, (d, port), request, "shared service account", over & shared, declared)
            _count(measure, (d, port), request, "other", over & ~shared & ~anyone, declared)
        for request, bits in sorted(_swallowed(admitted, sent).items()):
            over = bits & open_ & ~sent.get(request, 0) & ~admitted.get(request, 0)
            _count(measure, (d, port), request, "path template", over, declared)


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
        if not _is_pattern(method) and not _is_path_pattern(path):
            continue
        for other_method, other_path in sent:
            if httppath.path_matches(path, other_path):
                if httppath.string_matches(method, other_method):
                    found[other_method, other_path] |= bits
                if not _is_pattern(method):
                    found[method, other_path] |= bits
    return found


def _is_pattern(value: str) -> bool:
    return value.startswith("*") or value.endswith("*")


def _is_path_pattern(value: str) -> bool:
    return _is_pattern(value) or httppath.is_template(value)


def _count(
    measure: Measure, where: tuple[int, int], request: tuple[str, str], cause: str, over: int, declared: Requests
) -> None:
    asked = over & declared.get(request, 0)
    for name, part in (("declared intent", asked), (cause, over & ~asked)):
        if part:
            measure.count(name, where[0], part.bit_count(), _shown(measure, where, request, part))


def _shown(measure: Measure, where: tuple[int, int], request: tuple[str, str], bits: int) -> Iterator[str]:
    subjects, (d, port) = measure.universe.subjects, where
    return (f"{subjects[s].ref} → {subjects[d].ref}:{port} {' '.join(request)}" for s in indices(bits))
