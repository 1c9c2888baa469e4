"""The judge decides one connection at a time, the measure whole sets; here each is held against the other."""

from __future__ import annotations

import random

import pytest

from leastway.verify.judge import Judge, Question
from leastway.verify.overpermission import Measure
from leastway.verify.ports import classes, single
from leastway.verify.reading import Document
from leastway.verify.world import World
from tests.verify.clusters import SPACES, Clusters
from tests.verify.kit import access, peers, pod


def grants(seed: int) -> list[Document]:
    """Random authorization policies over the same clusters."""
    draw = random.Random(seed)
    found: list[Document] = []
    for number in range(draw.randint(0, 3)):
        rules = []
        for _ in range(draw.randint(0 if number else 1, 2)):
            rule: dict[str, object] = {}
            if draw.random() < 0.8:
                kind = draw.choice(
                    ("principals", "namespaces", "serviceAccounts", "notPrincipals", "ipBlocks", "notNamespaces")
                )
                value = {
                    "principals": f"cluster.local/ns/{draw.choice(SPACES)}/sa/default",
                    "notPrincipals": draw.choice((f"*/ns/{draw.choice(SPACES)}/sa/default", "*")),
                    "namespaces": draw.choice((*SPACES, "*a")),
                    "notNamespaces": draw.choice(SPACES),
                    "serviceAccounts": draw.choice(("default", f"{draw.choice(SPACES)}/default")),
                    "ipBlocks": draw.choice(("10.1.1.0/24", "0.0.0.0/0")),
                }[kind]
                rule["from"] = [{"source": {kind: [value]}}]
            if draw.random() < 0.6:
                rule["to"] = [{"operation": {draw.choice(("ports", "notPorts")): [draw.choice(("80", "81", "8080"))]}}]
            rules.append(rule)
        action = draw.choice(("ALLOW", "ALLOW", "DENY")) if rules else "ALLOW"
        spec: dict[str, object] = {"action": action, "rules": rules}
        if draw.random() < 0.5:
            spec["selector"] = {"matchLabels": {"app": draw.choice(("web", "db"))}}
        found.append(access(f"{draw.choice((*SPACES, 'istio-system'))}/ap{number}", **spec))
    if draw.random() < 0.5:
        found.append(peers(f"{draw.choice((*SPACES, 'istio-system'))}/default", mtls={"mode": "STRICT"}))
    return found


@pytest.mark.parametrize("cni", ["generic", "cilium", "calico"])
@pytest.mark.parametrize("mesh", ["none", "sidecar", "ambient"])
def test_sets_hold_exactly_the_sources_that_the_judge_allows(cni: str, mesh: str) -> None:
    compared = 0
    for seed in range(60):
        drawn = Clusters(seed)
        things = drawn.things()
        if seed % 3 == 0:  # some clusters have workloads outside the mesh
            things[0]["metadata"]["labels"] |= {"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"}
        judge = Judge(World.from_manifests(things), drawn.policies() + grants(seed), cni=cni, mesh=mesh)  # type: ignore[arg-type]  # parametrized
        measure = Measure(judge, [])
        for d, destination in enumerate(measure.universe.subjects):
            rules = measure.network.egress(d)
            entries = {e for rule in [*measure.network.ingress.get(d, ()), *rules] for e in rule.ports or ()}
            for port in classes(entries, {("TCP", 80), ("UDP", 53), *(p[1:] for p in destination.ports)}):
                if mesh == "ambient" and port.number == 15008:
                    continue
                found = measure.allowed(d, port, rules)
                for s, source in enumerate(measure.universe.subjects):
                    if s == d:
                        continue
                    asked = judge.ask(Question(source.ref, destination.ref, port.protocol, port.number, http=False))
                    assert bool(found >> s & 1) == asked.allowed, (seed, source.ref, destination.ref, port, asked)
                    compared += 1
    assert compared > 10_000


@pytest.mark.parametrize("field", ["remoteIpBlocks", "notRemoteIpBlocks"])
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_a_forwarded_address_is_the_clients_choice_in_http_and_unknown_without(field: str, action: str) -> None:
    ports = [{"name": name, "port": port, "targetPort": port} for port, name in ((80, "http"), (81, "tcp-x"))]
    service = {"kind": "Service", "metadata": {"name": "db", "namespace": "a"}}
    things = [pod("a/web", {}, "10.0.0.1"), pod("a/db", {"app": "db"}, "10.0.0.2")]
    things.append({**service, "spec": {"selector": {"app": "db"}, "ports": ports}})
    rule = {"from": [{"source": {field: ["10.0.0.0/24"]}}]}
    judge = Judge(World.from_manifests(things), [access("a/p", action=action, rules=[rule])], mesh="sidecar")
    measure = Measure(judge, [])
    d, s = (measure.universe.position[ref] for ref in ("a/db", "a/web"))
    for port, expected in ((80, True), (81, False)):
        found = measure.allowed(d, single("TCP", port), measure.network.egress(d))
        assert bool(found >> s & 1) == expected
        assert judge.ask(Question("a/web", "a/db", port=port)).outcome == "undefined"


def test_port_classes_partition_all_ports() -> None:
    for seed in range(100):
        drawn = Clusters(seed)
        entries = set()
        from leastway.verify.networkpolicy_schema import read_network_policy

        for document in drawn.policies():
            parsed = read_network_policy(document)
            entries |= {e for rule in (*(parsed.ingress or ()), *(parsed.egress or ())) for e in rule.ports or ()}
        found = classes(entries, [("TCP", 443)])
        assert len({(c.protocol, c.number) for c in found}) == len(found)
        ranged = {e for e in entries if not e.name}
        covered = {
            (c.key, frozenset(e for e in ranged if e[0] == c.protocol and e.low <= c.number <= e.high)) for c in found
        }
        assert len(covered) == len({key for key, _ in covered})
        for probe in (1, 53, 54, 79, 80, 81, 82, 443, 8079, 8080, 8081, 8082, 65535):
            for protocol in ("TCP", "UDP"):
                covering = {e for e in entries if not e.name and e.protocol == protocol and e.low <= probe <= e.high}
                alike = [
                    c
                    for c in found
                    if c.protocol == protocol
                    and {e for e in entries if not e.name and e.protocol == protocol and e.low <= c.number <= e.high}
                    == covering
                ]
                assert alike, (seed, protocol, probe)
