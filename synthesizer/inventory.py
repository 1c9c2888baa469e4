"""The cluster as its own objects describe it: which workloads there are, who owns a pod, where a Service leads.

Invariant: an `Inventory` is a pure function of its objects, whatever their order and files. (Of several versions of an
object, a live one beats a manifest, and then the last one counts.) Every lookup is a prebuilt index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from collector.errors import InventoryError
from synthesizer.address_ranges import (
    Network,
    Ranges,
    is_metadata,
    node_addresses,
    parsed,
    pod_networks,
    service_networks,
    webhook_services,
)
from synthesizer.kubernetes_fields import address, labels, mapping, text
from synthesizer.kubernetes_files import Document, documents, objects, read
from synthesizer.kubernetes_objects import (
    POLICIES,
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
from synthesizer.options import valid_trust_domain
from synthesizer.ownership import Found, WorkloadObject, workloads
from synthesizer.service_index import ServiceIndex

MANAGED_BY = "app.kubernetes.io/managed-by"  # everything we write carries this label

__all__ = ["Inventory", "Key", "Port", "ServiceObject", "ServicePort", "WorkloadObject", "load", "parse"]


@dataclass(frozen=True, eq=False)
class Inventory(ServiceIndex):
    """What the objects of a cluster say, and what follows from it.

    `namespaces`: their labels, where there is a Namespace object. `pod_cidrs`: the nodes' pod ranges. `service_cidrs`:
    declared, or the smallest range around the known ClusterIPs. `webhooks`: (namespace, Service, Service port) that the
    API server calls. `documents`: the raw objects that were read, for the judge. `ignored`: how many objects of other
    kinds were not. `trust_domain`: the mesh's, "" if its settings are not among the objects.
    """

    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    node_addresses: frozenset[str] = frozenset()
    pod_cidrs: tuple[Network, ...] = ()
    service_cidrs: tuple[Network, ...] = ()
    webhooks: frozenset[tuple[str, str, int]] = frozenset()
    documents: tuple[Document, ...] = ()
    trust_domain: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Inventory:
        """What is known without an inventory."""
        return cls()

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

    def owner_of_address(self, ip: str) -> str:
        """What an address belongs to: "metadata", "pod", "service", "node", "link-local", or "" if unknown.

        Exact addresses beat ranges. A hostNetwork pod's address is its node's.
        """
        known = address(ip)
        if not known:
            return ""
        if is_metadata(known):
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

    def policies_of_others(self, namespaces: Iterable[str]) -> list[str]:
        """Policies in these namespaces, or for the whole cluster, that leastway did not write."""
        there = {"", *namespaces}
        return [
            f"{kind} {'/'.join(filter(None, (namespace, name)))}"
            for document in self.documents
            if (kind := text(document["kind"])) in POLICIES
            and mapping(document, "metadata", "labels").get(MANAGED_BY) != "leastway"
            for namespace, name in [identity(document, kind)]
            if namespace in there
        ]

    @cached_property
    def _service_ranges(self) -> Ranges:
        return Ranges(self.service_cidrs)

    @cached_property
    def _pod_ranges(self) -> Ranges:
        return Ranges(self.pod_cidrs)


def load(paths: Iterable[str]) -> Inventory:
    """The inventory in files and folders of manifests (YAML or JSON, plain or gzip).

    Raises `InventoryError` with the file and the number of the document that cannot be understood, and also if none of
    the objects is of a kind that is read: a user who names an inventory does not mean to go without one.
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
    """The inventory in parsed documents; `where` names their source in an `InventoryError`."""
    numbered = ((f"{where}, document {number}", document) for number, document in enumerate(documents, 1))
    return _inventory(objects((place, document) for place, document in numbered if document is not None))


def _standing(given: Iterable[tuple[str, Document]]) -> tuple[Found, dict[str, int]]:
    """The version of each object that counts, sorted; and how many objects of each other kind there are."""
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
    return dict(sorted(found.items())), dict(sorted(ignored.items()))


def _inventory(given: Iterable[tuple[str, Document]]) -> Inventory:
    found, ignored = _standing(given)
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
        # Of several revisions the first by name counts; the default one, `istio`, comes before all others.
        trust_domain=next(filter(None, map(_trust_domain, raw)), ""),
        ignored=ignored,
    )


def _trust_domain(document: Document) -> str:
    """The trust domain in a ConfigMap of mesh settings (Istio, "Global Mesh Options"), "" for any other object."""
    if text(document.get("kind")) != "ConfigMap":
        return ""
    written = text(mapping(document, "data").get("mesh"))
    where = f"ConfigMap {text(mapping(document, 'metadata').get('name'))} data.mesh"
    settings = next((loaded for _, loaded in documents(written.encode(), where)), None)
    found = text(settings.get("trustDomain")) if isinstance(settings, dict) else ""
    if found and not valid_trust_domain(found):
        raise InventoryError(
            f"{found[:40]!r} is not a trust domain", where=where, hint="write a name such as cluster.local"
        )
    return found
