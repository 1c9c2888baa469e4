"""Envoy access log service messages as protobuf JSON."""

from __future__ import annotations

import json
from typing import Any

from collector.endpoints import Endpoint
from collector.flow import Flow
from collector.sources import envoy_als
from tests.collector.sources.entries import CALLER, folded, told

NODE = "sidecar~10.9.0.20~cart-6b746f74dc-9rcxx.shop~shop.svc.cluster.local"


def address(ip: str, port: int) -> dict[str, Any]:
    return {"socketAddress": {"address": ip, "portValue": port}}


def common(**more: Any) -> dict[str, Any]:
    return {
        "downstreamRemoteAddress": address("10.9.0.10", 50000),
        "downstreamLocalAddress": address("10.9.0.20", 8080),
        "upstreamRemoteAddress": address("10.9.0.20", 8080),
        "startTime": "2026-03-01T08:00:00.25Z",
        "upstreamCluster": "inbound|8080||",
    } | more


def entry(**more: Any) -> dict[str, Any]:
    return {
        "commonProperties": common(**more),
        "request": {"requestMethod": "GET", "path": "/carts/7?x", "requestId": "b6f0"},
        "response": {"responseCode": 200},
    }


def message(*entries: dict[str, Any], node: str = "", metadata: dict[str, Any] | None = None) -> str:
    body: dict[str, Any] = {"httpLogs": {"logEntry": list(entries)}}
    if node:
        body["identifier"] = {"node": {"id": node, "metadata": metadata or {}}, "logName": "x"}
    return json.dumps(body)


def flow(line: str) -> Flow:
    (outcome,) = envoy_als.flows_of(envoy_als.message_of(line.encode()))
    assert isinstance(outcome, Flow), outcome
    return outcome


TLS = {"tlsProperties": {"peerCertificateProperties": {"subjectAltName": [{"uri": CALLER}]}}}
SOURCE_SIDE = {
    "upstreamCluster": "outbound|80||cart.shop.svc.cluster.local",
    "upstreamLocalAddress": address("10.9.0.10", 4),
}


def test_an_inbound_entry_gives_the_peer_the_pod_and_the_request() -> None:
    seen = flow(message(entry(**TLS), node=NODE))
    assert seen.source == Endpoint("pod", namespace="shop", service_account="web")
    assert seen.destination == Endpoint("pod", namespace="shop", workload="cart")
    assert (seen.method, seen.path, seen.status, seen.flow_id) == ("GET", "/carts/7", 200, "b6f0")
    assert (seen.principal, seen.mtls, seen.time) == ("mesh.example/ns/shop/sa/web", True, "2026-03-01T08:00:00.250Z")


def test_no_tls_properties_prove_plaintext_at_the_receiver_and_nothing_at_the_caller() -> None:
    assert flow(message(entry(), node=NODE)).mtls is False
    assert flow(message(entry(**SOURCE_SIDE), node=NODE)).mtls is None


def test_the_identifier_of_a_stream_holds_until_the_next_one() -> None:
    other = NODE.replace("cart", "stock").replace("10.9.0.20", "10.9.0.21")
    patterns, _ = folded(
        envoy_als, message(entry(), node=NODE), message(entry()), message(entry(), node=other), message(entry())
    )
    assert told(patterns) == [
        "address -> pod shop/cart:8080 answered:inbound 2",
        "address -> pod shop/stock:8080 answered:inbound 2",
    ]


def test_node_metadata_names_workload_account_and_labels() -> None:
    labels = {"app": "cart", "pod-template-hash": "6b746f74dc"}
    metadata = {"NAMESPACE": "shop", "WORKLOAD_NAME": "cart-main", "SERVICE_ACCOUNT": "cart", "LABELS": labels}
    seen = flow(message(entry(), node=NODE, metadata=metadata))
    assert seen.destination == Endpoint("pod", "", "shop", (("app", "cart"),), "cart-main", "cart")


def test_metadata_of_another_namespace_than_the_nodes_is_not_believed() -> None:
    metadata = {"NAMESPACE": "bank", "WORKLOAD_NAME": "vault", "SERVICE_ACCOUNT": "vault"}
    assert str(flow(message(entry(), node=NODE, metadata=metadata)).destination) == "shop/cart"


def peer(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"filterStateObjects": {name: {"@type": "type.googleapis.com/google.protobuf.Struct", "value": fields}}}


def test_the_peer_is_read_in_both_key_styles() -> None:
    upper = {"NAME": "web-6b746f74dc-9rcxx", "NAMESPACE": "shop", "WORKLOAD_NAME": "web"}
    lower = {"name": "web-6b746f74dc-9rcxx", "namespace": "shop", "workload": "web", "identity": CALLER}
    for fields in (upper, lower):
        seen = flow(message(entry(**TLS, **peer("downstream_peer", fields)), node=NODE))
        assert (str(seen.source), seen.source.service_account, seen.source_pod) == ("shop/web", "web", upper["NAME"])


def test_an_upstream_peer_names_the_pod_behind_the_service() -> None:
    fields = {
        "NAME": "cart-6b746f74dc-9rcxx",
        "NAMESPACE": "shop",
        "WORKLOAD_NAME": "cart",
        "OWNER": "x/deployments/cart",
    }
    seen = flow(message(entry(**SOURCE_SIDE, **peer("upstream_peer", fields))))
    assert (seen.destination.kind, str(seen.destination), seen.destination_pod) == ("pod", "shop/cart", fields["NAME"])


def test_objects_of_unknown_types_do_not_spoil_the_message() -> None:
    unknown = {"filterStateObjects": {"wasm.x": {"@type": "type.googleapis.com/not.Known", "value": 1}}}
    metadata = {"typedFilterMetadata": {"y": {"@type": "type.googleapis.com/not.Known"}}}
    assert str(flow(message(entry(**unknown, metadata=metadata, notAField=3), node=NODE)).destination) == "shop/cart"


def test_the_physical_peer_beats_forwarded_for() -> None:
    spoofed = {"downstreamRemoteAddress": address("203.0.113.9", 0)}
    assert flow(message(entry(**spoofed), node=NODE)).source_address == ""
    physical = spoofed | {"downstreamDirectRemoteAddress": address("10.9.0.11", 999)}
    assert flow(message(entry(**physical), node=NODE)).source_address == "10.9.0.11"


def test_proto_names_tcp_entries_and_flags_are_read() -> None:
    properties = {
        "upstream_cluster": "inbound|5432||",
        "downstream_local_address": {"socket_address": {"address": "10.9.0.20", "port_value": 5432}},
        "response_flags": {"upstream_connection_failure": True},
    }
    patterns, bad = folded(envoy_als, json.dumps({"tcp_logs": {"log_entry": [{"common_properties": properties}]}}))
    assert told(patterns) == ["address -> address address 10.9.0.20:5432 refused:inbound 1"]
    assert bad == []


def test_denials_and_entries_before_the_end() -> None:
    denied = entry() | {
        "response": {"responseCode": 403, "responseCodeDetails": "rbac_access_denied_matched_policy[none]"}
    }
    early = {"commonProperties": common(intermediateLogEntry=True, upstreamRemoteAddress={})}
    patterns, bad = folded(envoy_als, message(denied, node=NODE), json.dumps({"tcpLogs": {"logEntry": [early]}}))
    assert told(patterns) == ["address -> pod shop/cart:8080 denied:rbac: no policy allows it 1"]
    assert dict(patterns.quality.skipped.items()) == {"entry written before the end of the request": 1}
    assert bad == []


def test_one_bad_entry_costs_only_itself() -> None:
    broken = entry() | {"request": {"requestMethod": "GET", "path": "/a\u0000"}}
    patterns, bad = folded(envoy_als, message(entry(), broken, node=NODE))
    assert told(patterns) == ["address -> pod shop/cart:8080 answered:inbound 1"]
    assert bad == [(1, "control character in the path")]


def test_what_is_no_message_is_bad_or_skipped() -> None:
    lines = ["{", "identifier {", '{"envoyMetrics":[]}', '{"httpLogs":{"logEntry":5}}', '{"httpLogs":' + "[" * 5000]
    patterns, bad = folded(envoy_als, *lines)
    assert [number for number, _ in bad] == [1, 2, 4, 5]
    assert dict(patterns.quality.skipped.items()) == {"JSON that is no access log message": 1}


def test_it_is_recognised_by_its_keys() -> None:
    assert envoy_als.recognises(message(entry()).encode())
    assert envoy_als.recognises(b'{"identifier":{"node":{"id":"x"}}}')
    assert not envoy_als.recognises(b'{"identifier":{}}')
    assert not envoy_als.recognises(b'{"flow":{}}')
