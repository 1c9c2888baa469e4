"""A cluster as `kubectl get namespaces,nodes,endpoints,deployments,...,pods,services -o yaml` would print it.

Invariant: plain Kubernetes objects and nothing else; what a reader of inventories needs (owner references, addresses,
selectors, ports) is there as the API server would fill it in.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.simulator.cluster import Cluster, Party, Workload

Document = dict[str, Any]

_PLAIN = re.compile(r"[A-Za-z][-A-Za-z0-9_./]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def documents(cluster: Cluster) -> list[Document]:
    """All objects of a cluster, in a fixed order."""
    found: list[Document] = []
    for namespace, labels in sorted(cluster.namespaces.items()):
        found.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    for node in cluster.nodes:
        found.append(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node.name},
                "spec": {"podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr]},
                "status": {"addresses": [{"type": "InternalIP", "address": node.address}]},
            }
        )
    found.append(_api_server(cluster.nodes[0].address))
    for key, workload in sorted(cluster.workloads.items()):
        found += _owner(workload)
        found += [_pod(pod, workload) for pod in cluster.pods[key]]
        found += _services(workload, cluster)
    return _one_service_each(found)


def _api_server(address: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}],
    }


def _owner(workload: Workload) -> list[Document]:
    if workload.kind == "Pod":
        return []
    labels = dict(workload.labels)
    spec: Document = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _pod_spec(workload)},
    }
    if workload.kind != "DaemonSet":
        spec["replicas"] = workload.replicas
    return [
        {
            "apiVersion": "apps/v1",
            "kind": workload.kind,
            "metadata": {"name": workload.name, "namespace": workload.namespace, "labels": labels},
            "spec": spec,
        }
    ]


def _pod_spec(workload: Workload) -> Document:
    ports = [{"name": name, "containerPort": port, "protocol": protocol} for name, port, protocol in workload.ports]
    return {"serviceAccountName": workload.account, "containers": [{"name": "server", "ports": ports}]}


def _pod(pod: Party, workload: Workload) -> Document:
    labels = dict(workload.labels)
    metadata: Document = {"name": pod.pod, "namespace": workload.namespace, "labels": labels}
    owner, kind = workload.name, workload.kind
    if kind == "Deployment":
        owner, kind = pod.pod.rpartition("-")[0], "ReplicaSet"
        labels["pod-template-hash"] = owner.rpartition("-")[2]
    if kind == "StatefulSet":
        labels["statefulset.kubernetes.io/pod-name"] = pod.pod
    if kind != "Pod":
        metadata["ownerReferences"] = [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "controller": True}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**_pod_spec(workload), "nodeName": pod.node},
        "status": {"phase": "Running", "podIP": pod.ip, "podIPs": [{"ip": pod.ip}]},
    }


def _services(workload: Workload, cluster: Cluster) -> list[Document]:
    named = {number: (name, protocol) for name, number, protocol in workload.ports}
    selector = {key: value for key, value in workload.labels if key != "version"}
    found = []
    for service in workload.services:
        name, protocol = named.get(service.target, ("tcp", "TCP"))
        port = {"name": name, "port": service.port, "targetPort": service.target, "protocol": protocol}
        address = cluster.cluster_ips[f"{workload.namespace}/{service.name}"]
        metadata: dict[str, Any] = {"name": service.name, "namespace": workload.namespace}
        if service.waypoint:
            metadata["labels"] = {"istio.io/use-waypoint": service.waypoint}
        found.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"type": service.type, "clusterIP": address, "selector": selector, "ports": [port]},
            }
        )
    return found


def _one_service_each(found: list[Document]) -> list[Document]:
    """Versions of one application share a Service: the first one stands."""
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for document in found:
        metadata = document["metadata"]
        name = (document["kind"], metadata.get("namespace", ""), metadata["name"])
        if name not in seen:
            seen.add(name)
            kept.append(document)
    return kept


def to_yaml(found: list[Document]) -> str:
    """YAML text, one document each (no YAML package: the simulator needs the standard library only)."""
    return "".join("---\n" + _block(document, 0) for document in found)


def _block(value: Any, depth: int) -> str:
    pad = "  " * depth
    lines = ""
    if isinstance(value, dict):
        for key, inner in value.items():
            nested = isinstance(inner, dict | list) and inner
            lines += f"{pad}{_scalar(key)}:" + ("\n" + _block(inner, depth + 1) if nested else f" {_scalar(inner)}\n")
        return lines
    for item in value:
        lines += f"{pad}- " + (_block(item, depth + 1).lstrip(" ") if isinstance(item, dict) else f"{_scalar(item)}\n")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)
