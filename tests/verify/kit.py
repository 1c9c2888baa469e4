"""Short forms for worlds and policies of the judge's tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leastway.verify.judge import Judge, Question
from leastway.verify.reading import Document
from leastway.verify.world import World

NAME = "kubernetes.io/metadata.name"


def namespace(name: str, /, **labels: str) -> Document:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(ref: str, labels: dict[str, str] | None = None, ip: str = "", **spec: Any) -> Document:
    """A Pod from `namespace/name`; `host` in `spec` is its node's address."""
    where, _, name = ref.partition("/")
    host = spec.pop("host", "")
    status = {"podIP": ip, "podIPs": [{"ip": ip}], "hostIP": host}
    meta = {"name": name, "namespace": where, "labels": labels or {}}
    body = {"containers": [{"name": "c", "ports": spec.pop("ports", [])}], **spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": body,
        "status": {k: v for k, v in status.items() if v not in ("", [{"ip": ""}])},
    }


def service(ref: str, selector: dict[str, str], /, *ports: dict[str, Any], ip: str = "", **labels: str) -> Document:
    """A Service from `namespace/name`, with its ports as they are in a manifest."""
    where, _, name = ref.partition("/")
    spec: Document = {"selector": selector, "ports": list(ports)} | ({"clusterIP": ip} if ip else {})
    meta = {"name": name, "namespace": where, "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def gateway(ref: str, serves: str = "") -> Document:
    """A waypoint from `namespace/name`, and what it says that it serves."""
    where, _, name = ref.partition("/")
    meta = {"name": name, "namespace": where, "labels": {"istio.io/waypoint-for": serves} if serves else {}}
    spec = {"gatewayClassName": "istio-waypoint"}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": meta, "spec": spec}


def policy(ref: str, **spec: Any) -> Document:
    """A NetworkPolicy from `namespace/name`."""
    where, _, name = ref.partition("/")
    meta = {"name": name, "namespace": where}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def access(ref: str, **spec: Any) -> Document:
    """An AuthorizationPolicy from `namespace/name`; `annotations` go to its metadata."""
    where, _, name = ref.partition("/")
    meta = {"name": name, "namespace": where, "annotations": spec.pop("annotations", {})}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": meta, "spec": spec}


def peers(ref: str, **spec: Any) -> Document:
    """A PeerAuthentication from `namespace/name`."""
    where, _, name = ref.partition("/")
    meta = {"name": name, "namespace": where}
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": meta, "spec": spec}


def labels(**pairs: str) -> dict[str, Any]:
    """A selector by labels."""
    return {"matchLabels": pairs}


def within(name: str) -> dict[str, Any]:
    """A selector of one namespace by name."""
    return {"matchLabels": {NAME: name}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    """A selector of one requirement."""
    found: dict[str, Any] = {"key": key, "operator": operator}
    if values:
        found["values"] = list(values)
    return {"matchExpressions": [found]}


def judge(things: Sequence[Document], policies: Sequence[Document], **options: Any) -> Judge:
    """A judge over a world."""
    return Judge(World.from_manifests(things), list(policies), **options)


def outcome(of: Judge, source: str, destination: str, port: int = 80, protocol: str = "TCP", **more: Any) -> str:
    """The outcome of one question."""
    return of.ask(Question(source, destination, protocol, port, **more)).outcome
