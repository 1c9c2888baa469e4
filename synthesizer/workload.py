"""A workload: the party that policies are about.

Invariant: there is one object per workload, so workloads may be compared by identity.
"""

from __future__ import annotations

import msgspec

from collector.endpoints import Labels
from synthesizer.inventory import Key

WorkloadKey = tuple[str, str, str]
"""A workload's cluster, namespace and name."""


class Workload(msgspec.Struct, eq=False):
    """One set of interchangeable pods. Compared by identity: there is one object per workload.

    `selector` is () when nothing can select it (`selectable` false). `also_selects` names workloads of the namespace
    that no selector can keep apart from this one. `observed` tells which sources saw it ("hubble", "istio-json", ...).
    """

    namespace: str
    name: str
    kind: str = ""
    cluster: str = ""
    labels: Labels = ()
    selector: Labels = ()
    selectable: bool = False
    service_account: str = ""
    host_network: bool = False
    mesh: str = ""
    ports: frozenset[tuple[str, int]] = frozenset()
    also_selects: tuple[str, ...] = ()
    observed: frozenset[str] = frozenset()
    known: bool = False  # from the inventory
    object_key: Key = ("", "", "")  # of the inventory's object, whose name another kind may share
    seen_as: Workload | None = None  # the one that shares its observation: flows show the same labels of both
    alike: tuple[Workload, ...] = ()  # those that were seen as this one
    policy_name: str = ""  # what its policies are called, unique in the namespace
    pods: tuple[str, ...] = ()

    @property
    def key(self) -> WorkloadKey:
        """What sorts and identifies it."""
        return (self.cluster, self.namespace, self.name)

    @property
    def covered(self) -> bool:
        """Whether it was seen as another workload whose policies select its pods as well."""
        return self.seen_as is not None and self.name in self.seen_as.also_selects

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
