"""The cluster as its own objects describe it: which workloads there are, who owns a pod, where a Service leads.

Invariant: an `Inventory` is a pure function of its objects, whatever their order or the files that they came in (of one
object in several versions, a live one beats a manifest, then the last one stands); every lookup is a prebuilt index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from collector.errors import InventoryError
from synthesizer.address_ranges import (
    METADATA,
    Network,
    Ranges,
    node_addresses,
    parsed,
    pod_networks,
    service_networks,
    webhook_services,
)
from synthesizer.kubernetes_fields import address, labels, mapping, text
from synthesizer.kubernetes_files import Document, objects, read
from synthesizer.kubernetes_objects import (
    EndpointsObject,
    Key,
    Port,
    ServiceObject,
    ServicePort,
    endpoints,
    identity,
    is_live,
    kind_of,
    service,
)
from synthesizer.ownership import WorkloadObject, workloads
from synthesizer.workload_index import WorkloadIndex

__all__ = ["Inventory", "Key", "Port", "ServiceObject", "ServicePort", "WorkloadObject", "load", "parse"]


@dataclass(frozen=True, eq=False)
class Inventory(WorkloadIndex):
    """What the objects of a cluster say, and what follows from it.

    `namespaces`: labels of those with a Namespace object. `pod_cidrs`: of the nodes. `service_cidrs`: declared, or the
    smallest that covers the known ClusterIPs. `webhooks`: (namespace, Service, Service port) that the API server calls.
    `documents`: the raw objects that were read, for the judge. `ignored`: how many of each kind were not.
    """

    services: tuple[ServiceObject, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    node_addresses: frozenset[str] = frozenset()
    pod_cidrs: tuple[Network, ...] = ()
    service_cidrs: tuple[Network, ...] = ()
    webhooks: frozenset[tuple[str, str, int]] = frozenset()
    documents: tuple[Document, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Inventory:
        """What is known without an inventory."""
        return cls()

    # -- Services ---------------------------------------------------------------------------------------------------

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

    def service_target_ports(self, workload: WorkloadObject) -> frozenset[tuple[str, int]]:
        """The (protocol, pod port) pairs of a workload to which any Service leads."""
        return self._served.get(workload.key, frozenset())

    def published_ports(self, workload: WorkloadObject) -> frozenset[tuple[str, int]]:
        """The (protocol, pod port) pairs reached from outside the cluster without another pod in between.

        By LoadBalancer, NodePort or externalIPs Services and by host ports. What an Ingress leads to is not among them:
        that traffic comes from the ingress controller's pods.
        """
        return self._published.get(workload.key, frozenset())

    def api_servers(self) -> tuple[tuple[str, int], ...]:
        """The API servers' own (address, port) pairs: the endpoints of default/kubernetes."""
        return tuple(
            sorted(
                {
                    (ip, port)
                    for item in self.endpoints
                    if (item.namespace, item.service) == ("default", "kubernetes")
                    for ip, _ in item.addresses
                    for _, _, port in item.ports
                }
            )
        )

    # -- addresses and policies -------------------------------------------------------------------------------------

    def is_cluster_address(self, ip: str) -> str:
        """What an address belongs to: "metadata", "pod", "service", "node", "link-local", or "" when not known.

        Exact addresses go before ranges. A hostNetwork pod's address is its node's.
        """
        known = address(ip)
        if not known:
            return ""
        if known in METADATA:
            return "metadata"
        for name, exact in (
            ("pod", self._by_address),
            ("service", self._services_by_address),
            ("node", self.node_addresses),
        ):
            if known in exact:
                return name
        if parsed(known).is_link_local:
            return "link-local"
        if known in self._service_ranges:
            return "service"
        return "pod" if known in self._pod_ranges else ""

    def of_kind(self, kind: str, group: str = "") -> tuple[Document, ...]:
        """The raw objects of a kind, of one API group if it is named."""
        return tuple(
            document
            for document in self.documents
            if document["kind"] == kind and (not group or text(document.get("apiVersion")).startswith(f"{group}/"))
        )

    @property
    def network_policies(self) -> tuple[Document, ...]:
        """NetworkPolicies that are already there."""
        return self.of_kind("NetworkPolicy")

    @property
    def authorization_policies(self) -> tuple[Document, ...]:
        """AuthorizationPolicies that are already there."""
        return self.of_kind("AuthorizationPolicy")

    @property
    def gateways(self) -> tuple[Document, ...]:
        """Gateway API Gateways (waypoints among them) and Istio Gateways."""
        return self.of_kind("Gateway")

    # -- indexes ----------------------------------------------------------------------------------------------------

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

    @cached_property
    def _service_ranges(self) -> Ranges:
        return Ranges(self.service_cidrs)

    @cached_property
    def _pod_ranges(self) -> Ranges:
        return Ranges(self.pod_cidrs)


def load(paths: Iterable[str]) -> Inventory:
    """The inventory in files and folders of manifests (YAML or JSON, plain or gzip).

    Raises `InventoryError` with the file and the number of the document that cannot be understood, or if there is
    nothing among them that is read at all: whoever names an inventory does not mean to go without one.
    """
    paths = list(paths)
    found = _inventory(objects(read(paths)))
    if not found.documents:
        others = ", ".join(f"{number} {kind}" for kind, number in list(found.ignored.items())[:5])
        raise InventoryError(
            f"no object that an inventory is made of{f' (only {others})' if others else ''}",
            where=", ".join(paths),
            hint="give the output of `kubectl get pods,deployments,services,namespaces,nodes -A -o yaml`",
        )
    return found


def parse(documents: Iterable[object], where: str = "inventory") -> Inventory:
    """The inventory in documents that are parsed already; `where` names them in an `InventoryError`."""
    numbered = ((f"{where}, document {number}", document) for number, document in enumerate(documents, 1))
    return _inventory(objects((place, document) for place, document in numbered if document is not None))


def _inventory(given: Iterable[tuple[str, Document]]) -> Inventory:
    found: dict[tuple[str, str, str], tuple[str, Document]] = {}
    ignored: dict[str, int] = {}
    for where, document in given:
        kind = kind_of(document)
        group = text(document.get("apiVersion")).rpartition("/")[0]
        if not kind:
            name = f"{document['kind']}.{group}".rstrip(".")
            ignored[name] = ignored.get(name, 0) + 1
            continue
        key = (f"{kind}.{group}" if kind == "Gateway" else kind, *identity(document, where))
        if key not in found or is_live(document) or not is_live(found[key][1]):
            found[key] = where, document
    found = dict(sorted(found.items()))
    namespaces = {
        name: {"kubernetes.io/metadata.name": name, **labels(mapping(document, "metadata", "labels"), where)}
        for (kind, _, name), (where, document) in found.items()
        if kind == "Namespace"
    }
    services = tuple(
        service(document, namespaces.get(namespace, {}), where)
        for (kind, namespace, _), (where, document) in found.items()
        if kind == "Service"
    )
    raw = tuple(document for _, document in found.values())
    return Inventory(
        workloads=workloads(found, namespaces),
        services=services,
        endpoints=tuple(
            item
            for (kind, _, _), (where, document) in found.items()
            if kind in ("Endpoints", "EndpointSlice")
            for item in endpoints(document, where)
        ),
        namespaces=namespaces,
        node_addresses=node_addresses(raw),
        pod_cidrs=pod_networks(raw),
        service_cidrs=service_networks(raw, services),
        webhooks=webhook_services(raw),
        documents=raw,
        ignored=dict(sorted(ignored.items())),
    )
