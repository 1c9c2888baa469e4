"""Who or what an end of a settled pattern is: a workload, what is behind a Service, or a place outside.

Invariant: an address that belongs to the cluster (pod, node, Service, metadata service) never comes out as an external
one. An address whose owner is not known comes out as `unresolved`, with the reason.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from collector.endpoints import NODE_ENTITIES, Endpoint, entity
from collector.evidence import Evidence
from collector.patterns import Sighting
from collector.standing import Pattern
from synthesizer.address_ranges import AMBIENT_PROBES, Address, is_metadata, parsed
from synthesizer.inventory import Inventory, ServiceObject
from synthesizer.party import Outside, Party, Place, party_key
from synthesizer.workload import Workload
from synthesizer.workloads import Workloads

# At which a cluster's resolver listens: everybody's, OpenShift's dns-default, vcluster's CoreDNS (chart, corefile).
DNS_PORTS = frozenset({53, 5353, 1053})
_NODE_LOCAL_DNS = "169.254.20.10"  # Kubernetes, "Using NodeLocal DNSCache in Kubernetes Clusters"
# Service ranges that the distributions use when nobody chooses one (kubeadm, EKS, k3s, OpenShift, GKE, Kubespray,
# MicroK8s; kubeadm's and kind's for IPv6, k3s' for IPv6): with no inventory a private address in one of them is a
# ClusterIP far more likely than a server outside.
_USUAL_SERVICE_RANGES = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.96.0.0/12", "172.20.0.0/16", "10.100.0.0/16", "10.43.0.0/16", "172.30.0.0/16", "34.118.224.0/20"),
            *("10.233.0.0/18", "10.152.183.0/24", "fd00:10:96::/112", "2001:cafe:43::/112"),
        ),
    )
)
_UNNAMED = entity("unmanaged")
# Where API servers listen: 443 in front of managed ones (EKS, GKE, AKS), 6443 by default (kubeadm, k3s), 8443 in
# minikube (--apiserver-port), 16443 in MicroK8s ("Services and ports"), 60002 in Tencent's TKE (imroc/tke-guide: Cilium
# is installed with k8sServicePort=60002 there).
_API_PORTS = frozenset({443, 6443, 8443, 16443, 60002})


class End(NamedTuple):
    """A party that an end of a pattern stands for, its records, and the pods or addresses that identified it."""

    party: Party
    records: int
    names: tuple[str, ...] = ()


class Arrival(NamedTuple):
    """Who answers a connection, at which port, and through which Service ("" for none)."""

    party: Party
    port: int
    via: str = ""


class Resolver:
    """Knows the workloads, the nodes and the ranges of one cluster."""

    def __init__(self, sightings: Mapping[Endpoint, Sighting], workloads: Workloads, inventory: Inventory) -> None:
        self.workloads = workloads
        self.inventory = inventory
        self.nodes = set(inventory.node_addresses)
        for endpoint, sighting in sightings.items():
            if endpoint.kind == "entity" and endpoint.entity in NODE_ENTITIES:
                self.nodes |= {seen.partition("|")[2] for seen in sighting.pods} - {"", _NODE_LOCAL_DNS}
        self.services = _services(sightings)
        self.unnamed = {seen.partition("|")[2] for seen in sightings.get(_UNNAMED, Sighting()).pods}
        seen_pods = set(workloads.by_address)
        # Cilium and kubenet give each node a /24 of pod addresses; without an inventory we guess no further.
        self.pod_ranges = {_around(a) for a in seen_pods}
        self.node_ranges = {_around(a) for a in self.nodes}
        self.places: dict[str, Party] = {}  # by address, of those that were asked for

    def ends(self, endpoint: Endpoint, evidence: Evidence, opener: bool, pattern: Pattern) -> list[End]:
        """The parties an endpoint stands for."""
        workload = self.workloads.of.get(endpoint)
        seen = evidence.sources if opener else evidence.destinations
        records = sum(evidence.signals.values())
        if workload is not None:
            return [End(workload, records)]
        if endpoint.kind == "entity":
            return self._entity(endpoint, seen.items(), opener, pattern, records)
        if endpoint.kind == "address" and endpoint.workload:
            return [End(self.place(endpoint.workload), records)]
        account = self.workloads.accounts.get(endpoint)
        parties: dict[str, tuple[Party, list[tuple[str, int]]]] = {}
        for address, count in seen.items():
            party = self.place(address)
            if account is not None and not _holds(party, account):
                party = account
            if endpoint.kind == "service" and not isinstance(party, Workload):
                party = Outside(Place.UNRESOLVED, address, f"Service {endpoint.namespace}/{endpoint.workload}")
            parties.setdefault(party_key(party), (party, []))[1].append((address, count))
        return [
            End(party, sum(count for _, count in told), tuple(address for address, _ in told))
            for party, told in parties.values()
        ] or [End(Outside(Place.UNRESOLVED, "", "neither an identity nor an address"), records)]

    def _entity(
        self, endpoint: Endpoint, seen: list[tuple[str, int]], opener: bool, pattern: Pattern, records: int
    ) -> list[End]:
        secret = [(a, count) for a, count in seen if not opener and _is_address(a) and is_metadata(a)]
        if secret:  # served on the node, as GKE does, it is no less the metadata service
            rest = [item for item in seen if item not in secret]
            asked_for = [End(Outside(Place.METADATA, address), count) for address, count in secret]
            return asked_for + (self._entity(endpoint, rest, opener, pattern, records) if rest else [])
        name = endpoint.entity
        if name == "kube-apiserver" and not opener and pattern.port not in _API_PORTS:
            name = "remote-node"  # another port of a control-plane node
        if name == "kube-apiserver":
            return [
                End(Outside(Place.API_SERVER, address), count) for address, count in seen if _is_address(address)
            ] or [End(Outside(Place.API_SERVER), records)]
        places = {"host": Place.OWN_NODE, "remote-node": Place.NODE, "health": Place.HEALTH, "ingress": Place.INGRESS}
        if name in places:
            if not opener and any(address == _NODE_LOCAL_DNS for address, _ in seen) and pattern.port == 53:
                return [End(Outside(Place.LINK_LOCAL, _NODE_LOCAL_DNS), records)]
            asked = not opener and pattern.port in DNS_PORTS  # a resolver in the host's network has to be named
            if asked or (opener and places[name] is Place.NODE):  # behind a published port each masks outsiders
                told = [End(Outside(places[name], address), count) for address, count in seen if _is_address(address)]
                return told or [End(Outside(places[name]), records)]
            return [End(Outside(places[name]), records)]
        return [End(Outside(Place.UNRESOLVED, "", f"Cilium identity {name}"), records)]

    def place(self, address: str) -> Party:
        """Who or what is at an address. (Records without an address have a pod's name here, which is unresolved.)"""
        known = self.places.get(address)
        if known is None:
            known = self.places[address] = self._place(address)
        return known

    def _place(self, address: str) -> Party:
        if not address or not _is_address(address):
            return Outside(Place.UNRESOLVED, "", "no address in the record")
        if address in self.workloads.by_address:
            workload = self.workloads.by_address[address]
            return workload or Outside(Place.UNRESOLVED, address, "several workloads used this address")
        if is_metadata(address):
            return Outside(Place.METADATA, address)
        if address in AMBIENT_PROBES:
            return Outside(Place.PROBE, address)
        if address in self.nodes:
            return Outside(Place.NODE)
        if address in self.services:
            names = " and ".join(sorted("/".join(name) for name in self.services[address]))
            return Outside(Place.UNRESOLVED, address, f"the address of Service {names}")
        known = self.inventory.owner_of_address(address)
        if known == "service":
            return Outside(Place.UNRESOLVED, address, "a Service's address")
        if known == "node":
            return Outside(Place.NODE)
        if known == "pod":
            return Outside(Place.UNRESOLVED, address, "inside the pod range, but no known pod has it")
        if address in self.unnamed:
            return Outside(Place.UNRESOLVED, address, "a pod that the records do not name; an --inventory may tell")
        one = parsed(address)
        if one.is_link_local:
            return Outside(Place.LINK_LOCAL, address)
        if one.is_loopback or one.is_multicast or one.is_unspecified or _broadcast(one):
            return Outside(Place.UNRESOLVED, address, "not an address that a policy can name")
        if _around(address) in self.pod_ranges:
            return Outside(Place.UNRESOLVED, address, "beside pod addresses, but no known pod has it")
        if _around(address) in self.node_ranges:
            return Outside(Place.UNRESOLVED, address, "beside node addresses")
        if not self.inventory.service_cidrs and any(
            one in net for net in _USUAL_SERVICE_RANGES if net.version == one.version
        ):
            return Outside(
                Place.UNRESOLVED, address, "inside a usual Service range; Services in --inventory would tell"
            )
        return Outside(Place.EXTERNAL, address)

    def behind(self, party: Party, pattern: Pattern) -> list[Arrival]:
        """What is behind a party: for a Service its workloads and their pod ports, else the party itself."""
        if isinstance(party, Workload):
            return [Arrival(party, pattern.port, self._called(party, pattern))]
        endpoint, port = pattern.destination, pattern.port
        services = self._services_at(party.address, endpoint)
        found = self._answered(services, pattern) or [
            Arrival(self.workloads.of_object(item), number, str(service))
            for service in services
            for item, number in self.inventory.target_ports(service, pattern.protocol, port)
        ]
        found = found or [
            Arrival(workload, number, str(service))
            for service in services
            for workload, number in self.workloads.reach.arrivals(
                service, pattern.protocol, port, pattern.source.cluster
            )
        ]
        if endpoint.kind == "service" and not found:  # an upstream address is a pod's: the port is the pod's already
            found = [
                Arrival(self.workloads.of_object(item), port, str(service))
                for service in services
                for item in self.inventory.backends(service)
            ]
            namesake = self.workloads.named(endpoint.namespace, endpoint.workload)
            if not found and namesake is not None:
                return [Arrival(namesake, port, f"{endpoint.namespace}/{endpoint.workload}")]
        return found or self._outside_behind(services, pattern) or [Arrival(party, port)]

    def _called(self, workload: Workload, pattern: Pattern) -> str:
        """The Service whose waypoint led to a pod: its log has the Service by name and the pod by address."""
        endpoint = pattern.destination
        if endpoint.kind != "service" or not any(name.endswith(":waypoint") for name in pattern.evidence.signals):
            return ""
        front = self.inventory.service(endpoint.namespace, endpoint.workload)
        backends = self.inventory.backends(front) if front is not None else ()
        return str(front) if any(item.key == workload.object_key for item in backends) else ""

    def _outside_behind(self, services: list[ServiceObject], pattern: Pattern) -> list[Arrival]:
        """The addresses behind Services without selector: a database outside, or the API server's own."""
        found: list[Arrival] = []
        for service in services:
            api_server = (service.namespace, service.name) == ("default", "kubernetes")
            for address, number in self.inventory.outer_ends(service, pattern.protocol, pattern.port):
                party = Outside(Place.API_SERVER, address) if api_server else self.place(address)
                found.append(Arrival(party, number, str(service)))
        return found

    def _answered(self, services: list[ServiceObject], pattern: Pattern) -> list[Arrival]:
        """What a waypoint led to: its log has the port of the pod that answered, not the Service's."""
        if not any(name == "answered:waypoint" for name in pattern.evidence.signals):
            return []
        protocol = pattern.protocol
        found = {
            (item.key, number, str(service)): Arrival(self.workloads.of_object(item), number, str(service))
            for service in services
            for entry in service.ports
            for item, number in self.inventory.target_ports(service, protocol, entry.port)
            if (entry.protocol, number) == (protocol, pattern.port)
        }
        return [found[key] for key in sorted(found)]

    def _services_at(self, address: str, endpoint: Endpoint) -> list[ServiceObject]:
        """The Services with an address, by the inventory, or else by the flows or by the name that a proxy gave."""
        services = self.inventory.services_of_address(address) if address else []
        if services:
            return services
        names = self.services.get(address, set())
        if endpoint.kind == "service":
            names = {(endpoint.namespace, endpoint.workload)}
        known = (self.inventory.service(*name) for name in sorted(names))
        return [service for service in known if service is not None]


def _services(sightings: Mapping[Endpoint, Sighting]) -> dict[str, set[tuple[str, str]]]:
    """(namespace, name) of Services by address, as the flows report them."""
    found: dict[str, set[tuple[str, str]]] = {}
    for endpoint, sighting in sightings.items():
        if endpoint.kind == "service":
            for seen in sighting.pods:
                found.setdefault(seen.partition("|")[2], set()).add((endpoint.namespace, endpoint.workload))
    return found


@lru_cache(maxsize=1 << 16)
def _is_address(text: str) -> bool:
    try:
        parsed(text)
    except ValueError:
        return False
    return "%" not in text  # a zone is one node's own affair: no policy can name it


def _broadcast(address: Address) -> bool:
    """255.255.255.255 and the rest of 240.0.0.0/4, which nobody routes (RFC 1112)."""
    return address.version == 4 and address.is_reserved


def _holds(party: Party, account: Workload) -> bool:
    """Whether a party runs under a service account."""
    if not isinstance(party, Workload) or party.namespace != account.namespace:
        return False
    return party.service_account == account.service_account


def _around(address: str) -> tuple[int, int]:
    """The /24 or /120 around an address."""
    one = parsed(address)
    return one.version, int(one) >> 8
