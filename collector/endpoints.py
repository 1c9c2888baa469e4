"""Who is at an end of a connection: the identity that stays when pods, addresses and nodes change.

Invariant: an `Endpoint` holds only what identifies. Pod names, addresses, owners and named ports are attributes; they
are kept per endpoint in a `Sighting` (see `collector.patterns`) and joined across nodes, because Hubble fills
`workloads` only for pods local to the observing node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec

from collector.memo import memo

Kind = Literal["pod", "service", "entity", "address"]
Labels = tuple[tuple[str, str], ...]

# Values of Endpoint.entity, most telling first: Hubble hands over several reserved labels in any order, and the
# first one of this list that is present decides. Numbers: Cilium, pkg/identity/numericidentity.go.
ENTITIES = (
    "kube-apiserver",
    "ingress",
    "host",
    "remote-node",
    "health",
    "init",
    "unmanaged",
    "encrypted-overlay",
)
NODE_ENTITIES = frozenset({"host", "remote-node"})
RESERVED_IDENTITIES = {
    1: "host",
    2: "world",
    3: "unmanaged",
    4: "health",
    5: "init",
    6: "remote-node",
    7: "kube-apiserver",
    8: "ingress",
    9: "world",
    10: "world",
    11: "encrypted-overlay",
}

# Labels that differ between pods of one workload or between its releases; a selector with one of them breaks at the
# next rollout. Sources: the Kubernetes well-known labels, the Helm, Argo, Flux, Istio, Knative, Tekton, Spark and
# Airflow conventions.
UNSTABLE_KEYS = frozenset(
    {
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/version",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/job-name",
        "chart",
        "controller-revision-hash",
        "controller-uid",
        "helm.sh/chart",
        "heritage",
        "istio.io/rev",
        "job-name",
        "pod-template-generation",
        "pod-template-hash",
        "rollouts-pod-template-hash",
        "security.istio.io/tlsMode",
        "service.istio.io/canonical-name",
        "run_id",
        "service.istio.io/canonical-revision",
        "serving.knative.dev/configurationGeneration",
        "serving.knative.dev/revision",
        "serving.knative.dev/revisionUID",
        "spark-app-selector",
        "spark-exec-id",
        "statefulset.kubernetes.io/pod-name",
        "tekton.dev/pipelineRun",
        "tekton.dev/pipelineRunUID",
        "tekton.dev/taskRun",
        "tekton.dev/taskRunUID",
        "try_number",
        "workflows.argoproj.io/completed",
        "workflows.argoproj.io/workflow",
    }
)
UNSTABLE_PREFIXES = (
    "argocd.argoproj.io/",
    "helm.toolkit.fluxcd.io/",
    "io.cilium.",
    "io.kubernetes.pod.",
    "kustomize.toolkit.fluxcd.io/",
    "sidecar.opentelemetry.io/",
    "topology.kubernetes.io/",
)

LABELS = 64  # kept per pod; more than that describes no pod, and every endpoint is a key in memory

# Kubernetes' own syntax (apimachinery, validation.IsQualifiedName / IsValidLabelValue). What does not fit did not
# come from a Kubernetes object and must not reach a selector.
_LABEL_KEY = re.compile(
    r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII
)
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)
# Deployment pods end in -<ReplicaSet hash>-<5 characters>, DaemonSet and Job pods in -<5>, StatefulSet pods in -<n>;
# CronJob pods carry the schedule as minutes since the epoch. The alphabet is apimachinery's rand.SafeEncodeString.
GENERATED = "bcdfghjklmnpqrstvwxz2456789"
_RANDOM = f"-[{GENERATED}]{{5}}"
_POD_SUFFIX = re.compile(rf"(?:-[{GENERATED}0-9]{{6,10}}{_RANDOM}|-\d{{8,10}}{_RANDOM}|{_RANDOM}|-\d{{1,5}})\Z")


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One end of a connection.

    kind `pod`: `cluster`, `namespace` and either `labels` (stable ones, sorted; Hubble) or `workload` (Envoy, ztunnel,
    or derived from a pod name when no label is known), plus `service_account` when known.
    kind `service`: `namespace` and `workload` hold a Service's namespace and name (an outbound access log names it).
    kind `entity`: `entity` is one of `ENTITIES`.
    kind `address`: an IP address whose owner the source does not know. The addresses themselves are evidence, because
    they may be a million; only a reporting proxy that is known by nothing else has its address in `workload`, so that
    who it talked to is not lost.
    """

    kind: Kind
    cluster: str = ""
    namespace: str = ""
    labels: Labels = ()
    workload: str = ""
    service_account: str = ""
    entity: str = ""

    @property
    def nameless(self) -> bool:
        """Whether this stands for whoever has some address, and so for several parties."""
        return self.kind == "address" and not self.workload

    def __str__(self) -> str:
        if self.kind == "entity":
            return self.entity
        if self.kind == "address":
            return f"address {self.workload}".strip()
        what = self.workload or ",".join(f"{key}={value}" for key, value in self.labels) or "?"
        return f"{self.namespace}/{what}"


ADDRESS = Endpoint("address")


def reporter_at(address: str) -> Endpoint:
    """The endpoint of a reporting proxy that is known by its address alone."""
    return Endpoint("address", workload=address) if address else ADDRESS


def entity(name: str) -> Endpoint:
    """The endpoint of a reserved entity (`host`, `kube-apiserver`, ...)."""
    return Endpoint("entity", entity=name)


def is_stable(key: str) -> bool:
    """True if a label key says what a workload is, not which release or replica of it this pod is."""
    return key not in UNSTABLE_KEYS and not key.startswith(UNSTABLE_PREFIXES)


def valid_label(key: str, value: str) -> bool:
    """True if Kubernetes could have stored this label (text from traffic is hostile)."""
    return _LABEL_KEY.fullmatch(key) is not None and _LABEL_VALUE.fullmatch(value) is not None


def valid_namespace(name: str) -> bool:
    """True for an RFC 1123 label, which is what a namespace's name must be."""
    return _DNS_LABEL.fullmatch(name) is not None


def valid_object_name(name: str) -> bool:
    """True for an RFC 1123 subdomain, which is what a pod's, workload's or account's name must be."""
    return _DNS_NAME.fullmatch(name) is not None


def stable_labels(pairs: Iterable[tuple[str, str]]) -> Labels:
    """The stable and valid labels among `pairs`, sorted, each key once; the first `LABELS` of more."""
    short = ((key, value) for key, value in pairs if len(key) <= 317 and len(value) <= 63)  # longer ones are invalid
    given = dict(short)
    found = {key: value for key, value in given.items() if _usable(key, value)}
    if found.get("app", "") == given.get("serving.knative.dev/revision"):
        del found["app"]  # Knative calls each revision's pods by it
    head, _, number = found.get("deployment", "").rpartition("-")
    if head and head == found.get("deploymentconfig") and number.isdigit():
        del found["deployment"]  # a DeploymentConfig's rollout (OpenShift), not a user's own label
    return tuple(sorted(found.items())[:LABELS])


@lru_cache(maxsize=1 << 16)
def _usable(key: str, value: str) -> bool:
    return is_stable(key) and valid_label(key, value)


@lru_cache(maxsize=65536)
def workload_of_pod(pod: str) -> str:
    """A pod's workload by Kubernetes' naming of generated pods: `web-6b746f74dc-9rcxx` → `web`, `db-0` → `db`.

    A guess, for records without labels or owner; an inventory or a label-bearing record overrides it.
    """
    return _POD_SUFFIX.sub("", pod) or pod


class Principal(msgspec.Struct, frozen=True, order=True):
    """A SPIFFE identity in Istio's form: `<trust domain>/ns/<namespace>/sa/<service account>`."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


_SPIFFE = re.compile(r"(?:spiffe://)?([A-Za-z0-9][-A-Za-z0-9._]*)/ns/([^/]+)/sa/([^/]+)", re.ASCII)


@memo(1 << 16, longest=1024)
def parse_principal(text: str) -> Principal | None:
    """Read `spiffe://td/ns/NS/sa/SA` (with or without the scheme); None when it is no such identity."""
    match = _SPIFFE.fullmatch(text.strip())
    if match is None or not valid_namespace(match[2]) or not valid_object_name(match[3]):
        return None
    return Principal(match[1], match[2], match[3])
