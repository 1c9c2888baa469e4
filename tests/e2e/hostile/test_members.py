"""Who is in the mesh, who calls from outside of it, and who goes through a waypoint: nobody is cut off unawares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hostile.logs import envoy, principal, ztunnel
from tests.e2e.hostile.scene import as_lines
from tests.e2e.hostile.test_mesh import _rules, _run, _shop


@pytest.mark.parametrize("seen", ["both-legs", "clients-leg", "and-past-it"])
def test_what_goes_through_a_waypoint_and_what_goes_past_it(tmp_path: Path, seen: str) -> None:
    """A client that was seen at the pods themselves gets through as itself, beside what the waypoint lets in."""
    s, web, admin, api = _shop()
    s.namespace_labels["shop"] = {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}
    waypoint = s.pod("shop/waypoint", {"gateway.networking.k8s.io/gateway-name": "waypoint"}, account="waypoint")
    vip = {"dst__addr": f"{waypoint.ip}:15008", "dst__hbone_addr": "10.96.9.9:80", "direction": '"outbound"'}
    vip |= {"dst__workload": f'"{waypoint.pod}"', "dst__identity": f'"{principal(waypoint)}"'}
    lines = [ztunnel(web, api, 80, **vip), ztunnel(admin, web, 8080), ztunnel(web, admin, 8080)] * 4
    lines += [ztunnel(waypoint, api, 8080)] * 4 * (seen != "clients-leg")
    lines += [ztunnel(web, api, 8080)] * 4 * (seen == "and-past-it")
    s.service(api, "10.96.9.9", 80, 8080)
    (tmp_path / "access.log").write_text("".join(lines))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    assert out.result.sound
    for client, verdict in ((web, "allow"), (admin, "deny")):
        assert out.ask(client.ref, "shop/api", 8080, principal=principal(client)[9:]) == verdict
    own = [p for p in out.policies("AuthorizationPolicy") if p["metadata"]["name"] == "api"]
    named = {name for p in own for r in p["spec"]["rules"] for f in r["from"] for name in f["source"]["principals"]}
    expected = {"both-legs": [waypoint], "clients-leg": [waypoint], "and-past-it": [waypoint, web]}[seen]
    assert named == {principal(end)[9:] for end in expected}
    assert [part for part in out.result.proof["redundant"] if part["kind"] == "rule"] == []


@pytest.mark.parametrize("address", ["172.18.0.2", "fd00:18::2"])
def test_the_api_server_calls_a_meshed_webhook_and_nobody_else_does(tmp_path: Path, address: str) -> None:
    """It has no certificate of the mesh; a rule without a source would open the webhook to everyone."""
    s, web, admin, api = _shop()
    server = s.place(address, "kube-apiserver", "world", identity=16_777_217)
    s.talk(server, api, 9443)
    out = _run(s, tmp_path, [(web, api, 8080, "GET", "/items")] * 5, inventory=True, mesh="sidecar")
    assert out.wrong([], closed=False) == []
    assert {"source": {"ipBlocks": [f"{address}/{128 if ':' in address else 32}"]}} in [
        source for rule in _rules(out) for source in rule.get("from", ())
    ]
    asked = [out.ask(source, "shop/api", 9443, http=False) for source in (address, admin.ref, "203.0.113.9")]
    assert asked[0] == "allow"
    assert "allow" not in asked[1:]


@pytest.mark.parametrize("mesh", ["sidecar", "ambient"])
@pytest.mark.parametrize("labels", [{}, {"istio-injection": "enabled"}, {"istio.io/dataplane-mode": "ambient"}])
def test_who_is_in_the_mesh_that_was_named_and_that_nothing_tells_of(
    tmp_path: Path, mesh: str, labels: dict[str, str]
) -> None:
    """Flows and `--mesh`, and an inventory without a mark of that mesh: all that did not opt out are taken to be."""
    s, web, _, api = _shop()
    s.namespace_labels["shop"] = labels
    s.namespace_labels["legacy"] = {"istio-injection": "disabled", "istio.io/dataplane-mode": "none"}
    old = s.pod("legacy/old", ports=((80, "TCP"),))
    for source, destination, port in ((web, api, 8080), (web, old, 80), (old, api, 8080)):
        s.talk(source, destination, port)
    out = s.run(tmp_path, inventory=True, mesh=mesh)
    assert out.result.sound
    assert out.ask("shop/web", "shop/api", 8080) == out.ask("shop/web", "legacy/old", 80) == "allow"
    governed = {p["metadata"]["namespace"] for p in out.policies("AuthorizationPolicy")}
    assert governed == {"shop"}
    own = {"sidecar": "istio-injection", "ambient": "istio.io/dataplane-mode"}[mesh]
    told = "Nothing tells who is in the mesh" in out.result.files["REVIEW.md"]
    assert told == (own not in labels)


@pytest.mark.parametrize("accepted", [False, True])
def test_a_caller_of_pods_whose_labels_nobody_knows_is_not_cut_off_by_the_default_deny(
    tmp_path: Path, accepted: bool
) -> None:
    """The log is older than the inventory: no selector can pick what is gone, and an empty policy would deny it all."""
    s, web, admin, api = _shop()
    s.ends.remove(admin)
    gone = replace(api, name="old", pod="old-5c9f7b6d8-gone2", ip="10.244.9.78", account="old", labels=())
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4 + [envoy(web, gone, 8080, "GET", "/items")] * 4
    (tmp_path / "access.log").write_text(as_lines(lines))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    (asked,) = (item for item in out.result.synthesis.review if item.kind == "default-deny")
    assert "no selector can pick old" in asked.what
    if accepted:
        out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True, accepted=frozenset({asked.id}))
    empty = [p for p in out.policies("AuthorizationPolicy") if p["metadata"]["name"] == "default-deny"]
    assert len(empty) == accepted
    assert out.result.sound
    assert out.result.proof["held"] == accepted


@pytest.mark.parametrize("role", ["router", "unknown"])
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("called", [True, False], ids=["called from inside", "not called"])
def test_a_gateway_among_the_workloads_is_not_cut_off(tmp_path: Path, role: str, published: bool, called: bool) -> None:
    """Its log tells for whom it was called (X-Forwarded-For) and not by whom, or only what it called itself.

    An empty policy would select it as well, and so would one for a caller inside whom only the caller's log shows.
    """
    s, web, _, api = _shop()
    s.namespace_labels["shop"] = {"istio-injection": "enabled"}
    gateway = s.pod("shop/gateway", account="gateway", ports=((8443, "TCP"),))
    s.service(gateway, "10.96.7.7", 443, 8443, type="LoadBalancer" if published else "ClusterIP")
    told: dict[str, Any] = {
        "upstream_cluster": "outbound|80||api.shop.svc.cluster.local",
        "upstream_local_address": f"{gateway.ip}:41000",
        "downstream_local_address": f"{gateway.ip}:8443",
        "downstream_remote_address": "198.51.100.7:0",
        "downstream_peer_uri_san": None,
        "requested_server_name": "shop.example.com",
        "pod": gateway.pod,
    }
    if role == "router":
        told["node_id"] = f"router~{gateway.ip}~{gateway.pod}.shop~shop.svc.cluster.local"
    lines = [envoy(gateway, api, 8080, "GET", "/items", **told)] * 4
    lines += [envoy(gateway, api, 8080, "GET", "/items"), envoy(api, web, 8080, "GET", "/"), envoy(web, api, 8080)] * 4
    inside: dict[str, Any] = {"upstream_cluster": "outbound|443||gateway.shop.svc.cluster.local", "pod": web.pod}
    inside |= {"upstream_local_address": f"{web.ip}:41000", "downstream_peer_uri_san": None}
    lines += [envoy(web, gateway, 8443, "GET", "/items", **inside)] * 4 * called
    (tmp_path / "access.log").write_text(as_lines(lines))
    s.ends = [end for end in s.ends if end.name != "admin"]
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    assert out.wrong([], closed=False) == []
    kept = published or role == "router"
    held = [item.what for item in out.result.synthesis.review if item.kind == "default-deny"]
    assert held == ["no AuthorizationPolicy default deny for shop: who calls gateway is not known"] * kept
    names = {p["metadata"]["name"] for p in out.policies("AuthorizationPolicy")}
    assert names == {"api", "web"} | ({"default-deny"} if not kept else set()) | (
        {"gateway"} if called > kept else set()
    )
