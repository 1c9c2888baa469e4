"""Finding a workload: by key, name, pod, address or labels.

Invariant: every lookup uses a prebuilt index, and none guesses: where the objects allow several answers, the result is
none or all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from collector.endpoints import GENERATED, Labels, stable_labels
from synthesizer.kubernetes_fields import address
from synthesizer.kubernetes_objects import EndpointsObject, Key
from synthesizer.ownership import WorkloadObject

# How the controllers name pods, by kind.
_RANDOM = f"-[{GENERATED}]{{5}}"
_HASHED = rf"-[{GENERATED}0-9]{{6,10}}{_RANDOM}"
_SUFFIXES = {
    "CronJob": re.compile(rf"-\d{{8,10}}(?:-\d{{1,5}})?{_RANDOM}"),
    "DaemonSet": re.compile(_RANDOM),
    "Deployment": re.compile(_HASHED),
    "DeploymentConfig": re.compile(rf"-\d{{1,5}}{_RANDOM}"),
    "Job": re.compile(rf"(?:-\d{{1,5}})?{_RANDOM}"),
    "Pod": re.compile(""),
    "ReplicaSet": re.compile(_RANDOM),
    "ReplicationController": re.compile(_RANDOM),
    "Rollout": re.compile(_HASHED),
    "StatefulSet": re.compile(r"-\d{1,5}"),
}
_ANY_SUFFIX = re.compile(rf"{_HASHED}|{_RANDOM}|-\d{{1,5}}")


@dataclass(frozen=True, eq=False)
class WorkloadIndex:
    """The workloads, sorted by key, and the Endpoints that name pods which no Pod object shows."""

    workloads: tuple[WorkloadObject, ...] = ()
    endpoints: tuple[EndpointsObject, ...] = ()

    def workload(self, key: Key) -> WorkloadObject | None:
        """The workload with this namespace, kind and name."""
        return self._by_key.get(key)

    def workloads_named(self, namespace: str, name: str) -> list[WorkloadObject]:
        """The workloads of that name, of whatever kind."""
        return list(self._by_name.get((namespace, name), ()))

    def workloads_of_account(self, namespace: str, account: str) -> list[WorkloadObject]:
        """The workloads that run under a service account, sorted."""
        return list(self._by_account.get((namespace, account), ()))

    def is_live_pod(self, namespace: str, pod: str) -> bool:
        """Whether a pod object of that name was read."""
        return (namespace, pod) in self._by_pod

    def workload_of_pod(self, namespace: str, pod: str) -> WorkloadObject | None:
        """The workload of a pod: of a live one by its owner, of any other by its name, which must be one that a known
        workload's kind gives (the longest such name counts; None if two kinds give it)."""
        if (namespace, pod) in self._by_pod:
            return self._by_pod[namespace, pod]
        stem = pod
        while stem:
            suffix = pod[len(stem) :]
            named = self._by_name.get((namespace, stem), ())
            fitting = [item for item in named if _SUFFIXES.get(item.kind, _ANY_SUFFIX).fullmatch(suffix)]
            if fitting:
                return fitting[0] if len(fitting) == 1 else None
            stem = stem.rpartition("-")[0]
        return None

    def workload_of_address(self, ip: str) -> WorkloadObject | None:
        """The workload that has a pod at this address; None if nobody or, in old snapshots, several have."""
        return self._by_address.get(address(ip))

    def workloads_by_labels(self, namespace: str, wanted: Mapping[str, str]) -> list[WorkloadObject]:
        """The workloads whose template or live pods carry all these labels, sorted; all of them for no labels."""
        if not wanted:
            return [item for item in self.workloads if item.namespace == namespace]
        lists = [self._by_label.get((namespace, *pair), ()) for pair in wanted.items()]
        found = {
            position
            for position, carried in min(lists, key=len)
            if all(carried.get(name) == value for name, value in wanted.items())
        }
        return [self.workloads[position] for position in sorted(found)]

    def selector_of(self, namespace: str, kind: str, name: str) -> Labels:
        """The owner's selector if a policy can copy it; () without one, when it has expressions besides, or when it
        is of one release alone (a Knative revision's uid)."""
        item = self._by_key.get((namespace, kind, name))
        if item is None or item.match_expressions or not stable_labels(item.selector):
            return ()
        return item.selector

    @cached_property
    def _by_key(self) -> dict[Key, WorkloadObject]:
        return {item.key: item for item in self.workloads}

    @cached_property
    def _by_account(self) -> dict[tuple[str, str], list[WorkloadObject]]:
        found: dict[tuple[str, str], list[WorkloadObject]] = {}
        for item in self.workloads:
            found.setdefault((item.namespace, item.service_account or "default"), []).append(item)
        return found

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], list[WorkloadObject]]:
        found: dict[tuple[str, str], list[WorkloadObject]] = {}
        for item in self.workloads:
            found.setdefault((item.namespace, item.name), []).append(item)
        return found

    @cached_property
    def _by_pod(self) -> dict[tuple[str, str], WorkloadObject]:
        return {(item.namespace, pod): item for item in self.workloads for pod in item.pods}

    @cached_property
    def _by_address(self) -> dict[str, WorkloadObject | None]:
        found: dict[str, WorkloadObject | None] = {}
        for item in self.workloads:
            for ip in item.addresses:
                found[ip] = item if ip not in found else None
        for ends in self.endpoints:
            for ip, pod in ends.addresses:
                behind = self.workload_of_pod(ends.namespace, pod) if pod and ip not in found else None
                if behind is not None and not behind.host_network:
                    found[ip] = behind
        return found

    @cached_property
    def _by_label(self) -> dict[tuple[str, str, str], list[tuple[int, Mapping[str, str]]]]:
        found: dict[tuple[str, str, str], list[tuple[int, Mapping[str, str]]]] = {}
        for position, item in enumerate(self.workloads):
            for carried in (item.all_labels, *item.pod_labels):
                for name, value in carried.items():
                    found.setdefault((item.namespace, name, value), []).append((position, carried))
        return found
