"""What the API server calls is open to it, whether or not it called."""

from __future__ import annotations

from typing import Any

import pytest

from synthesizer import Options, Synthesis
from synthesizer.options import CNI
from tests.synthesizer.objects import Document, deployment, meta, namespace, service
from tests.synthesizer.traffic import Traffic, document, items, made, place

API_SERVER = "172.18.0.2"


def hook(port: int = 443) -> list[Document]:
    """A webhook on Service shop/hook, whose pods listen at 9443."""
    called = {"namespace": "shop", "name": "hook", "port": port}
    return [
        deployment("hook", {"app": "hook"}, {"containerPort": 9443}),
        service("hook", {"app": "hook"}, {"port": 443, "targetPort": 9443}),
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "hook"},
            "webhooks": [{"clientConfig": {"service": called}}],
        },
    ]


def api_server() -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": meta("kubernetes", "default"),
        "subsets": [{"addresses": [{"ip": API_SERVER}], "ports": [{"name": "https", "port": 6443}]}],
    }


def scraped() -> Traffic:
    """The webhook's metrics were read; nobody changed what it guards."""
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/prometheus"), traffic.pod("shop/hook"), 8080)
    return traffic


def opened(result: Synthesis) -> list[tuple[list[Any], list[Any]]]:
    spec = document(result, "shop/networkpolicy-hook.yaml")
    return [(rule["from"], [port["port"] for port in rule["ports"]]) for rule in spec["ingress"]]


@pytest.mark.parametrize("cni", ["generic", "calico"])
def test_a_webhook_is_open_to_the_api_server_that_was_not_seen_to_call(cni: CNI) -> None:
    result = made(scraped(), *hook(), api_server(), options=Options(cni=cni))
    assert ([{"ipBlock": {"cidr": f"{API_SERVER}/32"}}], [9443]) in opened(result)


def test_its_address_may_come_from_the_traffic() -> None:
    traffic = scraped()
    traffic.talk(traffic.pod("shop/hook"), place("kube-apiserver", "172.18.0.9"), 6443)
    assert ([{"ipBlock": {"cidr": "172.18.0.9/32"}}], [9443]) in opened(made(traffic, *hook()))


def test_a_call_that_was_seen_is_not_told_twice() -> None:
    traffic = scraped()
    traffic.talk(place("kube-apiserver", API_SERVER), traffic.pod("shop/hook"), 9443)
    rules = [ports for _, ports in opened(made(traffic, *hook(), api_server()))]
    assert rules.count([9443]) == 1


def test_an_address_that_is_not_known_is_a_question() -> None:
    result = made(scraped(), *hook())
    assert [ports for _, ports in opened(result)] == [[8080]]
    (asked,) = items(result, "kube-apiserver")
    assert "address is not known" in asked.why
    assert "shop/hook" in asked.what


@pytest.mark.parametrize("objects", [[], [api_server()]], ids=["unknown", "known"])
def test_on_cilium_its_name_is_enough_and_a_tunnel_may_bring_the_call_from_a_node(objects: list[Document]) -> None:
    result = made(scraped(), *hook(), *objects, options=Options(cni="cilium"))
    assert [ports for _, ports in opened(result)] == [[8080]]
    assert document(result, "shop/ciliumnetworkpolicy-hook.yaml")["ingress"] == [
        {
            "fromEntities": ["kube-apiserver", "remote-node"],
            "toPorts": [{"ports": [{"port": "9443", "protocol": "TCP"}]}],
        }
    ]
    assert not items(result, "kube-apiserver")


def test_a_port_that_the_service_does_not_have_is_no_webhook() -> None:
    assert [ports for _, ports in opened(made(scraped(), *hook(port=8443), api_server()))] == [[8080]]


def test_a_workload_that_was_never_seen_gets_no_policy_that_would_close_the_rest_of_it() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432)
    result = made(traffic, *hook(), api_server())
    assert not [m for m in result.manifests if m.name == "hook"]
    assert items(result, "default-deny")


def meshed(*objects: Document) -> Synthesis:
    """The webhook has a sidecar, and web calls it besides."""
    traffic = Traffic()
    caller = traffic.proxied("shop/web", "web", address="10.1.0.7")
    hooked = traffic.proxied("shop/hook", "hook", address="10.1.0.8")
    traffic.call(caller, hooked, 8080, "GET /", principal="cluster.local/ns/shop/sa/web")
    injected = namespace("shop", {"istio-injection": "enabled"})
    return made(traffic, *hook(), *objects, injected, options=Options(mesh="sidecar"))


def test_in_a_mesh_the_api_server_has_an_address_for_a_name_and_keeps_mutual_tls_optional() -> None:
    result = meshed(api_server())
    rules = document(result, "shop/authorizationpolicy-hook.yaml")["rules"]
    source = {"source": {"ipBlocks": [f"{API_SERVER}/32"]}}
    assert {"from": [source], "to": [{"operation": {"ports": ["9443"]}}]} in rules
    assert not [m for m in result.manifests if m.kind == "PeerAuthentication"]


def test_in_a_mesh_an_api_server_whose_address_is_not_known_opens_no_port_to_everyone() -> None:
    result = meshed()
    rules = document(result, "shop/authorizationpolicy-hook.yaml")["rules"]
    assert [rule["to"][0]["operation"]["ports"] for rule in rules] == [["8080"]]
    (asked,) = items(result, "plaintext-caller")
    assert "kube-apiserver → shop/hook at TCP 9443" in asked.what
