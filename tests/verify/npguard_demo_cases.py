"""The demonstrations of np-guard/netpol-analyzer: `onlineboutique` and `acs-security-demos`, re-authored.

Their policies state who calls whom and close all else, so the calls are one table each, and policies and rows follow
from it. Of `acs-security-demos` the callers outside are here as pods of the router's namespace, whom the policies of
the two published workloads admit: whether a Route or an Ingress names these is no question of NetworkPolicy. Its twins
`acs-security-demos-added-workloads`, `-with-netpol-list` and `-new` differ in workloads that no policy is about, or in
the form of the files. The other directories with Routes or Ingresses have the policies of these, or none.
"""

from __future__ import annotations

from leastway.verify.reading import Document
from tests.verify.npguard_boutique_cases import CALLS as BOUTIQUE
from tests.verify.npguard_cases import ANY, Case, Labels, about, chosen, into, onto, peer

Calls = dict[tuple[str, str], int]
ROUTER = "openshift-ingress/router"
SHOP: Calls = {
    ("backend/checkout", "backend/notification"): 8080, ("backend/checkout", "backend/recommendation"): 8080,
    ("backend/checkout", "payments/gateway"): 8080, ("backend/recommendation", "backend/catalog"): 8080,
    ("backend/reports", "backend/catalog"): 8080, ("backend/reports", "backend/recommendation"): 8080,
    ("frontend/webapp", "backend/checkout"): 8080, ("frontend/webapp", "backend/recommendation"): 8080,
    ("frontend/webapp", "backend/reports"): 8080, ("frontend/webapp", "backend/shipping"): 8080,
    ("payments/gateway", "payments/mastercard-processor"): 8080, ("payments/gateway", "payments/visa-processor"): 8080,
    (ROUTER, "frontend/asset-cache"): 8080, (ROUTER, "frontend/webapp"): 8080,
}  # fmt: skip
OLD_BOUTIQUE: Calls = {
    (f"default/{caller}", f"default/{called}"): port for (caller, called), port in BOUTIQUE.items()
} | {("default/load", "default/frontend"): 8080}  # fmt: skip
REDIS = "default/redis-cart"  # no policy is about it


def by_name(ref: str, own: str) -> Document:
    """A peer: in the policy's own namespace by its label, elsewhere by its namespace as well."""
    space, _, name = ref.partition("/")
    where = None if space == own else chosen(f"kubernetes.io/metadata.name:{space}")
    return peer(chosen(f"app:{name}"), where)


def closed(ref: str, calls: Calls) -> Document:
    """Ingress and egress of one workload, a rule for each call."""
    space, _, name = ref.partition("/")
    ingress = [into(f"TCP {port}", by_name(caller, space)) for (caller, called), port in calls.items() if called == ref]
    egress = [onto(f"TCP {port}", by_name(called, space)) for (caller, called), port in calls.items() if caller == ref]
    return about(ref, chosen(f"app:{name}"), "IE", ingress=ingress, egress=egress)


def everyone(calls: Calls, *more: str) -> dict[str, Labels]:
    refs = sorted({ref for call in calls for ref in call} | set(more))
    return {ref: {"app": ref.partition("/")[2]} for ref in refs}


def rows(calls: Calls, *more: str) -> str:
    return "\n".join([*(f"{one} => {other} : TCP {port}" for (one, other), port in calls.items()), *more])


SHUT = [about(f"{space}/default-deny", ANY, "IE") for space in ("backend", "frontend", "payments")]
CASES = [
    Case(
        "onlineboutique", everyone(OLD_BOUTIQUE, REDIS), [closed(ref, OLD_BOUTIQUE) for ref in everyone(OLD_BOUTIQUE)],
        rows(OLD_BOUTIQUE, f"0.0.0.0-* => {REDIS} : All Connections", f"{REDIS} => 0.0.0.0-* : All Connections",
             "* => * : No Connections"),
    ),
    Case(
        "acs-security-demos", everyone(SHOP),
        SHUT + [closed(ref, SHOP) for ref in everyone(SHOP) if ref != ROUTER],
        rows(SHOP, f"{ROUTER} => 0.0.0.0-* : All Connections", f"0.0.0.0-* => {ROUTER} : All Connections",
             "* => * : No Connections"),
    ),
]  # fmt: skip
