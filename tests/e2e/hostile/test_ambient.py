"""Ambient mode beside Hubble: kubelet's probes come from an address of istio-cni's own, and they are nobody's visit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hostile.logs import envoy, principal, ztunnel
from tests.e2e.hostile.scene import End, Scene, as_lines

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
