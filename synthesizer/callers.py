"""Who calls a mesh workload, and with what requests: the facts behind the identity layer.

Invariant: a caller is named only by an identity that a proxy saw or that its service account gives it; a request counts
only if it was answered, or if its answer could not be seen.
"""

from __future__ import annotations

import ipaddress

from collector.evidence import Evidence
from collector.paths import Request
from synthesizer.lines import Line, via_waypoint
from synthesizer.options import Options
from synthesizer.party import Outside, Place
from synthesizer.workload import Workload

HBONE = 15008  # the tunnel between proxies; what is inside it is judged by the ports inside
# A sidecar's own: merged metrics, health, Envoy's metrics (Istio, "Application Requirements").
SIDECAR_PORTS = frozenset({15020, 15021, 15090})
# What no policy governs: a sidecar's iptables rules leave these alone (Istio, ISTIO_INBOUND); ztunnel judges them.
_UNGOVERNED = {
    "none": frozenset[int](),
    "sidecar": SIDECAR_PORTS | {HBONE},
    "ambient": frozenset({HBONE}),
}


def in_mesh(workload: Workload, options: Options) -> bool:
    """Whether a proxy enforces for a workload: its logs were seen, or the inventory says so."""
    if options.mesh == "none" or workload.observed - {"hubble"}:
        return options.mesh != "none"
    return workload.mesh == options.mesh if workload.mesh else not workload.known


def enforced(line: Line, options: Options) -> bool:
    """Whether a proxy judges this traffic: not at the proxy's own ports, and not ambient pods' probes."""
    probe = options.mesh == "ambient" and isinstance(line.source, Outside) and line.source.place is Place.PROBE
    return line.protocol == "TCP" and line.port not in _UNGOVERNED[options.mesh] and not probe


def is_http(evidence: Evidence) -> bool:
    """Whether a proxy read HTTP in this traffic."""
    return bool(evidence.requests or evidence.rejected or evidence.asked)


def reads_http(line: Line, options: Options) -> bool:
    """Whether a proxy that enforces reads this traffic's HTTP: a sidecar always, in ambient mode only a waypoint."""
    return is_http(line.own) and (options.mesh == "sidecar" or (options.mesh == "ambient" and via_waypoint(line)))


def callers(line: Line, options: Options) -> tuple[str, ...]:
    """The principals by which a line's caller can be named; () if it came in plaintext."""
    if line.principals:
        return line.principals
    source, evidence = line.source, line.evidence
    if not isinstance(source, Workload) or not source.service_account or not in_mesh(source, options):
        return ()
    if evidence.plaintext or (line.unsecured and _unheard(source)):
        return ()
    return (f"{options.trust_domain}/ns/{source.namespace}/sa/{source.service_account}",)


def is_visit(line: Line) -> bool:
    """Whether a gateway was called by someone whom its log does not tell, and answered."""
    unknown = isinstance(line.source, Outside) and line.source.place is Place.UNRESOLVED and not line.source.address
    return unknown and "answered:gateway" in line.evidence.signals


def told_by_caller(line: Line) -> bool:
    """Whether only the caller's side shows a line."""
    return all(name.endswith(":outbound") for name in line.evidence.signals)


def partly_secured(evidence: Evidence) -> bool:
    """Whether some of what the destination's proxy received was mutual TLS and some was not, or did not show it."""
    received = sum(records for name, records in evidence.signals.items() if name.endswith(":inbound"))
    return bool(evidence.mtls) and (evidence.plaintext > 0 or evidence.mtls < received)


def _unheard(workload: Workload) -> bool:
    """Whether nothing but traffic at others tells whether a workload has a proxy."""
    return not workload.known and not workload.observed - {"hubble"}


def caller_blocks(line: Line) -> tuple[str, ...]:
    """The API server's address: it is in no mesh and has no principal, and no one from outside shares its address."""
    source = line.source
    if isinstance(source, Outside) and source.place is Place.API_SERVER and source.address:
        return (str(ipaddress.ip_network(source.address)),)
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
