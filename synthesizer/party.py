"""The parties of communication: workloads, and the places outside that policies can name.

Invariant: wherever parties are written or sorted, `party_key` identifies them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from synthesizer.workload import Workload


class Place(StrEnum):
    """Where the other end is when it is no workload."""

    EXTERNAL = "external"
    NODE = "node"
    OWN_NODE = "own node"
    API_SERVER = "kube-apiserver"
    METADATA = "cloud metadata"
    LINK_LOCAL = "link-local"
    PROBE = "kubelet's probe"  # of an ambient pod
    HEALTH = "cilium health"
    INGRESS = "cilium ingress"
    UNRESOLVED = "unresolved"


class Outside(msgspec.Struct, frozen=True, order=True):
    """An end that is not a workload. `address` is "" if only the place is known; `because` explains the place."""

    place: Place
    address: str = ""
    because: str = ""

    def __str__(self) -> str:
        return f"{self.place.value} {self.address}".strip()


Party = Workload | Outside


def party_key(party: Party) -> str:
    """A party's sortable name, unique among parties."""
    if isinstance(party, Workload):
        return "/".join(("w", *party.key))
    return "/".join(("o", party.place.value, party.address))
