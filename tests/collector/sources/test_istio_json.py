"""Istio's JSON access log, old all-string form and new typed form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.sources import istio_json
from tests.collector.sources.entries import CALLER, INBOUND, OUTBOUND, folded, told

OLD = {key: "-" if value is None else str(value) for key, value in OUTBOUND.items()} | {"istio_policy_status": "-"}


def test_both_ends_logs_of_one_connection_name_the_same_pods_and_port() -> None:
    """The peer's address is evidence; the reporter's own is in the key, so that its counterparts stay apart."""
    sni = {"requested_server_name": "outbound_.80_._.cart.shop.svc.cluster.local"}
    patterns, bad = folded(istio_json, json.dumps(INBOUND | sni), json.dumps(OUTBOUND))
    seen = []
    for key, edge in patterns.sorted_edges():
        ((port, evidence),) = edge.ports()
        assert dict(evidence.requests.items()) == {"GET /carts/7": 1}
        seen.append((str(key.source), list(evidence.sources), str(key.destination), port, evidence.sides))
    assert seen == [
        ("address", ["10.9.0.10"], "shop/cart", 8080, {"destination"}),
        ("address 10.9.0.10", ["10.9.0.10"], "shop/cart", 8080, {"source"}),
    ]
    assert bad == []


def test_the_old_all_string_form_says_the_same() -> None:
    assert folded(istio_json, json.dumps(OLD))[0] == folded(istio_json, json.dumps(OUTBOUND))[0]


def test_lines_are_counted_in_the_quality() -> None:
    lines = [
        json.dumps(INBOUND),
        '{"level":"info","msg":"ready"}',
        "2026-03-01T08:00:00.1Z\tinfo\tready",
        "{",
        "\xff",
        "",
    ]
    patterns, bad = folded(istio_json, *lines)
    assert bad == [(4, "not a JSON object"), (5, "not a JSON object")]
    assert patterns.quality.records == {"istio-json": 1}
    assert sum(count for _, count in patterns.quality.skipped.items()) == 2
    assert dict(patterns.quality.bad.items()) == {"not a JSON object": 2}


def test_a_prefix_of_the_container_runtime_is_cut_off() -> None:
    plain = json.dumps(INBOUND)
    prefixed = "2026-03-01T08:00:01.123456789Z stdout F " + plain
    assert istio_json.recognises(prefixed.encode())
    assert folded(istio_json, prefixed)[0] == folded(istio_json, plain)[0]


def test_identity_keys_make_a_full_edge() -> None:
    said = {
        "downstream_peer_uri_sans": f"spiffe://other,{CALLER}",
        "source_workload": "web",
        "source_namespace": "shop",
    }
    own = {"pod": "cart-6b746f74dc-9rcxx", "namespace": "shop", "destination_principal": "spiffe://m/ns/shop/sa/cart"}
    patterns, _ = folded(istio_json, json.dumps(INBOUND | said | own))
    assert told(patterns) == ["shop/web -> pod shop/cart:8080 answered:inbound 1"]
    ((key, _),) = patterns.sorted_edges()
    assert (key.source.service_account, key.destination.service_account) == ("web", "cart")


@pytest.mark.parametrize(
    ("record", "ours"),
    [
        (INBOUND, True),
        (OLD, True),
        ({"flow": {}, "time": ""}, False),
        ({"time": "", "verdict": "FORWARDED", "l4": {}}, False),
        ({"src.addr": "1", "dst.addr": "2"}, False),
        ({"httpLogs": {}}, False),
        ({"resourceLogs": []}, False),
        ([], False),
    ],
)
def test_it_is_recognised_by_its_keys(record: Any, ours: bool) -> None:
    assert istio_json.recognises(json.dumps(record).encode()) is ours
