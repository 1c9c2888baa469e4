"""What the synthesizer learns from Kubernetes objects, live or written by hand: workloads, pods, Services."""

from __future__ import annotations

import pytest

from collector.errors import InventoryError
from synthesizer.inventory import Inventory, Port, WorkloadObject, parse
from tests.synthesizer.objects import Document, deployment, meta, namespace, pod, service, template


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
        (("Pod", "etl-driver"), {}, ("Pod", "p-node-1")),  # Spark's driver owns its executors
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
    assert [(w.kind, w.name, w.selector) for w in inventory.workloads] == [
        ("CronJob", "report", ()),
        ("Job", "load", ()),
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
    assert inventory.owner_of_address("192.168.1.5") == "node"
    assert inventory.workload_of_pod("shop", "b") is not None


def test_an_address_that_two_workloads_have_had_belongs_to_nobody() -> None:
    inventory = parse([pod("a", {}, None, "10.0.0.1"), pod("b", {}, None, "10.0.0.1")])
    assert inventory.workload_of_address("10.0.0.1") is None
    assert inventory.owner_of_address("10.0.0.1") == "pod"


def test_ports_come_from_containers_and_native_sidecars_only() -> None:
    containers = [
        {"name": "a", "ports": [{"name": "http", "containerPort": 8080}]},
        {"name": "b", "ports": [{"containerPort": 53, "protocol": "UDP"}]},
    ]
    inits = [
        {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 1500}]},
        {"name": "once", "ports": [{"containerPort": 1}]},
    ]
    found = only(parse([deployment("web", {"app": "web"}, containers=containers, initContainers=inits)]))
    assert found.ports == (Port("", "TCP", 1500), Port("", "UDP", 53), Port("http", "TCP", 8080))


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
    assert inventory.owner_of_address("203.0.113.9") == "service"


def test_the_waypoint_of_a_service_is_its_own_or_its_namespaces() -> None:
    own = service("own", {})
    own["metadata"]["labels"] = {"istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "infra"}
    without = service("without", {})
    without["metadata"]["labels"] = {"istio.io/use-waypoint": "none"}
    assert [item.waypoint for item in parse([own, service("plain", {})]).services] == ["infra/w", ""]
    around = namespace("shop", {"istio.io/use-waypoint": "waypoint"})
    found = parse([own, service("plain", {}), without, around]).services
    assert [item.waypoint for item in found] == ["infra/w", "shop/waypoint", ""]
    near = service("near", {})
    near["metadata"]["labels"] = {"istio.io/use-waypoint": "w"}  # in its own namespace, whatever that one says
    around = namespace("shop", {"istio.io/use-waypoint": "waypoint", "istio.io/use-waypoint-namespace": "infra"})
    found = parse([near, service("plain", {}), around]).services
    assert [item.waypoint for item in found] == ["shop/w", "infra/waypoint"]


# -- the mesh's settings --------------------------------------------------------------------------------------------


def mesh_config(settings: str, name: str = "istio", where: str = "istio-system") -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": where},
        "data": {"mesh": settings},
    }


def test_the_trust_domain_is_the_meshs_and_no_tenants() -> None:
    assert parse([namespace("shop")]).trust_domain == ""
    tenants = mesh_config("trustDomain: theirs", where="shop")
    found = parse([tenants, mesh_config("trustDomain: later", "istio-later"), mesh_config("trustDomain: td-1")])
    assert found.trust_domain == "td-1"
    assert found.ignored == {"ConfigMap": 1}
    assert tenants not in found.documents


@pytest.mark.parametrize("settings", ["trustDomain: [a]", "accessLogFile: /dev/stdout", "- a", "''"])
def test_settings_without_a_trust_domain_say_none(settings: str) -> None:
    assert parse([mesh_config(settings)]).trust_domain == ""


@pytest.mark.parametrize("settings", ["trustDomain: 'a b'", 'trustDomain: "x/ns/y"', "trustDomain: {"])
def test_a_trust_domain_that_is_none_is_an_error_that_names_it(settings: str) -> None:
    with pytest.raises(InventoryError, match=r"ConfigMap istio data\.mesh"):
        parse([mesh_config(settings)])
