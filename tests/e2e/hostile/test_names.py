"""Labels, names and namespaces: collisions, churn, and text that wants to become structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hostile.scene import Outcome, Scene, twin

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])


def _selectors(out: Outcome, namespace: str) -> dict[str, dict[str, str]]:
    """Policy name → pod selector."""
    return {
        d["metadata"]["name"]: d["spec"]["podSelector"].get("matchLabels", {})
        for d in out.policies("NetworkPolicy")
        if d["metadata"]["namespace"] == namespace
    }


@BOTH
def test_two_deployments_share_all_labels(tmp_path: Path, inventory: bool) -> None:
    """No selector keeps them apart: nothing is lost, and the reader is told."""
    s = Scene()
    same = {"app": "worker"}
    fast = s.pod("shop/fast", same, account="fast")
    slow = s.pod("shop/slow", same, account="slow")
    db, web = s.pod("shop/db"), s.pod("shop/web")
    s.talk(fast, db, 5432)
    s.talk(slow, web, 8080)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/fast", "shop/db", 5432), ("shop/slow", "shop/web", 8080)]
    assert out.wrong(wanted, closed=False) == []
    assert "fast" in out.result.files["REVIEW.md"]
    assert "slow" in out.result.files["REVIEW.md"]


@BOTH
def test_equal_labels_and_names_in_two_namespaces(tmp_path: Path, inventory: bool) -> None:
    """staging and production are two, even where everything else is equal."""
    s = Scene()
    for namespace, port in (("staging", 8080), ("production", 9090)):
        s.talk(s.pod(f"{namespace}/web"), s.pod(f"{namespace}/api"), port)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("staging/web", "staging/api", 8080), ("production/web", "production/api", 9090)]) == []


@BOTH
def test_a_name_and_its_canary(tmp_path: Path, inventory: bool) -> None:
    """`app: api` and `app: api, track: canary`: the wider selector must not lend its rules to anyone."""
    s = Scene()
    api, canary = s.pod("shop/api", {"app": "api"}), s.pod("shop/api-canary", {"app": "api", "track": "canary"})
    web, db, flags = s.pod("shop/web"), s.pod("shop/db"), s.pod("shop/flags")
    s.talk(web, api, 8080)
    s.talk(web, canary, 8080)
    s.talk(api, db, 5432)
    s.talk(canary, db, 5432)
    s.talk(canary, flags, 9000)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", f"shop/{w}", 8080) for w in ("api", "api-canary")]
    wanted += [(f"shop/{w}", "shop/db", 5432) for w in ("api", "api-canary")]
    assert out.wrong([*wanted, ("shop/api-canary", "shop/flags", 9000)], [("shop/api", "shop/flags", 9000)]) == []


@BOTH
@pytest.mark.parametrize("name", ["default-deny", "allow-dns", "default", "kustomization", "leastway.json"])
def test_names_that_leastway_uses_itself(tmp_path: Path, inventory: bool, name: str) -> None:
    """A workload may be called like a policy of the namespace: both are there."""
    s = Scene()
    odd, api = s.pod(f"shop/{name}", {"app": "odd"}), s.pod("shop/api")
    s.talk(odd, api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([(f"shop/{name}", "shop/api", 8080)]) == []
    selectors = _selectors(out, "shop")
    assert selectors["default-deny"] == selectors["allow-dns"] == {}
    assert {"app": "odd"} in selectors.values()


@BOTH
def test_kinds_with_one_name(tmp_path: Path, inventory: bool) -> None:
    """Deployment api, StatefulSet api: two policies, two files."""
    s = Scene()
    one = s.pod("shop/api", {"app": "api", "role": "web"}, account="one")
    two = s.pod("shop/api", {"app": "api", "role": "store"}, kind="StatefulSet", account="two")
    web, db = s.pod("shop/web"), s.pod("shop/db")
    s.talk(web, one, 8080)
    s.talk(two, db, 5432)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([], closed=False) == []
    assert out.ask("shop/web", f"shop/{one.pod}", 8080) == "allow"
    assert out.ask(f"shop/{two.pod}", "shop/db", 5432) == "allow"
    assert out.ask(f"shop/{one.pod}", "shop/db", 5432) == "deny"
    assert out.ask("shop/web", f"shop/{two.pod}", 8080) == "deny"


@BOTH
@pytest.mark.parametrize("length", [63, 200, 253])
def test_very_long_names_that_begin_alike_stay_two(tmp_path: Path, inventory: bool, length: int) -> None:
    """Object names may have 253 characters; two that agree in the first 240 stay two."""
    s = Scene()
    api = s.pod("shop/api")
    stem = "a" * 62 if length == 63 else ".".join(["a" * 49] * 5)[: length - 1].rstrip(".")
    ones = [
        s.pod(f"shop/{stem}{letter}", {"app": f"x{letter}"}, kind="StatefulSet", pod=f"p{letter}-0") for letter in "bc"
    ]
    for number, end in enumerate(ones):
        s.talk(end, api, 8080 + number)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([(end.ref, "shop/api", 8080 + n) for n, end in enumerate(ones)]) == []


CHURN = {
    "pod-template-hash": "6b746f74dc",
    "controller-revision-hash": "web-5f4d8c7b9",
    "pod-template-generation": "3",
    "statefulset.kubernetes.io/pod-name": "web-0",
    "apps.kubernetes.io/pod-index": "0",
    "helm.sh/chart": "web-1.2.3",
    "chart": "web-1.2.3",
    "heritage": "Helm",
    "app.kubernetes.io/version": "1.2.3",
    "app.kubernetes.io/managed-by": "Helm",
    "security.istio.io/tlsMode": "istio",
    "service.istio.io/canonical-name": "web",
    "service.istio.io/canonical-revision": "v1",
    "istio.io/rev": "default",
    "topology.kubernetes.io/zone": "a",
    "rollouts-pod-template-hash": "77f",
    "batch.kubernetes.io/job-name": "web-1",
    "job-name": "web-1",
    "controller-uid": "0b9e",
}


@BOTH
def test_churning_labels_beside_a_stable_one(tmp_path: Path, inventory: bool) -> None:
    """Two pods that differ in every churning label are one workload, and no such label is in a selector."""
    s = Scene()
    web, api = s.pod("shop/web", {"app": "web", **CHURN}), s.pod("shop/api")
    other = {key: f"{value[:-1]}9" for key, value in CHURN.items()}
    second = replace(twin(web, 1), labels=tuple(sorted({"app": "web", **other}.items())))
    s.talk(web, api, 8080)
    s.talk(second, api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    found = [p for p in out.wrong([], closed=False) if "churns" in p]
    if not inventory:  # the scene's Deployment would itself select by them
        assert found == []
        assert _selectors(out, "shop")["web"] == {"app": "web"}
    assert out.ask("shop/web", "shop/api", 8080) == "allow"


def test_rollouts_of_an_openshift_deployment_config(tmp_path: Path) -> None:
    """Each rollout has its own ReplicationController `web-N`, and its pods the label `deployment: web-N`."""
    s = Scene()
    labels = {"app": "shop", "deploymentconfig": "db", "deployment": "db-7"}
    db = s.pod("shop/db-7", labels, kind="ReplicationController", pod="db-7-x7k2p")
    for number in (3, 4):
        labels = {"app": "shop", "deploymentconfig": "web", "deployment": f"web-{number}"}
        pod = s.pod(f"shop/web-{number}", labels, kind="ReplicationController", pod=f"web-{number}-zq8wv")
        s.talk(pod, db, 5432)
    out = s.run(tmp_path)
    assert out.wrong([(f"shop/web-{n}", "shop/db-7", 5432) for n in (3, 4)], closed=False) == []
    found = _selectors(out, "shop")
    assert (found["web"], found["db"]) == ({"deploymentconfig": "web"}, {"deploymentconfig": "db"})


@BOTH
def test_a_label_called_deployment_is_one_like_any_other(tmp_path: Path, inventory: bool) -> None:
    s = Scene()
    for name in ("blue", "green"):
        s.talk(s.pod(f"shop/{name}", {"app": "web", "deployment": name}), s.pod(f"shop/db-{name}"), 5432)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([(f"shop/{n}", f"shop/db-{n}", 5432) for n in ("blue", "green")]) == []


@BOTH
def test_policies_are_not_called_by_a_rollouts_hash(tmp_path: Path, inventory: bool) -> None:
    """Argo Rollouts own ReplicaSets themselves: Hubble names those."""
    s = Scene()
    db = s.pod("shop/db")
    for mark in ("6b746f74dc", "5c4d8f7b9c"):
        labels = {"app": "pay", "rollouts-pod-template-hash": mark}
        pod = s.pod(f"shop/pay-{mark}", labels, kind="ReplicaSet", pod=f"pay-{mark}-9rcxx")
        s.ends.pop()  # the inventory has no ReplicaSet of a custom resource's
        s.talk(pod, db, 5432)
    out = s.run(tmp_path, inventory=inventory)
    assert _selectors(out, "shop")["pay"] == {"app": "pay"}


@BOTH
def test_only_churning_labels(tmp_path: Path, inventory: bool) -> None:
    """Nothing stable to select by: no policy for it and no rule that selects everybody instead."""
    s = Scene()
    odd = s.pod("shop/odd", {"pod-template-hash": "6b746f74dc"}, kind="Pod", pod="odd")
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(odd, api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/api", "shop/odd", 8080)], closed=False) == []
    wide = {name for name, selector in _selectors(out, "shop").items() if not selector}
    assert wide <= {"allow-dns", "default-deny"}
    assert "odd" in out.result.files["REVIEW.md"]


@BOTH
def test_pods_without_labels(tmp_path: Path, inventory: bool) -> None:
    """A bare pod: told, never `podSelector: {}` in its stead."""
    s = Scene()
    bare = s.pod("shop/bare", {}, kind="Pod", pod="bare")
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(bare, api, 8080)
    s.talk(web, bare, 9000)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "shop/api", 9000)], closed=False) == []
    assert out.review("unselectable")
    for document in out.policies("NetworkPolicy"):
        for rule in (*document["spec"].get("ingress", ()), *document["spec"].get("egress", ())):
            for peer in (*rule.get("from", ()), *rule.get("to", ())):
                assert peer.get("podSelector") != {}


@BOTH
def test_jobs_with_generated_names(tmp_path: Path, inventory: bool) -> None:
    """Each run has a new name and new labels; the stable label selects all of them."""
    s = Scene()
    db, web = s.pod("shop/db"), s.pod("shop/web")
    s.talk(web, db, 5432)
    for number in (29_170_000, 29_170_060, 29_170_120):
        labels = {
            "app": "report",
            "batch.kubernetes.io/job-name": f"report-{number}",
            "job-name": f"report-{number}",
        }
        labels["batch.kubernetes.io/controller-uid"] = f"uid-{number}"
        run = s.pod(f"shop/report-{number}", labels, kind="Job", pod=f"report-{number}-zq8wv")
        s.talk(run, db, 5432, times=1)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/db", 5432)] + [(f"shop/report-{n}", "shop/db", 5432) for n in (29_170_000, 29_170_120)]
    assert out.wrong(wanted, closed=False) == []
    assert {"app": "report"} in _selectors(out, "shop").values()


@BOTH
def test_jobs_with_job_labels_only(tmp_path: Path, inventory: bool) -> None:
    """Kubernetes' own job labels are all it has: told, and no selector of them."""
    s = Scene()
    db, web = s.pod("shop/db"), s.pod("shop/web")
    s.talk(web, db, 5432)
    for number in (1, 2):
        labels = {"batch.kubernetes.io/job-name": f"seed-{number}", "job-name": f"seed-{number}"}
        s.talk(s.pod(f"shop/seed-{number}", labels, kind="Job", pod=f"seed-{number}-zq8wv"), db, 5432)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/db", 5432)], closed=False) == []
    assert "seed" in out.result.files["REVIEW.md"]


@BOTH
def test_statefulset_members_talk_to_each_other(tmp_path: Path, inventory: bool) -> None:
    """Seen between two of three members: allowed between all (semantics 3, no. 24), and to nobody else."""
    s = Scene()
    labels = {"app": "kafka", "statefulset.kubernetes.io/pod-name": "kafka-0", "apps.kubernetes.io/pod-index": "0"}
    first = s.pod("data/kafka", labels, kind="StatefulSet")
    web = s.pod("data/web")
    labels = {**labels, "statefulset.kubernetes.io/pod-name": "kafka-1", "apps.kubernetes.io/pod-index": "1"}
    second = replace(twin(first, 1, node="node-2"), labels=tuple(sorted(labels.items())))
    s.ends.append(second)
    s.talk(first, second, 9093)
    s.talk(web, first, 9092)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("data/web", "data/kafka", 9092)], [("data/web", "data/kafka", 9093)], closed=False) == []
    for one, two in (("kafka-0", "kafka-1"), ("kafka-1", "kafka-0")):
        assert out.ask(f"data/{one}", f"data/{two}", 9093) == "allow"
    assert _selectors(out, "data")["kafka"] == {"app": "kafka"}


@BOTH
def test_headless_pods_by_address(tmp_path: Path, inventory: bool) -> None:
    """A client of a headless Service reaches every member by its own address."""
    s = Scene()
    db = s.pod("data/db", kind="StatefulSet")
    web = s.pod("data/web")
    members = [db, twin(db, 1, node="node-2"), twin(db, 2)]
    s.ends += members[1:]
    for member in members:
        s.talk(web, member, 5432, times=1)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("data/web", "data/db", 5432)]) == []


HOSTILE_VALUES = [
    "a\n  ingress:\n  - {}",
    "{{ 7 * 7 }}",
    "{% for x in y %}",
    "x\u2028y",
    "x\u0085y",
    "x\x00y",
    "&anchor *alias !!tag",
    "\"}]}'",
    "a" * 300,
    "ünïcödé",
    "# comment",
    "- dash",
    "...",
    "\ud800",
]


@BOTH
@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=lambda v: ascii(v)[1:20])
def test_label_values_that_kubernetes_would_refuse(tmp_path: Path, inventory: bool, value: str) -> None:
    """They cannot be real; the workload keeps its other label and its legitimate edge."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    dressed = replace(web, labels=(("app", "web"), ("note", value), (value, "x")))
    s.talk(dressed, api, 8080)
    forged = s.pod("shop/forged", {"app": value})
    s.talk(forged, api, 8080)
    s.ends.remove(forged)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], closed=False) == []
    assert value not in out.yaml or len(value) < 4


@BOTH
@pytest.mark.parametrize("value", ["yes", "no", "on", "true", "null", "1.0", "0x1f", "1e3", "012", "2026-03-02", ""])
def test_label_values_that_yaml_would_read_as_something_else(tmp_path: Path, inventory: bool, value: str) -> None:
    """Legal labels which a careless template turns into booleans, numbers, dates and nulls."""
    s = Scene()
    web = s.pod("shop/web", {"app": value, "tier": "front"} if value else {"app": ""})
    api, other = s.pod("shop/api"), s.pod("shop/other", {"app": "other", "tier": "front"})
    s.talk(web, api, 8080)
    s.talk(other, web, 80)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080), ("shop/other", "shop/web", 80)]) == []


@BOTH
@pytest.mark.parametrize("namespace", ["null", "yes", "1", "on", "0x10", "1e3"])
def test_namespaces_that_yaml_would_read_as_something_else(tmp_path: Path, inventory: bool, namespace: str) -> None:
    """Legal namespace names."""
    s = Scene()
    s.talk(s.pod(f"{namespace}/web"), s.pod(f"{namespace}/api"), 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([(f"{namespace}/web", f"{namespace}/api", 8080)]) == []


@BOTH
@pytest.mark.parametrize(
    "namespace",
    [
        "../../etc",
        "Shop",
        "a_b",
        "a.b",
        "-a",
        "a/b",
        "x" * 64,
        "{{ 7*7 }}",
        "a\nb",
        "shop ",
        "\u0441hop",
        ".",
        "..",
    ],
    ids=lambda v: ascii(v)[1:20],
)
def test_namespaces_that_cannot_exist(tmp_path: Path, inventory: bool, namespace: str) -> None:
    """Nothing is written for them, no path leaves the folder, and the rest is unharmed."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    forged = replace(web, namespace=namespace, pod="forged", name="forged", ip="10.244.2.99")
    s.talk(forged, api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], closed=False) == []
    folders = {path.rpartition("/")[0] for path in out.result.files}
    assert folders <= {"shop", ""}


@BOTH
@pytest.mark.parametrize(
    "name", ["../x", "x/y", "X", "x\ny", "{{ x }}", "a" * 300, "..", "-", "x..y", "x.-y", "\u202e"], ids=ascii
)
def test_pod_and_owner_names_that_cannot_exist(tmp_path: Path, inventory: bool, name: str) -> None:
    """Names become file names and object names: only what Kubernetes would accept may."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    forged = replace(web, pod=name, name=name, labels=(("app", "forged"),), ip="10.244.2.99")
    s.talk(forged, api, 8080)
    s.talk(replace(forged, labels=()), api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], closed=False) == []
    assert all(path.count("/") <= 1 and ".." not in path for path in out.result.files)


def test_names_in_review_cannot_forge_markdown(tmp_path: Path) -> None:
    """What an attacker chose reaches REVIEW.md as text on one line."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    evil = "x\n## Approved\n- **lw-0** accept me <script>alert(1)</script>"
    out_there = s.world("203.0.113.9")
    s.talk(web, out_there, 443, times=1, destination_names=[evil])
    s.drop(web, api, 1, drop_reason_desc=evil)
    s.drop(web, api, 2)
    s.records.append({"lost_events": {"source": evil, "num_events_lost": 3}, "node_name": evil})
    s.records.append({"node_status": {"state_change": evil, "node_names": [evil]}})
    out = s.run(tmp_path)
    page = out.result.files["REVIEW.md"]
    assert "\n## Approved" not in page
    assert "<script>" not in page
    assert "\n- **lw-0**" not in page


@BOTH
def test_null_fields_in_labels_and_workloads(tmp_path: Path, inventory: bool) -> None:
    """Nulls and wrong types inside an endpoint cost that record, not the run."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    odd: list[dict[str, Any]] = [
        {"labels": None, "workloads": None},
        {"labels": [None]},
        {"labels": [1, 2]},
        {"labels": "k8s:app=web"},
        {"workloads": [{"name": None, "kind": None}]},
        {"workloads": [None]},
        {"identity": "7", "ID": "x"},
        {"identity": -1},
        {"identity": 1e300},
        {"namespace": None, "pod_name": None},
        {"cluster_name": None},
    ]
    for parts in odd:
        record = s.packet(web, api, 44_444, 9999, flags="SYN", reason="NEW")
        record["flow"]["source"] = {**record["flow"]["source"], **parts}
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], closed=False) == []


HOSTILE_NAMES = (
    'evil.example.com"\n  - ipBlock: {cidr: 0.0.0.0/0}',
    "{{ cycler.__init__ }}.example.com",
    "../../../etc/passwd",
    "--- # a new document",
    "x" * 4096 + ".example.com",
    "a\u2028b",
    "",
)


@BOTH
def test_hostile_host_names(tmp_path: Path, inventory: bool) -> None:
    """Names of outside addresses and DNS queries are evidence: text in the review, nothing in the YAML."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    dns = s.pod("kube-system/coredns", {"k8s-app": "kube-dns"})
    s.talk(web, api, 8080)
    s.talk(api, s.world("203.0.113.7"), 443, destination_names=list(HOSTILE_NAMES))
    for name in HOSTILE_NAMES:
        query = {"type": "REQUEST", "dns": {"query": name, "qtypes": ["A"]}}
        s.packet(api, dns, 45_000, 53, "UDP", Type="L7", l7=query, event_type={"type": 129})
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/api", "203.0.113.7", 443)]
    assert out.wrong([*wanted, ("shop/api", "kube-system/coredns", 53, "UDP")], [("shop/api", "8.8.8.8", 443)]) == []
    assert not any(name in out.yaml for name in HOSTILE_NAMES if name)
