"""A second reading of NetworkPolicy v1, over raw manifests: the judge's answers are compared with it.

Written from the API types and the documentation alone, and as differently as can be: no three-valued logic. Where
the specification leaves a choice (which family a dual-stack connection takes, whether host network pods count as pods,
whether a pod's own node is beyond its egress policies, which pod of a workload is meant), every choice is played
through with a two-valued evaluator, and what the choices do not agree about is undefined. It imports nothing of ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

Document = dict[str, Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Actor:
    """A pod, a node or an address outside. `node` names where a pod is, or the node itself."""

    kind: str
    addresses: tuple[str, ...]
    node: str = ""
    document: Any = None

    @property
    def host(self) -> bool:
        """On a node's own network."""
        return self.kind == "pod" and bool(self.document["spec"].get("hostNetwork"))


@dataclass(frozen=True)
class Choice:
    """One permitted behaviour of an implementation, for a connection of one family."""

    version: int
    host_pods_are_pods: bool
    own_node_is_free: bool


class Reading:
    """All objects of a cluster, policies included, under one CNI."""

    def __init__(self, objects: Iterable[Document], cni: str) -> None:
        self.cni = cni
        self.kinds: dict[str, list[Document]] = {}
        for thing in objects:
            self.kinds.setdefault(thing["kind"], []).append(thing)

    def pods(self) -> list[Document]:
        """The pods."""
        return self.kinds.get("Pod", [])

    def actors(self, name: str) -> list[Actor]:
        """Who is meant by a pod's or workload's name, or by an address: one, or a workload's pods."""
        if "/" not in name:
            return [self._at(ipaddress.ip_address(name))]
        space, _, short = name.partition("/")
        near = [p for p in self.pods() if p["metadata"]["namespace"] == space]
        named = [p for p in near if p["metadata"]["name"] == short]
        owned = [p for p in near if any(o["name"] == short for o in p["metadata"].get("ownerReferences", ()))]
        return [self._pod(p) for p in named or owned]

    def _pod(self, pod: Document) -> Actor:
        ips = tuple(entry["ip"] for entry in pod["status"]["podIPs"])
        return Actor("pod", ips, pod["spec"]["nodeName"], pod)

    def _at(self, ip: Address) -> Actor:
        for node in self.kinds.get("Node", ()):
            if ip in [ipaddress.ip_address(entry["address"]) for entry in node["status"]["addresses"]]:
                return Actor("node", (str(ip),), node["metadata"]["name"])
        for pod in self.pods():
            found = self._pod(pod)
            if ip in map(ipaddress.ip_address, found.addresses):
                return Actor("pod", (str(ip),), found.node, pod)
        return Actor("outside", (str(ip),))

    def outcome(self, source: str, destination: str, protocol: str, port: int) -> str | None:
        """allow, deny or undefined; None if no packet can go from one to the other, for want of a common family."""
        found = {
            self._opens(one, other, protocol, port, choice)
            for one, other in product(self.actors(source), self.actors(destination))
            for choice in self._choices(one, other)
        }
        if len(found) > 1:
            return "undefined"
        return {True: "allow", False: "deny"}[found.pop()] if found else None

    def _choices(self, one: Actor, other: Actor) -> Iterator[Choice]:
        families = [{ipaddress.ip_address(ip).version for ip in end.addresses} for end in (one, other)]
        free = (False, True) if self.cni == "generic" else (False,)
        for version, pods, node in product(sorted(families[0] & families[1]), free, free):
            yield Choice(version, pods, node)

    def _opens(self, one: Actor, other: Actor, protocol: str, port: int, choice: Choice) -> bool:
        if one.document is not None and one.document is other.document:
            return True
        there = (protocol, port, other)
        return self._side("Egress", one, other, there, choice) and self._side("Ingress", other, one, there, choice)

    def _side(self, side: str, own: Actor, peer: Actor, there: tuple[str, int, Actor], choice: Choice) -> bool:
        if not self._counts(own, choice):
            return True
        mine = [p for p in self.kinds.get("NetworkPolicy", ()) if side in types(p) and self._about(p, own)]
        if not mine:
            return True
        same = peer.node == own.node and (peer.kind == "node" or peer.host)
        if same and (side == "Ingress" or choice.own_node_is_free):
            return True
        return any(
            self._peers(rule, side, p["metadata"]["namespace"], peer, choice) and self._ports(rule, there, choice)
            for p in mine
            for rule in p["spec"].get(side.lower()) or ()
        )

    @staticmethod
    def _counts(own: Actor, choice: Choice) -> bool:
        """Is it a pod in the eyes of NetworkPolicy?"""
        return own.kind == "pod" and (not own.host or choice.host_pods_are_pods)

    @staticmethod
    def _about(policy: Document, own: Actor) -> bool:
        meta = own.document["metadata"]
        return bool(meta["namespace"] == policy["metadata"]["namespace"]) and selects(
            policy["spec"].get("podSelector") or {}, meta["labels"]
        )

    def _peers(self, rule: Document, side: str, space: str, peer: Actor, choice: Choice) -> bool:
        entries = rule.get("from" if side == "Ingress" else "to")
        return not entries or any(self._peer(entry, space, peer, choice) for entry in entries)

    def _peer(self, entry: Document, space: str, peer: Actor, choice: Choice) -> bool:
        if "ipBlock" in entry:
            if self.cni == "cilium" and peer.kind != "outside":
                return False
            return any(
                in_block(entry["ipBlock"], ip)
                for ip in map(ipaddress.ip_address, peer.addresses)
                if ip.version == choice.version
            )
        if not self._counts(peer, choice):
            return False
        meta = peer.document["metadata"]
        if entry.get("namespaceSelector") is None:
            near = meta["namespace"] == space
        else:
            labels = next(n for n in self.kinds["Namespace"] if n["metadata"]["name"] == meta["namespace"])
            near = selects(entry["namespaceSelector"], labels["metadata"]["labels"])
        return near and selects(entry.get("podSelector") or {}, meta["labels"])

    def _ports(self, rule: Document, there: tuple[str, int, Actor], choice: Choice) -> bool:
        protocol, port, destination = there
        entries = rule.get("ports")
        if not entries:
            return True
        for entry in entries:
            if entry.get("protocol", "TCP") != protocol:
                continue
            wanted = entry.get("port")
            if wanted is None:
                return True
            if isinstance(wanted, int):
                if wanted <= port <= entry.get("endPort", wanted):
                    return True
            elif self._counts(destination, choice) and port in named(destination.document, wanted, protocol):
                return True
        return False


def types(policy: Document) -> list[str]:
    """The directions that a policy isolates."""
    spec = policy["spec"]
    return spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])


def named(pod: Document, name: str, protocol: str) -> set[int]:
    """The numbers of a port's name on a pod."""
    entries = [entry for container in pod["spec"]["containers"] for entry in container["ports"]]
    return {e["containerPort"] for e in entries if (e.get("name"), e.get("protocol", "TCP")) == (name, protocol)}


def in_block(block: Document, ip: Address) -> bool:
    """Membership in a CIDR less its exceptions."""
    nets = [ipaddress.ip_network(cidr) for cidr in (block["cidr"], *(block.get("except") or ()))]
    return ip in nets[0] and not any(ip in net for net in nets[1:])


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """A label selector, as the API machinery's library reads it."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for entry in selector.get("matchExpressions") or ():
        value, values = labels.get(entry["key"]), entry.get("values") or ()
        holds = {
            "In": value is not None and value in values,
            "NotIn": value is None or value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[entry["operator"]]:
            return False
    return True
