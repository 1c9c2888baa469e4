"""NetworkPolicy documents → immutable policies.

Invariant: what the API server would reject is an error that names object and field. Null and empty are kept apart
wherever they mean different things.

Source of the rules: kubernetes/api networking/v1/types.go and the Kubernetes validation of the same kind.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, NamedTuple

from leastway.verify.errors import PolicyError
from leastway.verify.reading import Document, identity, mapping, network, optional, sequence, text, texts
from leastway.verify.selectors import EVERYTHING, Selector, read_selector

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PROTOCOLS = ("TCP", "UDP", "SCTP")
KINDS = {
    ("NetworkPolicy", "networking.k8s.io"),
    ("NetworkPolicy", "extensions"),
    ("StagedKubernetesNetworkPolicy", "projectcalico.org"),
}
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", re.ASCII)


class Block(NamedTuple):
    """An ipBlock peer."""

    network: Network
    excepts: tuple[Network, ...]

    def __str__(self) -> str:
        return f"ipBlock {self.network}" + (f" except {', '.join(map(str, self.excepts))}" if self.excepts else "")


class Pods(NamedTuple):
    """A pod peer: `namespaces` None means the policy's own namespace; `pods` selects within them."""

    namespaces: Selector | None
    pods: Selector

    def __str__(self) -> str:
        where = "own namespace" if self.namespaces is None else f"namespaces {self.namespaces}"
        return f"pods {self.pods} in {where}"


class Entities(NamedTuple):
    """Cilium's entities, by name."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"entities {', '.join(self.names)}"


class Ports(NamedTuple):
    """One port entry: numbers `low` to `high` inclusive (1 to 65535 if no port is given), or a container port's
    name."""

    protocol: str
    low: int
    high: int
    name: str = ""

    def __str__(self) -> str:
        if self.name or self.low == self.high:
            return f"{self.name or self.low}/{self.protocol}"
        return (
            f"all {self.protocol} ports"
            if (self.low, self.high) == (1, 65535)
            else f"{self.low}-{self.high}/{self.protocol}"
        )


Peer = Block | Pods | Entities


class Rule(NamedTuple):
    """`peers` None admits everyone, pods or not; `ports` None every port of every protocol."""

    peers: tuple[Peer, ...] | None
    ports: tuple[Ports, ...] | None


class NetworkPolicy(NamedTuple):
    """A policy. `ingress` or `egress` None means that it does not isolate that direction. `existing`: already in
    force."""

    namespace: str
    name: str
    selector: Selector
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None
    existing: bool = False
    kind: str = "NetworkPolicy"

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.kind} {self.namespace}/{self.name}"

    def rules(self, direction: str) -> tuple[Rule, ...] | None:
        """The rules of `ingress` or `egress`; None if it does not isolate that direction."""
        return self.ingress if direction == "ingress" else self.egress


def is_network_policy(document: Document) -> bool:
    """True for the kinds that mean a Kubernetes NetworkPolicy."""
    kind, version = document.get("kind"), document.get("apiVersion", "networking.k8s.io/v1")
    return isinstance(kind, str) and isinstance(version, str) and (kind, version.partition("/")[0]) in KINDS


def read_network_policy(document: Document, existing: bool = False) -> NetworkPolicy:
    """Parse one NetworkPolicy (or Calico `StagedKubernetesNetworkPolicy`); raises `PolicyError`."""
    kind, namespace, name = identity(document)
    where = f"{kind} {namespace}/{name}"
    mapping(document, where, ("apiVersion", "kind", "metadata", "spec", "status"))
    allowed = ["podSelector", "ingress", "egress", "policyTypes"]
    staged = kind == "StagedKubernetesNetworkPolicy"
    spec = optional(document.get("spec"), f"{where} spec", [*allowed, "stagedAction"] if staged else allowed)
    if staged and spec.get("stagedAction") not in (None, "Set", "Learn"):
        action, at = str(spec["stagedAction"])[:40], f"{where} spec.stagedAction"
        raise PolicyError(f"stagedAction {action!r} is no policy to judge", at, "judge the set without this policy")
    ingress = _rules(spec.get("ingress"), "from", f"{where} spec.ingress")
    egress = _rules(spec.get("egress"), "to", f"{where} spec.egress")
    types = texts(spec.get("policyTypes"), f"{where} spec.policyTypes")
    for found in types:
        if found not in ("Ingress", "Egress"):
            raise PolicyError(f"policy type {found[:40]!r} is neither Ingress nor Egress", f"{where} spec.policyTypes")
    if len(types) > 2:
        raise PolicyError("more than two policy types", f"{where} spec.policyTypes")
    if not types:  # the API server's default: Ingress always, Egress only if there are egress rules
        types = ("Ingress", "Egress") if egress else ("Ingress",)
    selector = read_selector(spec["podSelector"], f"{where} spec.podSelector") if "podSelector" in spec else EVERYTHING
    return NetworkPolicy(
        namespace=namespace,
        name=name,
        selector=selector,
        ingress=ingress if "Ingress" in types else None,
        egress=egress if "Egress" in types else None,
        existing=existing,
    )


def _rules(value: object, side: str, where: str) -> tuple[Rule, ...]:
    rules = []
    for i, item in enumerate(sequence(value, where)):
        at = f"{where}[{i}]"
        found = optional(item, at, (side, "ports"))
        peers = tuple(_peer(p, f"{at}.{side}[{j}]") for j, p in enumerate(sequence(found.get(side), f"{at}.{side}")))
        ports = tuple(_port(p, f"{at}.ports[{j}]") for j, p in enumerate(sequence(found.get("ports"), f"{at}.ports")))
        rules.append(Rule(peers or None, ports or None))
    return tuple(rules)


def _peer(value: object, where: str) -> Peer:
    found = mapping(value, where, ("podSelector", "namespaceSelector", "ipBlock"))
    present = {key for key in found if found[key] is not None}
    if not present:
        raise PolicyError("a peer needs podSelector, namespaceSelector or ipBlock", where)
    if "ipBlock" in present:
        if len(present) > 1:
            raise PolicyError("ipBlock cannot be combined with selectors", where)
        return _block(found["ipBlock"], f"{where}.ipBlock")
    namespaces = None
    if "namespaceSelector" in present:
        namespaces = read_selector(found["namespaceSelector"], f"{where}.namespaceSelector")
    return Pods(namespaces, read_selector(found.get("podSelector"), f"{where}.podSelector"))


def _block(value: object, where: str) -> Block:
    found = mapping(value, where, ("cidr", "except"))
    network = _network(found.get("cidr"), f"{where}.cidr")
    excepts = []
    for i, item in enumerate(texts(found.get("except"), f"{where}.except")):
        inner = _network(item, f"{where}.except[{i}]")
        if inner.version != network.version or inner.prefixlen <= network.prefixlen or not _within(inner, network):
            raise PolicyError(f"except {inner} is not strictly within {network}", f"{where}.except[{i}]")
        excepts.append(inner)
    return Block(network, tuple(excepts))


def _within(inner: Network, outer: Network) -> bool:
    return outer.network_address <= inner.network_address and inner.broadcast_address <= outer.broadcast_address  # type: ignore[operator]  # same version, checked by the caller


def _network(value: object, where: str) -> Network:
    found = text(value, where)
    try:
        if "/" not in found:
            raise ValueError
        return network(found)  # host bits are accepted, as old API servers did
    except ValueError:
        raise PolicyError(f"{found[:60]!r} is not a CIDR", where) from None


def _port(value: object, where: str) -> Ports:
    found = optional(value, where, ("protocol", "port", "endPort"))
    protocol = found.get("protocol")
    protocol = "TCP" if protocol is None else text(protocol, f"{where}.protocol")
    if protocol not in PROTOCOLS:
        raise PolicyError(f"protocol {protocol[:40]!r} is not one of {', '.join(PROTOCOLS)}", f"{where}.protocol")
    port, end = found.get("port"), found.get("endPort")
    if isinstance(port, str):
        if end is not None:
            raise PolicyError("endPort needs a numeric port", f"{where}.endPort")
        if _PORT_NAME.fullmatch(port) is None or "--" in port:
            raise PolicyError(f"port name {port[:40]!r} is not valid", f"{where}.port", "quote no port numbers")
        return Ports(protocol, 0, 0, port)
    if port is None:
        if end is not None:
            raise PolicyError("endPort needs a port", f"{where}.endPort")
        return Ports(protocol, 1, 65535)
    low = _number(port, f"{where}.port")
    high = low if end is None else _number(end, f"{where}.endPort")
    if high < low:
        raise PolicyError(f"endPort {high} is less than port {low}", f"{where}.endPort")
    return Ports(protocol, low, high)


def _number(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise PolicyError(f"{str(value)[:40]!r} is not a port number", where)
    return value
