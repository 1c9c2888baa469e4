"""Names must resolve: one permission a namespace, for the resolver that was asked."""

from __future__ import annotations

from typing import Any

import pytest

from synthesizer.intent import BlockPeer, PodPeer, Port
from synthesizer.rules import dns
from tests.synthesizer.objects import deployment
from tests.synthesizer.traffic import End, Traffic, at, document, drawn, made, paths, place

KUBE_DNS = {"k8s-app": "kube-dns"}


def resolver(ref: str, labels: dict[str, str], port: int = 53, protocol: str = "UDP") -> dns.Resolver | None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod(ref, labels), port, protocol)
    (line,) = drawn(traffic)
    return dns.resolver_of(line)


@pytest.mark.parametrize(
    ("ref", "labels", "port"),
    [
        ("kube-system/coredns", KUBE_DNS, 53),
        ("kube-system/coredns", {"app": "anything"}, 53),
        ("dns/coredns", {"app.kubernetes.io/name": "coredns"}, 1053),
        ("openshift-dns/dns-default", {"dns.operator.openshift.io/daemonset-dns": "default"}, 5353),
    ],
)
def test_the_clusters_resolver_is_known_by_its_labels_or_its_place(ref: str, labels: dict[str, str], port: int) -> None:
    found = resolver(ref, labels, port)
    assert found is not None
    assert found == (PodPeer(ref.partition("/")[0], tuple(labels.items())), port)


@pytest.mark.parametrize(
    ("ref", "labels", "port", "protocol"),
    [
        ("shop/coredns", {"app": "mine"}, 53, "UDP"),
        ("kube-system/metrics", {"app": "metrics"}, 53, "UDP"),
        ("kube-system/coredns", KUBE_DNS, 9153, "TCP"),
        ("kube-system/coredns", KUBE_DNS, 53, "SCTP"),
    ],
)
def test_other_servers_ports_and_protocols_are_ordinary_traffic(
    ref: str, labels: dict[str, str], port: int, protocol: str
) -> None:
    assert resolver(ref, labels, port, protocol) is None


@pytest.mark.parametrize(
    ("end", "cidr"),
    [
        (at("169.254.20.10"), "169.254.20.10/32"),
        (place("host", "169.254.20.10"), "169.254.20.10/32"),
        (at("fe80::53"), "fe80::53/128"),
    ],
)
def test_a_cache_on_a_link_local_address_is_one_address(end: End, cidr: str) -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), end, 53, "UDP")
    (line,) = drawn(traffic)
    assert dns.resolver_of(line) == (BlockPeer(cidr), 53)


def test_both_protocols_are_permitted_always_and_kube_dns_if_nobody_was_seen_asking() -> None:
    elsewhere: dns.Resolver = (PodPeer("dns", (("app", "names"),)), 5353)
    kube_dns: dns.Resolver = (dns.KUBE_DNS, 53)
    assert dns.permissions(set(), {kube_dns}) == {(dns.KUBE_DNS, Port("TCP", 53)), (dns.KUBE_DNS, Port("UDP", 53))}
    found = dns.permissions({elsewhere}, {kube_dns})
    assert found == {(elsewhere[0], Port("TCP", 5353)), (elsewhere[0], Port("UDP", 5353))}


def test_a_namespace_asks_whom_it_was_seen_to_ask_else_whom_others_ask() -> None:
    traffic = Traffic()
    web, api = traffic.pod("shop/web"), traffic.pod("other/api")
    coredns = traffic.pod("kube-system/coredns", KUBE_DNS)
    traffic.talk(web, coredns, 53, "UDP")
    traffic.talk(web, api, 8080)
    result = made(traffic)
    peer: dict[str, Any] = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": KUBE_DNS},
    }
    ports = [{"protocol": "TCP", "port": 53}, {"protocol": "UDP", "port": 53}]
    for namespace in ("shop", "other"):
        spec = document(result, f"{namespace}/networkpolicy-allow-dns.yaml")
        assert spec == {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [peer], "ports": ports}]}
    assert "egress" not in document(result, "other/networkpolicy-api.yaml")


def test_where_the_default_deny_is_held_back_each_policy_carries_its_own_dns() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432)
    result = made(traffic, deployment("idle", {"app": "idle"}))
    assert paths(result) == ["shop/networkpolicy-db.yaml", "shop/networkpolicy-web.yaml"]
    for name in ("db", "web"):
        egress = document(result, f"shop/networkpolicy-{name}.yaml")["egress"]
        assert {port["port"] for rule in egress for port in rule["ports"]} >= {53}
