"""Who is one workload, what it is called, and which selector picks its pods and nobody else's."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.endpoints import UNSTABLE_KEYS, Labels, is_stable
from synthesizer.inventory import parse
from synthesizer.selectors import PREFERRED_KEYS, smallest_selector
from synthesizer.workloads import Workloads
from tests.synthesizer.objects import deployment, pod, service
from tests.synthesizer.traffic import Traffic, at, drawn, shown, workloads

LABELS = st.dictionaries(
    st.sampled_from(["app", "app.kubernetes.io/name", "tier", "team", "track", "zone"]),
    st.sampled_from(["a", "b", "c"]),
    min_size=1,
).map(lambda found: tuple(sorted(found.items())))


def select(labels: Labels, others: list[Labels]) -> Labels:
    """The smallest selector of the first of some workloads."""
    index: dict[tuple[str, str], int] = {}
    for position, carried in enumerate([labels, *others]):
        for label in carried:
            index[label] = index.get(label, 0) | 1 << position
    return smallest_selector(labels, index)


def picks(selector: Labels, others: list[Labels]) -> list[Labels]:
    return [carried for carried in others if set(selector) <= set(carried)]


# -- the smallest selector ------------------------------------------------------------------------------------------


@given(LABELS, st.lists(LABELS, max_size=8))
def test_a_selector_picks_only_whom_no_selector_could_leave_out_and_none_is_smaller(
    labels: Labels, others: list[Labels]
) -> None:
    selector = select(labels, others)
    unavoidable = picks(labels, others)
    assert set(selector) <= set(labels)
    assert picks(selector, others) == unavoidable
    smaller = [chosen for size in range(1, len(selector)) for chosen in combinations(labels, size)]
    assert [chosen for chosen in smaller if picks(chosen, others) == unavoidable] == []


@given(LABELS, st.lists(LABELS, max_size=6), LABELS)
def test_an_unrelated_workload_changes_no_selector(labels: Labels, others: list[Labels], added: Labels) -> None:
    """One that the selector picks is not unrelated."""
    before = select(labels, others)
    if not set(before) <= set(added):
        assert select(labels, [*others, added]) == before


def test_of_selectors_of_one_size_the_preferred_key_wins_then_the_first_by_name() -> None:
    assert select(tuple(sorted((key, "x") for key in (*PREFERRED_KEYS, "aaa"))), []) == ((PREFERRED_KEYS[0], "x"),)
    assert select((("app", "x"), ("k8s-app", "x")), []) == (("app", "x"),)
    assert select((("aaa", "x"), ("name", "x")), []) == (("name", "x"),)
    assert select((("bbb", "x"), ("ccc", "x")), []) == (("bbb", "x"),)


def test_a_workload_with_more_labels_than_are_searched_still_excludes_everyone() -> None:
    many = tuple((f"k{number:02}", "x") for number in range(14))
    others = [tuple(label for label in many if label != left_out) for left_out in many]
    assert picks(select(many, others), others) == []


# -- selectors of workloads -----------------------------------------------------------------------------------------


def test_the_owners_selector_is_taken_as_it_is() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web", {"app": "web", "tier": "front"}), traffic.pod("shop/db"), 5432)
    web = deployment("web", {"app": "web", "tier": "front"}, selector={"tier": "front"})
    assert workloads(traffic, web)["shop/web"].selector == (("tier", "front"),)


def test_an_owners_selector_that_picks_others_is_taken_and_the_bleed_reported() -> None:
    objects = [deployment("web", {"app": "x", "v": "1"}, selector={"app": "x"}), deployment("api", {"app": "x"})]
    found = workloads(Traffic(), *objects)
    assert found["shop/web"].also_selects == ("api",)
    assert found["shop/api"].also_selects == ("web",)


def test_workloads_that_share_all_labels_are_reported_as_picking_each_other() -> None:
    traffic = Traffic()
    db = traffic.pod("shop/db")
    for name in ("fast", "slow"):
        worker = traffic.pod(f"shop/{name}", {"app": "worker"}, owner=f"Deployment/{name}", service_account=name)
        traffic.talk(worker, db, 5432)
    found = workloads(traffic)
    assert found["shop/fast"].also_selects == ("slow",)
    assert found["shop/slow"].also_selects == ("fast",)
    assert found["shop/db"].also_selects == ()


@pytest.mark.parametrize("cluster", ["", "east"])
def test_a_workload_that_the_inventory_lacks_is_kept_apart_from_those_that_it_has(cluster: str) -> None:
    """Flows name their cluster, the inventory's objects do not: they are in one namespace all the same."""
    traffic = Traffic()
    web = traffic.pod("shop/web", {"app": "shop", "tier": "web"}, cluster=cluster)
    batch = traffic.pod("shop/batch", {"app": "shop", "tier": "batch"}, cluster=cluster)
    traffic.talk(batch, web, 8080)
    found = workloads(traffic, deployment("web", {"app": "shop", "tier": "web"}))
    assert found["shop/web"].known
    assert not found["shop/batch"].known
    assert found["shop/batch"].selector == (("tier", "batch"),)


def test_clusters_do_not_make_each_others_selectors_longer() -> None:
    traffic = Traffic()
    east = traffic.pod("shop/web", {"app": "web", "tier": "1"}, cluster="east")
    west = traffic.pod("shop/web", {"app": "web", "tier": "2"}, cluster="west")
    traffic.talk(east, west, 8080)
    assert {found.selector for found in workloads(traffic).values()} == {(("app", "web"),)}


def test_churning_labels_are_never_in_a_selector() -> None:
    traffic = Traffic()
    churning = dict.fromkeys((*UNSTABLE_KEYS, "topology.kubernetes.io/zone", "argocd.argoproj.io/instance"), "x")
    traffic.talk(traffic.pod("shop/web", {**churning, "zzz": "web"}), traffic.pod("shop/only", churning), 80)
    found = workloads(traffic, deployment("api", {**churning, "app": "api"}, selector={"app": "api"}))
    assert found["shop/web"].selector == (("zzz", "web"),)
    assert found["shop/only"].selectable is False
    for workload in found.values():
        assert [key for key, _ in (*workload.labels, *workload.selector) if not is_stable(key)] == []


def test_hosts_network_and_unlabelled_workloads_cannot_be_selected() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/bare", {}), traffic.pod("shop/db"), 5432)
    found = workloads(traffic, deployment("agent", {"app": "agent"}, kind="DaemonSet", hostNetwork=True))
    assert [(str(w), w.selector) for w in found.values() if not w.selectable] == [
        ("shop/agent", ()),
        ("shop/bare", ()),
    ]


# -- who is who -----------------------------------------------------------------------------------------------------


def test_a_workload_is_one_however_it_was_seen() -> None:
    """By its own node with its owner, by another node without, by a proxy, and in a masked export."""
    traffic = Traffic()
    db = traffic.pod("shop/db")
    local = traffic.pod("shop/web", pod="web-6b746f74dc-9rcxx", owner="Deployment/web")
    remote = traffic.pod("shop/web", pod="web-6b746f74dc-x7k2p")
    proxied = traffic.proxied("shop/web", "web", pod="web-6b746f74dc-9rcxx")
    masked = traffic.proxied("shop/web", pod="web-6b746f74dc-9rcxx")
    for end in (local, remote, proxied, masked):
        traffic.talk(end, db, 5432)
    found = workloads(traffic)
    assert sorted(found) == ["shop/db", "shop/web"]
    web = found["shop/web"]
    assert (web.kind, web.service_account) == ("Deployment", "web")
    assert web.pods == ("web-6b746f74dc-9rcxx", "web-6b746f74dc-x7k2p")
    assert shown(drawn(traffic)) == [("shop/web", "shop/db", 5432)]


def test_pods_of_one_replica_set_are_one_workload_whatever_labels_were_added_to_one_of_them() -> None:
    traffic = Traffic()
    db = traffic.pod("shop/db")
    for labels in ({"app": "web"}, {"app": "web", "debug": "yes"}):
        traffic.talk(traffic.pod("shop/web", labels), db, 5432)
    web = workloads(traffic)["shop/web"]
    assert web.labels == web.selector == (("app", "web"),)


def test_the_inventory_names_a_workload_by_pod_owner_name_or_labels() -> None:
    traffic = Traffic()
    db = traffic.pod("shop/db")
    traffic.talk(traffic.pod("shop/x", {"app": "a"}, pod="alpha-6b746f74dc-9rcxx"), db, 1)
    traffic.talk(traffic.pod("shop/x", {"app": "b"}, pod="", owner="Deployment/beta"), db, 2)
    traffic.talk(traffic.proxied("shop/gamma"), db, 3)
    traffic.talk(traffic.pod("shop/x", {"app": "d"}, pod=""), db, 4)
    objects = [
        deployment(name, {"app": label})
        for name, label in zip(("alpha", "beta", "gamma", "delta"), "abcd", strict=True)
    ]
    assert shown(drawn(traffic, *objects)) == [
        ("shop/alpha", "shop/db", 1),
        ("shop/beta", "shop/db", 2),
        ("shop/delta", "shop/db", 4),
        ("shop/gamma", "shop/db", 3),
    ]


def test_a_principal_that_one_workload_holds_is_that_workload() -> None:
    traffic = Traffic()
    traffic.talk(traffic.proxied("shop/", "web"), traffic.pod("shop/db"), 5432)
    alone = deployment("web", {"app": "web"}, serviceAccountName="web")
    assert shown(drawn(traffic, alone)) == [("shop/web", "shop/db", 5432)]


def test_of_workloads_that_share_a_principal_the_address_tells_which_it_was() -> None:
    traffic = Traffic()
    one = traffic.pod("shop/one", service_account="all", address="10.1.0.77")
    traffic.talk(one, traffic.pod("shop/two", service_account="all"), 80)
    traffic.talk(traffic.proxied("shop/", "all", address="10.1.0.77"), traffic.pod("shop/db"), 5432)
    assert ("shop/one", "shop/db", 5432) in shown(drawn(traffic))


def test_pods_of_a_name_with_nothing_in_common_are_not_one_workload() -> None:
    traffic = Traffic()
    one = traffic.pod("shop/api", {"app": "one"}, owner="Deployment/api")
    traffic.talk(one, traffic.pod("shop/api", {"app": "two"}, owner="StatefulSet/api"), 8080)
    found = workloads(traffic)
    assert len(found) == 2
    assert {w.selector for w in found.values()} == {(("app", "one"),), (("app", "two"),)}


def test_a_cron_jobs_pods_are_not_the_deployments_of_its_name() -> None:
    """A schedule is all digits; a ReplicaSet's hash practically never is (apimachinery, rand.SafeEncodeString)."""
    traffic = Traffic()
    scheduled = traffic.pod("shop/report", {"app": "report", "run": "nightly"}, pod="report-29700000-9rcxx")
    served = traffic.pod("shop/report", {"app": "report", "run": "always"}, pod="report-6b746f74dc-9rcxx")
    traffic.talk(scheduled, served, 8080)
    assert sorted(w.selector for w in workloads(traffic).values()) == [(("run", "always"),), (("run", "nightly"),)]


def test_kinds_that_share_a_name_keep_their_own_selectors_and_published_ports() -> None:
    web = deployment("api", {"app": "api", "role": "web"}, selector={"role": "web"})
    store = deployment(
        "api", {"app": "api", "role": "store"}, selector={"app": "api", "role": "store"}, kind="StatefulSet"
    )
    balanced = service("api", {"role": "store"}, {"port": 80, "targetPort": 8080}, type="LoadBalancer")
    found = Workloads(Traffic().patterns, parse([web, store, balanced]))
    assert {(w.kind, w.selector, found.published(w)) for w in found.all} == {
        ("Deployment", (("role", "web"),), frozenset()),
        ("StatefulSet", (("app", "api"), ("role", "store")), frozenset({("TCP", 8080)})),
    }


# -- names ----------------------------------------------------------------------------------------------------------


def test_policy_names_are_unique_and_never_those_of_the_namespaces_own_policies() -> None:
    traffic = Traffic()
    db = traffic.pod("shop/db")
    for cluster in ("east", "west"):
        traffic.talk(traffic.pod("shop/web", cluster=cluster), db, 5432)
    for name in ("default-deny", "allow-dns", "default"):
        traffic.talk(traffic.pod(f"shop/{name}"), db, 5432)
    long = "a" * 250
    for number in range(2):
        traffic.talk(traffic.pod("shop/x", {"app": f"{number}"}, pod=f"{long}{number}", address=""), db, 5432)
    names = [w.policy_name for w in workloads(traffic).values()]
    assert len(set(names)) == len(names)
    assert not set(names) & {"default-deny", "allow-dns", "default"}
    assert {"db", "default-deny-workload"} <= set(names)
    assert max(map(len, names)) < 240


@pytest.mark.parametrize("run", ["report-29170000", "report-zq8wv", "report-756811"])
@pytest.mark.parametrize("inventory", [False, True])
def test_a_jobs_policies_are_not_called_by_one_run(run: str, inventory: bool) -> None:
    traffic = Traffic()
    job = traffic.pod(f"shop/{run}", {"app": "report"}, owner=f"Job/{run}", pod=f"{run}-x7k2p")
    traffic.talk(job, traffic.pod("shop/db"), 5432)
    objects = [deployment(run, {"app": "report"}, kind="Job")] if inventory else []
    assert {w.policy_name for w in workloads(traffic, *objects).values()} == {"db", "report"}


def test_a_record_without_labels_that_may_be_several_is_not_called_like_one_of_them() -> None:
    """A masked record names shop/web, and two clusters have one: it is neither for sure."""
    traffic = Traffic()
    db = traffic.pod("shop/db")
    for cluster in ("east", "west"):
        traffic.talk(traffic.pod("shop/web", cluster=cluster), db, 5432)
    masked = traffic.pod("shop/web", {}, pod="")
    traffic.talk(masked, db, 5433)
    assert set(workloads(traffic)) == {"shop/db", "shop/web", "shop/web.west", "shop/web.unlabelled"}
    assert ("shop/web.unlabelled", "shop/db", 5433) in shown(drawn(traffic))


def test_a_job_takes_no_name_from_the_workload_that_it_is_called_after() -> None:
    traffic = Traffic()
    db = traffic.pod("shop/db")
    traffic.talk(traffic.pod("shop/api", owner="Deployment/api"), db, 5432)
    run = {"app": "api-migration"}
    traffic.talk(traffic.pod("shop/api-29170000", run, owner="Job/api-29170000", pod="api-29170000-x7k2p"), db, 5432)
    names = {w.labels: (w.name, w.policy_name) for w in workloads(traffic).values()}
    assert names[("app", "api"),] == ("api", "api")
    assert len({name for name, _ in names.values()}) == 3


def test_names_do_not_depend_on_what_else_is_there() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432)
    before = {ref: w.policy_name for ref, w in workloads(traffic).items()}
    traffic.talk(traffic.pod("shop/api"), traffic.pod("other/web"), 80)
    after = {ref: w.policy_name for ref, w in workloads(traffic).items()}
    assert before == {"shop/db": "db", "shop/web": "web"}
    assert before.items() <= after.items()


# -- addresses and ports --------------------------------------------------------------------------------------------


def test_an_address_that_two_workloads_used_is_neither_of_them() -> None:
    traffic = Traffic()
    reused = [traffic.pod(f"shop/{name}", address="10.1.0.9") for name in ("one", "two")]
    traffic.talk(reused[0], reused[1], 8080)
    traffic.talk(traffic.pod("shop/web"), at("10.1.0.9"), 9090)
    assert ("shop/web", "unresolved 10.1.0.9", 9090) in shown(drawn(traffic))


def test_declared_ports_come_from_containers_services_and_hubbles_named_ports() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/api", ports=["grpc/TCP/9000"]), traffic.pod("shop/web"), 80)
    objects = [
        deployment("web", {"app": "web"}, {"containerPort": 8080}),
        service("web", {"app": "web"}, {"port": 80, "targetPort": 3000}),
        pod("lone", {"app": "lone"}),
    ]
    found = workloads(traffic, *objects)
    assert found["shop/web"].ports == {("TCP", 8080), ("TCP", 3000)}
    assert found["shop/api"].ports == {("TCP", 9000)}
    assert found["shop/lone"].ports == frozenset()
