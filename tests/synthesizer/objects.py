"""Kubernetes objects as `kubectl get -o yaml` shows them, made from the few values that a test is about."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def meta(name: str, namespace: str = "shop", **more: Any) -> Document:
    return {"name": name, "namespace": namespace, **more}


def template(labels: dict[str, str], *ports: Document, **spec: Any) -> Document:
    containers = spec.pop("containers", [{"name": "app", "ports": list(ports)}])
    return {"metadata": {"labels": labels}, "spec": {"containers": containers, **spec}}


def deployment(name: str, labels: dict[str, str], *ports: Document, **spec: Any) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": spec.pop("kind", "Deployment"),
        "metadata": meta(name, spec.pop("namespace", "shop")),
        "spec": {
            "selector": {"matchLabels": spec.pop("selector", labels)},
            "template": template(labels, *ports, **spec),
        },
    }


def pod(
    name: str, labels: dict[str, str], owner: tuple[str, str] | None = None, ip: str = "", **status: Any
) -> Document:
    references = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, labels=labels, ownerReferences=references),
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIP": ip, **status},
    }


def service(name: str, selector: dict[str, str], *ports: Document, **spec: Any) -> Document:
    body = {"selector": selector, "ports": list(ports), **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name), "spec": body}


def namespace(name: str, labels: dict[str, str] | None = None) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}


def node(name: str, address: str, *pod_ranges: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDRs": list(pod_ranges)},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }
