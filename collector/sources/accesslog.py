"""What an Envoy access log entry means as traffic: who opened a connection to whom, and how it ended.

Invariant: nothing is concluded that the entry does not prove. A Service's port is never taken for a pod's unless no pod
was reached, an address from X-Forwarded-For is no peer, and a local reply of the proxy is no answer of the workload.

Facts: Envoy's access log documentation and Istio's cluster names. Every field of `Flow` that ends up as a key of the
patterns is bounded: reasons and points come from fixed sets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from collector.endpoints import ADDRESS, reporter_at
from collector.flow import Flow, Protocol, Signal
from collector.patterns import Patterns
from collector.sources.accesslog_names import Cluster, cluster_of, service_of, service_of_sni
from collector.sources.accesslog_record import NOBODY, AccessRecord, Peer, peer_of_principal
from collector.sources.flow_batch import FlowBatch
from collector.urls import path_of

PATH_LIMIT = 2048  # characters; longer paths are no routes (Envoy limits a whole header block to 60 KiB)
METHOD_LIMIT = 64  # characters; the longest registered method has 17 (IANA, HTTP Method Registry)
ID_LIMIT = 128  # characters of a request's id that is kept; Envoy's own are UUIDs, but clients may send others

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, 5.6.2: token
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd]")

# Envoy's response flags that mean: no usable response came from upstream.
_FAILED = frozenset(
    {"DC", "DF", "DPE", "DR", "DT", "FI", "IH", "LH", "LR", "NC", "NFCF", "NR", "OM", "RL", "RLSE", "SI"}
    | {"UC", "UF", "UH", "UMSDR", "UO", "UPE", "UR", "URX", "UT"}
)
_PROXY_PORTS = frozenset({0, 15006, 15008})  # unknown, Istio's inbound listener, HBONE


class Unusable(msgspec.Struct, frozen=True):
    """Why an entry gives no flow. `readable` distinguishes an entry that is no connection from a damaged one."""

    reason: str
    readable: bool = False


Outcome = Flow | Unusable


def no_entry(line: bytes, what: str) -> Unusable:
    """What is said of a line that is `what` and no entry: it is passed over, unless another source would read it."""
    from collector import sources

    if sources.recognise(line) is not None:
        return Unusable("a record of another format; give each format a file of its own")
    return Unusable(what, readable=True)


def request_problem(method: str, path: str) -> str:
    """What is wrong with a request's method or path; "" if nothing is."""
    if method and (len(method) > METHOD_LIMIT or _METHOD.fullmatch(method) is None):
        return "method is not a token"
    if len(path) > PATH_LIMIT and len(path_of(path)) > PATH_LIMIT:
        return f"path longer than {PATH_LIMIT}"
    if _UNPRINTABLE.search(path) is not None:
        return "control character in the path"
    return ""


def denial_of(details: str, termination: str, flags: frozenset[str]) -> str:
    """Which policy stopped a request or connection; "" when none did."""
    for text in (details, termination):
        if text.startswith("rbac_access_denied"):
            return "rbac: no policy allows it" if text.endswith("[none]") else "rbac: a policy denies it"
    if details.startswith("ext_authz_denied") or "UAEX" in flags:
        return "ext_authz"
    return "jwt_authn" if details.startswith("jwt_authn_access_denied") else ""


def _answered(record: AccessRecord, reached: bool, inbound: bool) -> bool:
    """Whether the workload answered (or, at its own sidecar, the sidecar did in a way that lets the caller go on)."""
    if not reached and not inbound:
        return False
    failed = not record.flags.isdisjoint(_FAILED)
    if not record.method and not record.status:  # TCP
        return reached and (not failed or record.sent_bytes > 0)
    details = record.details
    if details.startswith(("via_upstream", "upstream_reset_after_response_started")):
        return record.status > 0
    if not details:
        return record.status > 0 and (reached or inbound) and not failed
    # A status below 400 with other details: the response had begun when the stream ended, as it always does for
    # watches and other long streams. Local replies of the proxy are errors, except at the inbound side (CORS).
    return 0 < record.status < 400 and (reached or (inbound and not failed))


def _signal(record: AccessRecord, reached: bool, inbound: bool) -> tuple[Signal, str]:
    denial = denial_of(record.details, record.termination, record.flags)
    if denial:
        return Signal.DENIED, denial
    return (Signal.ANSWERED if _answered(record, reached, inbound) else Signal.REFUSED), ""


def _request(record: AccessRecord, **rest: object) -> Flow:
    flow_id = record.request_id
    if len(flow_id) > ID_LIMIT or not flow_id.isprintable():
        flow_id = ""
    return Flow(
        protocol=Protocol.TCP,
        time=record.time,
        method=record.method,
        path=path_of(record.path),
        status=record.status,
        flow_id=flow_id,
        socket=flow_id or record.time,
        origin=record.origin,
        **rest,  # type: ignore[arg-type]  # the named fields of Flow
    )


def _received(record: AccessRecord, cluster: Cluster, point: str) -> Flow:
    """The connection that the reporting proxy accepted: for its own workload, or for a Service (waypoint)."""
    caller = peer_of_principal(record.source_principal).filled(record.source)
    # At a gateway, `destination` is the workload behind it.
    own = record.reporter if point == "gateway" else record.reporter.filled(record.destination)
    remote, local, upstream = record.downstream_remote, record.downstream_local, record.upstream_host
    waypoint = cluster.kind == "waypoint"
    if waypoint:
        destination, own = cluster.service, Peer(address=upstream[0])
        port = upstream[1] or cluster.port
    else:
        destination = own.endpoint
        if destination is ADDRESS:
            named = (cluster.service, service_of(record.destination_host), service_of_sni(record.server_name))
            unnamed = reporter_at(local[0] or own.address)
            destination = next((service for service in named if service is not ADDRESS), unnamed)
        port = local[1] if local[1] not in _PROXY_PORTS else cluster.port
    signal, reason = _signal(record, upstream[1] > 0, not waypoint)
    principal = record.source_principal
    known = True if principal is not None else record.mtls
    if known is None and record.server_name.startswith("outbound_"):
        # A client's proxy names a Service like this in its TLS alone, which Istio's inbound listener checks.
        known = True
    return _request(
        record,
        source=caller.endpoint,
        destination=destination,
        port=port,
        signal=signal,
        source_pod=caller.pod,
        destination_pod=own.pod,
        source_address=remote[0] if remote[1] else "",  # port 0: the address is from X-Forwarded-For
        destination_address=upstream[0] if waypoint else local[0] or own.address,
        principal="" if principal is None else str(principal),
        mtls=None if waypoint and known is False else known,
        reason=reason,
        point=point,
        side="destination",
    )


def _sent(record: AccessRecord, cluster: Cluster) -> Flow:
    """The connection that the reporting proxy opened, for its own workload or as a gateway."""
    own = record.reporter
    if own.endpoint is ADDRESS:  # else `source` may be a gateway's client
        own = own.filled(peer_of_principal(record.source_principal).filled(record.source))
    remote, local, upstream = record.downstream_remote, record.upstream_local, record.upstream_host
    peer = record.destination
    destination = peer.endpoint
    if destination is ADDRESS:
        destination, peer = cluster.service, NOBODY
    if destination is ADDRESS:
        destination = service_of(record.destination_host)
    reached = upstream[1] > 0 and cluster.kind != "blackhole"
    signal, reason = _signal(record, reached, False)
    port = upstream[1] or cluster.port or record.downstream_local[1]
    address = upstream[0]
    if not reached and not cluster.port:
        # Nothing was chosen: what the workload wanted is the original destination, where iptables caught it.
        address, port = record.downstream_local
    external = destination is ADDRESS and cluster.host and cluster.kind == "outbound"
    source_address = local[0] or own.address or (remote[0] if remote[1] else "")
    source = own.endpoint
    return _request(
        record,
        source=reporter_at(source_address) if source is ADDRESS else source,
        destination=destination,
        port=port,
        signal=signal,
        source_pod=own.pod,
        destination_pod=peer.pod,
        source_address=source_address,
        destination_address=address,
        names=(cluster.host,) if external else (),
        reason=reason,
        point="outbound",
        side="source",
    )


def flows_of(record: AccessRecord) -> tuple[Outcome, ...]:
    """The connections that one entry proves, or why it proves none.

    A gateway's entry proves two: the client's to the gateway and the gateway's to the workload.
    """
    problem = request_problem(record.method, record.path)
    if problem:
        return (Unusable(problem),)
    cluster = cluster_of(record.upstream_cluster)
    if cluster.kind == "own":
        return (Unusable("the proxy's own traffic", readable=True),)
    if cluster.kind == "waypoint":
        flows = [_received(record, cluster, "waypoint")]
    elif _is_inbound(record, cluster):
        flows = [_received(record, cluster, "inbound")]
    else:
        flows = [_sent(record, cluster)]
        if record.reporter.role == "router":
            received = _received(record, Cluster("inbound"), "gateway")
            # Only the gateway itself has policies at this place; what they stop never was a connection onwards.
            flows = [received] if flows[0].signal is Signal.DENIED else [received, *flows]
    if record.unfinished and flows[-1].signal is Signal.REFUSED:
        return (Unusable("entry written before the end of the request", readable=True),)
    usable = tuple(flow for flow in flows if 0 < flow.port < 65536)
    return usable or (Unusable("no destination port", readable=True),)


def _is_inbound(record: AccessRecord, cluster: Cluster) -> bool:
    if cluster.kind:
        return cluster.kind == "inbound"
    if record.side:
        return record.side == "destination"
    return not record.upstream_cluster and record.server_name.startswith("outbound_.")


def fold_lines(
    lines: Iterable[tuple[int, bytes]],
    read: Callable[[bytes], Iterable[Outcome]],
    patterns: Patterns,
    bad: Callable[[int, str], None],
) -> None:
    """Count what `read` finds in each line; `bad(number, reason)` hears of every damaged one."""
    batch = FlowBatch(patterns)
    for number, line in lines:
        if line and not line.isspace():
            for outcome in read(line):
                if isinstance(outcome, Flow):
                    batch.add(outcome)
                elif count_unusable(outcome, patterns):
                    bad(number, outcome.reason)
    batch.flush()


def count_unusable(outcome: Unusable, patterns: Patterns, records: int = 1) -> bool:
    """Count a record (or several equal ones) without a flow; True if it is damaged and should be reported."""
    (patterns.quality.skipped if outcome.readable else patterns.quality.bad).add(outcome.reason, records)
    return not outcome.readable
