"""Access log lines of Envoy (JSON, text, ALS) and ztunnel for the ends of a scene.

Invariant: one call is one request or connection as the callee's proxy reports it (or the caller's, where it says so).
"""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.hostile.scene import End, Record

METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}  # of the ALS enumeration


def principal(end: End, trust_domain: str = "cluster.local") -> str:
    """The SPIFFE identity of a pod."""
    return f"spiffe://{trust_domain}/ns/{end.namespace}/sa/{end.account}"


def envoy(
    source: End, destination: End, port: int, method: str = "GET", path: str = "/", code: int = 200, **more: Any
) -> Record:
    """An inbound entry of the callee's sidecar in Istio's JSON format with identity keys."""
    trust_domain = more.pop("trust_domain", "cluster.local")
    record: Record = {
        "start_time": "2026-03-02T08:00:02.404Z",
        "method": method or None,
        "path": path or None,
        "protocol": "HTTP/1.1" if method else None,
        "response_code": code,
        "response_flags": "-",
        "response_code_details": "via_upstream" if method else None,
        "bytes_received": 120,
        "bytes_sent": 3977,
        "upstream_cluster": f"inbound|{port}||",
        "upstream_host": f"{destination.ip}:{port}",
        "upstream_local_address": "127.0.0.6:35282",
        "downstream_local_address": f"{destination.ip}:{port}",
        "downstream_remote_address": f"{source.ip}:41234",
        "requested_server_name": f"outbound_.80_._.{destination.name}.{destination.namespace}.svc.cluster.local",
        "downstream_peer_uri_san": principal(source, trust_domain),
        "downstream_local_uri_san": principal(destination, trust_domain),
        "pod": destination.pod,
        "namespace": destination.namespace,
    }
    return record | more


def ztunnel(source: End, destination: End, port: int, **more: str) -> str:
    """An inbound line of the callee's ztunnel."""
    fields = {
        "src.addr": f"{source.ip}:58866",
        "src.workload": f'"{source.pod}"',
        "src.namespace": f'"{source.namespace}"',
        "src.identity": f'"{principal(source)}"',
        "dst.addr": f"{destination.ip}:15008",
        "dst.hbone_addr": f"{destination.ip}:{port}",
        "dst.service": f'"{destination.name}.{destination.namespace}.svc.cluster.local"',
        "dst.workload": f'"{destination.pod}"',
        "dst.namespace": f'"{destination.namespace}"',
        "dst.identity": f'"{principal(destination)}"',
        "direction": '"inbound"',
        "bytes_sent": "853",
        "bytes_recv": "84",
        "duration": '"1ms"',
    }
    fields |= {key.replace("__", "."): value for key, value in more.items()}
    shown = " ".join(f"{key}={value}" for key, value in fields.items() if value)
    return f"2026-03-02T08:00:04.396760Z\tinfo\taccess\tconnection complete\t{shown}\n"


def als(source: End, destination: End, port: int, method: str, path: str, code: int = 200) -> str:
    """A StreamAccessLogsMessage of the callee's sidecar, in protobuf's JSON."""
    common = {
        "downstreamRemoteAddress": {"socketAddress": {"address": source.ip, "portValue": 41234}},
        "downstreamLocalAddress": {"socketAddress": {"address": destination.ip, "portValue": port}},
        "startTime": "2026-03-02T08:00:17.518053987Z",
        "upstreamRemoteAddress": {"socketAddress": {"address": destination.ip, "portValue": port}},
        "upstreamCluster": f"inbound|{port}||",
        "tlsProperties": {
            "localCertificateProperties": {"subjectAltName": [{"uri": principal(destination)}]},
            "peerCertificateProperties": {"subjectAltName": [{"uri": principal(source)}]},
        },
    }
    request = {"requestMethod": method, "scheme": "http", "authority": destination.name, "path": path}
    if method not in METHODS:
        del request["requestMethod"]  # METHOD_UNSPECIFIED, which protobuf's JSON leaves out
    response = {"responseCode": code, "responseCodeDetails": "via_upstream"}
    namespace = destination.namespace
    node = f"sidecar~{destination.ip}~{destination.pod}.{namespace}~{namespace}.svc.cluster.local"
    message = {
        "identifier": {"node": {"id": node}, "logName": "http_envoy_accesslog"},
        "httpLogs": {"logEntry": [{"commonProperties": common, "request": request, "response": response}]},
    }
    return json.dumps(message) + "\n"
