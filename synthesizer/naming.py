"""What workloads and their policies are called.

Invariant: names are valid, readable, and unique in their namespace; the same workload is called the same in every run.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from collector.endpoints import GENERATED, Endpoint, valid_object_name, workload_of_pod
from collector.patterns import Sighting
from synthesizer.selectors import preference
from synthesizer.workload import Workload, WorkloadKey

# What controllers add to these names, different at every rollout or run (Argo Rollouts, DeploymentConfig, CronJob,
# `generateName`, the numbers of pipelines).
_PASSING = {
    "ReplicaSet": re.compile(rf"(?<=.)-[{GENERATED}]{{6,10}}\Z"),
    "ReplicationController": re.compile(r"(?<=.)-\d{1,5}\Z"),
    "Job": re.compile(rf"(?<=.)-(?:\d{{4,10}}|[{GENERATED}]{{5}})\Z"),
}
_RESERVED_NAMES = frozenset({"allow-dns", "default", "default-deny"})  # the names of a namespace's own policies
_LONGEST_NAME = 200  # of a policy, without suffixes: it is part of a file's name, which may have 255 bytes


def lasting(kind: str, name: str) -> str:
    """An object's name without the part that changes with every rollout or run."""
    mark = _PASSING.get(kind)
    return mark.sub("", name) if mark is not None else name


def owner_of(endpoint: Endpoint, sighting: Sighting) -> tuple[str, str]:
    """Kind and name: the owner Hubble names, else what the pods' names say, else the most telling label."""
    if sighting.owners:
        kind, _, name = min(sighting.owners).partition("/")
        return kind, lasting(kind, name)
    names = sorted(
        {workload_of_pod(seen.partition("|")[0]) for seen in sighting.pods} - {""}, key=lambda n: (len(n), n)
    )
    if names:
        return "", names[0]
    for _, value in sorted(endpoint.labels, key=preference):
        if valid_object_name(value):
            return "", value
    return "", "unnamed"


def make_unique(workloads: list[Workload]) -> None:
    """Give workloads of one namespace different names: where two would share one, a hash of their labels is added.

    A Job with the name of the workload that it belongs to does not change that workload's name.
    """
    taken: dict[WorkloadKey, list[Workload]] = {}
    for workload in workloads:
        taken.setdefault(workload.key, []).append(workload)
    for same in taken.values():
        owners = [workload for workload in same if workload.kind != "Job"]
        for workload in same if len(same) > 1 else ():
            if owners == [workload]:
                continue
            workload.name += f"-{_mark(workload)}"


def _mark(workload: Workload) -> str:
    """A hash that distinguishes a workload from its namesakes."""
    return blake2b(f"{workload.kind}{workload.labels!r}".encode(), digest_size=3).hexdigest()


def tell_clusters_apart(workloads: list[Workload]) -> None:
    """Add the cluster's name to namesakes of other clusters; the inventory's, or else the first, keeps its name."""
    taken: set[tuple[str, str]] = set()
    for workload in sorted(workloads, key=lambda workload: (not workload.known, workload.key)):
        if workload.cluster and (workload.namespace, workload.name) in taken:
            workload.name += f".{workload.cluster}"
            if (workload.namespace, workload.name) in taken:
                workload.name += f".{_mark(workload)}"
        taken.add((workload.namespace, workload.name))


def name_policies(workloads: list[Workload]) -> None:
    """Name policies like their workload; namesakes (kinds, clusters) and reserved names get a suffix."""
    taken: set[tuple[str, str]] = {("", "")}
    for workload in workloads:
        name = lasting(workload.kind, workload.name)[:_LONGEST_NAME].rstrip(".-")
        if name in _RESERVED_NAMES or (workload.namespace, name) in taken:
            name = "-".join((name, (workload.kind or workload.cluster or "workload").lower()))
        if (workload.namespace, name) in taken:
            name += "-" + blake2b(repr((workload.key, workload.labels)).encode(), digest_size=3).hexdigest()
        taken.add((workload.namespace, name))
        workload.policy_name = name
