"""What the user can choose about the synthesis.

Invariant: whatever changes the output, and is neither traffic nor inventory, is here.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

CNI = Literal["generic", "cilium", "calico"]
Mesh = Literal["none", "sidecar", "ambient"]
TRUST_DOMAIN = "cluster.local"  # Istio's default

# Namespaces of the cluster's own machinery: a wrong rule there takes the cluster down, so users must ask for them.
SYSTEM_NAMESPACES = frozenset(
    {
        "calico-apiserver",
        "calico-system",
        "cert-manager",
        "cilium",
        "cilium-secrets",
        "gatekeeper-system",
        "gke-managed-system",
        "gmp-system",
        "istio-system",
        "kube-flannel",
        "kube-node-lease",
        "kube-public",
        "kube-system",
        "linkerd",
        "local-path-storage",
        "metallb-system",
        "tigera-operator",
    }
)
_SYSTEM_PREFIXES = ("openshift-", "gke-", "aks-")


def valid_trust_domain(name: str) -> bool:
    """A SPIFFE trust domain's name (SPIFFE ID, section 2.1): at most 255 of a-z, 0-9, dot, dash and underscore."""
    return re.fullmatch(r"[a-z0-9._-]{1,255}", name) is not None


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from", "destination": "to"}):
    """A connection that must work although it may never be observed: a monthly job, a failover.

    `source` and `destination` are `namespace/workload`, or one of them an address or CIDR.
    """

    source: str
    destination: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    because: str = ""


class Options(msgspec.Struct, frozen=True):
    """`namespaces` empty = every namespace but the system ones. `accepted` holds ids of review items. An empty
    `trust_domain` is filled in from the inventory (`leastway.pipeline`)."""

    cni: CNI = "generic"
    mesh: Mesh = "none"
    trust_domain: str = TRUST_DOMAIN
    namespaces: tuple[str, ...] = ()
    accepted: frozenset[str] = frozenset()
    declared: tuple[Declared, ...] = ()

    def wants(self, namespace: str) -> bool:
        """Whether policies are to be written for a namespace."""
        if self.namespaces:
            return namespace in self.namespaces
        return namespace not in SYSTEM_NAMESPACES and not namespace.startswith(_SYSTEM_PREFIXES)
