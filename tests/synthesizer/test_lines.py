"""From endpoints and addresses to workloads and places: who really talks to whom, at which pod port."""

from __future__ import annotations

import pytest

from collector import evidence
from collector.endpoints import Endpoint, entity
from collector.flow import Signal
from collector.standing import Standing
from synthesizer.workload import Workload
from tests.synthesizer.objects import Document, deployment, node, pod, service
from tests.synthesizer.traffic import End, Traffic, at, drawn, made, place, shown


def to(destination: End, port: int = 443, *objects: dict[str, object]) -> list[tuple[str, str, int]]:
    """The lines of one workload that talks to one end."""
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), destination, port)
    return shown(drawn(traffic, *objects))


# -- Services -------------------------------------------------------------------------------------------------------


def test_a_cluster_ip_is_the_pods_behind_it_at_their_own_ports() -> None:
    objects = [
        deployment("one", {"app": "api", "v": "1"}, {"name": "http", "containerPort": 8080}),
        deployment("two", {"app": "api", "v": "2"}, {"name": "http", "containerPort": 9090}),
        service("api", {"app": "api"}, {"port": 80, "targetPort": "http"}, clusterIP="10.96.0.9"),
    ]
    assert to(at("10.96.0.9"), 80, *objects) == [("shop/web", "shop/one", 8080), ("shop/web", "shop/two", 9090)]


def test_of_two_services_at_one_address_the_port_tells_which_was_asked() -> None:
    """A load balancer's address may be shared; an access log names a Service and the address that was called."""
    shared = {"type": "LoadBalancer", "externalIPs": ["203.0.113.5"]}
    objects = [
        deployment("one", {"app": "one"}),
        deployment("two", {"app": "two"}),
        service("one", {"app": "one"}, {"port": 443, "targetPort": 8443}, **shared),
        service("two", {"app": "two"}, {"port": 80, "targetPort": 8080}, **shared),
    ]
    named = End(Endpoint("service", namespace="shop", workload="two"), "", "203.0.113.5")
    assert to(named, 80, *objects) == [("shop/web", "shop/two", 8080)]


def test_a_service_is_remembered_on_the_line_that_went_through_it() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), at("10.96.0.9"), 80)
    objects = [
        deployment("api", {"app": "api"}),
        service("api", {"app": "api"}, {"port": 80, "targetPort": 8080}, clusterIP="10.96.0.9"),
    ]
    assert [line.via for line in drawn(traffic, *objects)] == [("shop/api",)]


def test_all_services_are_remembered_that_one_line_went_through() -> None:
    traffic = Traffic()
    web = traffic.pod("shop/web")
    for ip in ("10.96.0.9", "10.96.0.8"):
        traffic.talk(web, at(ip), 80)
    traffic.talk(web, traffic.pod("shop/api"), 8080)
    objects = [
        deployment("api", {"app": "api"}),
        service("api", {"app": "api"}, {"port": 80, "targetPort": 8080}, clusterIP="10.96.0.9"),
        service("admin", {"app": "api"}, {"port": 80, "targetPort": 8080}, clusterIP="10.96.0.8"),
    ]
    assert [line.via for line in drawn(traffic, *objects)] == [("shop/admin", "shop/api")]


def test_before_and_after_translation_are_one_line() -> None:
    traffic = Traffic()
    web, api = traffic.pod("shop/web"), traffic.pod("shop/api")
    traffic.talk(web, at("10.96.0.9"), 80)
    traffic.talk(web, api, 8080)
    objects = [
        deployment("api", {"app": "api"}),
        service("api", {"app": "api"}, {"port": 80, "targetPort": 8080}, clusterIP="10.96.0.9"),
    ]
    assert shown(drawn(traffic, *objects)) == [("shop/web", "shop/api", 8080)]


@pytest.mark.parametrize("port", [80, 8081])
def test_a_service_address_whose_backends_are_unknown_is_unresolved_never_outside(port: int) -> None:
    bare = service("api", {"app": "gone"}, {"port": 80}, clusterIP="10.96.0.9")
    assert to(at("10.96.0.9"), port, bare) == [("shop/web", "unresolved 10.96.0.9", port)]


def test_a_service_leads_to_the_kind_that_it_selects_where_two_kinds_share_a_name() -> None:
    objects = [
        deployment("api", {"app": "api", "role": "web"}),
        deployment("api", {"app": "api", "role": "store"}, kind="StatefulSet"),
        service("store", {"role": "store"}, {"port": 80, "targetPort": 8080}, clusterIP="10.96.0.9"),
    ]
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), at("10.96.0.9"), 80)
    (line,) = drawn(traffic, *objects)
    assert isinstance(line.destination, Workload)
    assert (line.destination.kind, line.port) == ("StatefulSet", 8080)


# -- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", "external 8.8.8.8"),
        ("2001:db8::8", "external 2001:db8::8"),
        ("192.168.77.7", "external 192.168.77.7"),
        ("169.254.169.254", "cloud metadata 169.254.169.254"),
        ("fd00:ec2::254", "cloud metadata fd00:ec2::254"),
        ("100.100.100.200", "cloud metadata 100.100.100.200"),
        ("169.254.20.10", "link-local 169.254.20.10"),
        ("fe80::1", "link-local fe80::1"),
        ("127.0.0.1", "unresolved 127.0.0.1"),
        ("224.0.0.251", "unresolved 224.0.0.251"),
        ("0.0.0.0", "unresolved 0.0.0.0"),
        ("10.96.0.1", "unresolved 10.96.0.1"),
        ("10.1.0.250", "unresolved 10.1.0.250"),
        ("fe80::1%eth0", "unresolved"),
        ("2001:db8::1%eth0", "unresolved"),
        ("not an address", "unresolved"),
        ("", "unresolved"),
    ],
)
def test_an_address_without_inventory_is_outside_only_if_nothing_hints_at_the_cluster(
    address: str, expected: str
) -> None:
    assert to(at(address)) == [("shop/web", expected, 443)]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.168.1.5", "node"),
        ("10.244.7.7", "unresolved 10.244.7.7"),
        ("10.96.0.200", "unresolved 10.96.0.200"),
        ("10.0.0.5", "external 10.0.0.5"),
    ],
)
def test_the_inventorys_ranges_tell_nodes_pods_and_services_from_the_private_networks_around(
    address: str, expected: str
) -> None:
    cidr = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "k"}}
    objects = [node("n", "192.168.1.5", "10.244.0.0/16"), {**cidr, "spec": {"cidrs": ["10.96.0.0/12"]}}]
    assert to(at(address), 443, *objects) == [("shop/web", expected, 443)]


def test_an_address_that_a_node_was_seen_with_is_a_node() -> None:
    traffic = Traffic()
    web = traffic.pod("shop/web")
    traffic.talk(place("remote-node", "172.18.0.3"), web, 8080)
    traffic.talk(web, at("172.18.0.3"), 9100)
    traffic.talk(web, at("172.18.0.4"), 9100)
    assert shown(drawn(traffic)) == [
        ("node 172.18.0.3", "shop/web", 8080),
        ("shop/web", "node", 9100),
        ("shop/web", "unresolved 172.18.0.4", 9100),
    ]


def test_a_pods_address_is_the_pod() -> None:
    traffic = Traffic()
    db = traffic.pod("shop/db", address="10.1.0.9")
    traffic.talk(traffic.pod("shop/api"), db, 5432)
    traffic.talk(traffic.pod("shop/web"), at("10.1.0.9"), 5432)
    assert shown(drawn(traffic)) == [("shop/api", "shop/db", 5432), ("shop/web", "shop/db", 5432)]


def test_an_address_that_a_pod_without_a_name_was_seen_with_is_nothing_outside() -> None:
    traffic = Traffic()
    web = traffic.pod("shop/web")
    traffic.talk(web, at("10.20.1.1"), 5432)
    assert shown(drawn(traffic)) == [("shop/web", "external 10.20.1.1", 5432)]
    traffic.patterns.sighting(entity("unmanaged")).pods.add("|10.20.1.1", 1)
    assert shown(drawn(traffic)) == [("shop/web", "unresolved 10.20.1.1", 5432)]


@pytest.mark.parametrize(
    ("end", "port", "expected"),
    [
        (place("kube-apiserver", "172.18.0.2"), 6443, "kube-apiserver 172.18.0.2"),
        (place("kube-apiserver", "172.18.0.2"), 10250, "node"),
        (place("remote-node", "172.18.0.2"), 10250, "node"),
        (place("host", "172.18.0.2"), 10250, "own node"),
        (place("host", "169.254.20.10"), 53, "link-local 169.254.20.10"),
        (place("health"), 4240, "cilium health"),
        (place("ingress"), 80, "cilium ingress"),
        (place("unmanaged"), 80, "unresolved"),
    ],
)
def test_reserved_entities_are_places(end: End, port: int, expected: str) -> None:
    assert to(end, port) == [("shop/web", expected, port)]


def test_two_ends_outside_are_nobodys_policy() -> None:
    traffic = Traffic()
    traffic.talk(at("8.8.8.8"), at("1.1.1.1"), 443)
    assert drawn(traffic) == []


# -- joining --------------------------------------------------------------------------------------------------------


def test_what_a_policy_stopped_or_nobody_answered_is_said_of_that_address_alone() -> None:
    """Command and control at port 443 is not allowed because the shop's bank answers there."""
    traffic, web = Traffic(), Traffic().pod("shop/web")
    traffic.talk(web, at("203.0.113.9"), 443)
    traffic.add(web, at("198.51.100.66"), 443, signal=Signal.DENIED, reason="POLICY_DENIED")
    traffic.add(web, at("198.51.100.67"), 443, signal=Signal.OPENED, point="TO_STACK")
    found = {str(line.destination): line for line in drawn(traffic)}
    assert {name: line.standing for name, line in found.items()} == {
        "external 203.0.113.9": Standing.INITIATED,
        "external 198.51.100.66": Standing.DENIED,
        "external 198.51.100.67": Standing.UNANSWERED,
    }
    assert found["external 198.51.100.66"].evidence.signals == {"denied:POLICY_DENIED": 3}
    assert sorted(item.kind for item in made(traffic).review if "198.51.100" in item.what) == ["denied", "unanswered"]


def test_callers_that_a_log_knows_by_address_are_refused_each_for_itself() -> None:
    """An access log in Istio's default format names no caller: one may be let in where another never was."""
    objects = [deployment(name, {"app": name}) for name in ("web", "spy", "db")]
    objects += [pod(f"{name}-0", {"app": name}, None, f"10.1.0.{n}") for n, name in enumerate(("web", "spy"), 1)]
    traffic = Traffic()
    db = traffic.pod("shop/db")
    traffic.add(at("10.1.0.1"), db, 5432, signal=Signal.ANSWERED, point="inbound", origin="istio-json", mtls=True)
    traffic.add(at("10.1.0.2"), db, 5432, signal=Signal.DENIED, reason="rbac", origin="istio-json", mtls=True)
    found = {str(line.source): line.standing for line in drawn(traffic, *objects)}
    assert sorted(found.values()) == [Standing.DENIED, Standing.INITIATED]


def masked(*meetings: str) -> tuple[Traffic, list[Document]]:
    """Connections (`web>api`) of a capture that shows addresses alone, and the pods that have them."""
    names = sorted({name for meeting in meetings for name in meeting.split(">")} - {"8.8.8.8", "9.9.9.9"})
    address = {name: f"10.1.0.{n}" for n, name in enumerate(names, 1)}
    traffic = Traffic()
    for meeting in meetings:
        source, destination = (at(address.get(name, name)) for name in meeting.split(">"))
        traffic.talk(source, destination, 8080)
    return traffic, [pod(name, {"app": name}, None, address[name]) for name in names]


def test_who_met_whom_is_remembered_where_records_have_addresses_alone() -> None:
    traffic, pods = masked("web>api", "job>db", "web>8.8.8.8", "job>9.9.9.9")
    assert shown(drawn(traffic, *pods)) == [
        ("shop/job", "external 9.9.9.9", 8080),
        ("shop/job", "shop/db", 8080),
        ("shop/web", "external 8.8.8.8", 8080),
        ("shop/web", "shop/api", 8080),
    ]


def test_where_too_many_met_to_remember_nobody_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "OUTCOMES", 1)
    traffic, pods = masked("web>api", "job>db", "web>8.8.8.8")
    assert sorted(shown(drawn(traffic, *pods))) == [
        ("shop/job", "unresolved", 8080),
        ("shop/web", "unresolved", 8080),
        ("unresolved", "shop/api", 8080),
        ("unresolved", "shop/db", 8080),
    ]
    traffic, pods = masked("web>api", "web>db")  # of one source there is nothing to remember
    assert shown(drawn(traffic, *pods)) == [("shop/web", "shop/api", 8080), ("shop/web", "shop/db", 8080)]


def test_lines_are_sorted_and_each_is_there_once() -> None:
    traffic = Traffic()
    ends = [traffic.pod(f"shop/{name}") for name in ("c", "a", "b")]
    for source in ends:
        for destination in ends:
            traffic.talk(source, destination, 80, times=2)
    found = drawn(traffic)
    assert [line.key for line in found] == sorted({line.key for line in found})


def test_of_two_sources_the_one_that_saw_more_decides_and_the_evidence_is_joined() -> None:
    traffic = Traffic()
    web, api = traffic.pod("shop/web"), traffic.pod("shop/api")
    traffic.add(web, api, 8080, signal=Signal.REFUSED)
    proxied = traffic.proxied("shop/api", pod=api.pod)
    traffic.call(web, proxied, 8080, "GET /", principal="cluster.local/ns/shop/sa/web")
    (line,) = drawn(traffic)
    assert line.standing is Standing.INITIATED
    assert line.principals == ("cluster.local/ns/shop/sa/web",)
    assert line.evidence.count(Signal.REFUSED) == 3
    assert line.evidence.requests
