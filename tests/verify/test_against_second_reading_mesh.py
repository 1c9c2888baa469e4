"""Random Istio policies with all three actions, CUSTOM above all, which no Envoy of ours can ask about.

Every answer of `leastway can --queries` is compared with a second reading, under sidecars and in ambient mode. Sources
have both address families, one namespace is outside the mesh, and PeerAuthentication says who must prove who they are.
`--oracle-rounds N` draws N times as many meshes.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from leastway.verify.reading import Document
from tests.verify.kit import access, namespace, peers, pod
from tests.verify.queries import Compared
from tests.verify.second_reading_mesh import Call, Workload, outcome

MESHES = 120  # in one round
QUESTIONS = 300
SPACES = {"shop": "enabled", "bank": "enabled", "old": "disabled"}
APPS = ("web", "db")
PATHS, METHODS = ("/", "/a", "/a/b", "/admin"), ("GET", "POST")
INSIDE = ("shop", "bank")
MODES = ("STRICT", "PERMISSIVE", "DISABLE", "UNSET")
PORTS = {8080: "http", 5432: "tcp-db"}


class Meshes:
    """Draws policies."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)

    def things(self) -> list[Document]:
        """Two pods in each namespace, one behind each address family; Services say which port speaks HTTP."""
        found: list[Document] = []
        for i, (space, injection) in enumerate(SPACES.items()):
            ambient = "ambient" if injection == "enabled" else "none"
            found.append(namespace(space, **{"istio-injection": injection, "istio.io/dataplane-mode": ambient}))
            for j, app in enumerate(APPS):
                ip = f"10.1.{i}.{j + 1}" if (i + j) % 2 else f"fd00:10::{i}:{j + 1}"
                found.append(pod(f"{space}/{app}", {"app": app}, ip, serviceAccountName=app))
                ports = [{"name": name, "port": port, "targetPort": port} for port, name in PORTS.items()]
                meta = {"name": app, "namespace": space}
                found.append({"kind": "Service", "metadata": meta, "spec": {"selector": {"app": app}, "ports": ports}})
        return found

    def policies(self) -> list[Document]:
        """One to five, and what they are told of mutual TLS."""
        found = [self.policy(number) for number in range(self.draw.randint(1, 5))]
        return found + self.authentication() if self.draw.random() < 0.5 else found

    def authentication(self) -> list[Document]:
        """At most one at each level: mesh, namespace, workload."""
        found = []
        for name in ("root", "space", "workload"):
            if self.draw.random() < 0.5:
                continue
            spec: dict[str, Any] = {}
            if self.draw.random() < 0.8:
                spec["mtls"] = {"mode": self.draw.choice(MODES)}
            if name == "workload":
                spec["selector"] = {"matchLabels": {"app": self.draw.choice(APPS)}}
                if self.draw.random() < 0.6:
                    spec["portLevelMtls"] = {self.draw.choice(list(PORTS)): {"mode": self.draw.choice(MODES)}}
            found.append(peers("istio-system/root" if name == "root" else f"{self.draw.choice(INSIDE)}/{name}", **spec))
        return found

    def policy(self, number: int) -> Document:
        action = self.draw.choice(("ALLOW", "ALLOW", "DENY", "CUSTOM", "CUSTOM"))
        spec: dict[str, Any] = {"action": action}
        if action == "CUSTOM":
            spec["provider"] = {"name": self.draw.choice(("opa", "login"))}
        if self.draw.random() < 0.6:
            spec["selector"] = {"matchLabels": {"app": self.draw.choice(APPS)}}
        spec["rules"] = [self.rule() for _ in range(self.draw.randint(action != "ALLOW", 2))]
        return access(f"{self.draw.choice((*SPACES, 'istio-system'))}/p{number}", **spec)

    def rule(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.draw.random() < 0.6:
            found["from"] = [{"source": self.source()} for _ in range(self.draw.randint(1, 2))]
        if self.draw.random() < 0.7:
            found["to"] = [{"operation": self.operation()} for _ in range(self.draw.randint(1, 2))]
        if self.draw.random() < 0.3:
            key = self.draw.choice(("source.namespace", "source.principal", "source.ip", "destination.port"))
            name = {"namespace": "namespaces", "principal": "principals", "ip": "ipBlocks", "port": "ports"}
            side = self.draw.choice(("values", "notValues"))
            found["when"] = [{"key": key, side: [self.value(name[key.partition(".")[2]])]}]
        return found

    def source(self) -> dict[str, list[str]]:
        """Istio refuses service accounts beside principals or namespaces."""
        return self.fields(
            self.draw.choice((("serviceAccounts", "ipBlocks"), ("principals", "namespaces", "ipBlocks")))
        )

    def operation(self) -> dict[str, list[str]]:
        return self.fields(("ports", "methods", "paths"))

    def fields(self, names: tuple[str, ...]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.draw.sample(names, self.draw.randint(1, 2)):
            key = f"not{name[0].upper()}{name[1:]}" if self.draw.random() < 0.3 else name
            found[key] = [self.value(name) for _ in range(self.draw.randint(1, 2))]
        return found

    def value(self, name: str) -> str:
        spaces, apps = list(SPACES), list(APPS)
        principal = f"cluster.local/ns/{self.draw.choice(spaces)}/sa/{self.draw.choice(apps)}"
        return self.draw.choice(
            {
                "principals": (
                    "*",
                    principal,
                    principal,
                    "*/sa/web",
                    "cluster.local/ns/bank/*",
                    "other/ns/shop/sa/web",
                ),
                "namespaces": ("*", *spaces, "*k", "sh*"),
                "serviceAccounts": ("web", "bank/db", "shop/web"),
                "ipBlocks": ("10.1.0.0/16", "10.1.1.0/24", "fd00:10::/32", "fd00:10::2:0/112", "::/0", "0.0.0.0/0"),
                "ports": tuple(map(str, PORTS)),
                "methods": ("GET", "POST", "*", "P*"),
                "paths": (*PATHS, "/a/*", "*/b", "*", "/a*"),
            }[name]
        )


def asked(draw: Random, things: list[Document]) -> tuple[Document, Call]:
    """A question, and what the destination's proxy sees of it."""
    pods = [thing for thing in things if thing["kind"] == "Pod"]
    one, other = draw.choice(pods), draw.choice(pods)
    while one is other:
        other = draw.choice(pods)
    port = draw.choice(list(PORTS))
    space, app = one["metadata"]["namespace"], one["metadata"]["name"]
    principal = "" if SPACES[space] == "disabled" else f"cluster.local/ns/{space}/sa/{app}"
    ends = {"from": f"{space}/{app}", "to": "{namespace}/{name}".format(**other["metadata"])}
    question: Document = {**ends, "protocol": "TCP", "port": port}
    if PORTS[port] == "http":
        question |= {"method": draw.choice(METHODS), "path": draw.choice(PATHS)}
    shown = Call(principal, one["status"]["podIP"], port, question.get("method", ""), question.get("path", ""))
    return question, shown


@pytest.mark.parametrize("mode", ["sidecar", "ambient"])
def test_every_answer_is_that_of_the_second_reading(mode: str, tmp_path: Path, oracle_rounds: int) -> None:
    compared = Compared(tmp_path, "--mesh", mode)
    for seed in range(MESHES * oracle_rounds):
        drawn = Meshes(seed)
        things, policies = drawn.things(), drawn.policies()
        pairs = [asked(drawn.draw, things) for _ in range(QUESTIONS)]
        expected = []
        for question, call in pairs:
            space, app = question["to"].split("/")
            at = Workload(space, {"app": app}, mode == "ambient")
            expected.append(outcome(policies, at, call) if SPACES[space] == "enabled" else "allow")
        # Istio refuses CUSTOM by identity at its door, but enforces what is in force.
        standing = [p for p in policies if p["spec"].get("action") == "CUSTOM"]
        given = [p for p in policies if p not in standing]
        compared.ask(seed, things + standing, given, [question for question, _ in pairs], expected)
    compared.check()
    assert (compared.seen["undefined"] > compared.seen.total() / 20) == (
        mode == "sidecar"
    )  # ztunnel asks no authoriser
