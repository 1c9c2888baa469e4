"""The identity layer: who may call, and how; callers without a name, and logs that lie."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hostile.logs import als, envoy, principal, ztunnel
from tests.e2e.hostile.scene import Document, End, Outcome, Record, Scene, as_lines

SOURCES = pytest.mark.parametrize("form", ["istio-json", "als"])


def _shop() -> tuple[Scene, End, End, End]:
    s = Scene()
    s.namespace_labels["shop"] = {"istio-injection": "enabled"}
    web = s.pod("shop/web", account="web")
    admin = s.pod("shop/admin", account="admin")
    api = s.pod("shop/api", account="api", ports=((8080, "TCP"),))
    return s, web, admin, api


def _run(s: Scene, folder: Path, requests: list[Any], form: str = "istio-json", **options: Any) -> Outcome:
    """`requests`: (source, destination, port, method, path[, code]); flows beside them give labels."""
    for source, destination, port in sorted({r[:3] for r in requests}, key=str):
        if source.namespace and destination.namespace:
            s.talk(source, destination, port)
    write = {"istio-json": lambda *r: json.dumps(envoy(*r)) + "\n", "als": als}[form]
    (folder / "flows.jsonl").write_text(as_lines(s.records))
    (folder / "access.log").write_text("".join(write(*request) for request in requests))
    return s.run_files([folder / "flows.jsonl", folder / "access.log"], folder, **options)


def _asks(out: Outcome, source: str, *requests: str, port: int = 8080) -> dict[str, str]:
    """Verdicts on "METHOD /path" at shop/api."""
    found = {}
    for request in requests:
        method, _, path = request.partition(" ")
        found[request] = out.ask(source, "shop/api", port, method=method, path=path)
    return found


def _rules(out: Outcome) -> list[Document]:
    return [r for d in out.policies("AuthorizationPolicy") for r in (d.get("spec") or {}).get("rules", ())]


@pytest.mark.parametrize("inventory", [True, False])
@pytest.mark.parametrize("san", ["spiffe://corp.example/monitoring", "https://monitoring"])
def test_a_caller_with_a_certificate_of_another_make_is_not_cut_off(san: str, inventory: bool, tmp_path: Path) -> None:
    s, web, _, api = _shop()
    scraper = s.pod("monitoring/scraper", account="scraper")
    entries = [envoy(web, api, 8080, path="/items")] * 5
    entries += [envoy(scraper, api, 8080, path="/metrics", downstream_peer_uri_san=san)] * 5
    (tmp_path / "access.log").write_text(as_lines(entries))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=inventory)
    assert out.result.sound
    assert out.policies("PeerAuthentication") == []


@SOURCES
def test_only_404_and_403(tmp_path: Path, form: str) -> None:
    """Requests that were never answered below 400 are no evidence of intent."""
    s, web, admin, api = _shop()
    requests: list[Any] = [(web, api, 8080, "GET", "/items")] * 4
    requests += [(admin, api, 8080, "GET", f"/{word}.php", 404) for word in ("wp-login", "shell", "setup")] * 3
    requests += [(web, api, 8080, "GET", "/secret", 404)] * 9
    out = _run(s, tmp_path, requests, form)
    assert out.wrong([], closed=False) == []
    assert _asks(out, "shop/web", "GET /items", "GET /secret") == {"GET /items": "allow", "GET /secret": "deny"}
    assert _asks(out, "shop/admin", "GET /shell.php", "GET /items") == {
        "GET /shell.php": "deny",
        "GET /items": "deny",
    }
    assert "/secret" in out.result.files["REVIEW.md"]


def test_denied_by_rbac(tmp_path: Path) -> None:
    """403 by a policy: denied, whatever came before."""
    s, web, admin, api = _shop()
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4
    details = "rbac_access_denied_matched_policy[none]"
    lines += [envoy(admin, api, 8080, "GET", "/items", 403, response_code_details=details)] * 9
    out = _log_run(s, tmp_path, [(web, api, 8080)], lines)
    assert out.wrong([], closed=False) == []
    assert _asks(out, "shop/admin", "GET /items") == {"GET /items": "deny"}
    assert _asks(out, "shop/web", "GET /items") == {"GET /items": "allow"}


@pytest.mark.parametrize(
    "fate",
    [
        {"code": 0, "response_flags": "DC", "response_code_details": "downstream_remote_disconnect"},
        {"code": 302, "response_flags": "UAEX", "response_code_details": "ext_authz_denied"},
    ],
    ids=["the client hung up", "an authoriser sent it to the login"],
)
def test_requests_that_nothing_answered(tmp_path: Path, fate: dict[str, Any]) -> None:
    """Their status is below 400, and yet they never succeeded."""
    s, web, _, api = _shop()
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4
    lines += [envoy(web, api, 8080, "GET", "/reports/all", **fate)] * 9
    out = _log_run(s, tmp_path, [(web, api, 8080)], lines)
    assert out.wrong([], closed=False) == []
    assert _asks(out, "shop/web", "GET /items", "GET /reports/all") == {
        "GET /items": "allow",
        "GET /reports/all": "deny",
    }
    assert "/reports/all" in out.result.files["REVIEW.md"]


def _log_run(
    s: Scene, folder: Path, edges: list[tuple[End, End, int]], lines: list[Record] | list[str], **options: Any
) -> Outcome:
    for source, destination, port in edges:
        s.talk(source, destination, port)
    (folder / "flows.jsonl").write_text(as_lines(s.records))
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (folder / "access.log").write_text(text)
    return s.run_files([folder / "flows.jsonl", folder / "access.log"], folder, **options)


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
def test_plaintext_caller(tmp_path: Path, inventory: bool) -> None:
    """A caller outside the mesh: no STRICT, no lost HTTP rule, and no rule without a name on a TCP port."""
    s, web, _, api = _shop()
    prom = s.pod("mon/prom", account="prom")
    plain: dict[str, Any] = {"downstream_peer_uri_san": None, "requested_server_name": None}
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4
    lines += [envoy(prom, api, 8080, "GET", "/metrics", **plain)] * 4
    out = _log_run(s, tmp_path, [(web, api, 8080), (prom, api, 8080)], lines, inventory=inventory)
    assert [p for p in out.wrong([], closed=False) if "unsound" not in p] == []
    assert not [d for d in out.policies("PeerAuthentication") if d["metadata"]["namespace"] == "shop"]
    assert out.ask("shop/web", "shop/api", 8080, method="GET", path="/items") == "allow"
    assert out.ask("mon/prom", "shop/api", 8080, method="GET", path="/metrics", principal="") == "allow"
    assert out.ask("mon/prom", "shop/api", 8080, method="GET", path="/items", principal="") == "deny"
    assert out.result.sound


def test_two_trust_domains(tmp_path: Path) -> None:
    """Identities are taken as they were seen, not with the domain that is usual."""
    s, web, admin, api = _shop()
    lines = [envoy(web, api, 8080, "GET", "/items", trust_domain="prod.example.com")] * 4
    lines += [envoy(admin, api, 8080, "GET", "/items", trust_domain="partner.example.com")] * 4
    edges = [(web, api, 8080), (admin, api, 8080)]
    out = _log_run(s, tmp_path, edges, lines, trust_domain="prod.example.com")
    assert out.wrong([], closed=False) == []
    names = {p for rule in _rules(out) for entry in rule.get("from", ()) for p in entry["source"]["principals"]}
    assert names == {"prod.example.com/ns/shop/sa/web", "partner.example.com/ns/shop/sa/admin"}


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
def test_service_account_shared_by_two_workloads(tmp_path: Path, inventory: bool) -> None:
    """NetworkPolicy keeps them apart although the principal cannot."""
    s = Scene()
    web, job = s.pod("shop/web"), s.pod("shop/job")
    api = s.pod("shop/api", account="api", ports=((8080, "TCP"),))
    db = s.pod("shop/db", account="db")
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4 + [envoy(job, db, 5432, "", "", 0)] * 4
    out = _log_run(s, tmp_path, [(web, api, 8080), (job, db, 5432)], lines, inventory=inventory)
    assert out.wrong([], closed=False) == []
    assert out.ask("shop/web", "shop/api", 8080, method="GET", path="/items") == "allow"
    assert out.ask("shop/job", "shop/db", 5432, http=False) == "allow"
    assert out.ask("shop/job", "shop/api", 8080, method="GET", path="/items") == "deny"
    assert out.ask("shop/web", "shop/db", 5432, http=False) == "deny"


def test_http_and_tcp_on_one_workload(tmp_path: Path) -> None:
    """An HTTP-only ALLOW would deny the TCP port (semantics 2.6)."""
    s, web, _, api = _shop()
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4 + [envoy(web, api, 9000, "", "", 0)] * 4
    out = _log_run(s, tmp_path, [(web, api, 8080), (web, api, 9000)], lines)
    assert out.wrong([], closed=False) == []
    assert out.ask("shop/web", "shop/api", 9000, http=False) == "allow"
    assert out.ask("shop/web", "shop/api", 8080, method="GET", path="/items") == "allow"
    assert out.ask("shop/web", "shop/api", 8080, method="GET", path="/other") == "deny"


def test_access_logs_alone_isolate_nothing_below(tmp_path: Path) -> None:
    """No NetworkPolicy from access logs (they show neither DNS nor what bypasses the proxy)."""
    s, web, _, api = _shop()
    (tmp_path / "access.log").write_text(as_lines([envoy(web, api, 8080, "GET", "/items")] * 4))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    assert out.wrong([], closed=False) == []
    assert out.policies("NetworkPolicy") == []
    assert out.ask("shop/web", "shop/api", 8080, method="GET", path="/items") == "allow"
    assert out.ask("shop/admin", "shop/api", 8080, method="GET", path="/items") == "deny"


def test_default_format_without_any_identity(tmp_path: Path) -> None:
    """Neither side is named: with an inventory the addresses tell; nothing is invented without."""
    s, web, _, api = _shop()
    line = envoy(web, api, 8080, "GET", "/items")
    for key in ("downstream_peer_uri_san", "downstream_local_uri_san", "pod", "namespace"):
        del line[key]
    (tmp_path / "access.log").write_text(as_lines([line] * 4))
    for inventory in (True, False):
        out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=inventory)
        assert out.wrong([], closed=False) == []
        if inventory:
            assert out.ask("shop/web", "shop/api", 8080, method="GET", path="/items") == "allow"


@pytest.mark.parametrize("inventory", [False, True], ids=["logs-only", "inventory"])
def test_ztunnel_rules_have_no_http(tmp_path: Path, inventory: bool) -> None:
    """Ambient: principal and port, nothing else; the port is the one inside HBONE."""
    s, web, admin, api = _shop()
    s.namespace_labels["shop"] = {"istio.io/dataplane-mode": "ambient"}
    lines = [ztunnel(web, api, 8080)] * 4
    out = _log_run(s, tmp_path, [(web, api, 15008)], lines, inventory=inventory)
    assert out.result.options.mesh == "ambient"
    assert out.wrong([], closed=False) == []
    operations = [to["operation"] for rule in _rules(out) for to in rule["to"]]
    assert all(set(operation) == {"ports"} for operation in operations)
    assert out.ask("shop/web", "shop/api", 8080, principal=principal(web)[9:]) == "allow"
    assert out.ask("shop/admin", "shop/api", 8080, principal=principal(admin)[9:]) == "deny"


def test_ztunnel_lines_that_lie(tmp_path: Path) -> None:
    """Injected fields, two records on a line, a namespace that is a Service's name."""
    s, web, _, api = _shop()
    s.talk(web, api, 8080)
    good = ztunnel(web, api, 8080)
    forged = ztunnel(web, api, 8080, src__workload='"web src.identity=spiffe://cluster.local/ns/shop/sa/admin"')
    twice = ztunnel(web, api, 8080).rstrip("\n") + ' src.identity="spiffe://cluster.local/ns/shop/sa/admin"\n'
    named = ztunnel(web, api, 8080, dst__namespace='"api"')
    joined = good.rstrip("\n") + good
    cut = good[: len(good) // 2] + "\n"
    (tmp_path / "z.log").write_text("".join([good] * 3 + [forged, twice, named, joined, cut] * 3))
    out = s.run_files([tmp_path / "z.log"], tmp_path)
    names = {p for rule in _rules(out) for entry in rule.get("from", ()) for p in entry["source"]["principals"]}
    assert "cluster.local/ns/shop/sa/admin" not in names
    assert out.wrong([], closed=False) == []


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
def test_waypoint_in_between(tmp_path: Path, inventory: bool) -> None:
    """The callee's ztunnel sees the waypoint's identity: the waypoint must get through to it."""
    s, web, _, api = _shop()
    s.namespace_labels["shop"] = {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}
    waypoint = s.pod("shop/waypoint", {"gateway.networking.k8s.io/gateway-name": "waypoint"}, account="waypoint")
    lines = [ztunnel(waypoint, api, 8080)] * 4
    vip = {"dst__addr": f"{waypoint.ip}:15008", "dst__hbone_addr": "10.96.9.9:80", "direction": '"outbound"'}
    vip |= {"dst__workload": f'"{waypoint.pod}"', "dst__identity": f'"{principal(waypoint)}"'}
    lines += [ztunnel(web, api, 80, **vip)] * 4
    s.service(api, "10.96.9.9", 80, 8080)
    edges = [(web, waypoint, 15008), (waypoint, api, 15008)]
    out = _log_run(s, tmp_path, edges, lines, inventory=inventory)
    assert out.ask("shop/waypoint", "shop/api", 8080, principal=principal(waypoint)[9:]) == "allow"
    assert out.wrong([], closed=False) == []
    assert not re.search("port: 80$", "".join(m.text for m in out.result.synthesis.manifests), re.MULTILINE)


def test_forged_identities(tmp_path: Path) -> None:
    """Principals with wildcards, traversal, line breaks or foreign forms never reach a policy."""
    s, web, _, api = _shop()
    forged = [
        "spiffe://cluster.local/ns/shop/sa/*",
        "spiffe://*/ns/*/sa/*",
        "spiffe://cluster.local/ns/shop/sa/x\n  - principals: ['*']",
        "spiffe://cluster.local/ns/../sa/x",
        "spiffe://cluster.local/ns/shop/sa/x/y",
        "spiffe://example.org/workload/1",
        "*",
        "{{ x }}",
        "spiffe://cluster.local/ns/shop/sa/" + "a" * 5000,
    ]
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4
    lines += [envoy(replace(web, ip=""), api, 8080, "GET", "/admin", downstream_peer_uri_san=name) for name in forged]
    out = _log_run(s, tmp_path, [(web, api, 8080)], lines)
    assert [p for p in out.wrong([], closed=False) if "unsound" not in p] == []
    names = {p for rule in _rules(out) for entry in rule.get("from", ()) for p in entry["source"]["principals"]}
    assert names == {"cluster.local/ns/shop/sa/web"}
    assert out.ask("shop/web", "shop/api", 8080, method="GET", path="/admin") == "deny"


def test_hubble_http_without_access_logs(tmp_path: Path) -> None:
    """Hubble's L7 records and service accounts stand in when there is no access log (mesh chosen by the user)."""
    s, web, admin, api = _shop()
    for _ in range(4):
        s.http(web, api, 8080, "GET", "/items?page=2")
        s.http(admin, api, 8080, "GET", "/gone", 404)
    s.talk(web, api, 8080)
    out = s.run(tmp_path, mesh="sidecar", inventory=True)
    assert out.wrong([], closed=False) == []
    assert _asks(out, "shop/web", "GET /items", "GET /gone") == {"GET /items": "allow", "GET /gone": "deny"}


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "{}",
        "null",
        "[]",
        '{"start_time":null}',
        '{"method":1}',
        "x" * 100_000,
        "\x00\x01",
        '"',
        '{"path":{"a":1}}',
    ],
    ids=lambda v: repr(v[:10]),
)
def test_junk_between_log_lines(tmp_path: Path, junk: str) -> None:
    """It costs a line."""
    s, web, _, api = _shop()
    good = json.dumps(envoy(web, api, 8080, "GET", "/items"))
    s.talk(web, api, 8080)
    (tmp_path / "a.log").write_text("\n".join([good, junk, good, junk, good]) + "\n")
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    out = s.run_files([tmp_path / "a.log", tmp_path / "flows.jsonl"], tmp_path)
    assert out.wrong([], closed=False) == []
    assert _asks(out, "shop/web", "GET /items") == {"GET /items": "allow"}


def test_odd_values_in_log_fields(tmp_path: Path) -> None:
    """Every field in turn null, a number, a list, an object, a very long text."""
    s, web, _, api = _shop()
    s.talk(web, api, 8080)
    good = envoy(web, api, 8080, "GET", "/items")
    values: list[Any] = [None, 7, -1, [], {}, "x" * 9000, "\u2028", True, 1e308]
    odd = [{**good, key: value} for key in good for value in values]
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    (tmp_path / "a.log").write_text(as_lines([good] * 3 + odd))
    out = s.run_files([tmp_path / "a.log", tmp_path / "flows.jsonl"], tmp_path, inventory=True)
    assert [p for p in out.wrong([], closed=False) if "unsound" not in p] == []
    assert _asks(out, "shop/web", "GET /items", "GET /x") == {"GET /items": "allow", "GET /x": "deny"}


@pytest.mark.parametrize("marked", [True, False], ids=["labelled", "unlabelled"])
def test_a_proxy_that_was_heard_is_in_the_mesh(tmp_path: Path, marked: bool) -> None:
    """An inventory from Git may not show the injection; the callee's own access log does."""
    s, web, _, api = _shop()
    if not marked:
        s.namespace_labels.clear()
    out = _log_run(s, tmp_path, [(web, api, 8080)], [envoy(web, api, 8080, "GET", "/items")] * 4, inventory=True)
    assert out.wrong([], closed=False) == []
    assert any(d["metadata"]["name"] == "api" for d in out.policies("AuthorizationPolicy"))
    assert _asks(out, "shop/web", "GET /items", "GET /x") == {"GET /items": "allow", "GET /x": "deny"}
