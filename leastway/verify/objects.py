"""One Kubernetes object → what it is in the world: a workload by its pod template, a pod, or a Service.

Invariant: an object is read by itself. `leastway.verify.inventory` decides which pods belong to a workload.
"""

from __future__ import annotations

from typing import Any

import msgspec

from leastway.verify.errors import PolicyError
from leastway.verify.reading import Document, labels, mapping, optional, sequence
from leastway.verify.world import NamedPort, Service, ServicePort, Subject, World, address

TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Rollout": ("spec", "template"),
    "DeploymentConfig": ("spec", "template"),
}


def template(document: Document, kind: str, namespace: str, name: str, where: str) -> Subject:
    """The workload in an object of one of `TEMPLATES`, by its pod template; raises `PolicyError`."""
    found: Any = document
    path = ""
    for step in TEMPLATES[kind]:
        path += f".{step}"
        found = optional(found.get(step), f"{where} {path[1:]}")
    meta = optional(found.get("metadata"), f"{where} template metadata")
    subject = _subject(meta, optional(found.get("spec"), f"{where} template spec"), kind, namespace, name, where)
    spec = optional(document.get("spec"), f"{where} spec")
    count = spec.get("parallelism" if kind == "Job" else "replicas")
    if count is None:  # the API's default
        count = 0 if kind in ("DaemonSet", "CronJob") else 1
    return msgspec.structs.replace(subject, replicas=count if isinstance(count, int) and count > 0 else 0)


def pod(world: World, document: Document, namespace: str, name: str, where: str) -> Subject:
    """The pod in a Pod object; its node is added to the world. Raises `PolicyError`."""
    meta = mapping(document.get("metadata"), f"{where} metadata")
    spec = optional(document.get("spec"), f"{where} spec")
    status = optional(document.get("status"), f"{where} status")
    found = _subject(meta, spec, "Pod", namespace, name, where)
    ips = [optional(item, where).get("ip") for item in sequence(status.get("podIPs"), f"{where} status.podIPs")]
    ips.append(status.get("podIP"))
    # A pod that has ended keeps its address in its status, although another pod may have it by now.
    ips = [] if status.get("phase") in ("Succeeded", "Failed") else ips
    valid = sorted({ip for ip in ips if isinstance(ip, str) and address(ip) is not None})
    hosts = [optional(item, where).get("ip") for item in sequence(status.get("hostIPs"), f"{where} status.hostIPs")]
    node = world.add_node(ip for ip in [status.get("hostIP"), *hosts] if isinstance(ip, str))
    return msgspec.structs.replace(found, ips=tuple(valid), node_ip=node, single=True)


def _subject(meta: dict[str, Any], spec: dict[str, Any], kind: str, namespace: str, name: str, where: str) -> Subject:
    ports: set[NamedPort] = set()
    proxied = False
    native = [
        c for c in sequence(spec.get("initContainers"), where) if optional(c, where).get("restartPolicy") == "Always"
    ]
    for i, item in enumerate([*sequence(spec.get("containers"), f"{where} containers"), *native]):
        container = mapping(item, f"{where} containers[{i}]")
        proxied = proxied or container.get("name") == "istio-proxy"
        for port in sequence(container.get("ports"), f"{where} containers[{i}].ports"):
            ports.add(_port(mapping(port, f"{where} containers[{i}].ports"), f"{where} containers[{i}].ports"))
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    notes = meta.get("annotations")
    found = labels(meta.get("labels"), f"{where} labels")
    return Subject(
        namespace=namespace,
        name=name,
        labels=dict(sorted(found.items())),
        service_account=account if isinstance(account, str) else "default",
        host_network=spec.get("hostNetwork") is True,
        ports=tuple(sorted(ports)),
        meshed=True if proxied else None,
        proxied=proxied,
        kind=kind,
        annotations={k: v for k, v in notes.items() if isinstance(v, str)} if isinstance(notes, dict) else {},
    )


def _port(port: dict[str, Any], where: str) -> NamedPort:
    number = port.get("containerPort")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 65536:
        raise PolicyError(f"containerPort {str(number)[:40]} is not between 1 and 65535", where)
    name, protocol = port.get("name") or "", port.get("protocol") or "TCP"
    return NamedPort(str(name), str(protocol).upper(), number)


def service(document: Document, namespace: str, name: str, where: str) -> Service:
    """The Service in a Service object; raises `PolicyError`."""
    spec = optional(document.get("spec"), f"{where} spec")
    meta = optional(document.get("metadata"), f"{where} metadata")
    ports = []
    for item in sequence(spec.get("ports"), f"{where} spec.ports"):
        port = mapping(item, f"{where} spec.ports")
        number = port.get("port")
        if not isinstance(number, int) or isinstance(number, bool):
            raise PolicyError("port is not a number", f"{where} spec.ports")
        target = port.get("targetPort", number)
        target = int(target) if isinstance(target, str) and target.isascii() and target.isdigit() else target
        named = (str(port.get("name") or ""), str(port.get("protocol") or "TCP"), number)
        ports.append(
            ServicePort(*named, target if isinstance(target, int | str) else number, str(port.get("appProtocol") or ""))
        )
    addresses = [*sequence(spec.get("clusterIPs"), f"{where} spec.clusterIPs"), spec.get("clusterIP")]
    # "Ignored if type is ExternalName" (Kubernetes API, ServiceSpec)
    selector = {} if spec.get("type") == "ExternalName" else labels(spec.get("selector"), f"{where} spec.selector")
    return Service(
        namespace=namespace,
        name=name,
        selector=selector,
        addresses=tuple(sorted({a for a in addresses if isinstance(a, str) and address(a) is not None})),
        ports=tuple(ports),
        labels=labels(meta.get("labels"), f"{where} labels"),
        headless="None" in addresses,
    )
