"""Ends that a NetworkPolicy cannot name, or cannot name on every CNI.

Invariant: each objection says why the end cannot be named; where something else can name it, it says what.
"""

from __future__ import annotations

from synthesizer.lines import Line, via_waypoint
from synthesizer.party import Outside, Place
from synthesizer.rules import dns
from synthesizer.rules.entities import entities
from synthesizer.rules.view import Held, View
from synthesizer.workload import Workload


def unresolved(line: Line, _view: View) -> Held | None:
    """Hold an address of unknown owner; an ipBlock for a pod, node or Service address would be wrong tomorrow."""
    for party in (line.source, line.destination):
        if isinstance(party, Outside) and party.place is Place.UNRESOLVED:
            return Held("unresolved", f"it cannot be told who is at the other end: {party.because}", acceptable=False)
    return None


def other_cluster(line: Line, view: View) -> Held | None:
    """Hold ends in two clusters: only Cilium matches labels across clusters, a portable NetworkPolicy does not."""
    ends = [party for party in (line.source, line.destination) if isinstance(party, Workload)]
    if view.cni == "cilium" or len({party.cluster for party in ends if party.cluster}) < 2:
        return None
    where = " to ".join(f"{party} in {party.cluster}" for party in ends)
    return Held("other-cluster", f"it goes from {where}; NetworkPolicy ends at the cluster", acceptable=False)


def through_waypoint(line: Line, _view: View) -> Held | None:
    """Hold what went through a waypoint: the network sees two legs, the client's to the waypoint and the waypoint's."""
    if not via_waypoint(line):
        return None
    why = "it goes through a waypoint; the network layer is learned from Hubble flows of the two legs"
    return Held("waypoint", why, acceptable=False)


def nodes(line: Line, view: View) -> Held | None:
    """Hold nodes, which NetworkPolicy cannot name, unless they stand for the internet behind a published port (SNAT).

    (Kubernetes, "Using Source IP".) On Cilium no ipBlock matches a node, not even 0.0.0.0/0, but nodes are entities.
    Elsewhere a resolver on the host network is named by its address, like the API server: a namespace that cannot
    resolve names is down.
    """
    if entities(line, view.cni):
        return None
    source, destination = line.source, line.destination
    if isinstance(source, Outside) and source.place is Place.NODE and isinstance(destination, Workload):
        known = source.address or view.workloads.inventory.node_addresses
        if known and view.published(destination, line.protocol, line.port):
            return None
        why = "it comes from another node (host network or SNAT); "
        why += "NetworkPolicy cannot name nodes, CiliumNetworkPolicy can (--cni cilium)"
        if line.protocol == "TCP" and not view.workloads.inventory.webhooks:
            why += "; if it is the API server that calls a webhook, its configuration in --inventory settles it"
        return Held("node", why, acceptable=False)
    if isinstance(destination, Outside) and destination.place in (Place.NODE, Place.OWN_NODE):
        if dns.resolver_of(line) is not None:
            return None
        why = "it goes to a node; NetworkPolicy cannot name nodes, CiliumNetworkPolicy can (--cni cilium)"
        return Held("node", why, acceptable=False)
    return None


def cilium_entities(line: Line, view: View) -> Held | None:
    """Hold Cilium's own identities unless Cilium is said to enforce, and addresses that stand for nobody."""
    if entities(line, view.cni):
        return None
    for party in (line.source, line.destination):
        if not isinstance(party, Outside):
            continue
        if party.place is Place.INGRESS:
            return Held("cilium-ingress", "only Cilium knows its ingress by name: give --cni cilium", acceptable=False)
        if party.place is Place.HEALTH:
            return Held(
                "cilium-health", "Cilium's health endpoint is no address that an ipBlock reaches", acceptable=False
            )
        if party.place is Place.API_SERVER and not party.address:
            why = "the API server's address is not known; an --inventory with the Endpoints of default/kubernetes "
            return Held("kube-apiserver", why + "tells it", acceptable=False)
        asked = party.place is Place.LINK_LOCAL and (line.port != 53 or party is line.source)
        if asked or (party.place is Place.PROBE and party is line.destination):
            return Held("link-local", "link-local addresses belong to the node")
    return None


def unselectable(line: Line, _view: View) -> Held | None:
    """Hold a workload that no selector can pick."""
    for party in (line.source, line.destination):
        if isinstance(party, Workload) and not party.selectable:
            why = "no label that lasts is known of it; give --inventory"
            if party.host_network:
                why = "it runs in the host's network"
            elif party.known:
                why = "its pods have no label that lasts"
            if not party.host_network:
                other = line.destination if party is line.source else line.source
                why += f"; put one into its pod template, or the policies of {other} cut it off"
            return Held("unselectable", f"no selector can pick {party}: {why}", acceptable=False)
    return None
