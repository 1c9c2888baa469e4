"""Ends that a NetworkPolicy cannot name, on this CNI or on any."""

from __future__ import annotations

from typing import Any

import pytest

from synthesizer.rules import NETWORK_RULES, objection, places
from synthesizer.rules.view import Held
from tests.synthesizer.objects import deployment, node, service
from tests.synthesizer.traffic import End, Traffic, at, drawn, place, view

WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "hook"},
    "webhooks": [{"clientConfig": {"service": {"namespace": "shop", "name": "hook"}}}],
}


def word(source: End | str, destination: End | str, port: int = 8080, *objects: Any, cni: str = "generic") -> str:
    """The kind of the network's objection to a line; "" when it passes. Text names a pod `namespace/name`."""
    traffic = Traffic()
    opener, answerer = (end if isinstance(end, End) else traffic.pod(end) for end in (source, destination))
    traffic.talk(opener, answerer, port)
    (line,) = drawn(traffic, *objects)
    held = objection(line, view(traffic, *objects, cni=cni), NETWORK_RULES)
    return held.kind if held else ""


def test_between_pods_there_is_no_objection() -> None:
    assert word("shop/web", "shop/db") == ""


@pytest.mark.parametrize("address", ["10.96.0.1", "127.0.0.1", ""])
def test_an_unresolved_end_is_never_accepted(address: str) -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), at(address), 80)
    (line,) = drawn(traffic)
    held: Held | None = places.unresolved(line, view(traffic))
    assert held is not None
    assert not held.acceptable


def test_a_resolved_end_passes() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), at("8.8.8.8"), 80)
    (line,) = drawn(traffic)
    assert places.unresolved(line, view(traffic)) is None


@pytest.mark.parametrize(
    ("cni", "expected"), [("generic", "other-cluster"), ("calico", "other-cluster"), ("cilium", "")]
)
def test_only_cilium_policies_reach_into_another_cluster(cni: str, expected: str) -> None:
    traffic = Traffic()
    east, west = (traffic.pod(f"shop/{name}", cluster=name) for name in ("east", "west"))
    traffic.talk(east, west, 8080)
    (line,) = drawn(traffic)
    held = objection(line, view(traffic, cni=cni), NETWORK_RULES)
    assert (held.kind if held else "") == expected


@pytest.mark.parametrize(
    ("cni", "objects", "says"),
    [
        ("generic", [], "the API server that calls a webhook, its configuration in --inventory settles it"),
        ("calico", [WEBHOOK], "NetworkPolicy cannot name nodes, CiliumNetworkPolicy can (--cni cilium)"),
    ],
)
def test_a_node_that_comes_in_may_be_the_api_server(cni: str, objects: list[Any], says: str) -> None:
    """On nodes that hold the control plane Hubble may show its calls as the node's."""
    traffic = Traffic()
    traffic.talk(place("remote-node", "172.18.0.3"), traffic.pod("shop/hook"), 9443)
    (line,) = drawn(traffic, *objects)
    held = objection(line, view(traffic, *objects, cni=cni), NETWORK_RULES)
    assert held is not None
    assert held.why.endswith(says)


def test_nodes_have_no_word_in_network_policy() -> None:
    assert word("shop/web", place("remote-node", "172.18.0.3"), 9100) == "node"
    assert word("shop/web", place("host", "172.18.0.3"), 9100) == "node"
    assert word(place("remote-node", "172.18.0.3"), "shop/web") == "node"


def test_behind_a_published_port_a_node_stands_for_the_internet() -> None:
    published = service("web", {"app": "web"}, {"port": 80, "targetPort": 8080}, type="LoadBalancer")
    objects = [node("n", "172.18.0.3"), deployment("web", {"app": "web"}), published]
    assert word(place("remote-node", "172.18.0.3"), "shop/web", 8080, *objects) == ""
    assert word(place("remote-node", "172.18.0.3"), "shop/web", 9090, *objects) == "node"


@pytest.mark.parametrize(
    ("end", "port", "cni", "expected"),
    [
        (place("kube-apiserver", "172.18.0.2"), 6443, "generic", ""),
        (place("kube-apiserver", "172.18.0.2"), 6443, "cilium", ""),
        (place("kube-apiserver"), 6443, "cilium", ""),
        (place("kube-apiserver"), 6443, "generic", "kube-apiserver"),
        (place("ingress"), 80, "cilium", ""),
        (place("ingress"), 80, "generic", "cilium-ingress"),
        (place("remote-node", "172.18.0.3"), 9100, "cilium", ""),
        (place("health"), 4240, "cilium", "cilium-health"),
        (at("169.254.20.10"), 53, "generic", ""),
        (at("169.254.20.10"), 8080, "generic", "link-local"),
    ],
)
def test_what_an_ip_block_cannot_reach_is_said(end: End, port: int, cni: str, expected: str) -> None:
    assert word("shop/web", end, port, cni=cni) == expected


@pytest.mark.parametrize("port", [53, 8080])
def test_what_comes_from_a_link_local_address_comes_from_the_node(port: int) -> None:
    assert word(at("169.254.20.10"), "shop/web", port) == "link-local"


def test_a_workload_that_nothing_can_select_is_said_with_the_reason() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/bare", {}), traffic.pod("shop/db"), 5432)
    (line,) = drawn(traffic)
    held = places.unselectable(line, view(traffic))
    assert held is not None
    assert "--inventory" in held.why
    on_host = deployment("web", {"app": "web"}, hostNetwork=True)
    assert word("shop/web", "shop/db", 8080, on_host) == "unselectable"
