"""Replay: each legitimate observed connection is asked again, and what would be denied is explained."""

from __future__ import annotations

from typing import Any, ClassVar

from leastway.verify.judge import Judge
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed, Replay, replay
from leastway.verify.world import Subject, World
from tests.verify.kit import access, labels, policy


def world() -> World:
    found = World()
    for name in ("web", "api", "db"):
        found.add_subject(Subject("a", name, {"app": name}, service_account=name))
    return found


DB = policy(
    "a/db",
    podSelector=labels(app="db"),
    ingress=[{"from": [{"podSelector": labels(app="web")}], "ports": [{"port": 80}]}],
)


def run(policies: list[Document], *observed: Observed, **options: Any) -> Replay:
    return replay(Judge(world(), policies, **options), observed)


def test_distinct_connections_are_counted_once_and_held_ones_apart() -> None:
    found = run(
        [DB],
        Observed("a/web", "a/db", port=80, weight=5),
        Observed("a/web", "a/db", port=80),
        Observed("a/api", "a/db", port=80, held="R1"),
        Observed("a/api", "a/web", port=81),
    )
    assert (found.sound, found.observed, found.allowed, found.held) == (True, 2, 2, 1)


def test_what_was_only_declared_is_neither_counted_nor_required() -> None:
    found = run([DB], Observed("a/web", "a/db", port=80), Observed("a/api", "a/db", port=80, declared=True))
    assert (found.sound, found.observed, found.allowed) == (True, 1, 1)


def test_a_connection_seen_with_several_identities_needs_all_of_them_allowed() -> None:
    grant = access("a/db", rules=[{"from": [{"source": {"principals": ["cluster.local/ns/a/sa/web"]}}]}])
    seen = [Observed("a/web", "a/db", port=80, principal=f"cluster.local/ns/a/sa/{name}") for name in ("web", "old")]
    for order in (seen, seen[::-1]):
        found = run([grant], *order, mesh="sidecar")
        assert (found.observed, found.allowed) == (1, 0)
    assert run([grant], seen[0], mesh="sidecar").sound


def test_a_denied_connection_names_the_isolating_policy_and_the_rule_that_lacks_a_port() -> None:
    (entry,) = run([DB], Observed("a/web", "a/db", port=81, weight=3)).denied
    assert (entry["from"], entry["to"], entry["protocol"], entry["port"]) == ("a/web", "a/db", "TCP", 81)
    assert (entry["layer"], entry["policies"], entry["records"]) == ("networkpolicy", ["NetworkPolicy a/db"], 3)
    assert entry["nearest"] == "NetworkPolicy a/db ingress rule 0 names a/web, but only 80/TCP"


def test_the_nearest_rule_may_lack_the_peer() -> None:
    (entry,) = run([DB], Observed("a/api", "a/db", port=80)).denied
    assert "opens 80/TCP, but only for pods {app=web}" in entry["nearest"]


def test_the_nearest_rule_is_sought_in_all_policies_and_the_one_for_everyone_comes_last() -> None:
    first = policy("a/a", podSelector=labels(app="db"), ingress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])
    (entry,) = run([first, DB], Observed("a/web", "a/db", port=81)).denied
    assert entry["nearest"] == "NetworkPolicy a/db ingress rule 0 names a/web, but only 80/TCP"
    (entry,) = run([first], Observed("a/web", "a/db", port=81)).denied
    assert entry["nearest"] == "NetworkPolicy a/a ingress rule 0 admits everyone, but only to 53/UDP"


def test_undefined_is_not_allowed() -> None:
    (entry,) = run([DB], Observed("kube-apiserver", "a/db", "ICMP")).denied
    assert entry["outcome"] == "undefined"


def test_an_end_that_does_not_exist_is_denied_and_said_so() -> None:
    (entry,) = run([], Observed("a/gone", "a/db", port=80)).denied
    assert (entry["outcome"], entry["layer"]) == ("undefined", "inventory")


def test_the_observed_addresses_are_what_blocks_are_tested_with() -> None:
    block = policy("a/db", podSelector=labels(app="db"), ingress=[{"from": [{"ipBlock": {"cidr": "172.20.0.0/24"}}]}])
    inside = Observed("kube-apiserver", "a/db", port=80, source_address="172.20.0.9")
    outside = Observed("kube-apiserver", "a/db", port=81, source_address="172.20.1.9")
    assert [entry["port"] for entry in run([block], inside, outside).denied] == [81]


class TestMesh:
    RULES: ClassVar[list[dict[str, Any]]] = [
        {
            "from": [{"source": {"principals": ["cluster.local/ns/a/sa/web"]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": ["/x"]}}],
        }
    ]
    DB = access("a/db", selector=labels(app="db"), rules=RULES)

    def test_requests_are_judged_one_by_one(self) -> None:
        found = run(
            [self.DB],
            Observed("a/web", "a/db", port=80, method="GET", path="/x"),
            Observed("a/web", "a/db", port=80, method="POST", path="/x"),
            mesh="sidecar",
        )
        assert (found.observed, found.allowed) == (2, 1)
        assert found.denied[0]["layer"] == "authorizationpolicy"
        assert found.denied[0]["nearest"] == "AuthorizationPolicy a/db rule 0 fails on methods GET"

    def test_a_connection_to_an_http_port_is_allowed_if_some_request_is(self) -> None:
        seen = Observed("a/web", "a/db", port=80, method="GET", path="/x")
        found = run(
            [self.DB], seen, Observed("a/web", "a/db", port=80), Observed("a/api", "a/db", port=80), mesh="sidecar"
        )
        assert [entry["from"] for entry in found.denied] == ["a/api"]

    def test_a_connection_to_a_port_of_unknown_kind_is_not_proved(self) -> None:
        assert not run([self.DB], Observed("a/web", "a/db", port=80), mesh="sidecar").sound

    def test_plaintext_has_no_principal(self) -> None:
        seen = Observed("a/web", "a/db", port=80, method="GET", path="/x", mtls=False)
        assert not run([self.DB], seen, mesh="sidecar").sound
