"""Who called, when the logs tell it in part: accounts that are shared, pods that are gone, addresses alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from collector.evidence import REQUESTS
from tests.e2e.hostile.logs import envoy, principal
from tests.e2e.hostile.scene import End, Outcome, Record, Scene, as_lines


def _shop() -> tuple[Scene, End, End, End]:
    s = Scene()
    s.namespace_labels["shop"] = {"istio-injection": "enabled"}
    web, admin = s.pod("shop/web", account="web"), s.pod("shop/admin", account="admin")
    return s, web, admin, s.pod("shop/api", account="api", ports=((8080, "TCP"),))


def test_accounts_that_only_the_proxies_name(tmp_path: Path) -> None:
    """Flows without the service account's label: a pod's own log says its account, its callees' logs then say whose."""
    s, web, admin, api = _shop()
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4 + [envoy(admin, web, 9000, "GET", "/status")] * 4
    for source, destination, port in ((web, api, 8080), (admin, web, 9000)):
        s.talk(source, destination, port)
    account = "k8s:io.cilium.k8s.policy.serviceaccount="
    for record in s.records:
        for side in ("source", "destination"):
            labels = record["flow"][side]["labels"]
            record["flow"][side]["labels"] = [label for label in labels if not label.startswith(account)]
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    (tmp_path / "access.log").write_text(as_lines(lines))
    out = s.run_files([tmp_path / "flows.jsonl", tmp_path / "access.log"], tmp_path)
    for path, verdict in (("/items", "allow"), ("/other", "deny")):
        assert out.ask("shop/web", "shop/api", 8080, method="GET", path=path) == verdict


@pytest.mark.parametrize("account", ["shared", "web"])
@pytest.mark.parametrize("hubble", [False, True])
def test_callers_with_a_shared_account_that_are_gone(tmp_path: Path, account: str, hubble: bool) -> None:
    """The log is older than the inventory: which of two workloads the pod was is unknown, its identity is not."""
    s = Scene()
    web, job = s.pod("shop/web", account=account), s.pod("shop/job", account=account)
    api = s.pod("shop/api", account="api", ports=((8080, "TCP"),))
    gone = replace(web, ip="10.244.9.77", pod="web-5c9f7b6d8-gone2")
    (tmp_path / "access.log").write_text(as_lines([envoy(gone, api, 8080, "GET", "/items")] * 4))
    inputs = [tmp_path / "access.log"]
    if hubble:
        s.talk(job, web, 9000)
        (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
        inputs.append(tmp_path / "flows.jsonl")
    out = s.run_files(inputs, tmp_path, inventory=True)
    assert out.wrong([], closed=False) == []
    principal = f"spiffe://cluster.local/ns/shop/sa/{account}"
    for caller in ("shop/web", "shop/job"):
        asked = {"method": "GET", "path": "/items", "principal": principal}
        # Flows isolate the pods, and NetworkPolicy knows no identities.
        assert out.ask(caller, "shop/api", 8080, **asked) == ("deny" if hubble else "allow")
        assert out.ask(caller, "shop/api", 8080, **(asked | {"path": "/other"})) == "deny"


@pytest.mark.parametrize("port", [33_060, 50_051, 61_616])
@pytest.mark.parametrize("records", [1, 4])
def test_a_proxys_word_on_a_high_port(tmp_path: Path, port: int, records: int) -> None:
    """Ports of servers may lie in the ephemeral range; a proxy knows who called whom, with or without a certificate."""
    s, web, _, api = _shop()
    line = envoy(web, api, port, "", "", 0)
    plain = {key: value for key, value in line.items() if not key.endswith("uri_san")}
    lines = [plain | {"start_time": f"2026-03-02T08:00:0{n}.404Z"} for n in range(records)]
    (tmp_path / "access.log").write_text(as_lines(lines))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    assert out.review("direction") == []
    assert out.review("one-off") == [f"one-off: shop/web → shop/api at TCP {port}"] * (records == 1)
    assert out.ask("shop/web", "shop/api", port, http=False) == "allow"
    # What is held back writes no policy, so nothing is isolated yet.
    assert out.ask("shop/admin", "shop/api", port, http=False) == ("allow" if records == 1 else "deny")


HIDDEN = ("downstream_peer_uri_san", "downstream_local_uri_san")


def without_identity(lines: list[Record]) -> list[Record]:
    """The same entries, as a log without certificates has them: callers have addresses only."""
    return [{key: value for key, value in line.items() if key not in HIDDEN} for line in lines]


def test_callers_without_an_identity_are_granted_what_each_asked_for(tmp_path: Path) -> None:
    """The inventory knows whose the addresses are, and what one of them asked for is none of the other's business."""
    s, web, admin, api = _shop()
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4 + [envoy(admin, api, 8080, "DELETE", "/items")] * 4
    lines += [envoy(web, api, 8080, "PUT", "/items", 403)] * 4
    (tmp_path / "access.log").write_text(as_lines(without_identity(lines)))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    assert out.review("requests-together") == []
    accounts = {"web": "spiffe://cluster.local/ns/shop/sa/web", "admin": "spiffe://cluster.local/ns/shop/sa/admin"}
    allowed = {
        (caller, method)
        for caller, principal in accounts.items()
        for method in ("GET", "DELETE", "PUT")
        if out.ask(f"shop/{caller}", "shop/api", 8080, method=method, path="/items", principal=principal) == "allow"
    }
    assert allowed == {("web", "GET"), ("admin", "DELETE")}
    (rejected,) = (item for item in out.result.synthesis.review if item.kind == "rejected-requests")
    assert "shop/web" in rejected.what


def test_callers_that_a_log_cannot_tell_apart_are_named(tmp_path: Path) -> None:
    """Too much to be kept for each: each is granted what any asked for, and that is said."""
    s, web, admin, api = _shop()
    lines = [envoy(web, api, 8080, "GET", f"/items/{number}") for number in range(REQUESTS)]
    lines += [envoy(admin, api, 8080, "DELETE", f"/items/{number}") for number in range(REQUESTS)]
    (tmp_path / "access.log").write_text(as_lines(lines))
    assert s.run_files([tmp_path / "access.log"], tmp_path, inventory=True).review("requests-together") == []
    (tmp_path / "access.log").write_text(as_lines(without_identity(lines)))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    (told,) = out.review("requests-together")
    assert "shop/admin, shop/web → shop/api at 8080" in told


def test_a_caller_without_requests_at_a_port_of_requests(tmp_path: Path) -> None:
    """It connected and asked nothing; that others, also known by their addresses alone, did ask is not its doing."""
    s, web, admin, api = _shop()
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4 + [envoy(admin, api, 8080, "", "", 0)] * 4
    (tmp_path / "access.log").write_text(as_lines(without_identity(lines)))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    assert out.result.sound
    (tmp_path / "access.log").write_text(as_lines(lines))
    named = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    assert out.policies("AuthorizationPolicy") == named.policies("AuthorizationPolicy")


def _run(s: Scene, folder: Path, web: End, api: End, lines: list[Record], inventory: bool) -> Outcome:
    s.talk(web, api, 8080)
    folder.mkdir()
    (folder / "flows.jsonl").write_text(as_lines(s.records))
    (folder / "access.log").write_text(as_lines(lines))
    return s.run_files([folder / "flows.jsonl", folder / "access.log"], folder, inventory=inventory)


@pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
def test_a_caller_partly_in_plaintext_is_told(tmp_path: Path, inventory: bool) -> None:
    """While proxies are rolled out, old pods have none: the rule with an identity cuts them off."""
    told = []
    for number in (0, 4):
        s, web, _, api = _shop()
        lines = [envoy(web, api, 8080, "GET", "/items")] * 4
        lines += [
            envoy(web, api, 8080, "GET", "/items", downstream_peer_uri_san=None, requested_server_name=None)
        ] * number
        out = _run(s, tmp_path / str(number), web, api, lines, inventory)
        told.append([item.what for item in out.result.synthesis.review if item.kind == "plaintext-caller"])
    assert told == [[], ["shop/web → shop/api at TCP 8080, partly in plaintext"]]


def test_a_log_without_any_success_is_told(tmp_path: Path) -> None:
    """Istio can log errors only; what such a log leaves out would be denied."""
    told = []
    for code in (500, 200):
        s, web, _, api = _shop()
        lines = [envoy(web, api, 8080, "GET", "/items", 503)] * 4 + [envoy(web, api, 8080, "GET", "/", code)]
        out = _run(s, tmp_path / str(code), web, api, lines, inventory=True)
        told.append("No request succeeded" in out.result.files["REVIEW.md"])
    assert told == [True, False]


@pytest.mark.parametrize("told", [True, False], ids=["names of services", "no names"])
def test_a_plaintext_caller_that_only_flows_know(tmp_path: Path, told: bool) -> None:
    """The default format has no certificate, but the name of a Service that only a client's proxy puts into its TLS.

    A caller without it (Prometheus) has no identity that a rule could name. Where no line has one, nothing is told.
    """
    s = Scene()
    web, prometheus = s.pod("shop/web", account="web"), s.pod("monitoring/prometheus", account="prometheus")
    api = s.pod("shop/api", account="api", ports=((8080, "TCP"),))
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4 + [envoy(prometheus, api, 8080, "GET", "/metrics")] * 4
    identities = ("downstream_peer_uri_san", "downstream_local_uri_san", "pod", "namespace")
    lines = [{key: value for key, value in line.items() if key not in identities} for line in lines]
    for line in lines:
        if line["path"] == "/metrics" or not told:
            line["requested_server_name"] = None
    for source in (web, prometheus):
        s.talk(source, api, 8080)
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    (tmp_path / "access.log").write_text(as_lines(lines))
    out = s.run_files([tmp_path / "flows.jsonl", tmp_path / "access.log"], tmp_path)
    assert out.wrong([], closed=False) == []

    def ask(source: End, path: str, identity: str) -> str:
        return out.ask(source.ref, "shop/api", 8080, method="GET", path=path, principal=identity)

    assert ask(web, "/items", principal(web)[9:]) == "allow"
    assert ask(web, "/items", "") == "deny"
    assert ask(prometheus, "/metrics", "") == ("allow" if told else "deny")


@pytest.mark.parametrize("partly", [True, False])
def test_mutual_tls_is_not_demanded_of_a_caller_that_shows_it_at_times(tmp_path: Path, partly: bool) -> None:
    """The default format says of no line that it was plaintext; some of the caller's pods may have no proxy yet."""
    s, web, _, api = _shop()
    identities = ("downstream_peer_uri_san", "downstream_local_uri_san", "pod", "namespace")
    line = {k: v for k, v in envoy(web, api, 8080, "GET", "/items").items() if k not in identities}
    lines = [line] * 4 + [line | {"requested_server_name": None}] * 4 * partly
    (tmp_path / "access.log").write_text(as_lines(lines))
    out = s.run_files([tmp_path / "access.log"], tmp_path, inventory=True)
    assert out.wrong([], closed=False) == []
    assert bool(out.policies("PeerAuthentication")) != partly
    assert any("partly in plaintext" in item.what for item in out.result.synthesis.review) == partly
