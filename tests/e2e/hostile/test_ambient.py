"""Ambient mode beside Hubble: kubelet's probes come from an address of istio-cni's own, and they are nobody's visit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hostile.logs import envoy, principal, ztunnel
from tests.e2e.hostile.scene import End, Outcome, Scene, as_lines

PROBES = ["169.254.7.127", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"]  # istio, cni/README.md
BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])


def _shop(mode: str = "ambient") -> tuple[Scene, End, End, End]:
    s = Scene()
    label = {"ambient": ("istio.io/dataplane-mode", "ambient"), "sidecar": ("istio-injection", "enabled")}[mode]
    s.namespace_labels["shop"] = dict([label])
    web, api = s.pod("shop/web", account="web"), s.pod("shop/api", account="api")
    return s, web, api, s.pod("shop/db", account="db", ports=((5432, "TCP"),))


@BOTH
@pytest.mark.parametrize("address", PROBES)
def test_a_probe_of_an_ambient_pod_opens_its_port_to_nobody_else(tmp_path: Path, inventory: bool, address: str) -> None:
    s, web, api, db = _shop()
    s.talk(web, api, 15008)
    s.talk(api, db, 15008)
    s.talk(s.world(address), api, 8080)
    lines = [ztunnel(web, api, 8080)] * 4 + [ztunnel(api, db, 5432)] * 4
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    (tmp_path / "access.log").write_text("".join(lines))
    out = s.run_files([tmp_path / "flows.jsonl", tmp_path / "access.log"], tmp_path, inventory=inventory)
    assert out.result.options.mesh == "ambient"
    assert out.ask("shop/web", "shop/api", 8080, principal=principal(web)[9:]) == "allow"
    assert out.ask("shop/db", "shop/api", 8080, principal=principal(db)[9:]) == "deny"
    assert out.ask(address, "shop/api", 8080) == "allow"
    assert f"{address}/{128 if ':' in address else 32}" in out.blocks("ingress")
    assert all(rule.get("from") for p in out.policies("AuthorizationPolicy") for rule in p["spec"].get("rules", ()))
    assert out.policies("PeerAuthentication") != []  # a probe is no caller that mutual TLS would cut off
    assert out.review() == []
    assert out.wrong([], closed=False) == []


@BOTH
def test_one_connection_to_all_that_a_workload_serves_is_no_question(tmp_path: Path, inventory: bool) -> None:
    """Hubble sees the tunnel's port; that is no second port of the workload's own."""
    s, web, api, _ = _shop()
    s.talk(web, api, 15008)
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    (tmp_path / "access.log").write_text(ztunnel(web, api, 8080))
    out = s.run_files([tmp_path / "flows.jsonl", tmp_path / "access.log"], tmp_path, inventory=inventory)
    assert out.ask("shop/web", "shop/api", 8080, principal=principal(web)[9:]) == "allow"
    assert out.policies("AuthorizationPolicy") != []
    assert out.review("one-off") == []


@BOTH
def test_look_ups_over_tcp(tmp_path: Path, inventory: bool) -> None:
    """Without an inventory, the resolver may be in the mesh as well as anyone, and is then asked through the tunnel."""
    s, web, api, _ = _shop()
    resolver = s.pod("kube-system/coredns", {"k8s-app": "kube-dns"})
    s.talk(web, api, 15008)
    s.talk(web, resolver, 53)
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    (tmp_path / "access.log").write_text(ztunnel(web, api, 8080) * 4)
    out = s.run_files([tmp_path / "flows.jsonl", tmp_path / "access.log"], tmp_path, inventory=inventory)
    assert out.result.sound
    assert out.ask("shop/web", "kube-system/coredns", 53) == "allow"
    assert (out.ask("shop/web", "kube-system/coredns", 15008) == "allow") != inventory


@BOTH
def test_a_probe_that_hubble_alone_saw_keeps_its_way_in(tmp_path: Path, inventory: bool) -> None:
    """No proxy's log, so no mesh is known of: the address is kubelet's all the same."""
    s, web, api, _ = _shop()
    s.talk(web, api, 15008)
    s.talk(s.world(PROBES[0]), api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.ask(PROBES[0], "shop/api", 8080) == "allow"
    assert f"{PROBES[0]}/32" in out.blocks("ingress")
    assert out.wrong([("shop/web", "shop/api", 15008)], closed=False) == []


def test_what_goes_to_that_address_is_a_question(tmp_path: Path) -> None:
    s, web, _, _ = _shop()
    s.talk(web, s.world(PROBES[0]), 80)
    out = s.run(tmp_path)
    assert out.blocks() == []
    assert len(out.review("link-local")) == 1


@pytest.mark.parametrize("source", ["link-local", "node"])
def test_a_nameless_visitor_inside_opens_no_port_to_everyone(tmp_path: Path, source: str) -> None:
    """Neither a link-local address nor another node is the internet, and a rule without a principal is for anyone."""
    s, web, api, db = _shop("sidecar")
    s.talk(web, db, 5432)
    s.talk(s.world("169.254.9.9") if source == "link-local" else s.place("192.168.1.9", "remote-node"), db, 5432)
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    lines = [envoy(web, db, 5432, method="", path="", code=0)] * 4
    (tmp_path / "access.jsonl").write_text(as_lines(lines))
    out = s.run_files([tmp_path / "flows.jsonl", tmp_path / "access.jsonl"], tmp_path, inventory=True)
    assert out.ask("shop/web", "shop/db", 5432, principal=principal(web)[9:]) == "allow"
    assert out.ask("shop/api", "shop/db", 5432, principal=principal(api)[9:]) == "deny"
    assert all(rule.get("from") for p in out.policies("AuthorizationPolicy") for rule in p["spec"].get("rules", ()))
    assert out.wrong([], closed=False) == []


def test_a_link_local_visitor_can_be_accepted(tmp_path: Path) -> None:
    """The review offers it, so the option has to do it."""
    s, web, api, _ = _shop()
    s.talk(web, api, 8080)
    s.talk(s.world("169.254.9.9"), api, 8080)
    (held,) = (i for i in s.run(tmp_path).result.synthesis.review if i.kind == "link-local")
    assert held.acceptable
    out = s.run(tmp_path, accepted=frozenset({held.id}))
    assert out.blocks("ingress") == ["169.254.9.9/32"]
    assert out.wrong([("shop/web", "shop/api", 8080), ("169.254.9.9", "shop/api", 8080)]) == []


# -- waypoints --------------------------------------------------------------------------------------------------------

VIP = "10.96.9.9"


def _behind_waypoint(*versions: str) -> tuple[Scene, End, End, list[End]]:
    """web, the waypoint, and workloads behind a Service `api`, whose port 80 leads to their 8080."""
    s = Scene()
    s.namespace_labels["shop"] = {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}
    web = s.pod("shop/web", account="web")
    gate = {"gateway.networking.k8s.io/gateway-name": "waypoint", "istio.io/dataplane-mode": "none"}
    waypoint = s.pod("shop/waypoint", gate, account="waypoint")
    behind = [s.pod(f"shop/api-{v}", {"app": "api", "version": v}, account="api") for v in versions]
    spec = {"selector": {"app": "api"}, "clusterIP": VIP, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    s.extra.append(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "shop"}, "spec": spec}
    )
    return s, web, waypoint, behind


def _at_waypoint(web: End, waypoint: End, api: End, path: str, **more: Any) -> str:
    """The waypoint's line: the Service by name, the pod that answered by address."""
    told = {
        "upstream_cluster": "inbound-vip|80|http|api.shop.svc.cluster.local",
        "upstream_host": f"envoy://connect_originate/{api.ip}:8080",
        "upstream_local_address": "envoy://internal_client_address/",
        "downstream_local_address": f"{VIP}:80",
        "requested_server_name": None,
        "downstream_local_uri_san": None,
        "pod": waypoint.pod,
    }
    return json.dumps(envoy(web, api, 8080, "GET", path, **(told | more))) + "\n"


def _from_client(web: End, waypoint: End) -> str:
    """The line of the client's ztunnel, which names the Service and the waypoint."""
    away = {"dst__addr": f"{waypoint.ip}:15008", "dst__hbone_addr": f"{VIP}:80", "direction": '"outbound"'}
    away |= {"dst__workload": f'"{waypoint.pod}"', "dst__identity": f'"{principal(waypoint)}"'}
    return ztunnel(web, web, 80, **away, dst__service='"api.shop.svc.cluster.local"')


def _requests(out: Outcome, api: End, *paths: str) -> list[str]:
    asked: dict[str, Any] = {"service": "shop/api", "method": "GET", "http": True}
    return [out.ask("shop/web", api.ref, 8080, path=path, **asked) for path in paths]


@pytest.mark.parametrize("seen", ["at the pod", "at the client"])
def test_what_a_waypoint_let_through_is_its_policy(tmp_path: Path, seen: str) -> None:
    """Its log names the pod that answered. The policy belongs to the Service nevertheless, and the pod has to let the
    waypoint in, whether or not that was seen there."""
    s, web, waypoint, (api,) = _behind_waypoint("v1")
    lines = [_at_waypoint(web, waypoint, api, "/items")] * 4
    lines += [ztunnel(waypoint, api, 8080) if seen == "at the pod" else _from_client(web, waypoint)] * 4
    (tmp_path / "access.log").write_text("".join(line for line in lines if line.startswith("{")))
    (tmp_path / "z.log").write_text("".join(line for line in lines if not line.startswith("{")))
    out = s.run_files([tmp_path / "access.log", tmp_path / "z.log"], tmp_path, inventory=True)
    assert out.wrong([], closed=False) == []
    assert _requests(out, api, "/items", "/admin") == ["allow", "deny"]
    direct: dict[str, Any] = {"direct": True, "principal": principal(waypoint)[9:]}
    assert out.ask("shop/waypoint", api.ref, 8080, **direct) == "allow"
    assert out.ask("shop/web", api.ref, 8080, direct=True) == "deny"
    behind = json.loads(out.result.files["leastway.json"])["evidence"]
    assert {entry["port"] for entry in behind["shop/authorizationpolicy-api-v1.yaml"]} == {8080}


def test_what_ztunnel_saw_opens_no_request_at_another_version(tmp_path: Path) -> None:
    """The client's ztunnel names the Service, which may be any version; the waypoint's log tells what was asked."""
    s, web, waypoint, (first, second) = _behind_waypoint("v1", "v2")
    (tmp_path / "access.log").write_text(_at_waypoint(web, waypoint, first, "/items") * 4)
    (tmp_path / "z.log").write_text(_from_client(web, waypoint) * 4)
    out = s.run_files([tmp_path / "access.log", tmp_path / "z.log"], tmp_path, inventory=True)
    assert out.wrong([], closed=False) == []
    for version in (first, second):
        assert _requests(out, version, "/items", "/admin") == ["allow", "deny"]


def test_what_failed_at_one_version_opens_nothing_at_the_other(tmp_path: Path) -> None:
    s, web, waypoint, (first, _) = _behind_waypoint("v1", "v2")
    (tmp_path / "access.log").write_text(_at_waypoint(web, waypoint, first, "/items", response_code=500) * 4)
    (tmp_path / "z.log").write_text(_from_client(web, waypoint) * 4)
    out = s.run_files([tmp_path / "access.log", tmp_path / "z.log"], tmp_path, inventory=True)
    assert out.wrong([], closed=False) == []
    assert principal(web)[9:] not in "".join(manifest.text for manifest in out.result.synthesis.manifests)


@pytest.mark.parametrize("seen", ["at the pod", "at the client"])
def test_a_waypoint_that_no_inventory_names(tmp_path: Path, seen: str) -> None:
    """The pod sees the waypoint, not the client, at a port that is not in the client's record. If nobody was seen at
    the pod, whatever is written for it would shut the waypoint out."""
    s, web, waypoint, (api,) = _behind_waypoint("v1")
    s.talk(web, waypoint, 15008)
    s.talk(waypoint, api, 15008)
    line = ztunnel(waypoint, api, 8080) if seen == "at the pod" else _from_client(web, waypoint)
    (tmp_path / "access.log").write_text(_at_waypoint(web, waypoint, api, "/items") * 4)
    (tmp_path / "z.log").write_text(line * 4)
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    out = s.run_files([tmp_path / name for name in ("access.log", "z.log", "flows.jsonl")], tmp_path)
    assert out.wrong([], closed=False) == []
    written = {p["metadata"]["name"]: p["spec"].get("rules") for p in out.policies("AuthorizationPolicy")}
    callers = [{"source": {"principals": [principal(waypoint)[9:]]}}]
    assert [rule["from"] for rule in written.get("api-v1") or ()] == ([callers] if seen == "at the pod" else [])
    assert ("default-deny" in written) == (seen == "at the pod")
    assert [item.subject for item in out.result.synthesis.review if item.kind == "unknown-waypoint"] == [api.ref]


def test_a_workload_with_the_name_of_a_waypoints_policy(tmp_path: Path) -> None:
    s, web, waypoint, (api,) = _behind_waypoint("v1")
    other = s.pod("shop/api-waypoint", account="other")
    (tmp_path / "access.log").write_text(_at_waypoint(web, waypoint, api, "/items") * 4)
    (tmp_path / "z.log").write_text(ztunnel(waypoint, api, 8080) * 4 + ztunnel(web, other, 9090) * 4)
    out = s.run_files([tmp_path / "access.log", tmp_path / "z.log"], tmp_path, inventory=True)
    assert out.wrong([], closed=False) == []
    assert _requests(out, api, "/items", "/admin") == ["allow", "deny"]
    behind = json.loads(out.result.files["leastway.json"])["evidence"]
    assert {entry["to"] for entry in behind["shop/authorizationpolicy-api-waypoint-service.yaml"]} == {api.ref}
    assert {entry["to"] for entry in behind["shop/authorizationpolicy-api-waypoint.yaml"]} == {other.ref}
