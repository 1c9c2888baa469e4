"""All access log sources: real captures, hostile text, and the merge property across batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.flow import Flow
from collector.patterns import Patterns
from collector.sources import Source, envoy_als, flow_batch, istio_json, istio_text, otlp_logs, ztunnel
from tests.collector.sources import test_envoy_als, test_istio_text, test_otlp_logs, test_ztunnel
from tests.collector.sources.entries import INBOUND, OUTBOUND, flow, folded

ALL: dict[str, Source] = {
    "istio_json": istio_json,
    "istio_text": istio_text,
    "ztunnel": ztunnel,
    "envoy_als": envoy_als,
    "otlp_logs": otlp_logs,
}
GOOD = {
    "istio_json": json.dumps(INBOUND),
    "istio_text": test_istio_text.HTTP,
    "ztunnel": test_ztunnel.text(test_ztunnel.OUTBOUND),
    "envoy_als": test_envoy_als.message(test_envoy_als.entry(), node=test_envoy_als.NODE),
    "otlp_logs": test_otlp_logs.request(said=OUTBOUND),
}
EACH = pytest.mark.parametrize("name", sorted(ALL))


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_record_is_recognised_by_its_own_source_and_no_other(name: str) -> None:
    assert [other for other in sorted(ALL) if ALL[other].recognises(GOOD[name].encode())] == [name]


# -- real captures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name", "records", "edges", "denied", "skipped"),
    [
        ("istio/found/access-log-json.jsonl", "istio_json", 7, 7, 1, 0),
        ("istio/found/access-log-text.log", "istio_text", 16, 14, 4, 0),
        ("istio/kiali/waypoint.log", "istio_text", 16, 4, 0, 0),
        ("istio/kiali/ztunnel.log", "ztunnel", 23, 12, 0, 5),
        ("istio/found/ztunnel-text.log", "ztunnel", 6, 5, 0, 0),
        ("istio/found/ztunnel-json.jsonl", "ztunnel", 1, 1, 0, 0),
    ],
)
def test_real_logs_are_recognised_and_counted_in_full(
    captures: Path, file: str, name: str, records: int, edges: int, denied: int, skipped: int
) -> None:
    lines = (captures / file).read_bytes().split(b"\n")
    assert [other for other in sorted(ALL) if ALL[other].recognises(lines[0])] == [name]
    patterns, bad = folded(ALL[name], *lines)
    signals = [
        s for _, edge in patterns.sorted_edges() for _, evidence in edge.ports() for s in evidence.signals.items()
    ]
    assert bad == []
    assert patterns.quality.total == records
    assert len(patterns.edges) == edges
    assert sum(count for signal, count in signals if signal.startswith("denied")) == denied
    assert sum(count for _, count in patterns.quality.skipped.items()) == skipped


@pytest.mark.parametrize(
    ("file", "records", "destination"),
    [("envoy-ingress2sidecar", 1, "default/product-v1"), ("envoy-mesh-server-sidecar", 1, "default/reviews-v1")],
)
def test_real_access_log_service_messages(captures: Path, file: str, records: int, destination: str) -> None:
    text = (captures / "envoy/skywalking" / f"{file}.msg").read_text()
    line = "\n".join(row for row in text.splitlines() if not row.lstrip().startswith(("#", "//")))
    patterns, bad = folded(envoy_als, line)
    ((key, edge),) = patterns.sorted_edges()
    assert (patterns.quality.total, bad, str(key.destination)) == (records, [], destination)
    assert [port for port, _ in edge.ports()] == [9080]


def test_a_real_metrics_message_is_no_access_log(captures: Path) -> None:
    text = (captures / "envoy/skywalking/envoy-metric.msg").read_bytes()
    assert not any(source.recognises(text) for source in ALL.values())


# -- hostile text ----------------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def damage(line: bytes) -> st.SearchStrategy[bytes]:
    """A good record with a piece replaced by anything."""
    cut = st.tuples(st.integers(0, len(line)), st.integers(0, 40), st.binary(max_size=12))
    return cut.map(lambda c: line[: c[0]] + c[2] + line[c[0] + c[1] :])


@EACH
@given(data=st.data())
def test_no_text_stops_a_reading(name: str, data: st.DataObject) -> None:
    lines = data.draw(st.lists(damage(GOOD[name].encode()) | st.binary(max_size=60), max_size=4))
    for line in lines:
        ALL[name].recognises(line)
    patterns, bad = folded(ALL[name], *lines)
    assert len(bad) == sum(count for _, count in patterns.quality.bad.items())
    for key in patterns.edges:
        assert all(text.isprintable() for text in (str(key.source), str(key.destination), key.principal))


@given(values=st.dictionaries(st.sampled_from(sorted(INBOUND)), ANY))
def test_no_value_of_a_json_field_stops_a_reading(values: dict[str, object]) -> None:
    folded(istio_json, json.dumps(INBOUND | values))
    folded(otlp_logs, json.dumps({"resourceLogs": [values]}), json.dumps({"resourceLogs": [{"scopeLogs": values}]}))


@given(
    value=ANY,
    key=st.sampled_from(["downstreamLocalAddress", "startTime", "tlsProperties", "filterStateObjects", "metadata"]),
)
def test_no_value_of_a_message_field_stops_a_reading(value: object, key: str) -> None:
    folded(
        envoy_als, test_envoy_als.message(test_envoy_als.entry(**{key: value}), node="x", metadata={"LABELS": value})
    )


# -- batches ---------------------------------------------------------------------------------------------------------

VARIANTS: list[Callable[[int], dict[str, object]]] = [
    lambda n: INBOUND | {"start_time": f"2026-03-01T08:{n:02}:00Z", "request_id": f"id{n}"},
    lambda n: OUTBOUND | {"start_time": f"2026-03-01T0{n % 10}:00:00Z", "request_id": None},
    lambda n: OUTBOUND | {"start_time": "-", "response_code": 400 + n},
    lambda n: OUTBOUND | {"start_time": "-", "request_id": f"id{n}" if n % 2 else None},
]


@given(chosen=st.lists(st.tuples(st.sampled_from(VARIANTS), st.integers(0, 12)), max_size=20), limit=st.integers(1, 4))
def test_a_batch_of_flows_counts_like_single_flows(
    chosen: list[tuple[Callable[[int], dict[str, object]], int]], limit: int
) -> None:
    def flows() -> list[Flow]:
        return [flow(variant(number)) for variant, number in chosen]

    one_by_one, batched = Patterns(), Patterns()
    for seen in flows():
        one_by_one.add(seen)
        one_by_one.quality.replies += seen.signal == "answered"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_batch, "LIMIT", limit)
        batch = flow_batch.FlowBatch(batched)
        for seen in flows():
            batch.add(seen)
        batch.flush()
    assert batched == one_by_one
