"""One Kubernetes object → the few facts of it that policies depend on, whatever shape the object really has.

Invariant: a value of the wrong type reads as absent, so no object can raise anything but `InventoryError`; and names,
namespaces and labels that come out are ones that Kubernetes could have stored, so they are safe in file names and YAML.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from collector.endpoints import valid_namespace, valid_object_name
from collector.errors import InventoryError
from synthesizer.kubernetes_fields import addresses, labels, mapping, number, sequence, text
from synthesizer.kubernetes_files import Document

Key = tuple[str, str, str]
"""A workload's namespace, kind and name."""

# Kinds that are read, with the API groups in which they mean what is read here. Everything else is counted and left.
_CORE = frozenset({""})
_APPS = frozenset({"apps", "extensions", "apps.kruise.io"})
OWNERS: dict[str, frozenset[str]] = {
    "CloneSet": _APPS,
    "CronJob": frozenset({"batch"}),
    "DaemonSet": _APPS,
    "Deployment": _APPS,
    "DeploymentConfig": frozenset({"apps.openshift.io", ""}),
    "Job": frozenset({"batch"}),
    "ReplicaSet": _APPS,
    "ReplicationController": _CORE,
    "Rollout": frozenset({"argoproj.io"}),
    "StatefulSet": _APPS,
}
KINDS: dict[str, frozenset[str]] = {
    **OWNERS,
    "APIService": frozenset({"apiregistration.k8s.io"}),
    "AdminNetworkPolicy": frozenset({"policy.networking.k8s.io"}),
    "AuthorizationPolicy": frozenset({"security.istio.io"}),
    "BaselineAdminNetworkPolicy": frozenset({"policy.networking.k8s.io"}),
    "CiliumClusterwideNetworkPolicy": frozenset({"cilium.io"}),
    "CiliumNetworkPolicy": frozenset({"cilium.io"}),
    "CiliumNode": frozenset({"cilium.io"}),
    "ClusterNetworkPolicy": frozenset({"policy.networking.k8s.io"}),
    "ConfigMap": _CORE,
    "CustomResourceDefinition": frozenset({"apiextensions.k8s.io"}),
    "EndpointSlice": frozenset({"discovery.k8s.io"}),
    "Endpoints": _CORE,
    "Gateway": frozenset({"gateway.networking.k8s.io", "networking.istio.io"}),
    "Ingress": frozenset({"networking.k8s.io", "extensions"}),
    "MutatingWebhookConfiguration": frozenset({"admissionregistration.k8s.io"}),
    "Namespace": _CORE,
    "NetworkPolicy": frozenset({"networking.k8s.io", "extensions"}),
    "Node": _CORE,
    "PeerAuthentication": frozenset({"security.istio.io"}),
    "Pod": _CORE,
    "RequestAuthentication": frozenset({"security.istio.io"}),
    "Service": _CORE,
    "ServiceCIDR": frozenset({"networking.k8s.io"}),
    "ValidatingWebhookConfiguration": frozenset({"admissionregistration.k8s.io"}),
}
POLICIES = frozenset(kind for kind in KINDS if kind.endswith(("NetworkPolicy", "AuthorizationPolicy")))
CLUSTER_SCOPED = frozenset(
    {
        "APIService",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "CiliumClusterwideNetworkPolicy",
        "CiliumNode",
        "ClusterNetworkPolicy",
        "CustomResourceDefinition",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "ServiceCIDR",
        "ValidatingWebhookConfiguration",
    }
)


class Port(msgspec.Struct, frozen=True, order=True):
    """A container's declared port; `name` and `host_port` (0) may be unset."""

    name: str
    protocol: str
    number: int
    host_port: int = 0


class ServicePort(msgspec.Struct, frozen=True, order=True):
    """A Service's port; `target` is a pod port or the name of one."""

    name: str
    protocol: str
    port: int
    target: int | str


class ServiceObject(msgspec.Struct, frozen=True):
    """A Service. `cluster_ips` is empty when headless; `outer_ips` are its external and load balancer addresses.

    `published`: reachable from outside the cluster. `waypoint`: "namespace/name" of the waypoint in front of it, or "".
    """

    namespace: str
    name: str
    type: str = "ClusterIP"
    cluster_ips: tuple[str, ...] = ()
    outer_ips: tuple[str, ...] = ()
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    labels: dict[str, str] = {}
    published: bool = False
    waypoint: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class EndpointsObject(msgspec.Struct, frozen=True):
    """Where a Service's traffic really goes: (address, pod name or "") and (port name, protocol, pod port)."""

    namespace: str
    service: str
    addresses: tuple[tuple[str, str], ...]
    ports: tuple[tuple[str, str, int], ...]


class PodShape(msgspec.Struct, frozen=True):
    """What a pod, or the template of pods, says about itself."""

    labels: dict[str, str]
    annotations: dict[str, str]
    service_account: str
    ports: tuple[Port, ...]
    host_network: bool
    containers: tuple[str, ...]


def kind_of(document: Document) -> str:
    """The kind if it is one that is read here, else ""; a missing apiVersion is taken for the right one."""
    kind = text(document.get("kind"))
    version = text(document.get("apiVersion"))
    group = version.rpartition("/")[0]
    if kind == "ConfigMap" and not is_mesh_config(document):
        return ""
    return kind if kind in KINDS and (not version or group in KINDS[kind]) else ""


def is_mesh_config(document: Document) -> bool:
    """Whether this is the ConfigMap of a mesh's settings: istio-system's `istio`, or `istio-` and its revision."""
    meta, data = mapping(document, "metadata"), mapping(document, "data")
    name, where = text(meta.get("name")), text(meta.get("namespace"))
    return where == "istio-system" and (name == "istio" or name.startswith("istio-")) and bool(text(data.get("mesh")))


def identity(document: Document, where: str) -> tuple[str, str]:
    """An object's namespace ("" if cluster-scoped) and name. Raises `InventoryError` for impossible ones."""
    metadata = mapping(document, "metadata")
    kind = text(document.get("kind"))
    name = text(metadata.get("name")) or text(metadata.get("generateName")).rstrip("-")
    namespace = "" if kind in CLUSTER_SCOPED else text(metadata.get("namespace")) or "default"
    if not valid_object_name(name):
        raise InventoryError(f"{kind} without a valid name", where=where, hint="set metadata.name to a DNS name")
    if (namespace or kind == "Namespace") and not valid_namespace(namespace or name):
        raise InventoryError(f"{kind} {name} without a valid namespace", where=where, hint="use a DNS label")
    return namespace, name


def controller(document: Document) -> tuple[str, str]:
    """Kind and name of the owner that controls an object, ("", "") if there is none."""
    owners = [owner for owner in sequence(document, "metadata", "ownerReferences") if isinstance(owner, dict)]
    for owner in [*(owner for owner in owners if owner.get("controller") is True), *owners]:
        if text(owner.get("kind")) and valid_object_name(text(owner.get("name"))):
            return owner["kind"], owner["name"]
    return "", ""


def is_live(document: Document) -> bool:
    """True for an object that an API server printed, False for a manifest."""
    metadata = mapping(document, "metadata")
    return bool(metadata.get("uid") or metadata.get("resourceVersion") or mapping(document, "status"))


def pod_shape(pod: Document, where: str) -> PodShape:
    """Read a Pod or a pod template."""
    spec = mapping(pod, "spec")
    containers = [c for c in sequence(spec, "containers") if isinstance(c, dict)]
    inits = [c for c in sequence(spec, "initContainers") if isinstance(c, dict)]
    containers += [c for c in inits if c.get("restartPolicy") == "Always"]  # sidecars in the API's own sense
    ports = sorted({port for container in containers for port in _ports(container)})
    return PodShape(
        labels=labels(mapping(pod, "metadata", "labels"), where),
        annotations={k: v for k, v in mapping(pod, "metadata", "annotations").items() if isinstance(v, str)},
        service_account=text(spec.get("serviceAccountName")) or text(spec.get("serviceAccount")) or "default",
        ports=tuple(ports),
        host_network=spec.get("hostNetwork") is True,
        containers=tuple(sorted({text(container.get("name")) for container in containers})),
    )


def _protocol(value: object) -> str:
    return value if isinstance(value, str) and value in ("UDP", "SCTP") else "TCP"


def _ports(container: Document) -> Iterator[Port]:
    for port in sequence(container, "ports"):
        found = mapping(port)
        if number(found.get("containerPort")):
            protocol = _protocol(found.get("protocol"))
            yield Port(text(found.get("name")), protocol, found["containerPort"], number(found.get("hostPort")))


def target(value: object) -> int | str:
    """A port that may be named: its number, or its name; 0 when it is neither."""
    if isinstance(value, str):
        return number(int(value)) if value.isascii() and value.isdigit() and len(value) < 6 else value
    return number(value)


def service(document: Document, namespace_labels: dict[str, str], where: str) -> ServiceObject:
    """Read a Service."""
    namespace, name = identity(document, where)
    spec = mapping(document, "spec")
    own_labels = labels(mapping(document, "metadata", "labels"), where)
    kind = text(spec.get("type")) or "ClusterIP"
    balanced = [mapping(entry).get("ip") for entry in sequence(document, "status", "loadBalancer", "ingress")]
    external = addresses(sequence(spec, "externalIPs"))
    use = own_labels if "istio.io/use-waypoint" in own_labels else namespace_labels
    waypoint = text(use.get("istio.io/use-waypoint"))
    waypoint_namespace = text(use.get("istio.io/use-waypoint-namespace")) or namespace
    ports = []
    for entry in map(mapping, sequence(spec, "ports")):
        port = number(entry.get("port"))
        if port:
            aim = target(entry.get("targetPort")) or port
            ports.append(ServicePort(text(entry.get("name")), _protocol(entry.get("protocol")), port, aim))
    return ServiceObject(
        namespace=namespace,
        name=name,
        type=kind,
        cluster_ips=addresses([*sequence(spec, "clusterIPs"), spec.get("clusterIP")]),
        outer_ips=addresses([*external, *balanced, spec.get("loadBalancerIP")]),
        selector=labels(mapping(spec, "selector"), where) if kind != "ExternalName" else {},
        ports=tuple(sorted(ports, key=lambda port: (port.protocol, port.port, port.name))),
        labels=own_labels,
        published=kind in ("LoadBalancer", "NodePort") or bool(external),
        waypoint=f"{waypoint_namespace}/{waypoint}" if waypoint not in ("", "none") else "",
    )


def endpoints(document: Document, where: str) -> Iterator[EndpointsObject]:
    """Read an Endpoints object (one result a subset) or an EndpointSlice."""
    namespace, name = identity(document, where)
    if document["kind"] == "EndpointSlice":
        name = text(mapping(document, "metadata", "labels").get("kubernetes.io/service-name")) or name
        subsets = [document]
    else:
        subsets = [mapping(subset) for subset in sequence(document, "subsets")]
    for subset in subsets:
        found: dict[tuple[str, str], None] = {}
        for end in map(mapping, _ends(subset)):
            reference = mapping(end, "targetRef")
            pod = text(reference.get("name")) if reference.get("kind") == "Pod" else ""
            for ip in addresses([*sequence(end, "addresses"), end.get("ip")]):
                found[ip, pod] = None
        ports = {
            (text(port.get("name")), _protocol(port.get("protocol")), number(port.get("port")))
            for port in map(mapping, sequence(subset, "ports"))
            if number(port.get("port"))
        }
        yield EndpointsObject(namespace, name, tuple(sorted(found)), tuple(sorted(ports)))


def _ends(subset: Document) -> list[Any]:
    return [end for key in ("endpoints", "addresses", "notReadyAddresses") for end in sequence(subset, key)]
