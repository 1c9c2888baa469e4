"""Kubernetes manifests → `World`. Only the fields that policies depend on are read; the rest of an object may hold
anything.

Invariant: a pod belongs to the workload that its owner references lead to, if that workload's template labels allow it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from leastway.verify import api_server, objects
from leastway.verify.mesh_config import read_mesh_config
from leastway.verify.reading import Document, identity, labels, mapping, optional, sequence
from leastway.verify.world import Subject, World

POLICY_KINDS = frozenset(
    {
        "AdminNetworkPolicy",
        "AuthorizationPolicy",
        "BaselineAdminNetworkPolicy",
        "CiliumClusterwideNetworkPolicy",
        "CiliumNetworkPolicy",
        "ClusterNetworkPolicy",
        "GlobalNetworkPolicy",
        "NetworkPolicy",
        "PeerAuthentication",
        "StagedGlobalNetworkPolicy",
        "StagedKubernetesNetworkPolicy",
        "StagedNetworkPolicy",
    }
)
SCALERS = frozenset({"HorizontalPodAutoscaler", "ScaledObject"})
# Kinds that stand for the one that made them. What an operator makes (a StatefulSet of a Prometheus, several of one
# Elasticsearch) is a workload of its own.
_OWNED = frozenset({"Job", "ReplicaSet", "ReplicationController"})
_CRON = re.compile(r"-\d{8,10}\Z")  # a CronJob names its Jobs by minutes (formerly seconds) since the epoch
Owner = tuple[str, str, str]  # kind, namespace, name


def fill(world: World, docs: Iterable[Document]) -> World:
    """Add all objects to `world`, and return it."""
    templates: dict[Owner, Subject] = {}
    owners: dict[Owner, Owner] = {}
    pods: list[tuple[Subject, Owner | None]] = []
    places: list[str] = []
    nodes: dict[str, str] = {}
    scaled: set[Owner | None] = set()
    for document in docs:
        kind, namespace, name = identity(document)
        where = f"{kind} {namespace}/{name}"
        if kind in objects.TEMPLATES:
            templates[kind, namespace, name] = objects.template(document, kind, namespace, name, where)
            owner = _owner(document, namespace, where)
            if owner is not None and kind in _OWNED:
                owners[kind, namespace, name] = owner
        elif kind == "Pod":
            pods.append((objects.pod(world, document, namespace, name, where), _owner(document, namespace, where)))
            place = optional(document.get("spec"), where).get("nodeName")
            places.append(place if isinstance(place, str) else "")
        elif kind in SCALERS:
            scaled.add(_scaled(document, namespace, where))
        elif kind == "Node":
            nodes[name] = _node(world, document, where)
        else:
            _surroundings(world, document, where)
    # Without a status (a manifest, a trimmed copy) the node's name says where a pod is.
    placed = [
        (pod if pod.node_ip or not nodes.get(place) else _changed(pod, node_ip=nodes[place]), owner)
        for (pod, owner), place in zip(pods, places, strict=True)
    ]
    _settle(world, templates, owners, placed)
    for kind, namespace, name in filter(None, scaled):
        subject = world.subjects.get(f"{namespace}/{name}")
        if subject is not None and subject.kind == kind and subject.replicas == 1:
            world.add_subject(_changed(subject, replicas=0))
    return world


def _surroundings(world: World, document: Document, where: str) -> None:
    """Add an object that is neither a workload nor a node."""
    kind, namespace, name = identity(document)
    own = optional(document.get("metadata"), where).get("labels")
    if kind == "Namespace":
        world.add_namespace(name, labels(own, f"{where} labels"))
    elif kind == "Service":
        world.add_service(objects.service(document, namespace, name, where))
    elif kind == "Gateway" and str(document.get("apiVersion")).startswith("gateway.networking.k8s.io/"):
        world.gateways[f"{namespace}/{name}"] = labels(own, f"{where} labels").get("istio.io/waypoint-for", "service")
    elif kind == "ConfigMap":
        config = read_mesh_config(document, namespace, name, where)
        if config is not None:
            world.mesh_configs[name] = config
    elif kind in api_server.KINDS:
        world.api_servers.update(api_server.api_servers(document))
    elif kind in POLICY_KINDS:
        world.policies.append(document)


def _scaled(document: Document, namespace: str, where: str) -> Owner | None:
    """The workload that an autoscaler may give more than one pod."""
    spec = optional(document.get("spec"), f"{where} spec")
    target = optional(spec.get("scaleTargetRef"), f"{where} spec.scaleTargetRef")
    kind, name = target.get("kind", "Deployment"), target.get("name")
    most = spec.get("maxReplicas", spec.get("maxReplicaCount"))
    return (kind, namespace, name) if isinstance(kind, str) and isinstance(name, str) and most != 1 else None


def _node(world: World, document: Document, where: str) -> str:
    """Add a Node; returns its first address, "" if it has none."""
    status = optional(document.get("status"), f"{where} status")
    items = [optional(item, where).get("address") for item in sequence(status.get("addresses"), f"{where} status")]
    return world.add_node(item for item in items if isinstance(item, str))


def _settle(
    world: World, templates: dict[Owner, Subject], owners: dict[Owner, Owner], pods: list[tuple[Subject, Owner | None]]
) -> None:
    members: dict[Owner, list[Subject]] = defaultdict(list)
    for pod, owner in pods:
        top = None if owner is None else _top(owner, templates, owners, pod)
        template = templates.get(top) if top is not None else None
        if top is not None and (template is None or template.labels.items() <= pod.labels.items()):
            members[top].append(pod)
        else:
            members["Pod", pod.namespace, pod.name].append(pod)
    refs: dict[str, str] = {}
    for top in sorted({*templates, *members}):
        if owners.get(top) in templates or owners.get(top) in members or top[0] == "Pod":
            continue  # a ReplicaSet or Job counts as its Deployment or CronJob
        merged = _workload(top, templates.get(top), members.get(top, []))
        if merged.ref in refs:  # two kinds of one name: the second stays addressable by its kind
            merged = _renamed(merged, f"{merged.name}.{top[0].lower()}")
        refs[merged.ref] = top[0]
        world.add_subject(merged)
        for pod in members.get(top, []):
            if pod.ref not in refs:
                _add_pod(world, pod, merged.ref)
    for (kind, _, _), found in members.items():
        for pod in found if kind == "Pod" else ():
            if pod.ref in refs:
                pod = _renamed(pod, f"{pod.name}.pod")
            _add_pod(world, pod, "")


def _add_pod(world: World, pod: Subject, workload: str) -> None:
    world.add_subject(_changed(pod, member_of=workload))


def _changed(subject: Subject, **changes: Any) -> Subject:
    return msgspec.structs.replace(subject, **changes)


def _renamed(subject: Subject, name: str) -> Subject:
    return _changed(subject, name=name)


def _top(owner: Owner, templates: dict[Owner, Subject], owners: dict[Owner, Owner], pod: Subject) -> Owner | None:
    """The topmost owner, by the given objects, or else by how controllers name what they create."""
    for _ in range(4):
        if owner in owners:
            owner = owners[owner]
            continue
        kind, namespace, name = owner
        if kind == "ReplicaSet" and owner not in templates:
            stem = name.removesuffix("-" + pod.labels.get("pod-template-hash", ""))
            return ("Deployment", namespace, stem) if stem != name else owner
        if kind == "Job" and owner not in templates:
            cron = ("CronJob", namespace, _CRON.sub("", name))
            return cron if cron in templates else owner
        break
    return None if owner[0] == "Node" else owner


def _workload(top: Owner, template: Subject | None, pods: list[Subject]) -> Subject:
    """A workload from its template and live pods: the labels that all of them share, and all of their addresses."""
    if template is not None and not pods:
        return template
    shared = set(pods[0].labels.items())
    for pod in pods[1:]:
        shared &= pod.labels.items()
    base = template or pods[0]
    nodes = {pod.node_ip for pod in pods}
    return _changed(
        base,
        name=top[2],
        kind=top[0],
        single=False,
        member_of="",
        labels=dict(sorted(shared)) if template is None else {**dict(sorted(shared)), **template.labels},
        ips=tuple(sorted({ip for pod in pods for ip in pod.ips})),
        node_ip=nodes.pop() if len(nodes) == 1 else "",
        meshed=True if any(pod.meshed for pod in pods) else base.meshed,
        proxied=any(pod.proxied for pod in [base, *pods]),
        ports=tuple(sorted({port for pod in [base, *pods] for port in pod.ports})),
        replicas=max(len(pods), base.replicas),
    )


def _owner(document: Document, namespace: str, where: str) -> Owner | None:
    meta = mapping(document.get("metadata"), f"{where} metadata")
    references = [optional(item, where) for item in sequence(meta.get("ownerReferences"), f"{where} ownerReferences")]
    for reference in sorted(references, key=lambda r: r.get("controller") is not True):
        kind, name = reference.get("kind"), reference.get("name")
        if isinstance(kind, str) and isinstance(name, str):
            return kind, namespace, name
    return None
