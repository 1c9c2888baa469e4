"""Which address ranges and Services the cluster's own machinery uses: nodes, pods, ClusterIPs, webhooks.

Invariant: nothing is invented. A range is one that an object declares, or the smallest one around the ClusterIPs of the
objects, and that only if it is no wider than Service ranges are in practice.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from synthesizer.kubernetes_fields import addresses, mapping, number, sequence, text
from synthesizer.kubernetes_files import Document
from synthesizer.kubernetes_objects import ServiceObject

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where clouds hand credentials to whoever asks, by their own documentation and cloud-init's data sources.
METADATA = frozenset(
    {"169.254.169.254", "fe80::a9fe:a9fe"}  # AWS, GCP, Azure, OpenStack and most others
    | {"fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"}  # AWS on IPv6; ECS, EKS pod identity
    | {"fd20:ce::254"}  # GCP on IPv6
    | {"168.63.129.16"}  # Azure's WireServer, which configures the node
    | {"192.0.0.192", "fd00:c1::a9fe:a9fe"}  # Oracle's older regions, Oracle on IPv6
    | {"100.100.100.200", "fd00:100::100:200"}  # Alibaba
    | {"169.254.42.42", "fd00:42::42"}  # Scaleway
    | {"169.254.0.23", "169.254.10.10"}  # Tencent
    | {"fd00:a9fe:a9fe::1"}  # Akamai
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits
# The source that kubelet's probes of ambient pods seem to have, by IP version (istio, cni/README.md).
AMBIENT_PROBE = {4: "169.254.7.127", 6: "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"}
AMBIENT_PROBES = frozenset(AMBIENT_PROBE.values())
ENOUGH_SERVICES = 3  # ClusterIPs needed to infer a range
WIDEST_SERVICES = {4: 12, 6: 108}  # the API server accepts no Service range wider than 20 bits


@lru_cache(maxsize=1 << 16)
def parsed(text: str) -> Address:
    """An IP address; raises ValueError when the text is none."""
    return ipaddress.ip_address(text)


@lru_cache(maxsize=1 << 16)
def is_metadata(ip: str) -> bool:
    """Whether a cloud's metadata service is at an address (in its canonical form), or behind NAT64's form of it."""
    one = parsed(ip)
    return ip in METADATA or (one in _NAT64 and str(ipaddress.IPv4Address(int(one) & 0xFFFFFFFF)) in METADATA)


class Ranges:
    """A set of networks; the cost of a lookup depends only on how many prefix lengths there are."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._starts: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            self._starts.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def __contains__(self, ip: str) -> bool:
        if not self._starts:
            return False
        address = parsed(ip)
        return any(
            version == address.version and int(address) >> shift in starts
            for (version, shift), starts in self._starts.items()
        )


def node_addresses(documents: Iterable[Document]) -> frozenset[str]:
    """Addresses of nodes, from Node objects and from the pods that run on them."""
    found: set[str] = set()
    for document in documents:
        status = mapping(document, "status")
        if document["kind"] == "Node":
            found.update(addresses([mapping(entry).get("address") for entry in sequence(status, "addresses")]))
        elif document["kind"] == "Pod":
            more = [mapping(entry).get("ip") for entry in sequence(status, "hostIPs")]
            found.update(addresses([status.get("hostIP"), *more]))
    return frozenset(found)


def pod_networks(documents: Iterable[Document]) -> tuple[Network, ...]:
    """Pod ranges of Node and CiliumNode objects, joined where they touch."""
    values: list[object] = []
    for document in documents:
        spec = mapping(document, "spec")
        if document["kind"] == "Node":
            values += [*sequence(spec, "podCIDRs"), spec.get("podCIDR")]
        elif document["kind"] == "CiliumNode":
            values += sequence(spec, "ipam", "podCIDRs")
    return collapsed(values)


def service_networks(documents: Iterable[Document], services: Iterable[ServiceObject]) -> tuple[Network, ...]:
    """Ranges of ClusterIPs: those of ServiceCIDR objects, else the smallest around the known ones, if not too wide."""
    declared: list[object] = []
    for document in documents:
        if document["kind"] == "ServiceCIDR":
            declared += sequence(document, "spec", "cidrs")
    found = list(collapsed(declared))
    known = [ipaddress.ip_address(ip) for item in services for ip in item.cluster_ips]
    for version, widest in WIDEST_SERVICES.items():
        numbers = {int(ip) for ip in known if ip.version == version}
        if len(numbers) < ENOUGH_SERVICES or any(network.version == version for network in found):
            continue
        bits = 32 if version == 4 else 128
        length = bits - (min(numbers) ^ max(numbers)).bit_length()
        if length >= widest:
            network = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
            found.append(network((min(numbers), length), strict=False))
    return tuple(found)


def webhook_services(documents: Iterable[Document]) -> frozenset[tuple[str, str, int]]:
    """(namespace, Service, Service port) that the API server calls: webhooks of both sorts, aggregated APIs."""
    found: set[tuple[str, str, int]] = set()
    for document in documents:
        kind = document["kind"]
        if kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
            called = [mapping(hook, "clientConfig", "service") for hook in sequence(document, "webhooks")]
        elif kind == "APIService":
            called = [mapping(document, "spec", "service")]
        elif kind == "CustomResourceDefinition":
            called = [mapping(document, "spec", "conversion", "webhook", "clientConfig", "service")]
        else:
            continue
        for service in called:
            if text(service.get("namespace")) and text(service.get("name")):
                port = number(service.get("port")) or 443  # the API's default (admissionregistration, ServiceReference)
                found.add((service["namespace"], service["name"], port))
    return frozenset(found)


def collapsed(values: Iterable[object]) -> tuple[Network, ...]:
    """Networks, sorted, joined where they touch; what is none is left out."""
    v4: list[ipaddress.IPv4Network] = []
    v6: list[ipaddress.IPv6Network] = []
    for value in values:
        try:
            network = ipaddress.ip_network(text(value), strict=False)
        except ValueError:
            continue
        if isinstance(network, ipaddress.IPv4Network):
            v4.append(network)
        else:
            v6.append(network)
    return (*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6))
