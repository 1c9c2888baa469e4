"""What the synthesizer learns from Kubernetes objects, live or written by hand."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import InventoryError
from synthesizer.inventory import Inventory, Port, WorkloadObject, parse

Document = dict[str, Any]


def meta(name: str, namespace: str = "shop", **more: Any) -> Document:
    return {"name": name, "namespace": namespace, **more}


def template(labels: dict[str, str], *ports: Document, **spec: Any) -> Document:
    containers = spec.pop("containers", [{"name": "app", "ports": list(ports)}])
    return {"metadata": {"labels": labels}, "spec": {"containers": containers, **spec}}


def deployment(name: str, labels: dict[str, str], *ports: Document, **spec: Any) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": spec.pop("kind", "Deployment"),
        "metadata": meta(name),
        "spec": {"selector": {"matchLabels": labels}, "template": template(labels, *ports, **spec)},
    }


def pod(
    name: str, labels: dict[str, str], owner: tuple[str, str] | None = None, ip: str = "", **status: Any
) -> Document:
    references = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, labels=labels, ownerReferences=references),
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIP": ip, **status},
    }


def service(name: str, selector: dict[str, str], *ports: Document, **spec: Any) -> Document:
    body = {"selector": selector, "ports": list(ports), **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name), "spec": body}


def namespace(name: str, labels: dict[str, str] | None = None) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}


def only(inventory: Inventory) -> WorkloadObject:
    assert len(inventory.workloads) == 1, inventory.workloads
    return inventory.workloads[0]


def named(found: list[WorkloadObject]) -> list[str]:
    return [item.name for item in found]


# -- owners ---------------------------------------------------------------------------------------------------------


def test_a_replica_set_is_folded_into_its_deployment_and_its_pods_belong_to_it() -> None:
    labels = {"app": "web"}
    hashed = {**labels, "pod-template-hash": "6b746f74dc"}
    replica_set = deployment("web-6b746f74dc", hashed, kind="ReplicaSet")
    replica_set["metadata"]["ownerReferences"] = [{"kind": "Deployment", "name": "web", "controller": True}]
    live = pod("web-6b746f74dc-9rcxx", hashed, ("ReplicaSet", "web-6b746f74dc"), "10.0.0.7")
    inventory = parse([deployment("web", labels), replica_set, live])
    web = only(inventory)
    assert (web.kind, web.name, web.labels, web.selector) == ("Deployment", "web", (("app", "web"),), (("app", "web"),))
    assert web.pods == ("web-6b746f74dc-9rcxx",)
    assert web.addresses == ("10.0.0.7",)
    assert inventory.workload_of_pod("shop", "web-6b746f74dc-9rcxx") is web
    assert inventory.workload_of_address("::ffff:10.0.0.7") is web


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        (("ReplicaSet", "web-6b746f74dc"), {"pod-template-hash": "6b746f74dc"}, ("Deployment", "web")),
        (("ReplicaSet", "web-6b74"), {"rollouts-pod-template-hash": "6b74"}, ("Rollout", "web")),
        (("ReplicaSet", "alone-frontend"), {}, ("ReplicaSet", "alone-frontend")),
        (("StatefulSet", "db"), {}, ("StatefulSet", "db")),
        (("Job", "report-28312345"), {}, ("CronJob", "report")),
        (("Job", "migrate"), {}, ("Job", "migrate")),
        (("StrimziPodSet", "kafka"), {}, ("StrimziPodSet", "kafka")),
        (("Node", "node-1"), {}, ("Pod", "p")),
        (None, {}, ("Pod", "p-node-1")),
    ],
)
def test_pods_whose_owner_is_absent_are_grouped_by_what_the_owner_is_called(
    owner: tuple[str, str] | None, labels: dict[str, str], expected: tuple[str, str]
) -> None:
    found = only(parse([pod("p-node-1", {"app": "x", **labels}, owner)]))
    assert (found.kind, found.name) == expected
    assert found.selector == ()
    assert found.labels == (("app", "x"),)


def test_grouped_pods_have_the_labels_that_all_of_them_share() -> None:
    pods = [pod(f"db-{i}", {"app": "db", "role": role}, ("StatefulSet", "db")) for i, role in enumerate("ab")]
    found = only(parse(pods))
    assert found.labels == (("app", "db"),)
    assert parse(pods).workloads_by_labels("shop", {"app": "db", "role": "b"}) == [found]


def test_an_absent_deployment_takes_its_replica_sets_selector_without_the_hash() -> None:
    labels = {"app": "web", "pod-template-hash": "6b746f74dc"}
    replica_set = deployment("web-6b746f74dc", labels, kind="ReplicaSet")
    replica_set["metadata"]["ownerReferences"] = [{"kind": "Deployment", "name": "web", "controller": True}]
    found = only(parse([replica_set]))
    assert (found.kind, found.name, found.selector) == ("Deployment", "web", (("app", "web"),))


def test_jobs_and_cron_jobs_have_no_selector_but_a_schedule() -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta("load"),
        "spec": {"template": template({"app": "l"})},
    }
    spec = {"schedule": "0 3 1 * *", "jobTemplate": {"spec": {"template": template({"app": "r"})}}}
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta("report"), "spec": spec}
    run = {**job, "metadata": meta("report-28312345", ownerReferences=[{"kind": "CronJob", "name": "report"}])}
    inventory = parse([job, cron, run])
    assert [(w.kind, w.name, w.selector, w.schedule) for w in inventory.workloads] == [
        ("CronJob", "report", (), "0 3 1 * *"),
        ("Job", "load", (), ""),
    ]
    assert inventory.workloads[0].labels == (("app", "r"),)


def test_a_selector_with_expressions_is_not_handed_out_for_copying() -> None:
    document = deployment("web", {"app": "web"})
    document["spec"]["selector"]["matchExpressions"] = [{"key": "track", "operator": "DoesNotExist"}]
    inventory = parse([document])
    assert only(inventory).match_expressions
    assert only(inventory).selector == (("app", "web"),)
    assert inventory.selector_of("shop", "Deployment", "web") == ()


def test_a_selector_that_the_template_contradicts_is_not_used() -> None:
    document = deployment("web", {"app": "web"})
    document["spec"]["selector"]["matchLabels"] = {"app": "other"}
    assert only(parse([document])).selector == ()


def test_a_live_object_beats_a_manifest_in_either_order() -> None:
    manifest = deployment("web", {"app": "web"}, {"containerPort": 1})
    live = deployment("web", {"app": "web"}, {"containerPort": 2})
    live["metadata"]["uid"] = "u"
    for order in ([manifest, live], [live, manifest]):
        assert only(parse(order)).ports == (Port("", "TCP", 2),)


def test_documents_in_any_order_give_the_same_inventory() -> None:
    given_documents = [
        deployment("web", {"app": "web"}),
        pod(
            "web-6b746f74dc-9rcxx", {"app": "web", "pod-template-hash": "6b746f74dc"}, ("ReplicaSet", "web-6b746f74dc")
        ),
        service("web", {"app": "web"}, {"port": 80}),
        namespace("shop"),
    ]
    there, back = parse(given_documents), parse(reversed(given_documents))
    assert (there.workloads, there.services, there.documents) == (back.workloads, back.services, back.documents)


# -- pods, addresses, ports -----------------------------------------------------------------------------------------


def test_dual_stack_addresses_are_kept_and_those_of_finished_pods_and_nodes_are_not() -> None:
    running = pod("a", {}, None, "10.0.0.1", podIPs=[{"ip": "10.0.0.1"}, {"ip": "FD00::1"}])
    done = pod("b", {}, None, "10.0.0.2", phase="Succeeded")
    host = pod("c", {}, None, "192.168.1.5", hostIP="192.168.1.5")
    host["spec"]["hostNetwork"] = True
    inventory = parse([running, done, host])
    assert [(w.name, w.addresses, w.host_network) for w in inventory.workloads] == [
        ("a", ("10.0.0.1", "fd00::1"), False),
        ("b", (), False),
        ("c", (), True),
    ]
    assert inventory.is_cluster_address("192.168.1.5") == "node"
    assert inventory.workload_of_pod("shop", "b") is not None


def test_an_address_that_two_workloads_have_had_belongs_to_nobody() -> None:
    inventory = parse([pod("a", {}, None, "10.0.0.1"), pod("b", {}, None, "10.0.0.1")])
    assert inventory.workload_of_address("10.0.0.1") is None
    assert inventory.is_cluster_address("10.0.0.1") == "pod"


def test_ports_come_from_containers_and_native_sidecars_only_and_probes_are_resolved() -> None:
    probe = {"httpGet": {"port": "http"}}
    containers = [
        {"name": "a", "ports": [{"name": "http", "containerPort": 8080}], "livenessProbe": probe},
        {"name": "b", "ports": [{"containerPort": 53, "protocol": "UDP"}], "readinessProbe": {"grpc": {"port": 9000}}},
    ]
    inits = [
        {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 1500}]},
        {"name": "once", "ports": [{"containerPort": 1}]},
    ]
    found = only(parse([deployment("web", {"app": "web"}, containers=containers, initContainers=inits)]))
    assert found.ports == (Port("", "TCP", 1500), Port("", "UDP", 53), Port("http", "TCP", 8080))
    assert found.uses_probes == (8080, 9000)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web-6b746f74dc-9rcxx", "web"),
        ("web-api-6b746f74dc-9rcxx", "web-api"),
        ("db-12", "db"),
        ("agent-x7k2p", "agent"),
        ("report-28312345-x7k2p", "report"),
        ("web-frontend-x7k2p", None),
        ("db-x7k2p", None),
        ("web", None),
        ("", None),
    ],
)
def test_a_pod_that_is_gone_is_found_by_a_name_that_its_kind_explains(name: str, expected: str | None) -> None:
    job = {"schedule": "@daily", "jobTemplate": {"spec": {"template": template({"app": "r"})}}}
    inventory = parse(
        [
            deployment("web", {"app": "web"}),
            deployment("web-api", {"app": "api"}),
            deployment("db", {"app": "db"}, kind="StatefulSet"),
            deployment("agent", {"app": "agent"}, kind="DaemonSet"),
            {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta("report"), "spec": job},
        ]
    )
    found = inventory.workload_of_pod("shop", name)
    assert (found.name if found else None) == expected
    assert inventory.workload_of_pod("elsewhere", name) is None


def test_workloads_by_labels_wants_all_labels_and_the_same_namespace() -> None:
    inventory = parse([deployment("a", {"app": "x", "tier": "1"}), deployment("b", {"app": "x", "tier": "2"})])
    assert named(inventory.workloads_by_labels("shop", {"app": "x"})) == ["a", "b"]
    assert named(inventory.workloads_by_labels("shop", {"app": "x", "tier": "2"})) == ["b"]
    assert inventory.workloads_by_labels("shop", {"app": "x", "tier": "3"}) == []
    assert inventory.workloads_by_labels("other", {"app": "x"}) == []


# -- Services -------------------------------------------------------------------------------------------------------


def test_a_named_target_port_is_resolved_at_each_backend_with_its_protocol() -> None:
    inventory = parse(
        [
            deployment("a", {"app": "x", "v": "1"}, {"name": "http", "containerPort": 8080}),
            deployment("b", {"app": "x", "v": "2"}, {"name": "http", "containerPort": 9090}),
            deployment("c", {"app": "x", "v": "3"}, {"name": "http", "containerPort": 53, "protocol": "UDP"}),
            service("x", {"app": "x"}, {"port": 80, "targetPort": "http"}, {"port": 443, "targetPort": 8443}),
        ]
    )
    x = inventory.service("shop", "x")
    assert x is not None
    assert named(inventory.backends(x)) == ["a", "b", "c"]
    assert [(w.name, port) for w, port in inventory.target_ports(x, "TCP", 80)] == [("a", 8080), ("b", 9090)]
    assert [(w.name, port) for w, port in inventory.target_ports(x, "TCP", 443)] == [
        ("a", 8443),
        ("b", 8443),
        ("c", 8443),
    ]
    assert inventory.target_ports(x, "UDP", 80) == []
    assert inventory.service_target_ports(inventory.backends(x)[0]) == {("TCP", 8080), ("TCP", 8443)}


@pytest.mark.parametrize("kind", ["Endpoints", "EndpointSlice"])
def test_a_service_without_a_selector_leads_where_its_endpoints_say(kind: str) -> None:
    ports = [{"name": "web", "port": 8080}, {"name": "admin", "port": 9090}]
    if kind == "Endpoints":
        ends: Document = {"apiVersion": "v1", "kind": kind, "metadata": meta("x")}
        ends["subsets"] = [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "93.184.216.34"}], "ports": ports}]
    else:
        labelled = meta("x-abc", labels={"kubernetes.io/service-name": "x"})
        ends = {"apiVersion": "discovery.k8s.io/v1", "kind": kind, "metadata": labelled, "ports": ports}
        ends["endpoints"] = [{"addresses": ["10.0.0.1"]}, {"addresses": ["93.184.216.34"]}]
    x = service("x", {}, {"name": "web", "port": 80}, clusterIP="10.96.0.9")
    inventory = parse([pod("a", {"app": "a"}, None, "10.0.0.1"), x, ends])
    found = inventory.services_of_address("10.96.0.9")[0]
    assert named(inventory.backends(found)) == ["a"]
    assert [(w.name, port) for w, port in inventory.target_ports(found, "TCP", 80)] == [("a", 8080)]


def test_what_is_published_is_reached_from_outside_and_an_ingress_backend_is_not() -> None:
    port = {"port": 80, "targetPort": 8080, "nodePort": 30080}
    rule = {"http": {"paths": [{"backend": {"service": {"name": "inner", "port": {"number": 80}}}}]}}
    inventory = parse(
        [
            *(deployment(name, {"app": name}) for name in ("balanced", "external", "inner", "node")),
            deployment("host", {"app": "host"}, {"containerPort": 9100, "hostPort": 9100}),
            service("balanced", {"app": "balanced"}, port, type="LoadBalancer"),
            service("node", {"app": "node"}, port, type="NodePort"),
            service("external", {"app": "external"}, port, externalIPs=["203.0.113.9"]),
            service("inner", {"app": "inner"}, port),
            {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("i"), "spec": {"rules": [rule]}},
        ]
    )
    published = {item.name: set(inventory.published_ports(item)) for item in inventory.workloads}
    assert published == {
        "balanced": {("TCP", 8080)},
        "external": {("TCP", 8080)},
        "host": {("TCP", 9100)},
        "inner": set(),
        "node": {("TCP", 8080)},
    }
    assert inventory.is_cluster_address("203.0.113.9") == "service"


def test_the_waypoint_of_a_service_is_its_own_or_its_namespaces() -> None:
    own = service("own", {})
    own["metadata"]["labels"] = {"istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "infra"}
    without = service("without", {})
    without["metadata"]["labels"] = {"istio.io/use-waypoint": "none"}
    assert [item.waypoint for item in parse([own, service("plain", {})]).services] == ["infra/w", ""]
    around = namespace("shop", {"istio.io/use-waypoint": "waypoint"})
    found = parse([own, service("plain", {}), without, around]).services
    assert [item.waypoint for item in found] == ["infra/w", "shop/waypoint", ""]


# -- the cluster ----------------------------------------------------------------------------------------------------


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
        assert inventory.is_cluster_address(ip) == expected, ip


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
        ({}, {}, ["app"], "none"),
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
    assert inventory.mesh_of("shop", only(inventory)) == expected


def test_host_network_pods_are_never_in_the_mesh() -> None:
    web = deployment("web", {"app": "web"}, hostNetwork=True)
    assert only(parse([web, namespace("shop", {"istio-injection": "enabled"})])).mesh == "none"


def test_kinds_of_other_groups_are_counted_and_not_taken_for_kubernetes_own() -> None:
    knative = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": meta("fn")}
    calico = {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": meta("p")}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta("s"), "data": {"k": "c2VjcmV0"}}
    inventory = parse([knative, calico, secret, secret])
    assert inventory.services == ()
    assert inventory.documents == ()
    assert inventory.network_policies == ()
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
    assert inventory.network_policies == (network,)
    assert inventory.authorization_policies == (istio,)
    assert inventory.gateways == tuple(gateways)


# -- hostile and large -------------------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["web", "10.0.0.1", "TCP"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    ("metadata", "labels"),
    ("metadata", "ownerReferences"),
    ("metadata", "annotations"),
    ("spec", "selector"),
    ("spec", "selector", "matchLabels"),
    ("spec", "template", "spec", "containers"),
    ("spec", "template", "metadata", "labels"),
    ("spec", "containers"),
    ("spec", "ports"),
    ("spec", "clusterIPs"),
    ("spec", "jobTemplate", "spec"),
    ("status", "podIPs"),
    ("status", "addresses"),
    ("subsets",),
    ("endpoints",),
    ("webhooks",),
]
KINDS = {
    "Pod": "v1",
    "Service": "v1",
    "Node": "v1",
    "Namespace": "v1",
    "Endpoints": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Deployment": "apps/v1",
    "CronJob": "batch/v1",
    "MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.lists(st.tuples(st.sampled_from(PATHS), ANYTHING), max_size=4))
def test_objects_of_any_shape_are_read_or_refused_never_a_crash(kind: str, parts: list[tuple[Any, Any]]) -> None:
    document: Document = {"apiVersion": KINDS[kind], "kind": kind, "metadata": {"name": "x"}}
    for path, value in parts:
        at = document
        for step in path[:-1]:
            inner = at.setdefault(step, {})
            at = inner if isinstance(inner, dict) else {}
        at[path[-1]] = value
    try:
        inventory = parse([document])
    except InventoryError:
        return
    for item in inventory.workloads:
        inventory.published_ports(item)
    for found in inventory.services:
        inventory.backends(found)


def test_a_large_cluster_is_indexed_and_asked_in_seconds() -> None:
    hashed = {"pod-template-hash": "6b746f74dc"}
    given_documents: list[Document] = []
    for i in range(2000):
        labels = {"app": f"w{i}", "team": "all"}
        given_documents.append(deployment(f"w{i}", labels, {"name": "http", "containerPort": 8080}))
        given_documents.append(service(f"w{i}", {"app": f"w{i}"}, {"port": 80, "targetPort": "http"}))
        given_documents += [
            pod(
                f"w{i}-6b746f74dc-{end}cxxx",
                {**labels, **hashed},
                ("ReplicaSet", f"w{i}-6b746f74dc"),
                f"10.{i // 250}.{i % 250}.{end}",
            )
            for end in range(2, 6)
        ]
    started = time.monotonic()
    inventory = parse(given_documents)
    for i in range(2000):
        item = inventory.workload_of_address(f"10.{i // 250}.{i % 250}.3")
        assert item is not None
        assert item.name == f"w{i}"
        assert inventory.workloads_by_labels("shop", {"team": "all", "app": f"w{i}"}) == [item]
        found = inventory.service("shop", f"w{i}")
        assert found is not None
        assert inventory.target_ports(found, "TCP", 80) == [(item, 8080)]
        assert inventory.workload_of_pod("shop", f"w{i}-6b746f74dc-zzzzz") is item
    assert time.monotonic() - started < 8
