"""Random small clusters and policies, the same for the same seed."""

from __future__ import annotations

import random
from typing import Any

from leastway.verify.reading import Document
from tests.verify.kit import namespace, pod, policy

KEYS = {"app": ("web", "db", "cache"), "tier": ("t1", "t2"), "env": ("prod",)}
PORT_NAMES = ("http", "admin", "dns")
PROTOCOLS = ("TCP", "UDP", "SCTP")
SPACES = ("alpha", "beta", "gamma")
INSIDE = ("10.1.0.0/16", "10.1.1.0/24", "0.0.0.0/0", "10.1.2.2/32")
OUTSIDE = ("198.51.100.0/24", "192.0.2.0/24", "0.0.0.0/0", "192.0.2.77/32")
EXCEPTIONS = {"10.1.0.0/16": ("10.1.0.0/24", "10.1.2.0/30"), "192.0.2.0/24": ("192.0.2.64/26", "192.0.2.128/25")}


class Clusters:
    """Draws one cluster. `blocks` are the CIDRs that ipBlock peers draw from; `quirks` allows what one oracle reads
    wrongly: Exists or DoesNotExist on pods beside a namespaceSelector, and an empty egress list without policyTypes."""

    def __init__(self, seed: int, blocks: tuple[str, ...] = INSIDE, quirks: bool = True) -> None:
        self.draw = random.Random(seed)
        self.blocks = blocks
        self.quirks = quirks

    def things(self) -> list[Document]:
        """Three namespaces of three pods, every pod with an address and some named ports."""
        found = []
        for i, space in enumerate(SPACES):
            extra = {"team": self.draw.choice(("red", "blue"))} if self.draw.random() < 0.7 else {}
            found.append(namespace(space, **{"kubernetes.io/metadata.name": space}, **extra))
            found += [pod(f"{space}/p{j}", self.labels(), f"10.1.{i}.{j + 1}", ports=self.ports()) for j in range(3)]
        return found

    def labels(self) -> dict[str, str]:
        """Some labels; keys may be absent."""
        return {key: self.draw.choice(values) for key, values in KEYS.items() if self.draw.random() < 0.65}

    def ports(self) -> list[dict[str, Any]]:
        """Container ports; one name may mean different numbers on different pods."""
        return [
            {
                "name": name,
                "containerPort": self.draw.choice((80, 81, 8080, 53)),
                "protocol": self.draw.choice(PROTOCOLS),
            }
            for name in PORT_NAMES
            if self.draw.random() < 0.6
        ]

    def policies(self) -> list[Document]:
        """One to three policies."""
        return [self.policy(i) for i in range(self.draw.randint(1, 3))]

    def policy(self, number: int) -> Document:
        """One policy of any shape that the API accepts."""
        spec: dict[str, Any] = {"podSelector": self.selector(KEYS, quirks=True)}
        types = self.draw.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"], None))
        if types is not None:
            spec["policyTypes"] = types
        for side, field in (("Ingress", "ingress"), ("Egress", "egress")):
            rules = [self.rule("from" if field == "ingress" else "to") for _ in range(self.draw.randint(0, 2))]
            if types is not None and side not in types:
                continue
            if rules or (self.draw.random() < 0.5 and (self.quirks or types is not None)):
                spec[field] = rules
        return policy(f"{self.draw.choice(SPACES)}/np{number}", **spec)

    def rule(self, side: str) -> dict[str, Any]:
        """One rule."""
        rule: dict[str, Any] = {}
        if self.draw.random() < 0.8:
            rule[side] = [self.peer() for _ in range(self.draw.randint(1, 2))]
        if self.draw.random() < 0.7:
            rule["ports"] = [self.port() for _ in range(self.draw.randint(1, 2))]
        return rule

    def peer(self) -> dict[str, Any]:
        """One peer."""
        kind = self.draw.randrange(4 if self.blocks else 3)
        if kind == 3:
            block: dict[str, Any] = {"cidr": self.draw.choice(self.blocks)}
            if block["cidr"] in EXCEPTIONS and self.draw.random() < 0.5:
                block["except"] = [self.draw.choice(EXCEPTIONS[block["cidr"]])]
            return {"ipBlock": block}
        peer: dict[str, Any] = {}
        if kind in (0, 2):
            peer["podSelector"] = self.selector(KEYS, quirks=self.quirks or kind == 0)
        if kind in (1, 2):
            peer["namespaceSelector"] = self.selector({"team": ("red", "blue")}, quirks=True)
        return peer

    def selector(self, keys: dict[str, tuple[str, ...]], quirks: bool) -> dict[str, Any]:
        """A label selector."""
        found: dict[str, Any] = {}
        key = self.draw.choice(sorted(keys))
        if self.draw.random() < 0.5:
            found["matchLabels"] = {key: self.draw.choice(keys[key])}
        if self.draw.random() < 0.5:
            other = self.draw.choice(sorted(keys))
            operator = self.draw.choice(("In", "NotIn", "Exists", "DoesNotExist") if quirks else ("In", "NotIn"))
            requirement: dict[str, Any] = {"key": other, "operator": operator}
            if operator in ("In", "NotIn"):
                requirement["values"] = sorted(self.draw.sample(keys[other], self.draw.randint(1, len(keys[other]))))
            found["matchExpressions"] = [requirement]
        return found

    def port(self) -> dict[str, Any]:
        """One port entry."""
        protocol = self.draw.choice(PROTOCOLS)
        kind = self.draw.randrange(4)
        if kind == 0:
            return {"protocol": protocol}
        if kind == 1:
            return {"protocol": protocol, "port": self.draw.choice(PORT_NAMES)}
        low = self.draw.choice((53, 80, 81, 8080))
        if kind == 2:
            return {"protocol": protocol, "port": low}
        return {"protocol": protocol, "port": low, "endPort": self.draw.choice((low, low + 1, 8081))}
