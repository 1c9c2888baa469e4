"""Who is at an end: labels that select, names that exist, workloads behind pod names, SPIFFE identities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.endpoints import (
    ADDRESS,
    ENTITIES,
    NODE_ENTITIES,
    RESERVED_IDENTITIES,
    UNSTABLE_KEYS,
    Endpoint,
    Principal,
    entity,
    is_stable,
    parse_principal,
    reporter_at,
    stable_labels,
    valid_label,
    valid_namespace,
    valid_object_name,
    workload_of_pod,
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("app", "web"),
        ("app", ""),
        ("a", "0"),
        ("app.kubernetes.io/name", "web-1.2_3"),
        ("A_b.c-d", "W"),
        ("k" * 63, "v" * 63),
        ("p" * 253 + "/" + "k" * 63, ""),
    ],
)
def test_labels_that_kubernetes_stores(key: str, value: str) -> None:
    assert valid_label(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "web"),
        ("app", "-web"),
        ("app", "web-"),
        ("app", "two words"),
        ("app", "web\n"),
        ("app", "{{ x }}"),
        ("app", 'a"b'),
        ("app", "wéb"),
        ("app", "١"),
        ("app", "v" * 64),
        ("k" * 64, ""),
        ("app\n", "web"),
        ("-app", "web"),
        ("/app", "web"),
        ("a/b/c", "web"),
        ("Upper.example/app", "web"),
        ("p" * 254 + "/app", "web"),
    ],
)
def test_labels_that_no_object_can_have(key: str, value: str) -> None:
    """They came from something else than Kubernetes, and must not reach a selector."""
    assert not valid_label(key, value)


@pytest.mark.parametrize(
    ("name", "namespace", "named"),
    [
        ("shop", True, True),
        ("0", True, True),
        ("team-1", True, True),
        ("web.v1", False, True),
        ("n" * 63, True, True),
        ("n" * 64, False, True),
        ("n" * 253, False, True),
        ("n" * 254, False, False),
        ("", False, False),
        ("-shop", False, False),
        ("shop-", False, False),
        ("Shop", False, False),
        ("shop\n", False, False),
        ("../etc", False, False),
        ("a/b", False, False),
    ],
)
def test_names_of_namespaces_and_objects(name: str, namespace: bool, named: bool) -> None:
    assert valid_namespace(name) == namespace
    assert valid_object_name(name) == named


def test_stable_labels_are_sorted_and_without_what_changes_between_releases() -> None:
    pairs = [
        ("tier", "back"),
        ("app", "web"),
        *((key, "x") for key in sorted(UNSTABLE_KEYS)),
        ("argocd.argoproj.io/instance", "x"),
        ("io.cilium.k8s.policy.cluster", "default"),
        ("topology.kubernetes.io/zone", "a"),
        ("broken label", "x"),
        ("empty", ""),
    ]
    assert stable_labels(pairs) == (("app", "web"), ("empty", ""), ("tier", "back"))
    assert stable_labels([]) == ()


@given(st.permutations([("tier", "back"), ("app", "web"), ("pod-template-hash", "x"), ("part-of", "shop")]))
def test_stable_labels_do_not_depend_on_order(pairs: list[tuple[str, str]]) -> None:
    assert stable_labels(pairs) == (("app", "web"), ("part-of", "shop"), ("tier", "back"))


@pytest.mark.parametrize("key", ["app", "version", "app.kubernetes.io/name", "app.kubernetes.io/instance", "job"])
def test_labels_that_say_what_a_workload_is_are_stable(key: str) -> None:
    assert is_stable(key)


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("web-6b746f74dc-9rcxx", "web"),  # Deployment
        ("web-7d9f8b-x2x2x", "web"),
        ("web-v1-6b746f74dc-9rcxx", "web-v1"),
        ("db-0", "db"),  # StatefulSet
        ("db-12", "db"),
        ("redis-cluster-10", "redis-cluster"),
        ("agent-x7k2p", "agent"),  # DaemonSet, Job
        ("backup-28123456-zq8wv", "backup"),  # CronJob
        ("toolbox", "toolbox"),  # a pod of its own
        ("toolbox-pod", "toolbox-pod"),
        ("web-backend", "web-backend"),  # vowels do not occur in generated endings
        ("api-gateway", "api-gateway"),
        ("web-2024-report", "web-2024-report"),
        ("db-123456", "db-123456"),  # no StatefulSet has so many
        ("", ""),
        ("-0", "-0"),
    ],
)
def test_workload_behind_a_pod_name(pod: str, workload: str) -> None:
    assert workload_of_pod(pod) == workload


@pytest.mark.parametrize("scheme", ["", "spiffe://"])
def test_spiffe_identities_with_and_without_scheme(scheme: str) -> None:
    principal = parse_principal(f"{scheme}cluster.local/ns/shop/sa/web.v1")
    assert principal == Principal("cluster.local", "shop", "web.v1")
    assert str(principal) == "cluster.local/ns/shop/sa/web.v1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "cluster.local",
        "spiffe://cluster.local/ns/shop",
        "spiffe://cluster.local/ns/shop/sa/",
        "spiffe://cluster.local/ns/shop/sa/web/more",
        "spiffe://cluster.local/ns/Shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/we b",
        "spiffe://cluster.local/ns/*/sa/web",
        "spiffe:///ns/shop/sa/web",
        "http://cluster.local/ns/shop/sa/web",
        "spiffe://évil/ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/web,spiffe://cluster.local/ns/shop/sa/api",
    ],
)
def test_what_is_no_identity_of_the_mesh(text: str) -> None:
    assert parse_principal(text) is None


def test_endpoints_tell_who_they_are() -> None:
    assert str(entity("kube-apiserver")) == "kube-apiserver"
    assert str(ADDRESS) == "address"
    assert str(reporter_at("10.0.0.1")) == "address 10.0.0.1"
    assert reporter_at("") is ADDRESS
    assert (
        str(Endpoint("pod", namespace="shop", labels=(("app", "web"), ("tier", "front")))) == "shop/app=web,tier=front"
    )
    assert str(Endpoint("pod", namespace="shop", workload="web")) == "shop/web"
    assert str(Endpoint("pod", namespace="shop")) == "shop/?"


def test_every_reserved_identity_is_an_entity_or_the_world() -> None:
    assert set(RESERVED_IDENTITIES.values()) == set(ENTITIES) | {"world"}
    assert set(ENTITIES) >= NODE_ENTITIES


def test_a_pod_with_thousands_of_labels_keeps_the_same_few_in_any_order() -> None:
    many = [(f"key-{number}", "x") for number in range(10_000)]
    kept = stable_labels(many)
    assert kept == stable_labels(reversed(many)) == stable_labels(kept)
    assert len(kept) == 64
