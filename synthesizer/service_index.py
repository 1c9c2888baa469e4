"""Where Services lead: to which workloads, at which of their ports, and from where.

Invariant: a Service leads to the workloads that its selector picks, and only where that picks none (or there is none)
to those that its EndpointSlices or Endpoints name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from synthesizer.kubernetes_fields import address
from synthesizer.kubernetes_objects import EndpointsObject, Key, ServiceObject, ServicePort
from synthesizer.ownership import WorkloadObject
from synthesizer.workload_index import WorkloadIndex


@dataclass(frozen=True, eq=False)
class ServiceIndex(WorkloadIndex):
    """The Services in front of the workloads."""

    services: tuple[ServiceObject, ...] = ()

    def service(self, namespace: str, name: str) -> ServiceObject | None:
        """The Service of that name."""
        return self._services.get((namespace, name))

    def services_of_address(self, ip: str) -> list[ServiceObject]:
        """The Services with this ClusterIP, external or load balancer address."""
        return list(self._services_by_address.get(address(ip), ()))

    def backends(self, service: ServiceObject) -> list[WorkloadObject]:
        """The workloads behind a Service: by its selector, else by its EndpointSlices or Endpoints."""
        if service.selector:
            found = self.workloads_by_labels(service.namespace, service.selector)
            if found:
                return found
        keys = {item.key for _, item in self._ends(service)}
        return [self._by_key[key] for key in sorted(keys)]

    def target_ports(self, service: ServiceObject, protocol: str, port: int) -> list[tuple[WorkloadObject, int]]:
        """Where a connection to a Service's port arrives: the workloads and their pod ports, sorted.

        A named target port is looked up at each workload, as pods may give one name different numbers.
        """
        found: set[tuple[Key, int]] = set()
        for entry in service.ports:
            if (entry.protocol, entry.port) == (protocol, port):
                found |= self._arrivals(service, entry)
        return [(self._by_key[key], number) for key, number in sorted(found)]

    def outer_ends(self, service: ServiceObject, protocol: str, port: int) -> list[tuple[str, int]]:
        """Where a connection to a Service without a selector arrives, outside all workloads: sorted (address, port).

        (Kubernetes, "Services without selectors": somebody keeps their Endpoints or EndpointSlices by hand.)
        """
        wanted = {
            (entry.name, entry.protocol) for entry in service.ports if (entry.protocol, entry.port) == (protocol, port)
        }
        found = {
            (ip, number)
            for ends in self._endpoints_of.get((service.namespace, service.name), ())
            for ip, pod in ends.addresses
            for name, proto, number in ends.ports
            if (name, proto) in wanted and not pod and self.workload_of_address(ip) is None
        }
        return [] if service.selector else sorted(found)

    def service_target_ports(self, workload: WorkloadObject) -> frozenset[tuple[str, int]]:
        """The (protocol, pod port) pairs of a workload to which any Service leads."""
        return self._served.get(workload.key, frozenset())

    def published_ports(self, workload: WorkloadObject) -> frozenset[tuple[str, int]]:
        """The (protocol, pod port) pairs reached from outside the cluster without another pod in between.

        These are the ports of LoadBalancer, NodePort and externalIPs Services, and host ports. Ports behind an Ingress
        are not among them: their traffic comes from the ingress controller's pods.
        """
        return self._published.get(workload.key, frozenset())

    @cached_property
    def _services(self) -> dict[tuple[str, str], ServiceObject]:
        return {(item.namespace, item.name): item for item in self.services}

    @cached_property
    def _services_by_address(self) -> dict[str, list[ServiceObject]]:
        found: dict[str, list[ServiceObject]] = {}
        for item in self.services:
            for ip in dict.fromkeys((*item.cluster_ips, *item.outer_ips)):
                found.setdefault(ip, []).append(item)
        return found

    @cached_property
    def _endpoints_of(self) -> dict[tuple[str, str], list[EndpointsObject]]:
        found: dict[tuple[str, str], list[EndpointsObject]] = {}
        for item in self.endpoints:
            found.setdefault((item.namespace, item.service), []).append(item)
        return found

    def _ends(self, service: ServiceObject) -> Iterator[tuple[EndpointsObject, WorkloadObject]]:
        for ends in self._endpoints_of.get((service.namespace, service.name), ()):
            for ip, pod in ends.addresses:
                item = self.workload_of_pod(service.namespace, pod) if pod else self.workload_of_address(ip)
                if item is not None:
                    yield ends, item

    def _arrivals(self, service: ServiceObject, entry: ServicePort) -> set[tuple[Key, int]]:
        selected = self.workloads_by_labels(service.namespace, service.selector) if service.selector else []
        if not selected:
            return {
                (item.key, number)
                for ends, item in self._ends(service)
                for name, protocol, number in ends.ports
                if (name, protocol) == (entry.name, entry.protocol)
            }
        if isinstance(entry.target, int):
            return {(item.key, entry.target) for item in selected}
        wanted = (entry.target, entry.protocol)
        return {
            (item.key, port.number) for item in selected for port in item.ports if (port.name, port.protocol) == wanted
        }

    @cached_property
    def _served(self) -> dict[Key, frozenset[tuple[str, int]]]:
        return self._reached(self.services)

    @cached_property
    def _published(self) -> dict[Key, frozenset[tuple[str, int]]]:
        found = self._reached(item for item in self.services if item.published)
        for item in self.workloads:
            hosted = {(port.protocol, port.number) for port in item.ports if port.host_port}
            if hosted:
                found[item.key] = found.get(item.key, frozenset()) | hosted
        return found

    def _reached(self, services: Iterable[ServiceObject]) -> dict[Key, frozenset[tuple[str, int]]]:
        found: dict[Key, set[tuple[str, int]]] = {}
        for item in services:
            for entry in item.ports:
                for key, number in self._arrivals(item, entry):
                    found.setdefault(key, set()).add((entry.protocol, number))
        return {key: frozenset(ports) for key, ports in found.items()}
