"""What Cilium knows by name although it is no pod: nodes, the API server, its own ingress.

Invariant: an end has names here only on Cilium, where no ipBlock matches it. So a line is written in one way or the
other, never in both. Source: Cilium, "Layer 3 Policies", "Entities based" and "Access to/from kube-apiserver".
"""

from __future__ import annotations

from synthesizer.lines import Line
from synthesizer.party import Outside, Place

# Which node is a pod's own changes when it is rescheduled, so a pod that calls one node may call any.
_CALLED = {
    Place.NODE: ("host", "remote-node"),
    Place.OWN_NODE: ("host", "remote-node"),
    Place.API_SERVER: ("kube-apiserver",),
    Place.INGRESS: ("ingress",),
}
# A pod's own node is always let in, and needs no name.
_CALLING = {Place.NODE: ("remote-node",), Place.API_SERVER: ("kube-apiserver",), Place.INGRESS: ("ingress",)}


def entities(line: Line, cni: str) -> tuple[str, ...]:
    """The entities that a line's end outside the workloads stands for; () if Cilium has none for it.

    Where the control plane is tunnelled, its calls come from a node; so a webhook call that was not seen may come from
    either.
    """
    if cni != "cilium":
        return ()
    if isinstance(line.source, Outside):
        names = _CALLING.get(line.source.place, ())
        unseen = line.source.place is Place.API_SERVER and not line.records
        return (*names, "remote-node") if unseen else names
    return _CALLED.get(line.destination.place, ()) if isinstance(line.destination, Outside) else ()
