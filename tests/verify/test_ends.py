"""What an end of a question stands for: pods that policies tell apart, address families, replicas, the own Service."""

from __future__ import annotations

from typing import Any

import pytest

from leastway.verify.judge import Judge, Question
from leastway.verify.overpermission import over_permission
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed, replay
from leastway.verify.verdict import Verdict
from leastway.verify.world import World
from tests.verify.kit import judge, labels, outcome, pod, policy


def addressed(ref: str, *ips: str) -> Document:
    """A Pod, app = its name, with several addresses."""
    found = pod(ref, {"app": ref.partition("/")[2]})
    found["status"] = {"podIPs": [{"ip": ip} for ip in ips]}
    return found


def workload(kind: str, name: str, **spec: Any) -> Document:
    """A workload of namespace a, app = its name."""
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": []}}
    return {"kind": kind, "metadata": {"namespace": "a", "name": name}, "spec": {"template": template, **spec}}


def owned(name: str, owner: str, ip: str, **more: str) -> Document:
    """A Pod of a StatefulSet in namespace a."""
    found = pod(f"a/{name}", {"app": owner, "statefulset.kubernetes.io/pod-name": name, **more}, ip)
    found["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": owner, "controller": True}]
    return found


def blocks(*cidrs: str) -> list[dict[str, Any]]:
    return [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]


class TestAddressFamilies:
    four, six, dual = (
        addressed(f"a/{n}", *i)
        for n, i in {"four": ["10.0.0.1"], "six": ["fd00::2"], "dual": ["10.0.0.3", "fd00::3"]}.items()
    )

    def asked(self, source: str, destination: str, *cidrs: str) -> str:
        rule = {"to": blocks(*cidrs)}
        out = policy("a/out", podSelector={}, policyTypes=["Egress"], egress=[rule])
        return outcome(judge([self.four, self.six, self.dual], [out]), source, destination)

    @pytest.mark.parametrize(
        ("source", "cidrs", "expected"),
        [
            ("a/four", ["10.0.0.0/8"], "allow"),
            ("a/six", ["10.0.0.0/8"], "deny"),
            ("a/four", ["fd00::/8"], "deny"),
            ("a/six", ["fd00::/8"], "allow"),
            ("10.0.0.3", ["10.0.0.0/8"], "allow"),
        ],
    )
    def test_only_families_that_both_ends_have_matter(self, source: str, cidrs: list[str], expected: str) -> None:
        assert self.asked(source, "a/dual", *cidrs) == expected

    def test_two_dual_ends_may_use_either(self) -> None:
        other = addressed("a/other", "10.0.0.9", "fd00::9")
        for cidrs, expected in (
            (["10.0.0.0/8"], "undefined"),
            (["10.0.0.0/8", "fd00::/8"], "allow"),
            (["192.0.2.0/24"], "deny"),
        ):
            out = policy("a/out", podSelector={}, policyTypes=["Egress"], egress=[{"to": blocks(*cidrs)}])
            of = judge([self.dual, other], [out])
            verdict = of.ask(Question("a/dual", "a/other", "TCP", 80))
            assert verdict.outcome == expected, verdict
            assert (expected != "undefined") or "IPv6: deny" in verdict.because

    @pytest.mark.parametrize(("cidrs", "pairs"), [(["10.0.0.0/8"], 0), (["10.0.0.0/8", "fd00::/8"], 2)])
    def test_over_permission_is_what_is_open_in_every_family(self, cidrs: list[str], pairs: int) -> None:
        rule = {"to": blocks(*cidrs), "ports": [{"port": 80}]}
        out = policy("a/out", podSelector={}, policyTypes=["Egress"], egress=[rule])
        found = over_permission(judge([self.dual, addressed("a/other", "10.0.0.9", "fd00::9")], [out]), [])
        shown = [text for texts in found.examples.values() for text in texts if text.count("a/") == 2]
        assert len(shown) == pairs

    def test_two_replicas_are_no_loopback_however_many_addresses_the_one_pod_has(self) -> None:
        inward = policy("a/in", podSelector={}, ingress=[{"from": blocks("10.0.0.0/8")}])
        only = owned("db-0", "db", "10.0.0.1")
        only["status"]["podIPs"].append({"ip": "fd00::1"})
        seen = replay(judge([only], [inward]), [Observed("a/db", "a/db", "TCP", 80)])  # on the wire: another pod
        assert seen.denied[0]["outcome"] == "undefined"

    def test_a_source_is_matched_by_the_family_of_the_destination(self) -> None:
        inward = policy("a/in", podSelector=labels(app="four"), ingress=[{"from": blocks("10.0.0.0/8")}])
        of = judge([self.four, self.dual], [inward])
        assert outcome(of, "a/dual", "a/four") == "allow"


class TestPodsApart:
    db = (owned("db-0", "db", "10.0.0.1"), owned("db-1", "db", "10.0.0.2"), pod("a/web", {"app": "web"}, "10.0.0.3"))
    to_first = policy(
        "a/in",
        podSelector={
            "matchExpressions": [
                {"key": "statefulset.kubernetes.io/pod-name", "operator": "NotIn", "values": ["db-0"]},
                {"key": "app", "operator": "In", "values": ["db"]},
            ]
        },
        ingress=[],
    )
    shut = policy(
        "a/shut",
        podSelector=labels(app="web"),
        policyTypes=["Egress"],
        egress=[{"to": [{"podSelector": {}}], "ports": [{"port": 80}]}],
    )
    closed = policy("a/closed", podSelector=labels(app="web"), policyTypes=["Ingress"])

    def test_over_permission_is_about_the_pods_that_are_let_in(self) -> None:
        replicas = policy("a/db", podSelector=labels(app="db"), policyTypes=["Egress"])
        other = policy(
            "a/in2",
            podSelector={"matchLabels": {"statefulset.kubernetes.io/pod-name": "db-0"}},
            ingress=[{"from": [{"podSelector": labels(app="web")}]}],
        )
        found = over_permission(judge(self.db, [self.to_first, other, self.shut, self.closed, replicas]), [])
        # By the labels that both pods have, nobody may call db at all.
        assert found.examples == {"selector bleed": ["a/web → a/db 80/TCP"]}
        seen = over_permission(
            judge(self.db, [self.to_first, other, self.shut, self.closed, replicas]),
            [Observed("a/web", "a/db", "TCP", 80)],
        )
        assert seen.total == 0

    def test_an_address_says_which_pod_it_is(self) -> None:
        of = judge(self.db, [self.to_first])
        asked = Question("a/web", "a/db", "TCP", 80)
        assert of.ask(asked).outcome == "undefined"
        verdicts = {
            ip: of.ask(Question("a/web", "a/db", "TCP", 80, destination_address=ip)).outcome
            for ip in ("10.0.0.1", "10.0.0.2")
        }
        assert verdicts == {"10.0.0.1": "allow", "10.0.0.2": "deny"}

    @pytest.mark.parametrize("key", ["statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"])
    def test_a_stateful_set_in_a_manifest_has_the_pods_that_it_will_have(self, key: str) -> None:
        value = {"statefulset.kubernetes.io/pod-name": "db-0", "apps.kubernetes.io/pod-index": "0"}[key]
        closed = policy("a/p", podSelector={"matchLabels": {key: value}}, ingress=[])
        for replicas, expected in ((1, "deny"), (3, "undefined")):
            things = [workload("StatefulSet", "db", replicas=replicas), pod("a/web", {"app": "web"}, "10.0.0.3")]
            assert outcome(judge(things, [closed]), "a/web", "a/db") == expected

    def test_ports_of_one_name_may_differ(self) -> None:
        named = policy("a/p", podSelector=labels(app="db"), ingress=[{"ports": [{"port": "sql"}]}])
        things = [owned("db-0", "db", "10.0.0.1"), owned("db-1", "db", "10.0.0.2"), self.db[2]]
        for thing, number in zip(things, (5432, 6432), strict=False):
            thing["spec"]["containers"][0]["ports"] = [{"name": "sql", "containerPort": number}]
        of = judge(things, [named])
        assert [outcome(of, "a/web", to, 5432) for to in ("a/db", "a/db-0", "a/db-1")] == ["undefined", "allow", "deny"]


DENY = policy("a/deny", podSelector={}, policyTypes=["Ingress", "Egress"])
SERVICE = {
    "kind": "Service",
    "metadata": {"namespace": "a", "name": "db"},
    "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "db"}, "ports": [{"port": 80, "targetPort": 8080}]},
}


class TestOwnService:
    """Kubernetes' own tests leave this aside, as networks differ: a pod that its Service leads back to itself."""

    def asked(self, things: list[Document], policies: list[Document], source: str) -> Verdict:
        return judge([SERVICE, *things], policies).ask(Question(source, "10.96.0.1", "TCP", 80))

    def test_it_is_not_certain_where_policy_forbids_it(self) -> None:
        verdict = self.asked([pod("a/db", {"app": "db"}, "10.0.0.1")], [DENY], "a/db")
        assert verdict.outcome == "undefined"
        assert "back to itself" in verdict.because

    def test_it_is_allowed_where_policy_allows_it(self) -> None:
        assert self.asked([pod("a/db", {"app": "db"}, "10.0.0.1")], [], "a/db").outcome == "allow"
        inside = policy("a/in", podSelector={}, policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}]}])
        assert self.asked([pod("a/db", {"app": "db"}, "10.0.0.1")], [inside], "a/db").outcome == "allow"

    @pytest.mark.parametrize("source", ["a/db", "a/db-0"])
    def test_another_replica_may_be_picked(self, source: str) -> None:
        pods = [owned("db-0", "db", "10.0.0.1"), owned("db-1", "db", "10.0.0.2")]
        assert self.asked(pods, [DENY], source).outcome == "undefined"
        assert self.asked(pods, [], source).outcome == "allow"

    @pytest.mark.parametrize("source", ["a/db", "a/db-0"])
    def test_one_replica_is_not_a_loopback_either(self, source: str) -> None:
        verdict = self.asked([owned("db-0", "db", "10.0.0.1")], [DENY], source)
        assert verdict.outcome == "undefined"
        assert "back to itself" in verdict.because

    def test_others_are_asked_as_ever(self) -> None:
        pods = [pod("a/db", {"app": "db"}, "10.0.0.1"), pod("a/web", {"app": "web"}, "10.0.0.2")]
        assert self.asked(pods, [DENY], "a/web").outcome == "deny"


def scaler(kind: str, **spec: Any) -> Document:
    return {"kind": kind, "metadata": {"namespace": "a", "name": "x"}, "spec": spec}


class TestReplicas:
    @pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"])
    @pytest.mark.parametrize("spec", [{}, {"replicas": None}, {"replicas": 1}])
    def test_the_api_defaults_to_one(self, kind: str, spec: dict[str, Any]) -> None:
        assert outcome(judge([workload(kind, "w", **spec)], [DENY]), "a/w", "a/w") == "allow"

    @pytest.mark.parametrize(
        "by",
        [
            scaler("HorizontalPodAutoscaler", scaleTargetRef={"kind": "Deployment", "name": "w"}, maxReplicas=5),
            scaler("ScaledObject", scaleTargetRef={"name": "w"}),
        ],
    )
    def test_who_is_scaled_has_an_unknown_number(self, by: Document) -> None:
        for spec in ({}, {"replicas": 1}):
            things = [by, workload("Deployment", "w", **spec), workload("Deployment", "other")]
            of = judge(things, [DENY])
            assert (outcome(of, "a/w", "a/w"), outcome(of, "a/other", "a/other")) == ("undefined", "allow")

    def test_one_at_most_is_one(self) -> None:
        by = scaler("HorizontalPodAutoscaler", scaleTargetRef={"kind": "Deployment", "name": "w"}, maxReplicas=1)
        assert outcome(judge([by, workload("Deployment", "w")], [DENY]), "a/w", "a/w") == "allow"

    def test_a_workload_known_from_traffic_alone_has_an_unknown_number(self) -> None:
        from leastway.verify.world import Subject

        world = World()
        world.add_subject(Subject("a", "w", {"app": "w"}, inventoried=False))
        assert outcome(Judge(world, [DENY]), "a/w", "a/w") == "undefined"
