"""What an Envoy access log entry proves: who called whom at which port, and what became of it."""

from __future__ import annotations

from typing import Any

import pytest

from collector.endpoints import ADDRESS, Endpoint, reporter_at
from collector.flow import Flow, Signal
from tests.collector.sources.entries import CALLER, INBOUND, OUTBOUND, TCP, flow, outcomes, unusable

CART = Endpoint("service", namespace="shop", workload="cart")
SIDECAR = {"node_id": "sidecar~10.9.0.20~cart-6b746f74dc-9rcxx.shop~shop.svc.cluster.local"}
ROUTER = {"node_id": "router~10.9.0.90~gateway-6b746f74dc-9rcxx.edge~edge.svc.cluster.local"}


# -- the receiving side ----------------------------------------------------------------------------------------------


def test_an_inbound_entry_without_identities_names_addresses_and_the_container_port() -> None:
    seen = flow(INBOUND)
    assert (seen.source, seen.source_address) == (ADDRESS, "10.9.0.10")
    assert (seen.destination, seen.destination_address, seen.port) == (reporter_at("10.9.0.20"), "10.9.0.20", 8080)
    assert (seen.side, seen.point, seen.mtls, seen.principal) == ("destination", "inbound", None, "")


def test_the_reporting_sidecar_is_the_destination() -> None:
    seen = flow(INBOUND | SIDECAR)
    assert seen.destination == Endpoint("pod", namespace="shop", workload="cart")
    assert seen.destination_pod == "cart-6b746f74dc-9rcxx"


def test_the_peers_certificate_is_the_source() -> None:
    seen = flow(INBOUND | {"downstream_peer_uri_san": CALLER})
    assert seen.source == Endpoint("pod", namespace="shop", service_account="web")
    assert (seen.principal, seen.mtls) == ("mesh.example/ns/shop/sa/web", True)


def test_a_stated_workload_of_another_namespace_than_the_certificates_is_not_believed() -> None:
    said = {"source_workload": "admin", "source_workload_namespace": "ops", "source_principal": CALLER}
    assert flow(INBOUND | said).source == Endpoint("pod", namespace="shop", service_account="web")


@pytest.mark.parametrize("missing", ["-", None, ""])
def test_a_logged_but_empty_certificate_proves_plaintext(missing: str | None) -> None:
    assert flow(INBOUND | {"downstream_peer_uri_san": missing}).mtls is False


@pytest.mark.parametrize(("policy", "mtls"), [("mutual_tls", True), ("none", False), ("unknown", None)])
def test_the_connection_security_policy_says_whether_it_was_mutual_tls(policy: str, mtls: bool | None) -> None:
    assert flow(INBOUND | {"connection_security_policy": policy}).mtls is mtls


def test_an_address_from_x_forwarded_for_is_no_peer() -> None:
    assert flow(INBOUND | {"downstream_remote_address": "203.0.113.9:0"}).source_address == ""
    known = flow(INBOUND | {"downstream_remote_address": "203.0.113.9:0", "source_principal": CALLER})
    assert (known.source.service_account, known.source_address) == ("web", "")


@pytest.mark.parametrize(
    "entry",
    [
        {"upstream_cluster": "inbound|8080|http|cart.shop.svc.cluster.local"},
        {"requested_server_name": "outbound_.80_.v2_.cart.shop.svc.cluster.local"},
        {"destination_service": "cart.shop.svc.cluster.local"},
    ],
    ids=["old cluster name", "SNI of the client's sidecar", "telemetry label"],
)
def test_a_reporter_that_is_not_named_is_known_by_the_service_it_serves(entry: dict[str, Any]) -> None:
    seen = flow(INBOUND | entry)
    assert (seen.destination, seen.destination_address, seen.port) == (CART, "10.9.0.20", 8080)


def test_a_reporter_that_is_named_is_not_renamed_by_the_clients_sni() -> None:
    entry = INBOUND | SIDECAR | {"requested_server_name": "outbound_.80_._.bank.shop.svc.cluster.local"}
    assert flow(entry).destination.workload == "cart"


def test_inbound_passthrough_has_its_port_from_the_local_address() -> None:
    seen = flow(INBOUND | {"upstream_cluster": "InboundPassthroughClusterIpv4"})
    assert (seen.port, seen.side) == (8080, "destination")


@pytest.mark.parametrize("port", [15006, 15008])
def test_the_proxys_own_inbound_port_is_never_the_workloads(port: int) -> None:
    assert flow(INBOUND | {"downstream_local_address": f"10.9.0.20:{port}"}).port == 8080


def test_a_stated_workload_is_in_the_certificates_namespace_unless_said_otherwise() -> None:
    assert str(flow(INBOUND | {"source_workload": "web", "source_principal": CALLER}).source) == "shop/web"


def test_a_waypoint_entry_names_the_service_and_the_pods_port() -> None:
    entry = INBOUND | {
        "upstream_cluster": "inbound-vip|80|http|cart.shop.svc.cluster.local;",
        "upstream_host": "envoy://connect_originate/10.9.0.20:8080",
        "downstream_local_address": "10.200.0.5:80",
    }
    seen = flow(entry)
    assert (seen.destination, seen.destination_address, seen.port, seen.point) == (CART, "10.9.0.20", 8080, "waypoint")
    assert seen.source_address == "10.9.0.10"


# -- the calling side ------------------------------------------------------------------------------------------------


def test_an_outbound_entry_names_the_service_and_the_pods_port() -> None:
    seen = flow(OUTBOUND)
    assert (seen.destination, seen.destination_address, seen.port) == (CART, "10.9.0.20", 8080)
    assert (seen.source_address, seen.side, seen.point, seen.mtls) == ("10.9.0.10", "source", "outbound", None)


def test_without_an_upstream_host_nothing_was_reached() -> None:
    seen = flow(OUTBOUND | {"upstream_host": None, "response_code": 503, "response_flags": "UH"})
    assert (seen.destination, seen.port, seen.signal) == (CART, 80, Signal.REFUSED)


def test_a_headless_services_pod_is_the_service() -> None:
    cluster = "outbound|80||cart-0.cart.shop.svc.cluster.local"
    assert flow(OUTBOUND | {"upstream_cluster": cluster}).destination == CART


def test_the_kubernetes_service_is_the_api_server() -> None:
    seen = flow(OUTBOUND | {"upstream_cluster": "outbound|443||kubernetes.default.svc.cluster.local"})
    assert (seen.destination.kind, seen.destination.entity) == ("entity", "kube-apiserver")


def test_a_host_outside_is_an_address_with_a_name() -> None:
    seen = flow(OUTBOUND | {"upstream_cluster": "outbound|443||api.pay.example", "upstream_host": "198.51.100.4:443"})
    assert (seen.destination, seen.destination_address, seen.port) == (ADDRESS, "198.51.100.4", 443)
    assert seen.names == ("api.pay.example",)


def test_passthrough_goes_to_the_address_and_believes_no_name() -> None:
    entry = {"upstream_cluster": "PassthroughCluster", "upstream_host": "198.51.100.4:443", "authority": "a.example"}
    seen = flow(OUTBOUND | entry)
    assert (seen.destination, seen.destination_address, seen.names) == (ADDRESS, "198.51.100.4", ())


def test_the_black_hole_refuses_what_the_workload_wanted() -> None:
    blackhole = {"upstream_cluster": "BlackHoleCluster", "upstream_host": None, "response_flags": "UH"}
    seen = flow(OUTBOUND | TCP | blackhole | {"downstream_local_address": "198.51.100.4:443"})
    assert (seen.signal, seen.destination_address, seen.port) == (Signal.REFUSED, "198.51.100.4", 443)


def test_behind_a_gateway_the_caller_is_the_gateway_not_its_client() -> None:
    seen = flow(OUTBOUND | {"downstream_remote_address": "203.0.113.9:4000", "upstream_local_address": "10.9.0.90:41"})
    assert seen.source_address == "10.9.0.90"


def test_a_gateways_entry_proves_the_clients_connection_and_its_own() -> None:
    entry = OUTBOUND | ROUTER | {"downstream_remote_address": "203.0.113.9:4000"}
    entry |= {"downstream_local_address": "10.9.0.90:8443", "source_namespace": "edge", "source_principal": CALLER}
    client, onwards = outcomes(entry)
    assert isinstance(client, Flow)
    assert isinstance(onwards, Flow)
    assert (client.source_address, str(client.destination), client.port) == ("203.0.113.9", "edge/gateway", 8443)
    assert (client.point, client.side) == ("gateway", "destination")
    assert (str(onwards.source), onwards.destination, onwards.port) == ("edge/gateway", CART, 8080)
    assert onwards.source.service_account == "", "the client's account is not the gateway's"


def test_what_a_gateway_denies_was_never_sent_onwards() -> None:
    denied = {"response_code": 403, "response_code_details": "rbac_access_denied_matched_policy[none]"}
    seen = flow(OUTBOUND | ROUTER | denied | {"upstream_host": None, "downstream_local_address": "10.9.0.90:8443"})
    assert (seen.signal, str(seen.destination), seen.port) == (Signal.DENIED, "edge/gateway", 8443)


# -- what became of it -----------------------------------------------------------------------------------------------

NONE = "rbac_access_denied_matched_policy[none]"
BY_NAME = "rbac_access_denied_matched_policy[ns[shop]-policy[p]-rule[0]]"


@pytest.mark.parametrize(
    ("entry", "signal", "reason"),
    [
        ({"response_code": 404}, Signal.ANSWERED, ""),
        ({"response_code": 403}, Signal.ANSWERED, ""),
        ({"response_code": 403, "response_code_details": NONE}, Signal.DENIED, "rbac: no policy allows it"),
        ({"response_code": 403, "response_code_details": BY_NAME}, Signal.DENIED, "rbac: a policy denies it"),
        ({"response_code": 401, "response_code_details": "ext_authz_denied"}, Signal.DENIED, "ext_authz"),
        ({"response_code": 302, "response_flags": "UAEX"}, Signal.DENIED, "ext_authz"),
        ({"response_code": 401, "response_code_details": "jwt_authn_access_denied{x}"}, Signal.DENIED, "jwt_authn"),
        ({"response_code": 503, "response_flags": "UF", "response_code_details": None}, Signal.REFUSED, ""),
        ({"response_code": 503, "response_code_details": "upstream_reset_before_response_started{x}"}, "refused", ""),
        ({"response_code": 503, "response_flags": "URX"}, Signal.ANSWERED, ""),
        ({"response_code": 404, "response_flags": "NR", "response_code_details": "route_not_found"}, "refused", ""),
        ({"response_code": 0, "response_flags": "DC", "response_code_details": "downstream_x"}, "refused", ""),
        ({"response_code": 200, "response_flags": "DC", "response_code_details": "downstream_x"}, "answered", ""),
        ({"response_code": 429, "response_code_details": "local_rate_limited"}, Signal.REFUSED, ""),
        ({"response_code": 200, "response_code_details": "cors_response", "upstream_host": None}, "answered", ""),
        (TCP, Signal.ANSWERED, ""),
        (TCP | {"connection_termination_details": NONE}, Signal.DENIED, "rbac: no policy allows it"),
        (TCP | {"response_flags": "UF,URX", "bytes_sent": 0}, Signal.REFUSED, ""),
        (TCP | {"response_flags": "DC", "bytes_sent": 9}, Signal.ANSWERED, ""),
    ],
)
def test_an_entry_is_answered_refused_or_denied(entry: dict[str, Any], signal: str, reason: str) -> None:
    seen = flow(INBOUND | entry)
    assert (seen.signal, seen.reason) == (signal, reason)


def test_reasons_never_carry_text_from_the_log() -> None:
    entry = {"response_code": 403, "response_code_details": "rbac_access_denied_matched_policy[evil]"}
    assert "evil" not in flow(INBOUND | entry).reason


# -- requests --------------------------------------------------------------------------------------------------------


def test_a_path_loses_query_and_fragment() -> None:
    seen = flow(INBOUND)
    assert (seen.method, seen.path, seen.status, seen.flow_id) == ("GET", "/carts/7", 200, "b6f0")


@pytest.mark.parametrize("path", ["*", "db.example:5432", None])
def test_a_request_without_a_path_keeps_its_method(path: str | None) -> None:
    seen = flow(INBOUND | {"method": "CONNECT", "path": path})
    assert (seen.method, seen.path) == ("CONNECT", "")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"method": "GET /"}, "method is not a token"),
        ({"method": "M" * 65}, "method is not a token"),
        ({"path": "/" + "a" * 2048}, "path longer than 2048"),
        ({"path": "/a\x00"}, "control character in the path"),
        ({"path": "/a\n- evil"}, "control character in the path"),
    ],
)
def test_what_can_be_no_request_is_bad(entry: dict[str, Any], reason: str) -> None:
    found = unusable(INBOUND | entry)
    assert (found.reason, found.readable) == (reason, False)


def test_a_long_query_does_not_make_a_path_long() -> None:
    assert flow(INBOUND | {"path": "/search?q=" + "a" * 5000}).path == "/search"


@pytest.mark.parametrize("cluster", ["agent", "xds-grpc"])
def test_the_proxys_own_traffic_is_no_connection_of_the_workload(cluster: str) -> None:
    assert unusable(OUTBOUND | {"upstream_cluster": cluster}).readable


# -- hostile values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["23.xx.xx.xx:5000", "x" * 9000, "10.0.0.1.5:1", "fe80::1%eth0", "127.0.0.1:80", 7])
def test_what_is_no_peers_address_is_unknown(address: object) -> None:
    assert flow(INBOUND | {"downstream_remote_address": address}).source_address == ""


def test_addresses_are_canonical() -> None:
    assert flow(INBOUND | {"downstream_remote_address": "[2001:DB8:0::1]:5000"}).source_address == "2001:db8::1"
    assert flow(INBOUND | {"downstream_remote_address": "[::ffff:10.9.0.10]:5000"}).source_address == "10.9.0.10"


@pytest.mark.parametrize("host", ["cart.sh_op.svc", "a b.shop.svc", "..svc", "cart.shop.svc\n", "Ⅷ.shop.svc"])
def test_a_name_that_kubernetes_would_refuse_is_no_service(host: str) -> None:
    seen = flow(OUTBOUND | {"upstream_cluster": f"outbound|80||{host}"})
    assert seen.destination is ADDRESS


@pytest.mark.parametrize("port", ["0", "65536", "٣", "99999999999999999999", "-1"])
def test_a_port_out_of_range_is_none(port: str) -> None:
    entry = {"downstream_local_address": f"10.9.0.20:{port}", "upstream_cluster": f"inbound|{port}||"}
    found = unusable(INBOUND | entry)
    assert (found.reason, found.readable) == ("no destination port", True)
