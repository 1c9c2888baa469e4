"""Is an end one of the entities that Cilium knows by name?

Invariant: yes and no are certain, whichever node a pod runs on and wherever the API server runs.
Source: Cilium, "Layer 3 Policies", "Entities based".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from leastway.verify.cilium_schema import ENTITIES
from leastway.verify.verdict import End, Tri
from leastway.verify.world import Address

NAMES = tuple(sorted(ENTITIES))
_NODES = frozenset({"host", "remote-node"})
# What else an end may be: the API server runs on a node, or at an address outside.
_PERHAPS = {
    "host": frozenset({"kube-apiserver"}),
    "remote-node": frozenset({"kube-apiserver"}),
    "node": _NODES | {"kube-apiserver"},
    "kube-apiserver": _NODES,
    "world": frozenset({"kube-apiserver"}),
    "": frozenset({"kube-apiserver"}),
    "unknown": _NODES | {"kube-apiserver", "ingress"},
}


def bits_of(names: Iterable[str]) -> int:
    """Entities as bits in the order of `NAMES`; other names are ignored."""
    return sum(1 << NAMES.index(name) for name in {*names} & ENTITIES)


def is_entity(names: tuple[str, ...], peer: End, api_servers: Collection[Address]) -> Tri:
    """Whether an end is one of the entities in `names`. A pod on the host network counts as its node. `api_servers` are
    all addresses of the API server, empty if none is known."""
    if peer.subject is not None and not peer.subject.host_network:
        return False
    entity = "node" if peer.subject is not None else peer.entity
    if entity in names or (entity == "node" and _NODES.issubset(names)):
        return True
    perhaps = _PERHAPS.get(entity, frozenset())
    if peer.address is not None and api_servers:
        if peer.address in api_servers and "kube-apiserver" in names:
            return True
        perhaps -= {"kube-apiserver"}
    return None if perhaps.intersection(names) else False
