"""Requests → Envoy's access log: Istio's JSON lines, and Access Log Service messages as protobuf JSON lines.

Invariant: the inbound (server) proxy knows the caller's certificate and the container port; the outbound (client) proxy
knows the Service by name, its address and the Service port, and no certificate of anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from tests.simulator.cluster import Cluster, Party, Workload
from tests.simulator.hubble import Connection, stamp
from tests.simulator.tables import MADE

Line = dict[str, Any]

AGENT = "Mozilla/5.0 (X11; Linux x86_64) sample"
NO_POLICY_MATCHED = "rbac_access_denied_matched_policy[none]"


@dataclass(frozen=True)
class Request:
    """A connection that carries one HTTP request, and what the proxies made of it."""

    connection: Connection
    status: int = 200
    details: str = "via_upstream"
    plaintext: bool = False
    authority: str = ""


def spiffe(party: Party, domain: str = "cluster.local") -> str:
    """The identity in a workload's certificate."""
    workload = workload_of(party)
    return f"spiffe://{domain}/ns/{workload.namespace}/sa/{workload.account}"


def workload_of(party: Party) -> Workload:
    """The workload of a pod; a proxy only ever stands beside a pod."""
    if party.workload is None:
        raise ValueError(f"{party.ip} is not a pod")
    return party.workload


def service_host(workload: Workload) -> str:
    """The full name of the Service in front of a workload."""
    return f"{workload.services[0].name}.{workload.namespace}.svc.cluster.local"


def inbound(r: Request, rng: Random) -> Line:
    """The line of the destination's sidecar."""
    c = r.connection
    callee, refused = workload_of(c.destination), r.details == NO_POLICY_MATCHED
    host = f"outbound_.{callee.services[0].port}_._.{service_host(callee)}"
    line = _common(r, rng)
    line |= {
        "upstream_cluster": f"inbound|{c.port}||",
        "upstream_host": None if refused else f"{c.destination.ip}:{c.port}",
        "upstream_local_address": None if refused else f"127.0.0.6:{rng.randrange(32768, 61000)}",
        "downstream_local_address": f"{c.destination.ip}:{c.port}",
        "downstream_remote_address": f"{c.source.ip}:{c.source_port}",
        "requested_server_name": None if r.plaintext else host,
        "route_name": "default",
        "downstream_peer_uri_san": None if r.plaintext else spiffe(c.source),
        "downstream_local_uri_san": None if r.plaintext else spiffe(c.destination),
    }
    return line | {"pod": c.destination.pod, "namespace": callee.namespace}


def outbound(r: Request, cluster: Cluster, rng: Random) -> Line:
    """The line of the source's sidecar, about the same request."""
    c = r.connection
    caller, callee = workload_of(c.source), workload_of(c.destination)
    service = callee.services[0]
    address = cluster.cluster_ips[f"{callee.namespace}/{service.name}"]
    line = _common(r, rng)
    line |= {
        "upstream_cluster": f"outbound|{service.port}||{service_host(callee)}",
        "upstream_host": f"{c.destination.ip}:{c.port}",
        "upstream_local_address": f"{c.source.ip}:{c.source_port}",
        "downstream_local_address": f"{address}:{service.port}",
        "downstream_remote_address": f"{c.source.ip}:{rng.randrange(32768, 61000)}",
        "requested_server_name": None,
        "route_name": "default",
        "downstream_peer_uri_san": None,
        "downstream_local_uri_san": None,
    }
    return line | {"pod": c.source.pod, "namespace": caller.namespace}


def at_gateway(r: Request, cluster: Cluster, client: str, rng: Random) -> Line:
    """The gateway's own line about a request from outside: the client's address twice, and the gateway's listener."""
    line = outbound(r, cluster, rng)
    line["downstream_remote_address"] = f"{client}:{rng.randrange(32768, 61000)}"
    line["downstream_local_address"] = f"{r.connection.source.ip}:8080"
    return line | {"x_forwarded_for": client, "route_name": None}


def _common(r: Request, rng: Random) -> Line:
    c = r.connection
    callee = workload_of(c.destination)
    return {
        "start_time": stamp(c.at)[:23] + "Z",
        "method": c.method,
        "path": c.path,
        "protocol": "HTTP/1.1",
        "response_code": r.status,
        "response_flags": "-",
        "response_code_details": r.details,
        "connection_termination_details": None,
        "upstream_transport_failure_reason": None,
        "bytes_received": 0,
        "bytes_sent": rng.randrange(80, 6000),
        "duration": rng.randrange(1, 40),
        "upstream_service_time": None if r.details == NO_POLICY_MATCHED else str(rng.randrange(1, 40)),
        "x_forwarded_for": None,
        "user_agent": AGENT,
        "request_id": MADE["uuid"](rng),
        "authority": r.authority or f"{callee.services[0].name}:{callee.services[0].port}",
    }


def als_message(reporter: Party, entries: list[Line]) -> Line:
    """One StreamAccessLogsMessage. Envoy names itself in a stream's first message; a recorder repeats that in each."""
    workload = workload_of(reporter)
    namespace = workload.namespace
    node = {
        "id": f"sidecar~{reporter.ip}~{reporter.pod}.{namespace}~{namespace}.svc.cluster.local",
        "cluster": f"{workload.name}.{namespace}",
        "metadata": {
            "NAME": reporter.pod,
            "NAMESPACE": namespace,
            "WORKLOAD_NAME": workload.name,
            "SERVICE_ACCOUNT": workload.account,
            "LABELS": dict(workload.labels),
            "CLUSTER_ID": "Kubernetes",
        },
    }
    return {"identifier": {"node": node, "logName": "http_envoy_accesslog"}, "httpLogs": {"logEntry": entries}}


def als_entry(r: Request, rng: Random, *, grpc: bool = False) -> Line:
    """One HTTPAccessLogEntry of the destination's sidecar."""
    c = r.connection
    callee = workload_of(c.destination)
    common: Line = {
        "downstreamRemoteAddress": _address(c.source.ip, c.source_port),
        "downstreamLocalAddress": _address(c.destination.ip, c.port),
        "startTime": stamp(c.at),
        "upstreamRemoteAddress": _address(c.destination.ip, c.port),
        "upstreamLocalAddress": _address("127.0.0.6", rng.randrange(32768, 61000)),
        "upstreamCluster": f"inbound|{c.port}||",
        "routeName": "default",
        "accessLogType": "DownstreamEnd",
    }
    if not r.plaintext:
        common["tlsProperties"] = {
            "tlsVersion": "TLSv1_3",
            "tlsSniHostname": f"outbound_.{callee.services[0].port}_._.{service_host(callee)}",
            "localCertificateProperties": {"subjectAltName": [{"uri": spiffe(c.destination)}]},
            "peerCertificateProperties": {"subjectAltName": [{"uri": spiffe(c.source)}]},
        }
        common["filterStateObjects"] = {"downstream_peer": _peer(c.source)}
    request = {
        "requestMethod": c.method,
        "scheme": "http",
        "authority": f"{callee.services[0].name}.{callee.namespace}",
        "path": c.path,
        "requestId": MADE["uuid"](rng),
        "requestHeadersBytes": str(rng.randrange(200, 900)),
    }
    response = {"responseCode": r.status, "responseCodeDetails": r.details}
    version = "HTTP2" if grpc else "HTTP11"
    return {"commonProperties": common, "protocolVersion": version, "request": request, "response": response}


def _address(ip: str, port: int) -> Line:
    return {"socketAddress": {"address": ip, "portValue": port}}


def _peer(party: Party) -> Line:
    workload = workload_of(party)
    value = {
        "type": "deployment",
        "workload": workload.name,
        "name": party.pod,
        "namespace": workload.namespace,
        "cluster": "Kubernetes",
        "labels": dict(workload.labels),
    }
    return {"@type": "type.googleapis.com/google.protobuf.Struct", "value": value}
