"""CiliumNetworkPolicy documents → the same immutable policies as NetworkPolicy, where they name entities only.

Invariant: a policy with anything else in it (endpoints, CIDRs, names, layer 7, denials, a default of its own) is not
read at all and is listed as unjudged; half a policy would mean something else.

Source of the rules: Cilium, "Layer 3 Policies" and "Layer 4 Policies"; pkg/policy/api.
"""

from __future__ import annotations

from typing import Any

from leastway.verify.errors import PolicyError
from leastway.verify.networkpolicy_schema import PROTOCOLS, Entities, NetworkPolicy, Ports, Rule
from leastway.verify.reading import Document, identity
from leastway.verify.selectors import Selector, read_selector

CILIUM = "CiliumNetworkPolicy"
ENTITIES = frozenset({"host", "remote-node", "kube-apiserver", "ingress"})  # those that are neither pods nor addresses


class _BeyondError(Exception):
    """The policy says something that is not modelled."""


def is_cilium(document: Document) -> bool:
    """True for a namespace's CiliumNetworkPolicy."""
    version = document.get("apiVersion", "")
    return document.get("kind") == CILIUM and isinstance(version, str) and version.startswith("cilium.io/")


def read_cilium_policy(document: Document, existing: bool = False) -> NetworkPolicy | None:
    """Parse a CiliumNetworkPolicy; None if it says more than which entities may call or be called, at which ports."""
    _, namespace, name = identity(document)
    try:
        spec = _fields(document.get("spec"), {"endpointSelector", "ingress", "egress", "description"})
        if "specs" in document or "endpointSelector" not in spec:
            raise _BeyondError
        selector = _selector(spec["endpointSelector"], f"{CILIUM} {namespace}/{name} spec.endpointSelector")
        ingress = _rules(spec.get("ingress"), "fromEntities")
        egress = _rules(spec.get("egress"), "toEntities")
    except (_BeyondError, PolicyError):
        return None
    # A section without rules isolates nothing, like an absent one (pkg/policy/api, EnableDefaultDeny).
    return NetworkPolicy(namespace, name, selector, ingress or None, egress or None, existing, CILIUM)


def _selector(value: object, where: str) -> Selector:
    """A label selector. The prefixes `k8s:` and `any:` of keys name the source of a label; both match pods' labels."""
    found = read_selector(
        {
            key: {_key(label): item for label, item in part.items()}
            if isinstance(part, dict)
            else [{**_fields(e, {"key", "operator", "values"}), "key": _key(e.get("key"))} for e in _list(part)]
            for key, part in _fields(value, {"matchLabels", "matchExpressions"}).items()
        },
        where,
    )
    if any(key.startswith(("io.kubernetes.pod.", "io.cilium.")) for key, _ in found.pairs):
        raise _BeyondError  # Cilium's own labels are no pod's
    return found


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise _BeyondError
    return key.removeprefix("k8s:").removeprefix("any:")


def _rules(value: object, side: str) -> tuple[Rule, ...]:
    return tuple(_rule(_fields(item, {side, "toPorts"}), side) for item in _list(value))


def _rule(rule: dict[str, Any], side: str) -> Rule:
    names = _list(rule.get(side))
    if not names or not all(isinstance(name, str) and name in ENTITIES for name in names):
        raise _BeyondError
    listed = [_fields(entry, {"ports"}) for entry in _list(rule.get("toPorts"))]
    ports = [port for entry in listed for item in _list(entry.get("ports")) for port in _ports(item)]
    if listed and not ports:
        raise _BeyondError
    return Rule((Entities(tuple(names)),), tuple(ports) or None)


def _ports(value: object) -> list[Ports]:
    found = _fields(value, {"port", "endPort", "protocol"})
    port, protocol = found.get("port"), found.get("protocol") or "ANY"
    if not isinstance(port, str) or not port.isascii() or not port.isdigit() or protocol not in (*PROTOCOLS, "ANY"):
        raise _BeyondError
    low = int(port)
    high = found.get("endPort") or low
    if not isinstance(high, int) or not 0 < low <= high < 65536:
        raise _BeyondError
    return [Ports(each, low, high) for each in (PROTOCOLS if protocol == "ANY" else (protocol,))]


def _fields(value: object, allowed: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or not value.keys() <= allowed:
        raise _BeyondError
    return value


def _list(value: object) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise _BeyondError
    return value or []
