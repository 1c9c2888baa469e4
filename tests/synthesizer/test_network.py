"""What each workload's pods may open and accept, and when a namespace may be closed by default."""

from __future__ import annotations

from typing import Any

import pytest

from synthesizer import Options, Synthesis
from synthesizer.options import CNI, Mesh
from tests.synthesizer.objects import deployment, namespace, node, service
from tests.synthesizer.traffic import End, Traffic, at, document, items, made, paths, place


def allowed(result: Synthesis, path: str, direction: str) -> list[tuple[str, int]]:
    """(peer, port) of one direction, peers in short."""
    found = []
    for rule in document(result, path).get(direction, ()):
        for peer in rule["from" if direction == "ingress" else "to"]:
            for port in rule["ports"]:
                found.append((_short(peer), port["port"]))
    return sorted(found)


def _short(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    return f"{namespace}/" + ",".join(f"{k}={v}" for k, v in peer["podSelector"].get("matchLabels", {}).items())


def test_a_connection_is_allowed_at_both_ends() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("data/db"), 5432)
    result = made(traffic)
    assert allowed(result, "shop/networkpolicy-web.yaml", "egress") == [("data/app=db", 5432)]
    assert allowed(result, "data/networkpolicy-db.yaml", "ingress") == [("shop/app=web", 5432)]


def test_a_namespace_that_is_not_ours_gets_no_policy_but_is_named_as_a_peer() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("kube-system/metrics"), 443)
    result = made(traffic)
    assert allowed(result, "shop/networkpolicy-web.yaml", "egress") == [("kube-system/app=metrics", 443)]
    assert not any(path.startswith("kube-system/") for path in paths(result))


def test_pods_that_talk_to_themselves_are_allowed_to() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/db", pod="db-0"), traffic.pod("shop/db", pod="db-1"), 7000)
    result = made(traffic)
    for direction in ("ingress", "egress"):
        assert allowed(result, "shop/networkpolicy-db.yaml", direction) == [("shop/app=db", 7000)]


def test_access_logs_alone_isolate_no_pod() -> None:
    traffic = Traffic()
    traffic.call(traffic.proxied("shop/web", "web"), traffic.proxied("shop/api", "api"), 80, "GET /")
    assert [path for path in paths(made(traffic)) if "networkpolicy" in path] == []


# -- default deny ---------------------------------------------------------------------------------------------------


def pair() -> Traffic:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432)
    return traffic


def test_a_namespace_whose_workloads_were_all_seen_is_closed_by_default() -> None:
    result = made(pair())
    spec = document(result, "shop/networkpolicy-default-deny.yaml")
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert "shop/networkpolicy-allow-dns.yaml" in paths(result)


def test_one_that_was_never_seen_holds_the_default_deny_back_and_is_named() -> None:
    result = made(pair(), deployment("idle", {"app": "idle"}))
    assert "shop/networkpolicy-default-deny.yaml" not in paths(result)
    (asked,) = items(result, "default-deny")
    assert asked.acceptable
    assert asked.evidence == {"never_observed": ["idle"]}
    assert "idle" in asked.what


def test_accepting_closes_the_namespace_after_all() -> None:
    idle = deployment("idle", {"app": "idle"})
    (asked,) = items(made(pair(), idle), "default-deny")
    result = made(pair(), idle, options=Options(accepted=frozenset({asked.id})))
    assert "shop/networkpolicy-default-deny.yaml" in paths(result)
    assert items(result, "default-deny") == []


def test_one_in_the_hosts_network_holds_nothing_back_since_no_policy_reaches_it() -> None:
    result = made(pair(), deployment("agent", {"app": "agent"}, kind="DaemonSet", hostNetwork=True))
    assert "shop/networkpolicy-default-deny.yaml" in paths(result)


def test_one_that_was_seen_and_cannot_be_selected_holds_it_back() -> None:
    traffic = pair()
    traffic.talk(traffic.pod("shop/bare", {}), traffic.pod("shop/db"), 5432)
    result = made(traffic)
    assert "shop/networkpolicy-default-deny.yaml" not in paths(result)
    assert "bare" in items(result, "default-deny")[0].what


# -- from outside ---------------------------------------------------------------------------------------------------


def incoming(*clients: End) -> list[dict[str, Any]]:
    """The ipBlocks that a published port is opened to."""
    traffic = Traffic()
    web = traffic.pod("shop/web")
    for client in clients:
        traffic.talk(client, web, 8080)
    objects = [
        node("n", "192.168.1.5"),
        deployment("web", {"app": "web"}, {"containerPort": 8080}),
        service("web", {"app": "web"}, {"port": 80, "targetPort": 8080}, type="LoadBalancer"),
    ]
    (rule,) = document(made(traffic, *objects), "shop/networkpolicy-web.yaml")["ingress"]
    return [peer["ipBlock"] for peer in rule["from"]]


def test_a_client_from_the_internet_opens_the_port_to_the_internet_without_private_ranges() -> None:
    (block,) = incoming(at("203.0.113.7"))
    assert block["cidr"] == "0.0.0.0/0"
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(block["except"])


def test_each_address_family_is_opened_only_if_it_was_used() -> None:
    assert [block["cidr"] for block in incoming(at("2a00::7"))] == ["::/0"]
    assert [block["cidr"] for block in incoming(at("2a00::7"), at("203.0.113.7"))] == ["0.0.0.0/0", "::/0"]


def test_a_client_in_a_private_network_is_one_address() -> None:
    assert incoming(at("10.9.9.9")) == [{"cidr": "10.9.9.9/32"}]


def test_nodes_that_stand_for_outsiders_keep_their_own_range_open() -> None:
    (block,) = incoming(place("remote-node", "192.168.1.5"))
    assert block["cidr"] == "0.0.0.0/0"
    assert "192.168.0.0/16" not in block["except"]
    assert "10.0.0.0/8" in block["except"]


def test_nodes_keep_their_address_family_open_whatever_the_other_clients_use() -> None:
    blocks = incoming(place("remote-node", "192.168.1.5"), at("2a00::7"))
    assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "::/0"]


def test_the_pods_own_node_needs_no_rule() -> None:
    traffic = pair()
    traffic.talk(place("host", "192.168.1.5"), traffic.pod("shop/web"), 8080)
    assert "ingress" not in document(made(traffic), "shop/networkpolicy-web.yaml")


# -- the mesh's own needs -------------------------------------------------------------------------------------------


def meshed(mesh: Mesh, written: Mesh | None = None) -> Synthesis:
    injected = {"istio-injection": "enabled"} if mesh == "sidecar" else {"istio.io/dataplane-mode": "ambient"}
    members = [deployment(name, {"app": name}, {"containerPort": 5432}) for name in ("web", "db")]
    return made(pair(), *members, namespace("shop", injected), options=Options(mesh=written or mesh))


def test_sidecars_may_reach_istiod_although_that_predates_the_window() -> None:
    result = meshed("sidecar")
    for name in ("web", "db"):
        assert ("istio-system/app=istiod", 15012) in allowed(result, f"shop/networkpolicy-{name}.yaml", "egress")


def test_ambient_pods_are_reached_through_the_tunnel_by_the_same_peers_and_probed_by_their_node() -> None:
    result = meshed("ambient")
    assert allowed(result, "shop/networkpolicy-web.yaml", "egress") == [("shop/app=db", 5432), ("shop/app=db", 15008)]
    assert allowed(result, "shop/networkpolicy-db.yaml", "ingress") == [
        ("169.254.7.127/32", 5432),
        ("shop/app=web", 5432),
        ("shop/app=web", 15008),
    ]


@pytest.mark.parametrize(
    ("addresses", "probes"),
    [
        (("2001:db8::1", "2001:db8::2"), ["fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128"]),
        (("10.1.0.1", "2001:db8::2"), ["169.254.7.127/32", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128"]),
        (("", ""), ["169.254.7.127/32"]),
    ],
)
def test_ambient_pods_are_probed_in_the_families_that_pods_have(addresses: tuple[str, str], probes: list[str]) -> None:
    traffic = Traffic()
    web, db = (traffic.pod(f"shop/{name}", address=ip) for name, ip in zip(("web", "db"), addresses, strict=True))
    traffic.talk(web, db, 5432)
    members = [deployment(name, {"app": name}, {"containerPort": 5432}) for name in ("web", "db")]
    labels = {"istio.io/dataplane-mode": "ambient"}
    result = made(traffic, *members, namespace("shop", labels), options=Options(mesh="ambient"))
    opened = allowed(result, "shop/networkpolicy-db.yaml", "ingress")
    assert [peer for peer, _ in opened if "/app=" not in peer] == probes


@pytest.mark.parametrize("mesh", ["sidecar", "ambient"])
def test_what_a_proxy_needs_is_open_although_no_policy_of_a_mesh_is_written(mesh: Mesh) -> None:
    """Flows alone (no access log) do not make a mesh, but the inventory says who is in one."""
    alone = meshed(mesh, "none")
    for name in ("web", "db"):
        for direction in ("ingress", "egress"):
            path = f"shop/networkpolicy-{name}.yaml"
            assert allowed(alone, path, direction) == allowed(meshed(mesh), path, direction)


@pytest.mark.parametrize(("mesh", "port"), [("sidecar", 15012), ("ambient", 15008)])
def test_without_an_inventory_the_users_word_for_the_mesh_is_enough(mesh: Mesh, port: int) -> None:
    result = made(pair(), options=Options(mesh=mesh))
    assert port in {number for _, number in allowed(result, "shop/networkpolicy-web.yaml", "egress")}


def test_without_a_mesh_there_is_none_of_it() -> None:
    for name in ("web", "db"):
        for direction in ("ingress", "egress"):
            found = allowed(made(pair()), f"shop/networkpolicy-{name}.yaml", direction)
            assert not any(port in (15008, 15012) for _, port in found)


@pytest.mark.parametrize("cni", ["generic", "calico"])
def test_the_api_server_is_an_address_where_blocks_reach_it(cni: CNI) -> None:
    traffic = pair()
    traffic.talk(traffic.pod("shop/web"), place("kube-apiserver", "172.18.0.2"), 6443)
    result = made(traffic, options=Options(cni=cni))
    assert ("172.18.0.2/32", 6443) in allowed(result, "shop/networkpolicy-web.yaml", "egress")


def entities(result: Synthesis, name: str) -> dict[str, list[tuple[list[str], list[str]]]]:
    """What a CiliumNetworkPolicy opens, by direction: entities, and ports."""
    spec = document(result, f"shop/ciliumnetworkpolicy-{name}.yaml")
    return {
        direction: [
            (rule[ends], [f"{p['protocol']} {p['port']}" for entry in rule["toPorts"] for p in entry["ports"]])
            for rule in spec.get(direction, ())
        ]
        for direction, ends in (("ingress", "fromEntities"), ("egress", "toEntities"))
    }


def test_on_cilium_it_is_an_entity_since_no_block_reaches_it() -> None:
    traffic = pair()
    traffic.talk(traffic.pod("shop/web"), place("kube-apiserver", "172.18.0.2"), 6443)
    result = made(traffic, options=Options(cni="cilium"))
    assert [port for _, port in allowed(result, "shop/networkpolicy-web.yaml", "egress")] == [5432]
    assert entities(result, "web") == {"ingress": [], "egress": [(["kube-apiserver"], ["TCP 6443"])]}
    assert not items(result, "kube-apiserver")
    (index,) = [manifest for manifest in result.manifests if manifest.kind == "Kustomization"]
    assert "ciliumnetworkpolicy-web.yaml" in index.document["resources"]


def test_on_cilium_who_calls_one_node_calls_any_and_the_own_node_needs_no_rule_to_come_in() -> None:
    traffic = pair()
    traffic.talk(traffic.pod("shop/web"), place("remote-node", "172.18.0.3"), 9100)
    traffic.talk(traffic.pod("shop/web"), place("host", "172.18.0.4"), 9100)
    traffic.talk(place("remote-node", "172.18.0.3"), traffic.pod("shop/web"), 8080)
    traffic.talk(place("ingress", "10.0.0.9"), traffic.pod("shop/web"), 8080)
    result = made(traffic, options=Options(cni="cilium"))
    assert entities(result, "web") == {
        "ingress": [(["ingress", "remote-node"], ["TCP 8080"])],
        "egress": [(["host", "remote-node"], ["TCP 9100"])],
    }
    assert {item.kind for item in result.review} <= {"default-deny"}


def test_on_cilium_a_resolver_in_the_hosts_network_is_asked_in_both_protocols() -> None:
    traffic = pair()
    traffic.talk(traffic.pod("shop/web"), place("remote-node", "172.18.0.3"), 53, "UDP")
    result = made(traffic, options=Options(cni="cilium"))
    assert entities(result, "web")["egress"] == [(["host", "remote-node"], ["TCP 53", "UDP 53"])]


def test_elsewhere_there_is_no_such_policy() -> None:
    traffic = pair()
    traffic.talk(traffic.pod("shop/web"), place("kube-apiserver", "172.18.0.2"), 6443)
    traffic.talk(traffic.pod("shop/web"), place("remote-node", "172.18.0.3"), 9100)
    kinds = {manifest.kind for manifest in made(traffic).manifests}
    assert kinds == {"NetworkPolicy", "Kustomization"}
