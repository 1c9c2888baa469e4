"""The names that Istio gives to upstream clusters and to the hosts behind them.

Invariant: a name that is not exactly in Istio's form yields nothing; it may have been chosen by a client (SNI).

Facts: istio pilot/pkg/model/service.go, `BuildSubsetKey` and `BuildDNSSrvSubsetKey`.
"""

from __future__ import annotations

import re

import msgspec

from collector.endpoints import ADDRESS, Endpoint, entity, valid_namespace, valid_object_name
from collector.memo import memo

# The second form is a single pod's name behind a headless Service: pod.service.namespace.svc.
_SERVICE_HOST = re.compile(r"(?:[^.]+\.)?([^.]+)\.([^.]+)\.svc(?:\..+)?")
_SNI = re.compile(r"outbound_\.\d+_\.[^_]*_\.(.+)")
_KINDS = {"inbound": "inbound", "inbound-vip": "waypoint", "inbound-pod": "waypoint", "outbound": "outbound"}
_OWN = frozenset({"agent", "prometheus_stats", "sds-grpc", "xds-grpc"})


class Cluster(msgspec.Struct, frozen=True):
    """Envoy's upstream cluster, as Istio names it.

    kind: inbound, waypoint, outbound, passthrough, blackhole, own (the proxy's own traffic) or "" (not Istio's naming).
    `service` is `ADDRESS` when the host is none of the cluster's Services.
    """

    kind: str = ""
    port: int = 0
    host: str = ""
    service: Endpoint = ADDRESS


@memo(1 << 14, longest=1024)
def cluster_of(name: str) -> Cluster:
    """Read `outbound|9080|v1|reviews.shop.svc.cluster.local` and its siblings."""
    if name.startswith("InboundPassthroughCluster"):
        return Cluster("inbound")
    if name.startswith("PassthroughCluster"):
        return Cluster("passthrough")
    if name == "BlackHoleCluster":
        return Cluster("blackhole")
    if name in _OWN:
        return Cluster("own")
    direction, _, rest = name.partition("|")
    parts = rest.rstrip(";").split("|")
    if direction not in _KINDS or len(parts) != 3:
        return Cluster()
    port = int(parts[0]) if parts[0].isascii() and parts[0].isdigit() and len(parts[0]) <= 5 else 0
    host = parts[2].lower()
    return Cluster(
        _KINDS[direction], port if port < 65536 else 0, host if valid_object_name(host) else "", service_of(host)
    )


@memo(1 << 14, longest=512)
def service_of(host: str) -> Endpoint:
    """The Service behind `reviews.shop.svc.cluster.local`; `ADDRESS` when the host is none of the cluster's."""
    match = _SERVICE_HOST.fullmatch(host)
    if match is None or not valid_object_name(match[1]) or not valid_namespace(match[2]):
        return ADDRESS
    if (match[1], match[2]) == ("kubernetes", "default"):
        return entity("kube-apiserver")
    return Endpoint("service", namespace=match[2], workload=match[1])


@memo(1 << 14, longest=512)
def service_of_sni(name: str) -> Endpoint:
    """The Service that a client's sidecar asked for, `outbound_.8000_._.httpbin.foo.svc.cluster.local`."""
    match = _SNI.fullmatch(name)
    return ADDRESS if match is None else service_of(match[1].lower())
