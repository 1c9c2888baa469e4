"""The workloads of each namespace by pod, name and service account, for records that have only one of these.

Invariant: the cost of a lookup is the number of results, however many workloads a namespace has.
"""

from __future__ import annotations

from collections.abc import Iterable

from collector.endpoints import workload_of_pod
from synthesizer.workload import Workload


class Roster:
    """Workloads for lookup while they are still being joined: `enter` one again after learning more about it."""

    def __init__(self, workloads: Iterable[Workload]) -> None:
        self._found: dict[tuple[str, str, str], dict[Workload, None]] = {}
        for workload in workloads:
            self.enter(workload)

    def enter(self, workload: Workload) -> None:
        """Index a workload by everything that is known of it."""
        keys = {("name", workload.name), ("account", workload.service_account)}
        for pod in workload.pods:
            keys |= {("pod", pod), ("pods' name", workload_of_pod(pod))}
        for kind, name in keys:
            self._found.setdefault((kind, workload.namespace, name), {})[workload] = None

    def of_pods(self, namespace: str, pods: Iterable[str]) -> list[Workload]:
        """The workloads that these pods belong to."""
        return list(dict.fromkeys(workload for pod in pods for workload in self._of("pod", namespace, pod)))

    def named(self, namespace: str, name: str) -> list[Workload]:
        """The workloads with this name."""
        return self._of("name", namespace, name)

    def of_pods_named(self, namespace: str, name: str) -> list[Workload]:
        """The workloads whose name, as their pods' names imply it, is this one."""
        return self._of("pods' name", namespace, name)

    def of_account(self, namespace: str, account: str) -> list[Workload]:
        """The workloads that run under a service account."""
        return self._of("account", namespace, account)

    def _of(self, kind: str, namespace: str, name: str) -> list[Workload]:
        return list(self._found.get((kind, namespace, name), ()))
