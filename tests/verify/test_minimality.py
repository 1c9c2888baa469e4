"""Minimality: what no observed connection needs is named, and all that is named may go together."""

from __future__ import annotations

from typing import Any

from leastway.verify.judge import Judge
from leastway.verify.minimality import redundant_parts
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed
from leastway.verify.world import Subject, World
from tests.verify.kit import access, labels, policy


def parts(policies: list[Document], *observed: Observed, **options: Any) -> list[str]:
    found = World()
    for name in ("web", "api", "db"):
        found.add_subject(Subject("a", name, {"app": name}, service_account=name))
    return [
        f"{p['policy']} {p['rule']}: {p['part']}" for p in redundant_parts(Judge(found, policies, **options), observed)
    ]


def ingress(name: str, *rules: dict[str, Any]) -> Document:
    return policy(f"a/{name}", podSelector=labels(app="db"), policyTypes=["Ingress"], ingress=list(rules))


def peers(*names: str) -> list[dict[str, Any]]:
    return [{"podSelector": labels(app=name)} for name in names]


SEEN = Observed("a/web", "a/db", port=80)


def test_a_minimal_policy_has_none() -> None:
    assert parts([ingress("p", {"from": peers("web"), "ports": [{"port": 80}]})], SEEN) == []


def test_unused_peers_and_ports_are_named() -> None:
    found = parts([ingress("p", {"from": peers("web", "api"), "ports": [{"port": 80}, {"port": 81}]})], SEEN)
    assert found == [
        "NetworkPolicy a/p ingress rule 0: peer pods {app=api} in own namespace",
        "NetworkPolicy a/p ingress rule 0: port 81/TCP",
    ]


def test_an_unused_rule_is_named_as_a_whole() -> None:
    rules = [
        {"from": peers("web"), "ports": [{"port": 80}]},
        {"from": peers("api"), "ports": [{"port": 1}, {"port": 2}]},
    ]
    assert parts([ingress("p", *rules)], SEEN) == ["NetworkPolicy a/p ingress rule 1: ingress rule 1"]


def test_of_two_rules_that_do_the_same_one_is_named() -> None:
    rule = {"from": peers("web"), "ports": [{"port": 80}]}
    assert len(parts([ingress("p", rule), ingress("q", rule)], SEEN)) == 1


def test_a_declared_connection_needs_its_rule() -> None:
    rule = {"from": peers("web"), "ports": [{"port": 80}]}
    assert parts([ingress("p", rule)], Observed("a/web", "a/db", port=80, declared=True)) == []
    assert len(parts([ingress("p", rule)], Observed("a/web", "a/db", port=80, held="R1"))) == 1


def test_values_of_authorization_rules_are_parts() -> None:
    rule = {
        "from": [{"source": {"principals": ["cluster.local/ns/a/sa/web", "cluster.local/ns/a/sa/api"]}}],
        "to": [{"operation": {"ports": ["80"], "methods": ["GET", "PUT"], "paths": ["/x", "/y"]}}],
    }
    grant = access("a/db", selector=labels(app="db"), rules=[rule])
    found = parts([grant], Observed("a/web", "a/db", port=80, method="GET", path="/x"), mesh="sidecar")
    assert [text.rpartition(": ")[2] for text in found] == [
        "method PUT",
        "path /y",
        "principal cluster.local/ns/a/sa/api",
    ]
