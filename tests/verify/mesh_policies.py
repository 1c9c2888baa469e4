"""Random AuthorizationPolicies, the same for the same seed, and the adversarial values that they and requests draw
from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from leastway.verify.reading import Document
from tests.verify.kit import access

CLIENTS = (
    "cluster.local/ns/a/sa/web",
    "cluster.local/ns/b/sa/default",
    "cluster.local/ns/a-b/sa/web-2",
    "other.td/ns/a/sa/web",
    "old.local/ns/b/sa/default",
)
TRUST_DOMAINS = (("cluster.local",), ("cluster.local", "other.td"), ("other.td", "old.local"), ("old.local",))
METHODS = ("GET", "POST", "DELETE", "PATCH")
PATHS = (
    "/", "/t/1", "/t/", "/t/1/", "/t/1/2", "//t/1", "/t/a%2Fb", "/t/%61", "/t/../t/1", "/t/./1", "/T/1",
    "/t/1?q=/x", "/t/*", "/a/1/b", "/a/1/b/", "/a/1/b/c/d", "/store/cart", "/store//cart", "/store/x/y/cart",
    "/api/v1/users", "/api/v1/users/me", "/api", "/apix", "/%2e%2e/api", "/t\\1", "/t/x:y@z=1", "/t/~-._!$&'()+,;",
    "/t/%00", "/t/%7E", "/a/*/b", "/t/%zz", '/t/"<>', "/t/{x}", "/t/a|b^`", "/t/[1]", "/t/..%2f1", "/t/%2E%2E/api",
    "/t/...", "/t/.", "/api/v1/..", "/a/1/b/..", "/..", "/t/%3F", "/t/%", "/t/;x=1", "/api/*", "/t/1?",
    "/store/%2F/cart", "/t/%41", "/\\t/1", "/t//1", "/t/1.txt", "/t/.txt", "/f/a/b.txt", "/f/.txt", "/f/b.txt/",
    "/t/%5c1", "/%5C..%2fapi", "/t/%25%32%65", "/a/1/b/%2e",
)  # fmt: skip
VALUES = (
    "/t/{*}", "/a/{*}/b/{**}", "/store/{**}/cart", "/{*}", "/{**}", "/api/*", "/api*", "*/users", "*", "/t/1",
    "/a/*/b", "/api", "/t/a%2Fb", "/t/~", "/t/{*}/", "/t/{**}", "*.txt", "/{**}/b.txt", "/t/x:y@z=1/{**}",
)  # fmt: skip


class MeshPolicies:
    """Draws the policies of one destination in namespace `a`; `ports` are those that its rules name."""

    def __init__(self, seed: int, ports: Sequence[int], blocks: Sequence[str]) -> None:
        self.draw = random.Random(seed)
        self.trust_domains: tuple[str, ...] = self.draw.choice(TRUST_DOMAINS)
        principals = [*CLIENTS, "*", "cluster.local/*", "*/sa/web", "*/ns/b/sa/default", "cluster.local/ns/a/sa/nobody"]
        principals += ["cluster*/ns/a/sa/web", "o*/ns/b/sa/default", "other.*/ns/a/sa/web", "x*/ns/a/sa/web"]
        domains = ["cluster.local", "other.td", "old.local", "nowhere", "*.local", "o*", "*"]
        principals += ["*.local/ns/b/sa/default", "*d/ns/a/sa/web", "cluster.local/ns/a/sa/w*", "spiffe", "*web"]
        self.sources = {
            "principals": principals,
            "namespaces": ["a", "b", "A", "a*", "*b", "*", "a-b"],
            "trustDomains": domains,
            "serviceAccounts": ["web", "b/default", "a/web", "a-b/web-2", "a/web-2"],
            "ipBlocks": [*blocks, "10.0.0.0/8", "::/0"],
        }
        self.operations = {
            "ports": [*map(str, ports), "1"],
            "methods": ["GET", "POST", "G*", "*T", "*", "get", "P*"],
            "paths": list(VALUES),
            "hosts": ["*.test", f"S{seed}.TEST", "s*", "other", "*", f"s{seed}.test", "*:8080", f"*.s{seed}.test"],
        }
        self.conditions = {
            "source.ip": [*blocks, "10.0.0.0/8"],
            "source.namespace": self.sources["namespaces"],
            "source.principal": principals,
            "source.trustDomain": domains,
            "destination.port": self.operations["ports"],
            "destination.ip": ["127.0.0.1", "10.0.0.0/8"],
        }

    def policies(self) -> list[Document]:
        """One to three policies, at least one rule in each that denies."""
        found = []
        for number in range(self.draw.randint(1, 3)):
            action = "DENY" if self.draw.random() < 0.3 else "ALLOW"
            rules = [self.rule() for _ in range(self.draw.randint(1 if action == "DENY" else 0, 2))]
            found.append(access(f"a/p{number}", action=action, rules=rules))
        return found

    def rule(self) -> dict[str, Any]:
        """One rule, empty now and then."""
        rule: dict[str, Any] = {}
        if self.draw.random() < 0.7:
            rule["from"] = [{"source": self.entry(self.sources)} for _ in range(self.draw.randint(1, 2))]
        if self.draw.random() < 0.8:
            rule["to"] = [{"operation": self.entry(self.operations)} for _ in range(self.draw.randint(1, 2))]
        if self.draw.random() < 0.2:
            key = self.draw.choice(sorted(self.conditions))
            side = "notValues" if self.draw.random() < 0.4 else "values"
            rule["when"] = [{"key": key, side: self.draw.sample(self.conditions[key], self.draw.randint(1, 2))}]
        return rule

    def entry(self, choices: dict[str, list[str]]) -> dict[str, list[str]]:
        """One or two fields of a source or an operation; both a field and its negation may come up."""
        names = self.draw.sample(sorted(choices), self.draw.randint(1, 2))
        if "serviceAccounts" in names:
            names = [n for n in names if n not in ("principals", "namespaces")]
        found = {}
        for name in names:
            chance = self.draw.random()
            if chance < 0.9:
                key = f"not{name[0].upper()}{name[1:]}" if chance < 0.2 else name
                found[key] = self.draw.sample(choices[name], self.draw.randint(1, 2))
            else:
                found[name] = self.draw.sample(choices[name], 2)
                found[f"not{name[0].upper()}{name[1:]}"] = self.draw.sample(choices[name], 1)
        return found
