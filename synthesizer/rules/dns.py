"""Names must resolve: who the cluster's resolver is, and the rule that every isolated namespace needs.

Invariant: a resolver is always opened over both protocols, since truncated answers are asked for again over TCP, and at
the resolver pod's port (53; 5353 on OpenShift). Source: Kubernetes, "DNS for Services and Pods"; NodeLocal DNSCache.
"""

from __future__ import annotations

import ipaddress

from synthesizer.address_ranges import parsed
from synthesizer.intent import BlockPeer, Peer, PodPeer, Port
from synthesizer.lines import Line
from synthesizer.party import Place
from synthesizer.resolver import DNS_PORTS
from synthesizer.workload import Workload
from synthesizer.workloads import Workloads

_RESOLVER_LABELS = frozenset(
    {
        ("k8s-app", "kube-dns"),
        ("k8s-app", "coredns"),
        ("k8s-app", "node-local-dns"),
        ("app.kubernetes.io/name", "coredns"),
        ("app", "coredns"),
        ("dns.operator.openshift.io/daemonset-dns", "default"),
    }
)
_SYSTEM = ("kube-system", "openshift-dns")
_HOSTS = (Place.NODE, Place.OWN_NODE)  # where a resolver on the host network is
KUBE_DNS: Peer = PodPeer("kube-system", (("k8s-app", "kube-dns"),))

Resolver = tuple[Peer, int]


def is_resolver(workload: Workload) -> bool:
    """Whether a workload is the cluster's own resolver."""
    named = workload.name.startswith(("coredns", "kube-dns", "node-local-dns", "dns-default"))
    system = workload.namespace in _SYSTEM
    return bool(_RESOLVER_LABELS & set(workload.labels)) or (system and named)


def resolver_of(line: Line) -> Resolver | None:
    """The resolver that a line asks, if it is a question to the cluster's DNS."""
    destination = line.destination
    if line.port not in DNS_PORTS or line.protocol not in ("UDP", "TCP"):
        return None
    if isinstance(destination, Workload):
        if is_resolver(destination) and destination.selectable:
            return PodPeer(destination.namespace, destination.selector), line.port
    elif destination.place is Place.LINK_LOCAL or (destination.place in _HOSTS and destination.address):
        return BlockPeer(str(ipaddress.ip_network(destination.address))), line.port
    return None


def known(workloads: Workloads) -> set[Resolver]:
    """The resolver that the inventory holds: what is behind the system's Services for lookups, whatever its labels are;
    without one, what is called like a resolver there; kube-dns, if there is neither.
    """
    inventory = workloads.inventory
    behind = {
        (workloads.of_object(item), number)
        for service in inventory.services
        if service.namespace in _SYSTEM
        for item, number in inventory.target_ports(service, "UDP", 53)
    }
    called = {
        (workload, number)
        for workload in workloads.all
        if workload.known and workload.namespace in _SYSTEM and is_resolver(workload)
        for protocol, number in workload.ports
        if protocol == "UDP" and number in DNS_PORTS
    }
    for found in (behind, called):
        if peers := {(PodPeer(w.namespace, w.selector), n) for w, n in found if w.selectable and not w.host_network}:
            return {*peers}
    return {(KUBE_DNS, 53)}


def permissions(resolvers: set[Resolver], otherwise: set[Resolver]) -> set[tuple[Peer, Port]]:
    """What a namespace needs so that names resolve: those it asked, and `otherwise` if it was seen asking nobody, or
    the node's cache alone: without the cache, lookups go to the cluster's resolver (NodeLocal DNSCache).
    """
    cached = all(
        isinstance(peer, BlockPeer) and parsed(peer.cidr.partition("/")[0]).is_link_local for peer, _ in resolvers
    )
    chosen = resolvers | otherwise if cached else resolvers
    return {(peer, Port(protocol, port)) for peer, port in chosen for protocol in ("TCP", "UDP")}
