"""What must hold for every manifest whatever the traffic was: names, selectors, ports, blocks, the form of rules.

Invariant: plain reading of the parsed documents and of the API's own rules; nothing of the product's code is used.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from synthesizer.manifest import Manifest
    from tests.e2e.hostile.scene import Scene

Document = dict[str, Any]

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
KEY = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
CHURNING = (
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/",
    "controller-uid",
    "job-name",
    "helm.sh/chart",
    "chart",
    "heritage",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "rollouts-pod-template-hash",
    "security.istio.io/tlsMode",
    "service.istio.io/canonical-",
    "istio.io/rev",
    "topology.kubernetes.io/",
    "io.cilium.",
    "io.kubernetes.pod.",
)
KINDS = {"CiliumNetworkPolicy", "NetworkPolicy", "AuthorizationPolicy", "PeerAuthentication", "Kustomization"}


def problems(manifests: Iterable[Manifest], scene: Scene) -> list[str]:
    """Everything that no manifest may do."""
    found: list[str] = []
    names: set[tuple[str, str, str]] = set()
    paths: set[str] = set()
    for manifest in manifests:
        document = yaml.safe_load(manifest.text)
        if document != manifest.document:
            found.append(f"{manifest.path}: the text is not the document")
        if manifest.path in paths:
            found.append(f"{manifest.path}: written twice")
        paths.add(manifest.path)
        if document.get("kind") not in KINDS:
            found.append(f"{manifest.path}: kind {document.get('kind')}")
        if document.get("kind") == "Kustomization":
            continue
        found += [f"{manifest.path}: {problem}" for problem in _named(document)]
        key = (document["kind"], document["metadata"]["namespace"], document["metadata"]["name"])
        if key in names:
            found.append(f"{manifest.path}: {key} exists already")
        names.add(key)
        checks = {"NetworkPolicy": _network, "AuthorizationPolicy": _authorization, "CiliumNetworkPolicy": _entities}
        if document["kind"] in checks:
            found += [f"{manifest.path}: {problem}" for problem in checks[document["kind"]](document, scene)]
    return found


def _named(document: Document) -> Iterator[str]:
    name, namespace = document["metadata"]["name"], document["metadata"]["namespace"]
    if not isinstance(name, str) or NAME.fullmatch(name) is None or len(name) > 253:
        yield f"name {name!r}"
    if not isinstance(namespace, str) or NAMESPACE.fullmatch(namespace) is None:
        yield f"namespace {namespace!r}"


def _network(document: Document, scene: Scene) -> Iterator[str]:
    spec = document["spec"]
    if not spec.get("policyTypes"):
        yield "no policyTypes"
    yield from _selector(spec.get("podSelector"))
    inside = {end.ip for end in scene.ends if not end.host_network}
    inside |= {d["spec"]["clusterIP"] for d in scene.extra if d["kind"] == "Service"}
    inside |= {a["address"] for d in scene.extra if d["kind"] == "Node" for a in d["status"]["addresses"]}
    for direction, ends in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(direction, ()):
            if not rule.get(ends) or not rule.get("ports"):
                yield f"a rule without peers or ports: {rule}"
            for port in rule.get("ports", ()):
                if not isinstance(port.get("port"), int) or not 0 < port["port"] < 65536 or "protocol" not in port:
                    yield f"port {port}"
            for peer in rule.get(ends, ()):
                yield from _peer(peer, inside)


def _entities(document: Document, _scene: Scene) -> Iterator[str]:
    spec = document["spec"]
    if set(spec) - {"endpointSelector", "ingress", "egress"} or not spec["endpointSelector"].get("matchLabels"):
        yield f"fields {sorted(spec)}, selector {spec.get('endpointSelector')}"
    yield from _selector(spec["endpointSelector"])
    for direction, ends in (("ingress", "fromEntities"), ("egress", "toEntities")):
        for rule in spec.get(direction, ()):
            if set(rule) != {ends, "toPorts"} or not set(rule[ends]) <= {
                "host",
                "remote-node",
                "kube-apiserver",
                "ingress",
            }:
                yield f"a rule without entities or ports: {rule}"
            for port in (port for entry in rule["toPorts"] for port in entry["ports"]):
                if set(port) != {"port", "protocol"} or not str(port["port"]).isdigit():
                    yield f"port {port}"


def _peer(peer: Document, inside: set[str]) -> Iterator[str]:
    if "ipBlock" not in peer:
        labels = peer["namespaceSelector"]["matchLabels"]
        if set(labels) != {"kubernetes.io/metadata.name"}:
            yield f"namespaceSelector {labels}"
        yield from _selector(peer.get("podSelector"))
        return
    network = ipaddress.ip_network(peer["ipBlock"]["cidr"])  # strict: host bits are an error
    excepted = [ipaddress.ip_network(text) for text in peer["ipBlock"].get("except", ())]
    for cidr in excepted:
        if cidr.version != network.version or not cidr.subnet_of(network) or cidr == network:  # type: ignore[arg-type]
            yield f"except {cidr} is not inside {network}"
    if network.version == 6 and network.prefixlen == 32:
        yield f"{network} for one IPv6 address"
    for text in sorted(inside):
        address = ipaddress.ip_address(text)
        if address in network and not any(address in cidr for cidr in excepted) and not address.is_link_local:
            yield f"ipBlock {network} names {text}, which is a pod, node or Service"


def _selector(selector: Document | None) -> Iterator[str]:
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            yield f"label {key!r}: {value!r} is not text"
        elif KEY.fullmatch(key) is None or VALUE.fullmatch(value) is None:
            yield f"label {key!r}: {value!r} is none that Kubernetes accepts"
        elif key in CHURNING or key.startswith(tuple(k for k in CHURNING if k.endswith(("/", "-", ".")))):
            yield f"label {key} churns"


def _authorization(document: Document, _scene: Scene) -> Iterator[str]:
    spec = document.get("spec") or {}
    if spec.get("action", "ALLOW") != "ALLOW":
        yield f"action {spec['action']}"
    yield from _selector(spec.get("selector"))
    for rule in spec.get("rules", ()):
        if not rule.get("to"):
            yield f"a rule without ports: {rule}"
        for operation in (to["operation"] for to in rule.get("to", ())):
            if not operation.get("ports") or not all(isinstance(p, str) and p.isdigit() for p in operation["ports"]):
                yield f"ports {operation.get('ports')}"
            for path in operation.get("paths", ()):
                middle = path.replace("{**}", "").replace("{*}", "").rstrip("*")
                if "*" in middle.lstrip("*") or "{" in middle or "}" in middle or "?" in path or "\n" in path:
                    yield f"path {path!r}"
        for source in (entry["source"] for entry in rule.get("from", ())):
            for principal in source.get("principals", ()):
                if "*" in principal or principal.count("/") != 4:
                    yield f"principal {principal!r}"
