"""deploy/ as kubectl and helm render it: valid, restricted, with no rights, and the two ways agree."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import kubernetes_validate
import pytest

from leastway.verify.judge import Judge, Question
from leastway.verify.world import World
from tests.deploy.rendering import (
    CHART,
    Document,
    check_arguments,
    check_no_rights,
    check_restricted,
    container,
    rendered_by,
    source,
)
from tests.deploy.tools import REQUIRED, TOOLS, path_of
from tests.verify.kit import namespace, pod

KUBERNETES = ("1.29", "1.31", "1.35")  # whose schemas the manifests must meet
EVERY_OPTION = (
    "--set=hubble.tls.secretName=hubble,hubble.tls.mutual=true,hubble.tls.serverName=relay.example",
    "--set=serverTls.secretName=server,serverTls.mutual=true,store.url=s3://bucket/patterns",
    "--set=envFrom[0].secretRef.name=credentials,extraArgs[0]=--since=1h,clusterName=east",
    "--set=imagePullSecrets[0].name=pull,nodeSelector.pool=system,serviceAccount.annotations.role=writer",
)


def helm(*more: str) -> dict[str, Document]:
    return rendered_by("helm", "template", "leastway", str(CHART), "--namespace", "leastway", *more)


WAYS: dict[str, Callable[[], dict[str, Document]]] = {
    "kustomize": cache(partial(rendered_by, "kubectl", "kustomize", "deploy/kustomize")),
    "helm": cache(helm),
    "helm, every option": cache(partial(helm, *EVERY_OPTION)),
}


def test_a_tool_that_was_promised_and_is_missing_fails_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: str) -> None:
    monkeypatch.setenv(REQUIRED, str(tmp_path))
    for tool in TOOLS:
        with pytest.raises(pytest.fail.Exception, match=tool):
            path_of.__wrapped__(tool)


def test_kustomize_renders_what_its_files_say() -> None:
    assert WAYS["kustomize"]() == source()


def test_helm_and_kustomize_agree_on_the_defaults() -> None:
    expected = dict(source())
    del expected["Namespace"]  # helm is told which, and makes it with --create-namespace
    assert WAYS["helm"]() == expected


def test_helm_renders_every_option() -> None:
    found = WAYS["helm, every option"]()
    assert "PersistentVolumeClaim" not in found
    mounts = {mount["name"] for mount in container(found["Deployment"])["volumeMounts"]}
    assert mounts == {volume["name"] for volume in found["Deployment"]["spec"]["template"]["spec"]["volumes"]}
    for wanted in ("--since=1h", "--name=east", "--store=s3://bucket/patterns"):
        assert wanted in container(found["Deployment"])["args"]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_rendered_meets_the_schemas_of_the_kubernetes_api(way: str, version: str) -> None:
    for document in WAYS[way]().values():
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_rendered_is_restricted_and_has_no_rights(way: str) -> None:
    found = WAYS[way]()
    check_arguments(found["Deployment"])
    check_restricted(found["Deployment"])
    check_no_rights(found)


def test_the_schema_finds_what_is_wrong() -> None:
    wrong = source()["Deployment"] | {"spec": {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


@cache
def judge(way: str) -> Judge:
    """A small cluster with the collector in it, under our own NetworkPolicy."""
    found = WAYS[way]()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    namespaces = ("leastway", "kube-system", "monitoring", "shop")
    documents = [
        *(namespace(name, **{"kubernetes.io/metadata.name": name}) for name in namespaces),
        pod("leastway/collector", labels, "10.0.0.1"),
        pod("kube-system/hubble-relay", {"k8s-app": "hubble-relay"}, "10.0.0.2"),
        pod("kube-system/coredns", {"k8s-app": "kube-dns"}, "10.0.0.3"),
        pod("kube-system/other", {"k8s-app": "other"}, "10.0.0.4"),
        pod("monitoring/prometheus", {"app": "prometheus"}, "10.0.0.5"),
        pod("shop/web", {"app": "web"}, "10.0.0.6"),
    ]
    return Judge(World.from_manifests(documents), [found["NetworkPolicy"]])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("source_pod", "destination", "protocol", "port"),
    [
        ("shop/web", "leastway/collector", "TCP", 9001),
        ("shop/web", "leastway/collector", "TCP", 4317),
        ("monitoring/prometheus", "leastway/collector", "TCP", 9090),
        ("leastway/collector", "kube-system/hubble-relay", "TCP", 4245),
        ("leastway/collector", "kube-system/coredns", "UDP", 53),
        ("leastway/collector", "kube-system/coredns", "TCP", 53),
    ],
)
def test_our_own_policy_lets_the_collector_do_its_job(
    way: str, source_pod: str, destination: str, protocol: str, port: int
) -> None:
    verdict = judge(way).ask(Question(source=source_pod, destination=destination, protocol=protocol, port=port))
    assert verdict.outcome == "allow", verdict.because


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("source_pod", "destination", "port"),
    [
        ("shop/web", "leastway/collector", 9090),
        ("shop/web", "leastway/collector", 22),
        ("203.0.113.7", "leastway/collector", 9001),
        ("leastway/collector", "kube-system/other", 4245),
        ("leastway/collector", "kube-system/hubble-relay", 80),
        ("leastway/collector", "shop/web", 80),
        ("leastway/collector", "203.0.113.7", 443),
        ("leastway/collector", "169.254.169.254", 80),
    ],
)
def test_our_own_policy_lets_nothing_else_through(way: str, source_pod: str, destination: str, port: int) -> None:
    verdict = judge(way).ask(Question(source=source_pod, destination=destination, port=port))
    assert verdict.outcome == "deny", verdict.because
