"""ztunnel's access log, text and JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from collector.endpoints import Endpoint
from collector.flow import Flow, Signal
from collector.sources import ztunnel
from tests.collector.sources.entries import folded, told

WEB, CART = "spiffe://mesh.example/ns/shop/sa/web", "spiffe://mesh.example/ns/shop/sa/cart"
OUTBOUND: dict[str, Any] = {
    "src.addr": "10.9.0.10:50000",
    "src.workload": "web-6b746f74dc-9rcxx",
    "src.namespace": "shop",
    "src.identity": WEB,
    "dst.addr": "10.9.0.20:15008",
    "dst.hbone_addr": "10.9.0.20:8080",
    "dst.service": "cart.shop.svc.cluster.local",
    "dst.workload": "cart-7d9f8b6c5-x2x2x",
    "dst.namespace": "shop",
    "dst.identity": CART,
    "direction": "outbound",
    "bytes_sent": 5,
    "bytes_recv": 7,
    "duration": "3ms",
}
INBOUND = OUTBOUND | {"dst.addr": "10.9.0.20:8080", "direction": "inbound"}
TIME = "2026-03-01T08:00:00.123456Z"


def text(fields: dict[str, Any], quoted: bool = True, message: str = "connection complete") -> str:
    mark = '"' if quoted else ""
    pairs = [
        f"{k}={v}" if k.endswith("addr") or isinstance(v, int) else f"{k}={mark}{v}{mark}" for k, v in fields.items()
    ]
    return f"{TIME}\tinfo\taccess\t{message}\t" + " ".join(pairs)


def line(fields: dict[str, Any]) -> str:
    head = {"level": "info", "time": TIME, "scope": "access", "message": "connection complete"}
    return json.dumps(head | fields)


def flow(fields: dict[str, Any]) -> Flow:
    (outcome,) = ztunnel.outcomes(line(fields).encode())
    assert isinstance(outcome, Flow), outcome
    return outcome


def test_both_ends_records_of_one_connection_are_one_edge() -> None:
    patterns, bad = folded(ztunnel, text(INBOUND), text(OUTBOUND))
    assert told(patterns) == [
        "shop/web -> pod shop/cart:8080 answered:inbound 1",
        "shop/web -> pod shop/cart:8080 answered:outbound 1",
    ]
    ((key, _),) = patterns.sorted_edges()
    assert key.principal == "mesh.example/ns/shop/sa/web"
    assert key.destination == Endpoint("pod", namespace="shop", workload="cart", service_account="cart")
    assert bad == []


def test_quoted_unquoted_and_json_records_say_the_same() -> None:
    expected = folded(ztunnel, text(OUTBOUND))[0]
    assert folded(ztunnel, text(OUTBOUND, quoted=False))[0] == expected
    assert folded(ztunnel, line(OUTBOUND))[0] == expected
    assert folded(ztunnel, "2026-03-01T08:00:01.1Z " + text(OUTBOUND))[0] == expected


def test_two_records_on_one_line_both_count() -> None:
    once, twice = folded(ztunnel, text(INBOUND), text(OUTBOUND)), folded(ztunnel, text(INBOUND) + text(OUTBOUND))
    assert twice == once


def test_a_certificate_is_believed_before_a_namespace_that_is_the_services_name() -> None:
    assert flow(INBOUND | {"dst.namespace": "cart"}).destination.namespace == "shop"
    bare = {key: value for key, value in INBOUND.items() if key != "dst.identity"}
    assert flow(bare | {"dst.namespace": "cart"}).destination.namespace == "shop"
    assert flow(bare | {"dst.namespace": "other"}).destination.namespace == "other"


def test_an_hbone_record_without_the_inner_address_has_no_real_port() -> None:
    patterns, bad = folded(ztunnel, line({k: v for k, v in OUTBOUND.items() if k != "dst.hbone_addr"}))
    assert (patterns.edges, bad) == ({}, [])
    assert dict(patterns.quality.skipped.items()) == {"ztunnel record without the real port": 1}


def test_a_plaintext_caller_has_no_principal() -> None:
    plain = flow({k: v for k, v in INBOUND.items() if k not in ("src.identity", "dst.hbone_addr")})
    assert (plain.principal, plain.mtls, str(plain.source)) == ("", False, "shop/web")
    assert (flow(INBOUND).mtls, flow(OUTBOUND).mtls) == (True, True)


def test_before_a_waypoint_the_destination_is_the_service() -> None:
    waypoint = {
        "dst.addr": "10.9.0.50:15008",
        "dst.hbone_addr": "10.200.0.5:80",
        "dst.workload": "waypoint-5cb6c6977c-ln2h5",
    }
    seen = flow(OUTBOUND | waypoint | {"dst.identity": "spiffe://mesh.example/ns/shop/sa/waypoint"})
    assert seen.destination == Endpoint("service", namespace="shop", workload="cart")
    assert (seen.port, seen.point, seen.destination_pod, seen.destination_address) == (80, "waypoint", "", "")


def test_the_kubernetes_service_is_the_api_server() -> None:
    api = {
        "dst.service": "kubernetes.default.svc.cluster.local",
        "dst.workload": "kubernetes",
        "dst.namespace": "default",
    }
    seen = flow(
        {k: v for k, v in OUTBOUND.items() if k not in ("dst.identity", "dst.hbone_addr")}
        | api
        | {"dst.addr": "10.1.0.1:6443"}
    )
    assert (str(seen.destination), seen.port, seen.principal, seen.mtls) == ("kube-apiserver", 6443, "", False)


def test_a_masked_address_is_unknown() -> None:
    outside = {k: v for k, v in INBOUND.items() if not k.startswith("src.")} | {"src.addr": "23.xx.xx.xx:5"}
    seen = flow(outside)
    assert (seen.source.kind, seen.source_address) == ("address", "")


@pytest.mark.parametrize(
    ("said", "signal"),
    [
        ({"error": "connection closed due to policy rejection: allow policies exist, but none allowed"}, Signal.DENIED),
        ({"error": "connection closed due to policy rejection: explicitly denied by: shop/p"}, Signal.DENIED),
        ({"error": "http status: 401 Unauthorized"}, Signal.DENIED),
        ({"error": "io error: connection refused", "bytes_recv": 0}, Signal.REFUSED),
        ({"error": "connection closed due to connection drain"}, Signal.ANSWERED),
        ({"message": "connection opened"}, Signal.OPENED),
    ],
)
def test_a_record_is_answered_refused_or_denied(said: dict[str, str], signal: Signal) -> None:
    assert flow(INBOUND | said).signal is signal


@pytest.mark.parametrize(
    "damaged",
    [
        text(OUTBOUND)[:-4] + '"x y',
        text(OUTBOUND) + " direction=inbound",
        text(OUTBOUND) + " and more",
        "not a record " + text(OUTBOUND),
        text({"src.addr": "10.9.0.10:1"}),
        "nonsense",
        "{",
    ],
)
def test_a_damaged_record_is_bad(damaged: str) -> None:
    patterns, bad = folded(ztunnel, damaged)
    assert patterns.edges == {}
    assert [number for number, _ in bad] == [1]


def test_other_lines_of_ztunnel_are_skipped() -> None:
    lines = [
        f"{TIME}\tinfo\tstate\tversion",
        json.dumps({"level": "info", "scope": "xds"}),
        line(OUTBOUND | {"message": "x"}),
    ]
    patterns, bad = folded(ztunnel, *lines)
    assert (bad, sum(count for _, count in patterns.quality.skipped.items())) == ([], 3)


def test_it_is_recognised_by_its_records() -> None:
    assert ztunnel.recognises(text(OUTBOUND).encode())
    assert ztunnel.recognises(line(OUTBOUND).encode())
    assert ztunnel.recognises(b"2026-03-01T08:00:01.1Z stdout F " + line(OUTBOUND).encode())
    assert not ztunnel.recognises(b'{"flow":{}}')
    assert not ztunnel.recognises(f"{TIME}\tinfo\tads\tconnected".encode())


def test_a_hostile_line_costs_no_more_than_its_length() -> None:
    start = time.process_time()
    folded(ztunnel, text(OUTBOUND) + ' x="' + "\\" * 100_000, text(OUTBOUND) + " a" * 50_000, text(OUTBOUND) * 500)
    assert time.process_time() - start < 5
