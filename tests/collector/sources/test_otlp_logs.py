"""Envoy's access logs inside OTLP requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.flow import Flow
from collector.sources import istio_json, istio_text, otlp_logs
from tests.collector.sources.entries import CALLER, INBOUND, OUTBOUND, folded, told
from tests.collector.sources.test_istio_text import HTTP


def attributes(fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value or "-"}}
        for key, value in fields.items()
    ]


def request(body: Any = None, said: dict[str, Any] | None = None, resource: dict[str, Any] | None = None) -> str:
    record: dict[str, Any] = {"timeUnixNano": "1772352000250000000", "attributes": attributes(said or {})}
    if body is not None:
        record["body"] = body
    scope = {"scopeLogs": [{"logRecords": [record]}]}
    return json.dumps({"resourceLogs": [{"resource": {"attributes": attributes(resource or {})}} | scope]})


def text(line: str) -> dict[str, Any]:
    return {"stringValue": line}


def test_a_text_body_says_what_the_text_log_says() -> None:
    assert told(folded(otlp_logs, request(text(HTTP)))[0]) == told(folded(istio_text, HTTP)[0])


def test_attributes_alone_and_other_bodies_say_what_the_json_log_says() -> None:
    expected = told(folded(istio_json, json.dumps(OUTBOUND))[0])
    fields = {"kvlistValue": {"values": attributes(OUTBOUND)}}
    for line in (request(said=OUTBOUND), request(text(json.dumps(OUTBOUND))), request(fields)):
        assert told(folded(otlp_logs, line)[0]) == expected


def test_attributes_add_identities_to_a_text_body() -> None:
    line = HTTP.replace("outbound|80||cart.shop.svc.cluster.local", "inbound|8080||").replace(
        "10.200.0.5:80", "10.9.0.20:8080"
    )
    own = {"pod": "cart-6b746f74dc-9rcxx", "namespace": "shop"}
    patterns, bad = folded(otlp_logs, request(text(line), {"downstream_peer_uri_san": CALLER}, own))
    ((key, edge),) = patterns.sorted_edges()
    assert (key.principal, str(key.destination)) == ("mesh.example/ns/shop/sa/web", "shop/cart")
    assert edge.ports()[0][1].mtls == 1
    assert bad == []


def test_the_record_has_a_time_when_the_entry_has_none() -> None:
    patterns, _ = folded(otlp_logs, request(said={k: v for k, v in INBOUND.items() if k != "start_time"}))
    assert patterns.quality.first == 1772352000


def test_other_logs_are_skipped_and_unreadable_ones_are_bad() -> None:
    lines = [request(text("started")), request(text(HTTP[:200])), "{}", "{", request({"kvlistValue": {"values": 3}})]
    patterns, bad = folded(otlp_logs, *lines)
    assert patterns.edges == {}
    assert [number for number, _ in bad] == [2, 3, 4, 5]
    assert dict(patterns.quality.skipped.items()) == {"log record that is no access log entry": 1}


@pytest.mark.parametrize(
    ("head", "ours"), [('{"resourceLogs":[]}', True), ('{"resource_logs":[]}', True), ("{}", False)]
)
def test_it_is_recognised_by_its_keys(head: str, ours: bool) -> None:
    assert otlp_logs.recognises(head.encode()) is ours


def test_the_protobuf_message_says_what_its_json_says() -> None:
    from google.protobuf import json_format

    from collector.wire.otlp_logs_pb2 import ExportLogsServiceRequest

    line = request(text(HTTP), {"upstream_local_uri_san": CALLER}, {"node_id": "x"})
    (seen,) = otlp_logs.flows_of(json_format.Parse(line, ExportLogsServiceRequest()))
    (expected,) = otlp_logs.outcomes(line.encode())
    assert seen == expected
    assert isinstance(seen, Flow)
    assert seen.source.service_account == "web"
