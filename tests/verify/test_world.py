"""The world read from manifests: which pods are which workload, and what is known of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leastway.verify.errors import PolicyError
from leastway.verify.judge import Question
from leastway.verify.reading import Document, documents, read_path
from leastway.verify.soundness import Observed, replay
from leastway.verify.world import World
from tests.verify.kit import judge, labels, outcome, pod, policy


def workload(kind: str, name: str, owner: tuple[str, str] | None = None, **pairs: str) -> Document:
    template = {"metadata": {"labels": pairs}, "spec": {"serviceAccountName": name, "containers": []}}
    spec: dict[str, Any] = (
        {"jobTemplate": {"spec": {"template": template}}} if kind == "CronJob" else {"template": template}
    )
    return {"kind": kind, "metadata": owned({"name": name, "namespace": "a"}, owner), "spec": spec}


def owned(meta: dict[str, Any], owner: tuple[str, str] | None) -> dict[str, Any]:
    return meta | ({"ownerReferences": [{"kind": owner[0], "name": owner[1], "controller": True}]} if owner else {})


def replica(name: str, owner: tuple[str, str], ip: str, **pairs: str) -> Document:
    found = pod(f"a/{name}", pairs, ip, host="192.168.0.1")
    return found | {"metadata": owned(found["metadata"], owner)}


def test_pods_belong_to_the_deployment_behind_their_replica_set() -> None:
    hashed = {"app": "web", "pod-template-hash": "5d4"}
    world = World.from_manifests(
        [
            replica("web-5d4-x", ("ReplicaSet", "web-5d4"), "10.0.0.1", **hashed),
            replica("web-5d4-y", ("ReplicaSet", "web-5d4"), "10.0.0.2", **hashed),
            workload("Deployment", "web", app="web"),
            workload("ReplicaSet", "web-5d4", ("Deployment", "web"), **hashed),
        ]
    )
    assert [subject.ref for subject in world.universe()] == ["a/web"]
    web = world.find("a/web")
    assert (web.kind, web.ips, web.service_account) == ("Deployment", ("10.0.0.1", "10.0.0.2"), "web")
    assert world.find("a/web-5d4-x").member_of == "a/web"
    assert world.at("10.0.0.2") is world.find("a/web-5d4-y")


def test_a_replica_set_is_counted_as_the_deployment_that_only_its_pods_tell_of() -> None:
    """`kubectl get pods,replicasets`: the Deployment itself is not among the objects, and old revisions are."""
    hashed = {"app": "web", "pod-template-hash": "5d4"}
    world = World.from_manifests(
        [
            replica("web-5d4-x", ("ReplicaSet", "web-5d4"), "10.0.0.1", **hashed),
            workload("ReplicaSet", "web-5d4", ("Deployment", "web"), **hashed),
            workload("ReplicaSet", "web-77c", ("Deployment", "web"), **{"app": "web", "pod-template-hash": "77c"}),
        ]
    )
    assert [(subject.ref, subject.kind) for subject in world.universe()] == [("a/web", "Deployment")]


def test_pods_alone_are_grouped_by_the_owner_that_they_name() -> None:
    hashed = {"app": "web", "pod-template-hash": "5d4"}
    world = World.from_manifests(
        [
            replica("web-5d4-x", ("ReplicaSet", "web-5d4"), "10.0.0.1", **hashed, only="x"),
            replica("web-5d4-y", ("ReplicaSet", "web-5d4"), "10.0.0.2", **hashed),
            replica("db-0", ("StatefulSet", "db"), "10.0.0.3", app="db"),
            replica("static", ("Node", "n1"), "10.0.0.4", app="static"),
        ]
    )
    assert [(s.kind, s.ref) for s in world.universe()] == [
        ("StatefulSet", "a/db"),
        ("Pod", "a/static"),
        ("Deployment", "a/web"),
    ]
    assert world.find("a/web").labels == hashed


def test_what_an_operator_owns_is_a_workload_by_itself() -> None:
    """The Prometheus operator owns the StatefulSets that it makes, and ECK those and the Deployments of a cluster."""
    made = ("Elasticsearch", "logs")
    world = World.from_manifests(
        [
            workload("StatefulSet", "logs-es-master", made, role="master"),
            workload("StatefulSet", "logs-es-data", made, role="data"),
            replica("logs-es-master-0", ("StatefulSet", "logs-es-master"), "10.0.0.1", role="master"),
            replica("logs-es-data-0", ("StatefulSet", "logs-es-data"), "10.0.0.2", role="data"),
            replica("batch-1-x", ("Job", "batch-1"), "10.0.0.3", role="batch"),
            workload("Job", "batch-1", ("JobSet", "batch"), role="batch"),
        ]
    )
    assert {subject.ref: subject.ips for subject in world.universe()} == {
        "a/batch": ("10.0.0.3",),
        "a/logs-es-data": ("10.0.0.2",),
        "a/logs-es-master": ("10.0.0.1",),
    }


def test_a_workload_whose_pods_policies_tell_apart_has_no_certain_answer() -> None:
    name = "statefulset.kubernetes.io/pod-name"
    things = [
        *(replica(f"db-{i}", ("StatefulSet", "db"), f"10.0.0.{i}", **{"app": "db", name: f"db-{i}"}) for i in range(3)),
        workload("StatefulSet", "db", app="db"),
        pod("a/web", {"app": "web"}, "10.0.0.9"),
    ]
    first = policy("a/first", podSelector=labels(**{name: "db-0"}), policyTypes=["Ingress"])
    of = judge(things, [first])
    assert outcome(of, "a/web", "a/db-0") == "deny"
    assert outcome(of, "a/web", "a/db-1") == "allow"
    verdict = of.ask(Question("a/web", "a/db", port=80))
    assert verdict.outcome == "undefined"
    assert "a/db-0: deny" in verdict.because
    assert verdict.policies == ("NetworkPolicy a/first",)
    assert not replay(of, [Observed("a/web", "a/db", "TCP", 80)]).sound
    assert outcome(judge(things, [policy("a/p", podSelector=labels(app="db"))]), "a/web", "a/db") == "deny"
    every = {"matchExpressions": [{"key": name, "operator": "Exists"}]}
    assert outcome(judge(things, [policy("a/p", podSelector=every)]), "a/web", "a/db") == "deny"


def test_a_pod_whose_labels_contradict_the_template_stands_alone() -> None:
    stray = replica("web-0", ("StatefulSet", "web"), "10.0.0.1", app="other")
    world = World.from_manifests([workload("StatefulSet", "web", app="web"), stray])
    assert [subject.ref for subject in world.universe()] == ["a/web", "a/web-0"]


def test_cron_jobs_own_their_jobs_pods() -> None:
    world = World.from_manifests(
        [
            workload("CronJob", "backup", app="b"),
            replica("backup-28930140-x", ("Job", "backup-28930140"), "10.0.0.1", app="b"),
        ]
    )
    assert [subject.ref for subject in world.universe()] == ["a/backup"]


def test_two_kinds_of_one_name_stay_addressable() -> None:
    world = World.from_manifests([workload("Deployment", "web", app="web"), workload("StatefulSet", "web", app="db")])
    assert world.find("a/web").labels == {"app": "web"}
    assert world.find("a/web.statefulset").labels == {"app": "db"}


def test_a_cluster_ip_is_answered_for_its_backends_target_port() -> None:
    service = {
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "a"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ports": [{"port": 80, "targetPort": "http"}]},
    }
    backend = pod("a/web", {"app": "web"}, "10.0.0.1", ports=[{"name": "http", "containerPort": 8080}])
    opened = policy("a/p", podSelector=labels(app="web"), ingress=[{"ports": [{"port": 8080}]}])
    of = judge([service, backend, pod("a/x", {}, "10.0.0.2")], [opened])
    assert outcome(of, "a/x", "10.96.0.1", 80) == "allow"
    assert outcome(of, "a/x", "10.96.0.1", 8080) == "undefined"


def test_lists_json_and_streams_are_read_alike() -> None:
    one = '{"kind": "Namespace", "metadata": {"name": "a"}}'
    for text in (one, f'{{"kind": "List", "items": [{one}]}}', f"[{one}]", f"---\n---\n{one}\n---\n"):
        assert [d["metadata"]["name"] for d in documents(text)] == ["a"]
    typed = '{"kind": "PodList", "items": [{"metadata": {"name": "p"}}]}'
    assert documents(typed)[0]["kind"] == "Pod"


def test_lists_in_lists_and_objects_after_each_other_are_read() -> None:
    one, other = (f'{{"kind": "Namespace", "metadata": {{"name": "{name}"}}}}' for name in "ab")
    nested = f'{{"kind": "List", "items": [{{"kind": "List", "items": [{one}]}}, {other}]}}'
    for text in (nested, f"[{nested}]", f"{one}\n{other}\n", f" {one}{other}"):
        assert [d["metadata"]["name"] for d in documents(text)] == ["a", "b"]
    assert documents('{"kind": "PodList", "items": null}') == documents('{"kind": "List"}') == []


def test_a_folder_may_hold_what_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / ".github").mkdir()
    for name, text in (
        ("a.yaml", "kind: Namespace\nmetadata: {name: a}\n"),
        ("kustomization.yaml", "resources: [a.yaml]\n"),
        ("leastway.json", "{}"),
        (".github/ci.yml", "on: push\n"),
    ):
        (tmp_path / name).write_text(text)
    assert [d["metadata"]["name"] for d in read_path(tmp_path)] == ["a"]
    (tmp_path / "values.yaml").write_text("replicas: 1\n")
    with pytest.raises(PolicyError, match="kind"):
        World.from_paths([tmp_path])


@pytest.mark.usefixtures("locked")
def test_policies_in_a_folder_that_cannot_be_read_do_not_count_as_absent(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Namespace\nmetadata: {name: a}\n")
    (tmp_path / "locked").mkdir()
    with pytest.raises(PolicyError, match=r"Permission denied — .*/locked — check the path and its permissions"):
        read_path(tmp_path)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_has_no_address_any_more(phase: str) -> None:
    ended = pod("a/job-x", {"app": "job"}, "10.0.0.1")
    ended["status"]["phase"] = phase
    for things in ([ended, pod("a/web", {}, "10.0.0.1")], [pod("a/web", {}, "10.0.0.1"), ended]):
        world = World.from_manifests(things)
        assert world.at("10.0.0.1") is world.find("a/web")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "a: b: c",
        "- 1",
        "kind: Pod",
        "[" * 5000,
        "[" * 300_000,
        "a: " + "{a: " * 100_000,
        "- " * 100_000 + "x",
        "? " * 50_000 + "x",
        "kind: Pod\nmetadata: {name: 7}",
        "2001-99-99",
        "\x00",
        "!!python/object:x {}",
    ],
)
def test_what_cannot_be_read_is_one_printable_line(text: str) -> None:
    with pytest.raises(PolicyError) as error:
        World.from_manifests(documents(text, "file.yaml"))
    assert str(error.value).isprintable()
