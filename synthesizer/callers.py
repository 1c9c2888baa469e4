"""Who calls a mesh workload and with what requests: the facts that the identity layer is made of.

Invariant: a caller is named only by an identity that a proxy saw or that its service account gives it; a request counts
only if it was answered, or if its answer could not be seen.
"""

from __future__ import annotations

from collector.evidence import Evidence
from collector.paths import Request
from synthesizer.lines import Line, via_waypoint
from synthesizer.options import Options
from synthesizer.workload import Workload


def in_mesh(workload: Workload, options: Options) -> bool:
    """Whether a workload has a proxy that enforces: its proxy was heard, or the inventory says so."""
    if options.mesh == "none" or workload.observed - {"hubble"}:
        return options.mesh != "none"
    return workload.mesh == options.mesh if workload.mesh else not workload.known


def is_http(evidence: Evidence) -> bool:
    """Whether a proxy read HTTP in this traffic."""
    return bool(evidence.requests or evidence.rejected or evidence.asked)


def reads_http(line: Line, options: Options) -> bool:
    """Whether a proxy that enforces reads this traffic's HTTP: a sidecar always, in ambient mode only a waypoint."""
    return is_http(line.evidence) and (options.mesh == "sidecar" or (options.mesh == "ambient" and via_waypoint(line)))


def callers(line: Line, options: Options) -> tuple[str, ...]:
    """The principals a line's caller is known by; () when it came in plaintext and nobody can be named."""
    if line.principals:
        return line.principals
    if (
        isinstance(line.source, Workload)
        and line.source.service_account
        and in_mesh(line.source, options)
        and not line.evidence.plaintext
    ):
        return (f"{options.trust_domain}/ns/{line.source.namespace}/sa/{line.source.service_account}",)
    return ()


def legitimate_requests(evidence: Evidence) -> dict[Request, int]:
    """The requests that were answered below 400, or whose answer was never seen."""
    found: dict[Request, int] = {}
    rejected = set(evidence.rejected)
    for text, count in evidence.requests.items():
        found[_request(text)] = found.get(_request(text), 0) + count
    for text, count in evidence.asked.items():
        if text not in rejected or text in evidence.requests.kept:
            found[_request(text)] = found.get(_request(text), 0) + count
    return found


def _request(text: str) -> Request:
    method, _, path = text.partition(" ")
    return Request(method, path)
