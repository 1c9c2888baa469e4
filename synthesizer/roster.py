"""The workloads of each namespace by pod, name and service account, for records that tell only one of these.

Invariant: what is asked costs what is found, however many workloads a namespace has.
"""

from __future__ import annotations

from collections.abc import Iterable

from collector.endpoints import workload_of_pod
from synthesizer.workload import Workload


class Roster:
    """Workloads, to be looked up while they are being joined: `enter` one anew when something was learned of it."""

    def __init__(self, workloads: Iterable[Workload]) -> None:
        self._found: dict[tuple[str, str, str], dict[Workload, None]] = {}
        for workload in workloads:
            self.enter(workload)

    def enter(self, workload: Workload) -> None:
        """Make a workload known by all that is known of it."""
        keys = {("name", workload.name), ("account", workload.service_account)}
        for pod in workload.pods:
            keys |= {("pod", pod), ("pods' name", workload_of_pod(pod))}
        for kind, name in keys:
            self._found.setdefault((kind, workload.namespace, name), {})[workload] = None

    def of_pods(self, namespace: str, pods: Iterable[str]) -> list[Workload]:
        """Those that any of these pods belongs to."""
        return list(dict.fromkeys(workload for pod in pods for workload in self._of("pod", namespace, pod)))

    def named(self, namespace: str, name: str) -> list[Workload]:
        """Those of that name."""
        return self._of("name", namespace, name)

    def of_pods_named(self, namespace: str, name: str) -> list[Workload]:
        """Those whose pods' names say that they are called so."""
        return self._of("pods' name", namespace, name)

    def of_account(self, namespace: str, account: str) -> list[Workload]:
        """Those that run under a service account."""
        return self._of("account", namespace, account)

    def _of(self, kind: str, namespace: str, name: str) -> list[Workload]:
        return list(self._found.get((kind, namespace, name), ()))
