"""The boutique of np-guard/netpol-analyzer's `new_online_boutique` and `new_online_boutique_synthesis`, re-authored.

Both state who calls whom: the first closes ingress alone, the second both ways, with DNS that no pod here answers. The
calls are one table; the policies and the rows of a case follow from it as the originals' do.
"""

from __future__ import annotations

from leastway.verify.reading import Document
from tests.verify.npguard_cases import ANY, Case, about, chosen, into, onto, peer

CALLS = {
    ("frontend", "ad"): 9555, ("frontend", "cart"): 7070, ("frontend", "checkout"): 5050,
    ("frontend", "currency"): 7000, ("frontend", "catalog"): 3550, ("frontend", "recommendation"): 8080,
    ("frontend", "shipping"): 50051, ("checkout", "cart"): 7070, ("checkout", "currency"): 7000,
    ("checkout", "email"): 8080, ("checkout", "payment"): 50051, ("checkout", "catalog"): 3550,
    ("checkout", "shipping"): 50051, ("recommendation", "catalog"): 3550, ("load", "frontend"): 8080,
}  # fmt: skip
NAMES = sorted({name for call in CALLS for name in call})
PODS = {f"default/{name}": {"app": name} for name in NAMES}
GATEWAY = peer(chosen("app:asm-ingressgateway"), chosen("name:asm-ingress"))


def app(name: str) -> Document:
    return peer(chosen(f"app:{name}"))


def closed_inwards(name: str) -> Document:
    """Callers are peers of one rule, and egress is all open; the load generator has egress only."""
    of, callers = chosen(f"app:{name}"), [caller for caller, called in CALLS if called == name]
    if not callers:
        return about(f"default/{name}", of, "E", egress=[onto()])
    port = next(port for (_, called), port in CALLS.items() if called == name)
    peers = [app(caller) for caller in callers] + ([GATEWAY] if name == "frontend" else [])
    return about(f"default/{name}", of, "IE", ingress=[into(f"TCP {port}", *peers)], egress=[onto()])


def closed(name: str) -> Document:
    """Each call is a rule at either end, without its protocol; whoever calls may ask DNS."""
    ingress = [into(str(port), app(caller)) for (caller, called), port in CALLS.items() if called == name]
    egress = [onto(str(port), app(called)) for (caller, called), port in CALLS.items() if caller == name]
    dns = [onto("UDP 53", peer(chosen("k8s-app:kube-dns"), ANY))] if egress else []
    return about(f"default/{name}", chosen(f"app:{name}"), "IE", ingress=ingress, egress=egress + dns)


def rows(*more: str) -> str:
    calls = [f"default/{caller} => default/{called} : TCP {port}" for (caller, called), port in CALLS.items()]
    return "\n".join([*calls, *more])


CASES = [
    Case("new_online_boutique", PODS, [closed_inwards(name) for name in NAMES],
         rows("* => default/load : All Connections", "* => default/* : No Connections", "* => * : All Connections")),
    Case("new_online_boutique_synthesis", PODS, [closed(name) for name in NAMES], rows("* => * : No Connections")),
]  # fmt: skip
