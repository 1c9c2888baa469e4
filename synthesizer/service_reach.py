"""Services in front of workloads that only flows show.

An inventory may hold Services without what is behind them: `kubectl get services` alone, or pods of an operator's own
kind. A Service leads to the pods that its selector picks, whoever made them (Kubernetes, "Service").

Invariant: a target port that has a name leads nowhere here, for only a pod template or Hubble's named ports give names.
"""

from __future__ import annotations

from collections.abc import Iterable

from synthesizer.kubernetes_objects import ServiceObject
from synthesizer.workload import Workload, WorkloadKey

Ports = frozenset[tuple[str, int]]


class ServiceReach:
    """Where Services lead among workloads that are not in the inventory. Their target ports are declared there."""

    def __init__(self, workloads: Iterable[Workload], services: Iterable[ServiceObject]) -> None:
        self._behind: dict[tuple[str, str], list[Workload]] = {}
        self._published: dict[WorkloadKey, set[tuple[str, int]]] = {}
        by_label: dict[tuple[str, tuple[str, str]], list[Workload]] = {}
        for workload in workloads:
            for label in () if workload.known else workload.labels:
                by_label.setdefault((workload.namespace, label), []).append(workload)
        for service in services:
            if service.selector:
                having = [by_label.get((service.namespace, label), []) for label in service.selector.items()]
                wanted = set(service.selector.items())
                for workload in min(having, key=len):
                    if wanted.issubset(workload.labels):
                        self._note(service, workload)

    def _note(self, service: ServiceObject, workload: Workload) -> None:
        ports = {(entry.protocol, entry.target) for entry in service.ports if isinstance(entry.target, int)}
        self._behind.setdefault((service.namespace, service.name), []).append(workload)
        workload.ports |= ports
        if service.published:
            self._published.setdefault(workload.key, set()).update(ports)

    def arrivals(self, service: ServiceObject, protocol: str, port: int, cluster: str) -> list[tuple[Workload, int]]:
        """Where a connection from `cluster` to a Service's port arrives: workloads and their pod ports."""
        numbers = [
            entry.target
            for entry in service.ports
            if (entry.protocol, entry.port) == (protocol, port) and isinstance(entry.target, int)
        ]
        behind = self._behind.get((service.namespace, service.name), ())
        return [(w, number) for number in numbers for w in behind if not cluster or w.cluster in ("", cluster)]

    def published(self, workload: Workload) -> Ports:
        """The (protocol, pod port) pairs at which Services let in the outside."""
        return frozenset(self._published.get(workload.key, ()))
