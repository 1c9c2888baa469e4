"""What Kubernetes objects tell of the cluster itself: addresses, webhooks, the mesh, existing policies."""

from __future__ import annotations

import pytest

from synthesizer.inventory import parse
from tests.synthesizer.objects import Document, deployment, meta, namespace, service


def test_addresses_are_told_apart() -> None:
    node: Document = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n"},
        "spec": {"podCIDRs": ["10.0.0.0/24"]},
    }
    node["status"] = {"addresses": [{"type": "InternalIP", "address": "192.168.1.5"}, {"address": "n.example"}]}
    services = [service(f"s{i}", {}, clusterIP=f"10.96.0.{i}") for i in (1, 10, 99)]
    inventory = parse([node, *services, service("headless", {}, clusterIP="None")])
    assert list(map(str, inventory.service_cidrs)) == ["10.96.0.0/25"]
    for ip, expected in {
        "10.0.0.77": "pod",
        "10.0.1.77": "",
        "192.168.1.5": "node",
        "10.96.0.10": "service",
        "10.96.0.127": "service",
        "10.96.0.128": "",
        "169.254.169.254": "metadata",
        "fd00:ec2::254": "metadata",
        "169.254.20.10": "link-local",
        "fe80::1%eth0": "link-local",
        "8.8.8.8": "",
        "None": "",
        "no address": "",
    }.items():
        assert inventory.owner_of_address(ip) == expected, ip


def test_no_service_range_is_inferred_from_too_few_or_too_scattered_addresses() -> None:
    few = [service(f"s{i}", {}, clusterIP=f"10.96.0.{i}") for i in (1, 2)]
    wide = [service(f"s{i}", {}, clusterIP=f"{i}.96.0.1") for i in (10, 11, 172)]
    assert parse(few).service_cidrs == ()
    assert parse(wide).service_cidrs == ()
    declared = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "k"}}
    declared["spec"] = {"cidrs": ["10.96.0.0/12"]}
    assert list(map(str, parse([*few, declared]).service_cidrs)) == ["10.96.0.0/12"]


def test_webhooks_and_api_servers_are_found() -> None:
    called = {"namespace": "cert", "name": "hook"}
    hooks: Document = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    hooks |= {"metadata": {"name": "h"}, "webhooks": [{"clientConfig": {"service": called}}, {"clientConfig": {}}]}
    aggregated = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.metrics"}}
    aggregated["spec"] = {"service": {"namespace": "kube-system", "name": "metrics", "port": 8443}}
    ends: Document = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta("kubernetes", "default")}
    ends["subsets"] = [{"addresses": [{"ip": "192.168.1.2"}], "ports": [{"name": "https", "port": 6443}]}]
    inventory = parse([hooks, aggregated, ends])
    assert inventory.webhooks == {("cert", "hook", 443), ("kube-system", "metrics", 8443)}
    assert inventory.api_servers() == (("192.168.1.2", 6443),)


@pytest.mark.parametrize(
    ("namespace_labels", "pod_labels", "containers", "expected"),
    [
        ({}, {}, ["app"], ""),
        (None, {}, ["app"], ""),
        ({}, {}, ["app", "istio-proxy"], "sidecar"),
        ({"istio-injection": "enabled"}, {}, ["app"], "sidecar"),
        ({"istio.io/rev": "stable"}, {}, ["app"], "sidecar"),
        ({"istio-injection": "enabled"}, {"sidecar.istio.io/inject": "false"}, ["app"], "none"),
        ({}, {"sidecar.istio.io/inject": "true"}, ["app"], "sidecar"),
        ({"istio-injection": "disabled"}, {"sidecar.istio.io/inject": "true"}, ["app"], "none"),
        ({"istio.io/dataplane-mode": "ambient"}, {}, ["app"], "ambient"),
        ({"istio.io/dataplane-mode": "ambient"}, {"istio.io/dataplane-mode": "none"}, ["app"], "none"),
        (None, {"istio.io/dataplane-mode": "ambient"}, ["app"], "ambient"),
    ],
)
def test_the_mesh_mode_follows_the_proxy_then_the_pods_labels_then_the_namespace(
    namespace_labels: dict[str, str] | None, pod_labels: dict[str, str], containers: list[str], expected: str
) -> None:
    web = deployment("web", {"app": "web", **pod_labels}, containers=[{"name": name} for name in containers])
    around = [] if namespace_labels is None else [namespace("shop", namespace_labels)]
    inventory = parse([web, *around])
    assert inventory.workloads[0].mesh == expected


def test_host_network_pods_are_never_in_the_mesh() -> None:
    web = deployment("web", {"app": "web"}, hostNetwork=True)
    inventory = parse([web, namespace("shop", {"istio-injection": "enabled"})])
    assert [item.mesh for item in inventory.workloads] == ["none"]


def test_kinds_of_other_groups_are_counted_and_not_taken_for_kubernetes_own() -> None:
    knative = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": meta("fn")}
    calico = {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": meta("p")}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta("s"), "data": {"k": "c2VjcmV0"}}
    inventory = parse([knative, calico, secret, secret])
    assert inventory.services == ()
    assert inventory.documents == ()
    assert inventory.policies_of_others(["shop"]) == []
    assert inventory.ignored == {
        "NetworkPolicy.projectcalico.org": 1,
        "Secret": 2,
        "Service.serving.knative.dev": 1,
    }


def test_existing_policies_and_gateways_are_kept_as_they_are() -> None:
    network = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta("n"), "spec": {"x": 1}}
    istio = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": meta("a")}
    gateways = [
        {"apiVersion": f"{group}/v1", "kind": "Gateway", "metadata": meta("g")}
        for group in ("gateway.networking.k8s.io", "networking.istio.io")
    ]
    inventory = parse([network, istio, *gateways])
    assert inventory.documents == (istio, *gateways, network)
    assert inventory.policies_of_others(["shop"]) == ["AuthorizationPolicy shop/a", "NetworkPolicy shop/n"]
    assert inventory.policies_of_others(["bank"]) == []
