"""Who may call a mesh workload, and how; when a namespace may refuse everyone else, or all plaintext."""

from __future__ import annotations

from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.endpoints import Endpoint
from synthesizer import Options, Synthesis
from synthesizer.intent import Access, Cause, fewest_accesses
from synthesizer.options import Mesh
from tests.synthesizer.objects import deployment, namespace, service
from tests.synthesizer.traffic import End, Traffic, at, document, items, made, paths, place

SIDECAR = Options(mesh="sidecar")
WEB = "cluster.local/ns/shop/sa/web"
API = "shop/authorizationpolicy-api.yaml"


def rules(result: Synthesis, path: str = API) -> list[dict[str, Any]]:
    """The rules, each as one flat operation with its principals under `from`."""
    found = []
    for rule in document(result, path).get("rules", ()):
        (to,) = rule["to"]
        principals = [p for source in rule.get("from", ()) for p in source["source"]["principals"]]
        found.append({**to["operation"], "from": principals})
    return found


def called(*requests: str, **more: Any) -> Traffic:
    """web calls api at 8080; both have a sidecar that logs."""
    traffic = Traffic()
    traffic.call(traffic.proxied("shop/web", "web"), traffic.pod("shop/api"), 8080, *requests, principal=WEB, **more)
    return traffic


# -- rules ----------------------------------------------------------------------------------------------------------


def test_a_caller_may_do_what_it_did_and_no_more() -> None:
    assert rules(made(called("GET /items", "POST /orders"), options=SIDECAR)) == [
        {"ports": ["8080"], "methods": ["GET"], "paths": ["/items"], "from": [WEB]},
        {"ports": ["8080"], "methods": ["POST"], "paths": ["/orders"], "from": [WEB]},
    ]


def test_a_request_that_was_only_ever_rejected_is_a_question() -> None:
    traffic = called("GET /items")
    traffic.call(
        traffic.proxied("shop/web", "web"), traffic.pod("shop/api"), 8080, "GET /admin", status=403, principal=WEB
    )
    result = made(traffic, options=SIDECAR)
    assert [rule["paths"] for rule in rules(result)] == [["/items"]]
    (asked,) = items(result, "rejected-requests")
    assert "/admin" in asked.what


def test_a_tcp_port_is_opened_by_principal_alone() -> None:
    traffic = Traffic()
    web, db = traffic.proxied("shop/web", "web"), traffic.pod("shop/api")
    traffic.talk(web, db, 5432, origin="istio-json", mtls=True, principal=WEB)
    assert rules(made(traffic, options=SIDECAR)) == [{"ports": ["5432"], "from": [WEB]}]


def test_an_unknown_method_is_never_written_as_an_empty_one() -> None:
    for rule in rules(made(called(" /items"), options=SIDECAR)):
        assert "" not in rule.get("methods", ())


def test_a_path_that_istio_would_read_as_a_pattern_is_a_question() -> None:
    result = made(called("GET /items", "GET /a*b"), options=SIDECAR)
    assert [rule["paths"] for rule in rules(result)] == [["/items"]]
    assert "/a*b" in items(result, "inexpressible-path")[0].what


@pytest.mark.parametrize("path", ["/\N{GRINNING FACE}", "/\u2028", "/ü", "/\ufeff", '/"}]}', "/{{ 7 * 7 }}", "/- a: b"])
def test_a_hostile_path_never_stops_the_run(path: str) -> None:
    result = made(called(f"GET {path}", "GET /items"), options=SIDECAR)
    written = [p for rule in rules(result) for p in rule["paths"]]
    assert "/items" in written
    assert quote(path, safe="/[]") in written or any(path in item.what for item in result.review)


@pytest.mark.parametrize(
    ("mesh", "own"), [("sidecar", {15008, 15020, 15021, 15090}), ("ambient", {15008})], ids=["sidecar", "ambient"]
)
def test_the_proxys_own_ports_are_nobodys_policy(mesh: Mesh, own: set[int]) -> None:
    """What a sidecar's iptables rules leave alone; ztunnel judges the same ports like any others."""
    traffic = Traffic()
    web, api = traffic.pod("shop/web", service_account="web"), traffic.pod("shop/api", service_account="api")
    ports = {8080, 15004, 15008, 15020, 15021, 15090}
    for port in ports:
        traffic.talk(web, api, port)
    named = {int(port) for rule in rules(made(traffic, options=Options(mesh=mesh))) for port in rule["ports"]}
    assert named == ports - own


def test_in_another_trust_domain_the_callers_are_named_by_it() -> None:
    traffic = Traffic()
    web, api = traffic.pod("shop/web", service_account="web"), traffic.pod("shop/api", service_account="api")
    traffic.talk(web, api, 5432)
    result = made(traffic, options=Options(mesh="sidecar", trust_domain="corp.example"))
    assert rules(result) == [{"ports": ["5432"], "from": ["corp.example/ns/shop/sa/web"]}]


def test_without_a_mesh_there_is_no_identity_layer() -> None:
    assert not [p for p in paths(made(called("GET /"), options=Options())) if "networkpolicy" not in p]


# -- plaintext ------------------------------------------------------------------------------------------------------


def plaintext(**more: Any) -> Traffic:
    traffic = called("GET /items")
    traffic.talk(traffic.pod("shop/old"), traffic.pod("shop/api"), 9000, mtls=False, **more)
    return traffic


def test_a_plaintext_caller_of_a_tcp_port_is_a_question_since_no_rule_can_name_it() -> None:
    result = made(plaintext(), options=SIDECAR)
    assert {port for rule in rules(result) for port in rule["ports"]} == {"8080"}
    (asked,) = items(result, "plaintext-caller")
    assert asked.acceptable


def test_a_workload_whose_only_caller_is_a_question_lets_nobody_in_and_stops_no_run() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/old"), traffic.pod("shop/api"), 9000, mtls=False, origin="istio-json")
    assert document(made(traffic, options=SIDECAR), API)["rules"] == []


def test_accepted_the_port_is_open_to_any_caller() -> None:
    (asked,) = items(made(plaintext(), options=SIDECAR), "plaintext-caller")
    result = made(plaintext(), options=Options(mesh="sidecar", accepted=frozenset({asked.id})))
    assert {"ports": ["9000"], "from": []} in rules(result)
    assert items(result, "plaintext-caller") == []


def test_a_plaintext_caller_is_not_named_by_its_service_account_which_no_proxy_could_see() -> None:
    traffic = called("GET /items")
    old = traffic.pod("shop/old", service_account="old")
    traffic.talk(old, traffic.pod("shop/api"), 9000, mtls=False, origin="istio-json")
    result = made(traffic, options=SIDECAR)
    assert not any("old" in principal for rule in rules(result) for principal in rule["from"])
    assert items(result, "plaintext-caller")


def test_a_plaintext_http_caller_is_let_in_by_method_and_path() -> None:
    traffic = called("GET /items")
    traffic.call(traffic.pod("shop/prometheus"), traffic.pod("shop/api"), 9102, "GET /metrics", mtls=False)
    assert {"ports": ["9102"], "methods": ["GET"], "paths": ["/metrics"], "from": []} in rules(
        made(traffic, options=SIDECAR)
    )


def test_more_rules_than_istio_takes_are_dealt_into_several_policies() -> None:
    """AuthorizationPolicy takes 512 rules; ALLOW policies of one workload add up."""
    traffic = Traffic()
    for number in range(600):
        caller = traffic.proxied(f"shop/w{number}", f"a{number}")
        traffic.call(caller, traffic.pod("shop/api"), 8080, f"GET /of-{'abcdefghij'[number % 10]}{number // 10}")
    traffic.call(traffic.proxied("shop/w0", "a0"), traffic.pod("shop/api-2"), 8080, "GET /")
    result = made(traffic, options=SIDECAR)
    ours = [path for path in paths(result) if path.startswith("shop/authorizationpolicy-api")]
    assert len(set(ours)) == len(ours), "two policies in one file"
    ours.remove("shop/authorizationpolicy-api-2.yaml")  # a workload of that name
    sizes = [len(document(result, path)["rules"]) for path in ours]
    assert len(ours) == 2
    assert max(sizes) <= 512
    assert sum(sizes) == 600


# -- whole namespaces -----------------------------------------------------------------------------------------------

STRICT = "shop/peerauthentication-default.yaml"
DENY = "shop/authorizationpolicy-default-deny.yaml"


def test_mutual_tls_is_made_mandatory_where_all_inbound_traffic_used_it() -> None:
    result = made(called("GET /"), options=SIDECAR)
    assert document(result, STRICT) == {"mtls": {"mode": "STRICT"}}
    assert items(result, "plaintext") == []


def test_one_plaintext_caller_keeps_it_optional_and_is_named() -> None:
    result = made(plaintext(), options=SIDECAR)
    assert STRICT not in paths(result)
    (told,) = items(result, "plaintext")
    assert told.evidence == {"callers": ["shop/old"]}


def test_a_plaintext_caller_that_is_held_for_review_keeps_it_optional_too() -> None:
    """Nobody decided yet that it may be cut off, and STRICT would do just that."""
    traffic = called("GET /")
    traffic.talk(at(""), traffic.pod("shop/api"), 9000, mtls=False, origin="istio-json")
    result = made(traffic, options=SIDECAR)
    assert items(result, "unresolved"), "the case needs a caller that is held"
    assert STRICT not in paths(result)


def test_a_caller_that_used_both_keeps_it_optional() -> None:
    traffic = called("GET /")
    traffic.call(traffic.proxied("shop/web", "web"), traffic.pod("shop/api"), 8080, "GET /", mtls=False)
    assert STRICT not in paths(made(traffic, options=SIDECAR))


def test_a_caller_with_a_certificate_of_another_make_keeps_it_optional() -> None:
    """It used mutual TLS, but has no identity of the mesh."""
    traffic = called("GET /")
    traffic.call(at("203.0.113.7"), traffic.pod("shop/api"), 8080, "GET /metrics", mtls=True)
    result = made(traffic, options=SIDECAR)
    assert STRICT not in paths(result)
    (told,) = items(result, "plaintext")
    assert told.evidence == {"callers": ["external 203.0.113.7"]}


def test_flows_that_cannot_tell_are_no_mutual_tls() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web", service_account="web"), traffic.pod("shop/api"), 8080)
    assert STRICT not in paths(made(traffic, options=SIDECAR))


def test_the_pods_own_node_probing_does_not_count_as_a_plaintext_caller() -> None:
    traffic = called("GET /")
    traffic.talk(place("host"), traffic.pod("shop/api"), 8080)
    assert STRICT in paths(made(traffic, options=SIDECAR))


def test_the_default_deny_is_empty_and_held_back_for_workloads_that_were_never_seen() -> None:
    assert document(made(called("GET /"), options=SIDECAR), DENY) == {}
    idle = deployment("idle", {"app": "idle"}, containers=[{"name": "istio-proxy"}])
    result = made(called("GET /"), idle, options=SIDECAR)
    assert DENY not in paths(result)
    assert "idle" in items(result, "default-deny")[0].what


def test_someone_from_outside_needs_no_name() -> None:
    traffic = called("GET /items")
    traffic.call(at("203.0.113.7"), traffic.pod("shop/api"), 8080, "GET /public", mtls=False)
    assert {"ports": ["8080"], "methods": ["GET"], "paths": ["/public"], "from": []} in rules(
        made(traffic, options=SIDECAR)
    )


# -- grouping -------------------------------------------------------------------------------------------------------

ACCESSES = st.lists(
    st.builds(
        Access,
        st.sampled_from([Cause.OBSERVED, Cause.DECLARED]),
        st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True).map(lambda v: tuple(sorted(v))),
        st.sampled_from([(80,), (443,)]),
        st.sampled_from([(), ("GET",), ("POST",)]),
        st.sampled_from([(), ("/x",), ("/y",)]),
    ),
    max_size=12,
)


def expanded(accesses: Any) -> set[tuple[Any, ...]]:
    """Every (cause, principal, port, method, path); None = any."""
    return {
        (a.cause, *point)
        for a in accesses
        for point in product(a.principals or (None,), a.ports, a.methods or (None,), a.paths or (None,))
    }


@given(ACCESSES)
def test_grouped_accesses_mean_what_the_single_ones_meant(accesses: list[Access]) -> None:
    found = fewest_accesses(accesses)
    assert expanded(found) == expanded(accesses)
    assert len(found) <= len(set(accesses))
    assert fewest_accesses(reversed(accesses)) == found


def test_the_callers_of_one_path_share_a_rule() -> None:
    single = [Access(Cause.OBSERVED, (name,), (80,), ("GET",), (path,)) for name in "ab" for path in ("/x", "/y")]
    assert fewest_accesses(single) == (Access(Cause.OBSERVED, ("a", "b"), (80,), ("GET",), ("/x", "/y")),)


# -- at a waypoint --------------------------------------------------------------------------------------------------

AMBIENT = Options(mesh="ambient")


def behind_waypoint(*ports: dict[str, Any], **labels: str) -> Synthesis:
    """web calls api's pod port 8080 through the waypoint of a Service `api` with these ports."""
    traffic = Traffic()
    api = End(Endpoint("service", namespace="shop", workload="api"), address="10.1.9.9")
    traffic.call(traffic.proxied("shop/web", "web"), api, 8080, "GET /items", point="waypoint", principal=WEB)
    front = service("api", {"app": "api"}, *ports)
    front["metadata"]["labels"] = {"istio.io/use-waypoint": "waypoint", **labels}
    mesh = namespace("shop", {"istio.io/dataplane-mode": "ambient"})
    pods = [deployment(name, {"app": name}, serviceAccountName=name) for name in ("web", "api")]
    return made(traffic, mesh, front, *pods, options=AMBIENT)


@pytest.mark.parametrize(
    ("ports", "named"),
    [
        ([{"port": 80, "targetPort": 8080}], ["80", "8080"]),
        ([{"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": 8080}], ["80", "81", "8080"]),
        ([{"port": 80, "targetPort": 8080}, {"port": 82, "targetPort": 9090}], ["80", "8080"]),
        ([{"port": 8080}], ["8080"]),
        # The pod's port is no way to it where the Service's of that number leads to another.
        ([{"port": 80, "targetPort": 8080}, {"port": 8080, "targetPort": 9090}], ["80"]),
        ([{"port": 80, "targetPort": 8080}, {"port": 8080, "targetPort": 9090, "protocol": "UDP"}], ["80", "8080"]),
        ([{"port": 80, "targetPort": 8080}, {"port": 8080}], ["80", "8080"]),
        ([{"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": 8080, "protocol": "UDP"}], ["80", "8080"]),
    ],
)
def test_a_waypoint_is_told_every_port_of_the_service_that_leads_there(
    ports: list[dict[str, Any]], named: list[str]
) -> None:
    found = rules(behind_waypoint(*ports), "shop/authorizationpolicy-api-waypoint.yaml")
    assert [rule["ports"] for rule in found] == [named]


def test_every_waypoint_is_told_that_a_client_went_through() -> None:
    """A policy of one Service alone would leave the other's waypoint open to everyone."""
    traffic = Traffic()
    fronts = []
    for name, address in (("api", "10.1.9.9"), ("admin", "10.1.9.8")):
        called = End(Endpoint("service", namespace="shop", workload=name), address=address)
        traffic.call(traffic.proxied("shop/web", "web"), called, 8080, f"GET /{name}", point="waypoint", principal=WEB)
        fronts.append(service(name, {"app": "api"}, {"port": 80, "targetPort": 8080}))
        fronts[-1]["metadata"]["labels"] = {"istio.io/use-waypoint": f"{name}-gate"}
    mesh = namespace("shop", {"istio.io/dataplane-mode": "ambient"})
    pods = [deployment(name, {"app": name}, serviceAccountName=name) for name in ("web", "api")]
    found = made(traffic, mesh, *fronts, *pods, options=AMBIENT)
    for name in ("api", "admin"):
        assert rules(found, f"shop/authorizationpolicy-{name}-waypoint.yaml")[0]["from"] == [
            WEB.removeprefix("spiffe://")
        ]


def test_versions_behind_one_waypoint_have_one_policy() -> None:
    """A waypoint stands in front of a Service, whatever workloads are behind it."""
    traffic = Traffic()
    front = service("api", {"app": "api"}, {"port": 80, "targetPort": 8080})
    front["metadata"]["labels"] = {"istio.io/use-waypoint": "waypoint"}
    called = End(Endpoint("service", namespace="shop", workload="api"), address="10.1.9.9")
    for request in ("GET /items", "GET /items/17", "DELETE /items/*"):
        traffic.call(traffic.proxied("shop/web", "web"), called, 8080, request, point="waypoint", principal=WEB)
    versions = [deployment(f"api-{version}", {"app": "api", "version": version}) for version in ("v1", "v2")]
    mesh = namespace("shop", {"istio.io/dataplane-mode": "ambient"})
    found = made(traffic, mesh, front, *versions, deployment("web", {"app": "web"}), options=AMBIENT)
    (rule,) = rules(found, "shop/authorizationpolicy-api-waypoint.yaml")
    assert (rule["ports"], rule["paths"], rule["methods"]) == (["80", "8080"], ["/items", "/items/{*}"], ["GET"])
    held = [item.what for item in found.review if item.kind == "inexpressible-path"]
    assert held == [f"shop/web → shop/api-{version} at 8080: DELETE /items/*" for version in ("v1", "v2")]
