"""Envoy configured as Istio configures a sidecar: node id, cluster names, mutual TLS with SPIFFE, access logs.

Invariant: what matters to a reader of access logs is as in a mesh; the pods' addresses are loopback addresses, which a
reader takes for no peer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

TYPE = "type.googleapis.com/envoy.extensions."
DOMAIN = "cluster.local"
# Istio's default text format.
TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
# What a user lists under the provider's logFormat.labels: who logged it, and who called.
LABELS = {
    "pod": "%ENVIRONMENT(POD_NAME)%",
    "namespace": "%ENVIRONMENT(POD_NAMESPACE)%",
    "downstream_peer_uri_san": "%DOWNSTREAM_PEER_URI_SAN%",
}


@dataclass(frozen=True)
class Route:
    """One port: where the sidecar listens, where it sends, and what the cluster is called. `kind`: http, grpc, tcp."""

    kind: str
    listen: tuple[str, int]
    to: tuple[str, int]
    cluster: str
    server_name: str = ""


@dataclass(frozen=True)
class Sidecar:
    """The proxy beside a pod. `secures` says on which side its mutual TLS is: "inbound" or "outbound"."""

    workload: str
    ip: str
    secures: str
    certificate: Path
    key: Path
    ca: Path
    routes: list[Route]
    als: str
    otlp: str
    namespace: str = "shop"
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def pod(self) -> str:
        """Its pod's name, as a Deployment gives it."""
        return f"{self.workload}-6b746f74dc-9rcxx"

    def configuration(self) -> Json:
        """Envoy's bootstrap."""
        node = f"sidecar~{self.ip}~{self.pod}.{self.namespace}~{self.namespace}.svc.{DOMAIN}"
        metadata = {
            "NAME": self.pod,
            "NAMESPACE": self.namespace,
            "WORKLOAD_NAME": self.workload,
            "LABELS": self.labels,
        }
        clusters = [self._cluster(route) for route in self.routes]
        clusters += [self._collector("als", self.als), self._collector("otlp", self.otlp)]
        return {
            "node": {"id": node, "cluster": f"{self.workload}.{self.namespace}", "metadata": metadata},
            "static_resources": {"listeners": [self._listener(route) for route in self.routes], "clusters": clusters},
        }

    def _listener(self, route: Route) -> Json:
        name = f"{route.listen[0]}_{route.listen[1]}"
        if route.kind == "tcp":
            proxy = {"stat_prefix": name, "cluster": route.cluster, "access_log": self._logs("tcp")}
            filters = [_typed("envoy.filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", proxy)]
        else:
            to = {"match": {"prefix": "/"}, "route": {"cluster": route.cluster}, "name": "default"}
            host = {"name": name, "domains": ["*"], "routes": [to]}
            router = _typed("envoy.filters.http.router", "filters.http.router.v3.Router", {})
            manager = {
                "stat_prefix": name,
                "route_config": {"name": name, "virtual_hosts": [host]},
                "http_filters": [router],
                "access_log": self._logs("http"),
            }
            kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
            filters = [_typed("envoy.filters.network.http_connection_manager", kind, manager)]
        chain: Json = {"filters": filters}
        if self.secures == "inbound":
            tls = {"require_client_certificate": True, "common_tls_context": self._tls()}
            chain["transport_socket"] = _typed("tls", "transport_sockets.tls.v3.DownstreamTlsContext", tls)
        return {"name": name, "address": _address(route.listen), "filter_chains": [chain]}

    def _cluster(self, route: Route) -> Json:
        cluster = _to(route.cluster, route.to, http2=route.kind == "grpc")
        if self.secures == "outbound":
            cluster["transport_socket"] = self._upstream_tls(route.server_name)
        return cluster

    def _collector(self, name: str, address: str) -> Json:
        host, _, port = address.rpartition(":")
        return _to(name, (host, int(port)), http2=True) | {"transport_socket": self._upstream_tls("localhost", "h2")}

    def _upstream_tls(self, server_name: str, *protocols: str) -> Json:
        context = self._tls() | ({"alpn_protocols": list(protocols)} if protocols else {})
        tls = {"sni": server_name, "common_tls_context": context}
        return _typed("tls", "transport_sockets.tls.v3.UpstreamTlsContext", tls)

    def _tls(self) -> Json:
        own = {"certificate_chain": {"filename": str(self.certificate)}, "private_key": {"filename": str(self.key)}}
        return {"tls_certificates": [own], "validation_context": {"trusted_ca": {"filename": str(self.ca)}}}

    def _logs(self, kind: str) -> list[Json]:
        """What Istio's providers envoyHttpAls or envoyTcpAls, and envoyOtelAls, make of a listener."""
        als = _service("als", f"{kind}_envoy_accesslog")
        als["filter_state_objects_to_log"] = ["upstream_peer", "downstream_peer"]
        otel = {
            "common_config": _service("otlp", "otel_envoy_accesslog"),
            "disable_builtin_labels": True,
            "body": {"string_value": TEXT},
            "attributes": {"values": [{"key": key, "value": {"string_value": LABELS[key]}} for key in sorted(LABELS)]},
        }
        name = f"{kind.capitalize()}GrpcAccessLogConfig"
        return [
            _typed(f"envoy.access_loggers.{kind}_grpc", f"access_loggers.grpc.v3.{name}", {"common_config": als}),
            _typed(
                "envoy.access_loggers.open_telemetry",
                "access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
                otel,
            ),
        ]


def _typed(name: str, kind: str, config: Json) -> Json:
    return {"name": name, "typed_config": {"@type": TYPE + kind, **config}}


def _address(at: tuple[str, int]) -> Json:
    return {"socket_address": {"address": at[0], "port_value": at[1]}}


def _service(cluster: str, log: str) -> Json:
    return {
        "log_name": log,
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
        "buffer_flush_interval": "0.1s",
    }


def _to(name: str, at: tuple[str, int], *, http2: bool) -> Json:
    endpoint = {"endpoint": {"address": _address(at)}}
    cluster: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if http2:
        protocol: Json = {"explicit_http_config": {"http2_protocol_options": {}}}
        options = {"@type": TYPE + "upstreams.http.v3.HttpProtocolOptions", **protocol}
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        }
    return cluster
