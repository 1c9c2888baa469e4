"""What the inventory knows beyond the traffic: workloads that were never seen, schedules, masked exports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from collector.errors import LeastwayError
from leastway import pipeline
from leastway.verify.errors import PolicyError
from synthesizer.options import Options
from tests.e2e.hostile.scene import Document, Outcome, Scene, as_lines

KEEP = {"time", "verdict", "l4", "source", "destination", "node_name", "is_reply"}


def _default_denies(out: Outcome) -> list[str]:
    policies = out.policies("NetworkPolicy")
    return [d["metadata"]["namespace"] for d in policies if d["metadata"]["name"] == "default-deny"]


@pytest.mark.parametrize("kind", ["Deployment", "CronJob", "DaemonSet", "StatefulSet", "Job"])
def test_unobserved_workload_holds_back_the_default_deny(tmp_path: Path, kind: str) -> None:
    """It is listed and not cut off; the observed ones are isolated, and can resolve names."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.pod("shop/quiet", kind=kind)
    dns = s.pod("kube-system/coredns", {"k8s-app": "kube-dns"})
    s.talk(web, api, 8080)
    out = s.run(tmp_path, inventory=True)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/api", "shop/web", 8080)], closed=False) == []
    assert _default_denies(out) == []
    assert any("quiet" in item for item in out.review("default-deny"))
    assert out.ask("shop/quiet", "203.0.113.1", 443) == "allow"
    for workload in ("web", "api"):
        assert out.ask(f"shop/{workload}", dns.ref, 53, "UDP") == "allow"


def test_jobs_of_one_template_were_all_observed(tmp_path: Path) -> None:
    """`generateName` gives each run a Job of its own; their pods are told apart by name only, and all were seen."""
    s = Scene()
    db = s.pod("shop/db")
    for run in ("x7k2p", "zq8wv", "m4n5b"):
        s.talk(s.pod(f"shop/load-{run}", {"app": "load"}, kind="Job", pod=f"load-{run}-9d8f7"), db, 5432)
    out = s.run(tmp_path, inventory=True)
    runs = [f"shop/load-{run}" for run in ("x7k2p", "zq8wv", "m4n5b")]
    assert out.review("default-deny") == []
    assert _default_denies(out) == ["shop"]
    assert out.wrong([(run, "shop/db", 5432) for run in runs]) == []


@pytest.mark.parametrize("several", [False, True], ids=["two-alike", "three-alike"])
def test_labels_that_cilium_hides(tmp_path: Path, several: bool) -> None:
    """Cilium's `labels` setting leaves some out of identities: flows of two workloads look the same, and what either
    does must be allowed to it; others that have such a label are still told from them."""
    s = Scene()
    tiers = ["front", "back", "side"][: 2 + several]
    parts = [s.pod(f"shop/x-{tier}", {"app": "x", "tier": tier}, ports=((8080, "TCP"),)) for tier in tiers]
    queue, db, gate = s.pod("shop/queue"), s.pod("shop/db"), s.pod("shop/gate")
    other = s.pod("shop/other", {"tier": "back", "role": "other"})
    s.talk(parts[0], db, 5432)
    s.talk(parts[1], queue, 5672)
    s.talk(gate, parts[0], 8080)
    s.talk(other, db, 5432)
    for part in parts[2:]:
        s.talk(part, other, 7000)
    for record in s.records:
        for end in ("source", "destination"):
            labels = record["flow"][end]["labels"]
            record["flow"][end]["labels"] = [label for label in labels if not label.startswith("k8s:tier=")]
    out = s.run(tmp_path, inventory=True)
    alike = [part.ref for part in parts]
    wanted = [(x, "shop/db", 5432) for x in alike] + [(x, "shop/queue", 5672) for x in alike]
    wanted += [("shop/gate", x, 8080) for x in alike] + [("shop/other", "shop/db", 5432)]
    wanted += [(x, "shop/other", 7000) for x in alike] * several
    within = [(x, y, port) for x in alike for y in alike for port in (5432, 5672, 7000, 8080)]
    assert out.wrong([*wanted], [ask for ask in within if ask[0] != ask[1]]) == []
    assert _default_denies(out) == ["shop"]
    (shared,) = (item for item in out.result.synthesis.review if item.kind == "selector-bleed")
    assert all(tier in shared.what for tier in tiers)
    assert "Cilium's `labels` setting" in shared.why


def test_a_job_of_the_same_template_that_was_not_seen_holds_back_the_default_deny(tmp_path: Path) -> None:
    s = Scene()
    db = s.pod("shop/db")
    s.talk(s.pod("shop/load-x7k2p", {"app": "load"}, kind="Job", pod="load-x7k2p-9d8f7"), db, 5432)
    s.pod("shop/load-zq8wv", {"app": "load"}, kind="Job", pod="load-zq8wv-9d8f7")
    out = s.run(tmp_path, inventory=True)
    assert ["load-zq8wv was never observed" in item for item in out.review("default-deny")] == [True]


def test_a_workload_that_was_seen_and_has_no_lasting_label_is_not_called_unobserved(tmp_path: Path) -> None:
    s = Scene()
    web, db = s.pod("shop/web"), s.pod("shop/db")
    s.talk(web, db, 5432)
    labels = {"batch.kubernetes.io/job-name": "seed", "job-name": "seed"}
    s.talk(s.pod("shop/seed", labels, kind="Job", pod="seed-zq8wv"), db, 5432)
    s.pod("shop/quiet")
    s.pod("shop/idle")
    out = s.run(tmp_path, inventory=True)
    (held,) = out.review("default-deny")
    assert "idle, quiet were never observed, no selector can pick seed" in held
    (item,) = (i for i in out.result.synthesis.review if i.kind == "unselectable")
    assert "--inventory" not in item.why  # it was given
    assert item.why.endswith(
        "its pods have no label that lasts; put one into its pod template, or the policies of shop/db cut it off"
    )


def test_accepted_default_deny(tmp_path: Path) -> None:
    """The person's decision is carried out."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.pod("shop/quiet")
    s.talk(web, api, 8080)
    first = s.run(tmp_path, inventory=True)
    ids = frozenset(item.id for item in first.result.synthesis.review if item.kind == "default-deny")
    out = s.run(tmp_path, inventory=True, accepted=ids)
    assert _default_denies(out) == ["shop"]
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "shop/quiet", 8080)]) == []


def test_namespace_without_any_traffic(tmp_path: Path) -> None:
    """Nothing was asked for it, nothing is written for it."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.pod("idle/thing")
    s.talk(web, api, 8080)
    out = s.run(tmp_path, inventory=True)
    assert _default_denies(out) == ["shop"]
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
def test_field_masked_export(tmp_path: Path, inventory: bool) -> None:
    """No labels, no addresses: with the inventory the pods' names tell; without, nothing is selected and it is said."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    for record in s.records:
        flow = {key: value for key, value in record["flow"].items() if key in KEEP}
        for side in ("source", "destination"):
            flow[side] = {key: flow[side][key] for key in ("namespace", "pod_name")}
        record["flow"] = flow
    out = s.run(tmp_path, inventory=inventory)
    if inventory:
        assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    else:
        assert out.wrong([], closed=False) == []
        assert "labels" in out.result.files["REVIEW.md"]


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
def test_masked_and_whole_records_of_one_pod(tmp_path: Path, inventory: bool) -> None:
    """The whole records lend the masked ones their labels."""
    s = Scene()
    web, api, db = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/db")
    s.talk(web, api, 8080)
    s.talk(api, db, 5432)
    for record in s.talk(web, db, 5432):
        for side in ("source", "destination"):
            end = record["flow"][side]
            record["flow"][side] = {"namespace": end["namespace"], "pod_name": end["pod_name"]}
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/api", "shop/db", 5432), ("shop/web", "shop/db", 5432)]
    assert out.wrong(wanted) == []


def test_service_with_a_named_target_port(tmp_path: Path) -> None:
    """ClusterIP → pods by the name of their container port."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.service(api, "10.96.7.7", 80, 8080)
    s.extra[-1]["spec"]["ports"][0]["targetPort"] = "http"
    s.talk(web, s.world("10.96.7.7"), 80, times=5)
    documents = s.documents()
    for document in documents:
        spec = document.get("spec", {})
        for pod in (spec, spec.get("template", {}).get("spec", {})):
            for container in pod.get("containers", ()):
                for port in container["ports"]:
                    port["name"] = "http"
    (tmp_path / "c.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": documents}))
    (tmp_path / "f.jsonl").write_text(as_lines(s.records))
    run = pipeline.generate([str(tmp_path / "f.jsonl")], [str(tmp_path / "c.json")], Options())
    assert run.sound
    text = run.files.get("shop/networkpolicy-web.yaml", "")
    assert "8080" in text
    assert "ipBlock" not in text


def test_service_without_selector_is_not_a_block(tmp_path: Path) -> None:
    """A ClusterIP whose backends nobody knows: told, not written."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.service(api, "10.96.8.8", 443, 443)
    del s.extra[-1]["spec"]["selector"]
    s.talk(web, api, 8080)
    s.talk(web, s.world("10.96.8.8"), 443, times=5)
    out = s.run(tmp_path, inventory=True)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    assert out.review("unresolved")


def _endpoints(name: str, namespace: str, port: int, *addresses: str) -> Document:
    subset = {"addresses": [{"ip": ip} for ip in addresses], "ports": [{"name": "p", "port": port, "protocol": "TCP"}]}
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, "namespace": namespace},
        "subsets": [subset],
    }


def test_service_without_selector_and_endpoints_outside(tmp_path: Path) -> None:
    """A database outside behind a ClusterIP: its Endpoints say where packets go, at which port."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.service(api, "10.96.8.8", 3306, 3306)
    s.extra[-1]["metadata"]["name"] = "database"
    del s.extra[-1]["spec"]["selector"]
    s.extra.append(_endpoints("database", "shop", 13306, "198.51.100.7", "198.51.100.8"))
    s.talk(web, api, 8080)
    s.talk(web, s.world("10.96.8.8"), 3306, times=5)
    out = s.run(tmp_path, inventory=True)
    wanted = [("shop/web", f"198.51.100.{n}", 13306) for n in (7, 8)]
    denied = [("shop/web", "198.51.100.7", 3306), ("shop/web", "198.51.100.9", 13306)]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted], denied) == []
    assert out.review("unresolved") == []


@pytest.mark.parametrize(
    ("address", "kind"),
    [("169.254.169.254", "cloud-metadata"), ("10.244.1.77", "unresolved"), ("127.0.0.1", "unresolved")],
)
def test_endpoints_that_no_rule_may_name(tmp_path: Path, address: str, kind: str) -> None:
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.nodes(node_0="192.168.1.7", node_1="192.168.1.8")
    s.service(api, "10.96.8.8", 80, 80)
    del s.extra[-1]["spec"]["selector"]
    s.extra.append(_endpoints("api", "shop", 80, address))
    s.talk(web, api, 8080)
    s.talk(web, s.world("10.96.8.8"), 80, times=5)
    out = s.run(tmp_path, inventory=True)
    assert out.blocks() == []
    assert out.review(kind)


def test_the_api_server_by_its_services_address(tmp_path: Path) -> None:
    """A client before translation: default/kubernetes leads to the API servers, and to their port."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.service(api, "10.96.0.1", 443, 6443)
    s.extra[-1]["metadata"] = {"name": "kubernetes", "namespace": "default"}
    del s.extra[-1]["spec"]["selector"]
    s.extra.append(_endpoints("kubernetes", "default", 6443, "192.168.1.7"))
    s.talk(web, api, 8080)
    s.talk(web, s.world("10.96.0.1"), 443, times=5)
    out = s.run(tmp_path, inventory=True)
    assert out.blocks() == ["192.168.1.7/32"]
    assert "port: 6443" in out.yaml
    assert out.review("unresolved") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "kind: List\n",
        "kind: List\nitems: 7\n",
        "kind: Pod\nmetadata: null\n",
        "{{{",
        "\x00",
        "kind: Deployment\nmetadata: {name: [x]}\nspec: 7\n",
        "- 1\n- 2\n",
        "a: &a [*a]\n",
        "!!python/object:os.x {}\n",
        "kind: Service\nmetadata: {name: x, namespace: shop}\nspec: {clusterIP: 10.0.0.300, ports: [x]}\n",
    ],
    ids=lambda t: ascii(t)[:24],
)
def test_hostile_inventories(tmp_path: Path, text: str) -> None:
    """Read, or refused with an error of our own; never a traceback."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    (tmp_path / "f.jsonl").write_text(as_lines(s.records))
    (tmp_path / "i.yaml").write_text(text)
    try:
        run = pipeline.generate([str(tmp_path / "f.jsonl")], [str(tmp_path / "i.yaml")], Options())
    except (LeastwayError, PolicyError):  # both end in one line at the command line
        return
    assert run.sound


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
@pytest.mark.parametrize("cni", ["generic", "cilium"])
def test_namesakes_in_two_clusters_are_not_taken_for_each_other(tmp_path: Path, inventory: bool, cni: str) -> None:
    """The same names with other labels and other ports, as after a migration from one cluster to the other."""
    s = Scene()
    web, api = s.pod("shop/web", ip="10.244.0.10"), s.pod("shop/api", ip="10.244.0.11")
    far = [replace(end, ip=f"10.99.0.{n}", pod=f"{end.name}-7c9d8b5f6d-k4vbn") for n, end in enumerate((web, api), 10)]
    far = [replace(end, labels=(("app.kubernetes.io/name", end.name),)) for end in far]
    s.talk(web, api, 8080)
    for record in s.talk(far[0], far[1], 9090):
        for side in ("source", "destination"):
            end = record["flow"][side]
            end["cluster_name"] = "west"
            end["labels"] = [label.replace("cluster=default", "cluster=west") for label in end["labels"]]
    out = s.run(tmp_path, inventory=inventory, cni=cni)
    assert out.result.sound
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "shop/api", 9090)]) == []
    assert {p["metadata"]["name"] for p in out.policies("NetworkPolicy")} >= {"web", "api", "web.west", "api.west"}


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
def test_the_other_clusters_pods_are_not_ours_of_the_same_name(tmp_path: Path, inventory: bool) -> None:
    """Clustermesh: a portable policy cannot name the other cluster's pods, and must not mean ours of the same name."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    redis = s.pod("data/redis")
    s.talk(web, api, 8080)
    s.talk(api, redis, 6379)
    for record in s.talk(web, redis, 6379):
        for side in ("source", "destination"):
            end = record["flow"][side]
            if end["namespace"] == "data":
                end |= {"cluster_name": "poc2", "pod_name": "redis-7c9d8b5f6d-k4vbn"}
                end["labels"] = [x.replace("cluster=default", "cluster=poc2") for x in end["labels"]]
                record["flow"]["IP"][side] = "10.99.1.1"
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/api", "data/redis", 6379)]
    assert out.wrong(wanted, [("shop/web", "data/redis", 6379)], closed=False) == []
    assert out.review("other-cluster")
