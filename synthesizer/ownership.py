"""Pods, ReplicaSets and Jobs → the workloads that people know them by.

Invariant: a pod belongs to exactly one workload, the topmost owner that Kubernetes makes pods for. What a live pod says
(addresses, injected proxy) is added to what its owner's template says, never the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from collector.endpoints import Labels, stable_labels
from synthesizer.kubernetes_fields import addresses, as_selector, labels, mapping, sequence, text
from synthesizer.kubernetes_files import Document
from synthesizer.kubernetes_objects import OWNERS, Key, PodShape, Port, controller, pod_shape

Found = Mapping[tuple[str, str, str], tuple[str, Document]]
"""(kind, namespace, name) → (where, object)."""

# Labels by which a ReplicaSet or ReplicationController tells its pods from those of its owner's other revisions.
REVISION_LABELS = ("pod-template-hash", "rollouts-pod-template-hash", "deployment")
_HASH = re.compile(r"-[0-9a-z]{6,10}\Z")
_SCHEDULED = re.compile(r"-\d{8,10}\Z")  # a CronJob names its Jobs by minutes (formerly seconds) since the epoch
_INJECT = "sidecar.istio.io/inject"
_DATAPLANE = "istio.io/dataplane-mode"


class WorkloadObject(msgspec.Struct, frozen=True):
    """A workload: its pod template, joined with its live pods.

    `labels` are the template's stable ones, `all_labels` the template's as they are (without a template: those that all
    live pods share), `pod_labels` the distinct label sets of live pods. `selector` is the owner's `matchLabels`, empty
    for Jobs, CronJobs, bare Pods and absent owners; `match_expressions` says that the owner selects by more than that.
    `addresses` are IP addresses of live pods, none for `host_network` ones, whose address is their node's. `mesh` is
    "sidecar", "ambient", "none" (it opted out, or cannot be) or "" (nothing is said).
    """

    namespace: str
    name: str
    kind: str
    labels: Labels = ()
    all_labels: dict[str, str] = {}
    selector: Labels = ()
    match_expressions: bool = False
    service_account: str = "default"
    ports: tuple[Port, ...] = ()
    host_network: bool = False
    pods: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    mesh: str = ""
    pod_labels: tuple[dict[str, str], ...] = ()

    @property
    def key(self) -> Key:
        """Namespace, kind and name: what tells it from every other workload."""
        return self.namespace, self.kind, self.name

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class _Pods:
    """The live pods of one workload."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.addresses: set[str] = set()
        self.shapes: dict[tuple[tuple[str, str], ...], PodShape] = {}


def workloads(found: Found, namespaces: Mapping[str, Mapping[str, str]]) -> tuple[WorkloadObject, ...]:
    """All workloads among the objects, sorted by key."""
    owners: dict[Key, tuple[str, Document]] = {}
    # Of several ReplicaSets whose owner is absent, the one with pods speaks for it, else the last by name.
    ranked = sorted(found.items(), key=lambda item: (_replicas(item[1][1]), item[0]))
    for (kind, namespace, name), (where, document) in ranked:
        if kind in OWNERS:
            top = _top(kind, namespace, name, found)
            if (kind, name) == top or (top[0], namespace, top[1]) not in found:
                owners[namespace, *top] = where, document
    pods: dict[Key, _Pods] = {}
    for (kind, namespace, name), (where, document) in sorted(found.items(), key=lambda item: item[0]):
        if kind == "Pod":
            top = _pod_top(document, namespace, name, found)
            _add_pod(pods.setdefault((namespace, *top), _Pods()), name, document, where)
    return tuple(
        _workload(key, owners.get(key), pods.get(key) or _Pods(), namespaces.get(key[0]))
        for key in sorted(owners.keys() | pods.keys())
    )


def _top(kind: str, namespace: str, name: str, found: Found, pod: Document | None = None) -> tuple[str, str]:
    """The kind and name of the workload that an owner stands for, from its own owner or, absent that, its name."""
    document = found.get((kind, namespace, name), ("", {}))[1]
    above, above_name = controller(document) if document else ("", "")
    if kind in ("ReplicaSet", "ReplicationController", "Job") and above:
        return above, above_name
    if kind == "ReplicaSet" and not document:
        return _replica_set_top(namespace, name, found, mapping(pod, "metadata", "labels"))
    if kind == "Job" and not document and _SCHEDULED.search(name):
        return "CronJob", _SCHEDULED.sub("", name)
    return kind, name


def _replica_set_top(namespace: str, name: str, found: Found, pod_labels: Document) -> tuple[str, str]:
    for key, kind in (("rollouts-pod-template-hash", "Rollout"), ("pod-template-hash", "Deployment")):
        revision = text(pod_labels.get(key))
        if revision and name.endswith(f"-{revision}") and len(name) > len(revision) + 1:
            return kind, name[: -len(revision) - 1]
    stem = _HASH.sub("", name)
    return ("Deployment", stem) if stem != name and ("Deployment", namespace, stem) in found else ("ReplicaSet", name)


def _pod_top(pod: Document, namespace: str, name: str, found: Found) -> tuple[str, str]:
    kind, owner = controller(pod)
    if kind == "Node":  # a static pod: the kubelet of each node makes its own, and appends the node's name
        return "Pod", name.removesuffix(f"-{owner}") or name
    if kind == "Pod":  # Spark's executors are owned by their driver, and are none
        return "Pod", name
    return _top(kind, namespace, owner, found, pod) if kind else ("Pod", name)


def _add_pod(pods: _Pods, name: str, pod: Document, where: str) -> None:
    shape = pod_shape(pod, where)
    status = mapping(pod, "status")
    pods.names.add(name)
    # Revisions and pod names apart, the pods of a workload are alike: one shape for each set of labels is enough,
    # as long as a difference that matters makes another.
    pods.shapes[(*as_selector(shape.labels), ("", repr((shape.ports, shape.containers, shape.host_network))))] = shape
    if status.get("phase") not in ("Succeeded", "Failed") and not shape.host_network:
        ips = [mapping(entry).get("ip") for entry in sequence(status, "podIPs")]
        pods.addresses.update(addresses([*ips, status.get("podIP")]))


def _workload(
    key: Key, owner: tuple[str, Document] | None, pods: _Pods, namespace_labels: Mapping[str, str] | None
) -> WorkloadObject:
    namespace, kind, name = key
    where, document = owner or ("", {})
    live = [shape for _, shape in sorted(pods.shapes.items())]
    spec = mapping(document, "spec")
    holder = mapping(spec, "jobTemplate", "spec") if text(document.get("kind")) == "CronJob" else spec
    shape = pod_shape(mapping(holder, "template"), where) if mapping(holder, "template") else None
    all_labels = shape.labels if shape else _shared(live)
    selector, expressions = _selector(document, all_labels, where)
    main = shape or live[-1] if live or shape else pod_shape({}, where)
    return WorkloadObject(
        namespace=namespace,
        name=name,
        kind=kind,
        labels=stable_labels(all_labels.items()),
        all_labels=all_labels,
        selector=selector,
        match_expressions=expressions,
        service_account=main.service_account,
        ports=tuple(sorted({port for each in (main, *live) for port in each.ports})),
        host_network=any(each.host_network for each in (main, *live)),
        pods=tuple(sorted(pods.names)),
        addresses=tuple(sorted(pods.addresses)),
        mesh=_mesh(main, live, namespace_labels),
        pod_labels=tuple(dict(unique) for unique in sorted({as_selector(each.labels) for each in live})),
    )


def _replicas(document: Document) -> int:
    found = mapping(document, "spec").get("replicas")
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else 0


def _shared(shapes: Iterable[PodShape]) -> dict[str, str]:
    sets = [set(shape.labels.items()) for shape in shapes]
    return dict(sorted(set.intersection(*sets))) if sets else {}


def _selector(document: Document, template: Mapping[str, str], where: str) -> tuple[Labels, bool]:
    """The owner's matchLabels and whether it has expressions besides; () when it cannot serve as a selector."""
    kind = text(document.get("kind"))
    spec = mapping(document, "spec")
    if kind in ("ReplicationController", "DeploymentConfig"):
        found, expressions = labels(mapping(spec, "selector"), where), False
    elif kind in ("Job", "CronJob", ""):
        return (), False
    else:
        found = labels(mapping(spec, "selector", "matchLabels"), where)
        expressions = bool(sequence(spec, "selector", "matchExpressions"))
    if kind in ("ReplicaSet", "ReplicationController"):
        found = {key: value for key, value in found.items() if key not in REVISION_LABELS}
    if not found.items() <= template.items():
        return (), expressions  # the API server would refuse it; a policy with it would select nothing
    return as_selector(found), expressions


def _mesh(main: PodShape, live: list[PodShape], namespace: Mapping[str, str] | None) -> str:
    """How a workload is part of the mesh. Sources: Istio's injection and ambient label tables.

    A sidecar that is there, or that the labels ask for, beats ambient; a pod's label beats its annotation, and both
    beat the namespace. A revision label on an ambient namespace is taken for its waypoints' revision.
    """
    shapes = [main, *live]
    around = namespace or {}
    if any("istio-proxy" in shape.containers for shape in shapes):
        return "sidecar"
    if main.host_network:
        return "none"
    inject = main.labels.get(_INJECT) or main.annotations.get(_INJECT, "")
    mode = main.labels.get(_DATAPLANE) or around.get(_DATAPLANE, "")
    redirected = any(shape.annotations.get("ambient.istio.io/redirection") == "enabled" for shape in shapes)
    injection = around.get("istio-injection", "")
    revision = "istio.io/rev" in around and mode != "ambient" and not injection
    wanted = inject == "true" or "istio.io/rev" in main.labels or injection == "enabled" or revision
    if wanted and inject != "false" and injection != "disabled" and not redirected:
        return "sidecar"
    if redirected or mode == "ambient":
        return "ambient"
    refused = inject == "false" or injection == "disabled" or mode not in ("", "ambient")
    return "none" if refused else ""
