"""Hubble's JSON flows: every form and every kind of record."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from collector.patterns import Patterns
from collector.sketch import Tally
from collector.sources import hubble_json
from tests.collector.sources.entries import folded, told
from tests.collector.sources.flows import (
    ACK,
    API,
    FORMS,
    OLD_REPLY,
    REQUEST,
    RESPONSE,
    SYN,
    SYN_ACK,
    TO_API,
    Json,
    back,
    flow,
    fold,
    one,
    skipped,
)

# -- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {"flow": flow(), "node_name": "node-1"},
        {"flow": None, "time": "2026-03-02T08:00:00Z"},
        flow(),
        {"time": "2026-03-02T08:00:00Z", "source": {"pod_name": "web-0"}, "destination": {}},
        {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "3"}},
        {"node_status": {"state_change": "NODE_CONNECTED", "node_names": ["node-1"]}},
        {"agent_event": {"type": "AGENT_STARTED"}},
        {"debug_event": {}},
        {"log": json.dumps({"flow": flow()}) + "\n", "stream": "stdout"},
        {"line": json.dumps(flow()), "timestamp": "1"},
        {"message": json.dumps({"log": json.dumps(flow())})},
    ],
)
def test_recognises_hubble_events_in_every_form(record: Json) -> None:
    assert hubble_json.recognises(json.dumps(record).encode())


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"verdict":"pass"}',
        b'{"log":"plain text"}',
        b'{"log":"{broken"}',
        b'{"start_time":"2026-03-02T08:00:00Z","method":"GET","response_code":200,"upstream_cluster":"inbound|80||"}',
        b'{"level":"info","scope":"access","message":"connection complete","src.addr":"10.0.0.1:40000"}',
        b"\xff\xfe",
    ],
    ids=str,
)
def test_does_not_recognise_anything_else(head: bytes) -> None:
    assert not hubble_json.recognises(head)


@pytest.mark.parametrize("form", FORMS, ids=["wrapped", "bare", "log-shipper"])
def test_every_form_of_a_flow_counts_the_same(form: Callable[[Json], Json]) -> None:
    assert fold(form(flow(flags=SYN))) == fold({"flow": flow(flags=SYN)})


@pytest.mark.parametrize("field", ["log", "line", "message"])
def test_unpacks_envelopes_of_log_shippers(field: str) -> None:
    assert told(fold({field: "  " + json.dumps({"flow": flow(flags=SYN)}) + "\r\n"})) == [
        f"{TO_API} opened:TO_ENDPOINT 1"
    ]


def test_a_null_stands_for_the_default() -> None:
    """Whole records of nulls, as protojson's other writers make them, are skipped; they are not unreadable."""
    nulls: Json = dict.fromkeys(flow())
    assert skipped(fold({"flow": nulls}, {"flow": flow(l4={"TCP": {"destination_port": None}})})) == {
        "no layer 4": 1,
        "no port": 1,
    }
    assert told(fold(flow(flags=SYN, l7=None, reply=None, destination_names=None, drop_reason=None))) == [
        f"{TO_API} opened:TO_ENDPOINT 1"
    ]


# -- what a record says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (flow(flags=SYN), "opened:TO_ENDPOINT"),
        (flow(flags=SYN, trace_observation_point="TO_OVERLAY", is_reply=None), "opened:TO_OVERLAY"),
        (flow(flags=SYN, event_type={"type": 5}, traffic_direction="EGRESS"), "opened:verdict EGRESS"),
        (flow(flags=SYN, event_type={"type": 5}, traffic_direction="INGRESS"), "opened:verdict INGRESS"),
        (flow(flags=SYN, event_type={"type": 5}), "opened:verdict"),
        (flow(flags=SYN, trace_observation_point="<script>"), "opened"),
        (flow(flags=ACK), "carried:TO_ENDPOINT"),
        (flow(protocol="UDP"), "opened:TO_ENDPOINT"),
        (flow(flags=SYN, verdict="REDIRECTED"), "opened:TO_ENDPOINT"),
        (flow(flags=SYN, verdict="AUDIT"), "audited"),
        (back(flags=SYN_ACK), "answered"),
        (back(flags=SYN_ACK, is_reply=False), "answered:new"),
        (back(flags=SYN_ACK, is_reply=None), "answered"),
        (back(flags=ACK), "answered"),
        (back(flags=ACK, **OLD_REPLY), "answered"),
        (back(flags={"RST": True}), "refused"),
        (flow(l7=REQUEST), "opened:l7"),
        (back(l7=RESPONSE), "answered:l7"),
    ],
)
def test_signal_of_a_record(record: Json, name: str) -> None:
    protocol = next(iter(record["l4"]))
    patterns = fold(record)
    assert told(patterns) == [f"{TO_API} {name} 1"]
    assert next(iter(patterns.edges)).protocol == protocol


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (flow(flags=ACK, is_reply=None), "open:unknown"),
        (flow(flags=ACK, is_reply=None, reply=False), "open:unknown"),
        (flow(dport=50051, flags=ACK), "open:new"),
        (flow(dport=50051, flags=ACK, verdict="AUDIT"), "open:new"),
        (flow(flags=ACK, is_reply=True), "open:reply"),
        (flow(flags={"RST": True}, is_reply=None), "open:reset"),
        (flow(dport=50051, flags=ACK | {"RST": True}), "open:reset"),
    ],
)
def test_what_is_unclear_keeps_both_ports_and_the_claim(record: Json, name: str) -> None:
    (edge,) = fold(record).edges.values()
    ((sport, dport), evidence) = edge.open.items()[0]
    assert (sport, dport) == tuple(record["l4"]["TCP"][side] for side in ("source_port", "destination_port"))
    assert evidence.signals == {name: 1}
    assert edge.ports() == []


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (flow(l4=None), "no layer 4"),
        (flow(l4={}), "no layer 4"),
        (flow(l4={"VRRP": {}}), "no layer 4"),
        (flow(l4={"ICMPv4": {"type": 8}}), "ICMP"),
        (flow(l4={"ICMPv6": {}}), "ICMP"),
        (flow(l4={"TCP": {}}), "no port"),
        (flow(dport=0), "no port"),
        (flow(dport=65536), "no port"),
        (flow(sport=-1), "no port"),
        (back(sport=0, flags=ACK), "no port"),
        (flow(Type="SOCK"), "socket translation"),
        (flow(Type="SOCK", verdict="TRACED"), "verdict TRACED"),
        (flow(verdict="ERROR"), "verdict ERROR"),
        (flow(verdict="SURPRISE"), "no verdict"),
        (flow(verdict=None), "no verdict"),
        (flow(verdict="DROPPED", drop_reason=140), "dropped, not by policy"),
        (flow(verdict="DROPPED", drop_reason_desc="CT_MAP_INSERTION_FAILED"), "dropped, not by policy"),
        (back(flags=SYN_ACK, verdict="DROPPED", drop_reason=133, is_reply=None), "dropped reply"),
        ({"agent_event": {"type": "AGENT_STARTED"}}, "agent or debug event"),
    ],
)
def test_what_is_no_connection_is_counted_by_reason(record: Json, reason: str) -> None:
    patterns = fold(record)
    assert skipped(patterns) == {reason: 1}
    assert patterns.edges == {}
    assert patterns.sightings == {}
    assert patterns.quality.total == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"drop_reason": 133}, "POLICY_DENIED"),
        ({"drop_reason_desc": "POLICY_DENY"}, "POLICY_DENY"),
        ({"event_type": {"type": 1, "sub_type": 189}}, "AUTH_REQUIRED"),
        ({}, "no reason given"),
    ],
    ids=str,
)
def test_a_drop_by_policy_is_a_denied_connection(fields: Json, reason: str) -> None:
    patterns = fold(flow(flags=SYN, verdict="DROPPED", is_reply=None, **fields))
    assert told(patterns) == [f"{TO_API} denied:{reason} 1"]
    assert patterns.quality.replies == 0


def test_lost_events_are_counted_by_node_and_source() -> None:
    lost = [
        {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "7"}, "node_name": "node-1"},
        {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": 5}, "node_name": "node-1"},
        {"lost_events": {"num_events_lost": "many"}},
        {"lost_events": {"num_events_lost": "-9"}},
    ]
    assert dict(fold(*lost).quality.lost.items()) == {
        "node-1 HUBBLE_RING_BUFFER": 12,
        "unknown node UNKNOWN_LOST_EVENT_SOURCE": 2,
    }


@pytest.mark.parametrize("number", ["9" * 4300, 10**30, str(1 << 64), "1_0", " 5", None, 0])
def test_a_number_of_lost_events_that_is_no_uint64_counts_as_one(number: object) -> None:
    lost = {"lost_events": {"source": None, "num_events_lost": number}, "node_name": None}
    assert dict(fold(lost, lost).quality.lost.items()) == {"unknown node UNKNOWN_LOST_EVENT_SOURCE": 2}


def test_node_status_is_counted_by_state_and_node() -> None:
    status = {"node_status": {"state_change": "NODE_UNAVAILABLE", "node_names": ["node-1", "node-2"]}}
    unnamed = {"node_status": {"state_change": "NODE_GONE"}, "node_name": "node-3"}
    empty = {"node_status": {"state_change": None, "node_names": None}, "node_name": None}
    nodes = fold(status, unnamed, status, empty).quality.nodes.items()
    assert dict(nodes) == {
        "NODE_UNAVAILABLE node-1": 2,
        "NODE_UNAVAILABLE node-2": 2,
        "NODE_GONE node-3": 1,
        "UNKNOWN_NODE_STATE unknown node": 1,
    }


# -- requests --------------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_outcome_and_lose_their_query() -> None:
    missing = {"type": "RESPONSE", "http": {"code": 404, "method": "GET", "url": "/.env"}}
    evidence = one(fold(flow(l7=REQUEST), back(l7=RESPONSE), back(l7=missing)))
    assert dict(evidence.asked.items()) == {"GET /items": 1}
    assert dict(evidence.requests.items()) == {"GET /items": 1}
    assert dict(evidence.rejected.items()) == {"GET /.env": 1}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "REQUEST", "dns": {"query": "a.example."}},
        {"type": "REQUEST", "kafka": {"api_key": "produce"}},
        {"type": "REQUEST", "http": {"url": "*"}},
        {"type": "REQUEST", "http": {}},
    ],
    ids=str,
)
def test_messages_without_method_and_path_are_connections_only(message: Json) -> None:
    patterns = fold(flow(l7=message))
    assert told(patterns) == [f"{TO_API} opened:l7 1"]
    assert len(one(patterns).asked) == 0


@pytest.mark.parametrize("mark", [{"is_reply": None}, {"is_reply": False}, OLD_REPLY, {"is_reply": True}], ids=str)
@pytest.mark.parametrize(("server", "client"), [(8080, 41000), (50051, 20011), (50051, 41000)])
def test_the_proxy_knows_a_response_whatever_the_mark_and_the_ports_say(mark: Json, server: int, client: int) -> None:
    """A masked or wrong `is_reply` must not turn the client's port into one that serves requests."""
    patterns = fold(back(server, client, l7=RESPONSE, **mark))
    assert told(patterns) == [f"shop/app=web -> pod shop/app=api:{server} answered:l7 1"]
    assert patterns.quality.replies == 1


@pytest.mark.parametrize("message", [None, {}, {"type": "SAMPLE"}, {"type": None}], ids=str)
def test_a_message_of_no_known_type_leaves_the_packet_to_speak(message: Json | None) -> None:
    assert told(fold(flow(flags=ACK, l7=message))) == [f"{TO_API} carried:TO_ENDPOINT 1"]
    assert told(fold(back(flags=ACK, l7=message))) == [f"{TO_API} answered 1"]


# -- evidence --------------------------------------------------------------------------------------------------------


def test_both_sides_are_known_where_both_ends_are_local() -> None:
    assert one(fold(flow(flags=SYN))).sides == {"source"}
    assert one(fold(flow(flags=SYN, destination=API | {"ID": 4}))).sides == {"source", "destination"}


def test_owners_and_named_ports_become_attributes_of_the_endpoint() -> None:
    sightings = {str(end): seen for end, seen in fold(flow(flags=SYN), flow(flags=ACK)).sightings.items()}
    assert dict(sightings["shop/app=web"].owners.items()) == {"Deployment/web": 2}
    assert dict(sightings["shop/app=web"].pods.items()) == {"web-6b746f74dc-9rcxx|10.0.0.1": 2}
    assert dict(sightings["shop/app=api"].ports.items()) == {"http/TCP/8080": 2}


def test_host_names_are_kept_without_the_last_dot_and_never_from_replies() -> None:
    patterns = fold(flow(destination_names=["api.example."], flags=SYN), back(destination_names=["web.example"]))
    assert list(one(patterns).names) == ["api.example"]


def test_host_names_stay_with_their_record_when_a_policy_audits() -> None:
    """They must not open an evidence of their own, without any record in it."""
    (edge,) = fold(flow(flags=SYN, verdict="AUDIT", destination_names=["a.example"])).edges.values()
    assert list(edge.spoken.kept[8080].names) == ["a.example"]
    assert not edge.knocked.kept
    assert not edge.open.kept
    (edge,) = fold(flow(flags=ACK, is_reply=None, verdict="AUDIT", destination_names=["a.example"])).edges.values()
    assert [evidence.signals for _, evidence in edge.open.items()] == [{"open:unknown": 1}]
    assert not edge.spoken.kept


def test_a_record_without_an_id_does_not_hide_the_ids_of_others() -> None:
    nameless = flow(flags=SYN, uuid=None, time=None)
    for order in ([nameless, flow(flags=SYN, time=None)], [flow(flags=SYN, time=None), nameless]):
        assert one(fold(*order)).samples == {"opened:TO_ENDPOINT": "id-5"}


def test_times_with_an_offset_count_in_their_own_hour() -> None:
    """They are not in order as text, and may share their first characters with another hour."""
    times = ["2026-03-02T08:30:00Z", "2026-03-02T08:10:00-05:00", "2026-03-02T08:20:00+02:00"]
    evidence = one(fold(*(flow(flags=SYN, time=time) for time in times)))
    assert [records for _, records in evidence.hours.items()] == [1, 1, 1]
    assert evidence.last - evidence.first == (13 * 60 + 10 - 6 * 60 - 20) * 60


def test_masked_fields_are_counted() -> None:
    masked = flow(flags=SYN, IP=None, source={"namespace": "shop", "pod_name": "web-6b746f74dc-9rcxx"})
    assert dict(fold(masked).quality.masked.items()) == {"IP": 2, "labels": 1}


# -- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"plain text",
        b'{"log":"plain text"}',
        b'{"flow":[1]}',
        b'{"flow":{"l4":7}}',
        b'{"flow":{"verdict":"\xff"}}',
        b'{"flow":' * 50_000,
        json.dumps(flow(source=7)).encode(),
        json.dumps(flow(destination={"labels": [7]})).encode(),
        json.dumps(back(l7={"type": 7})).encode(),
        json.dumps(flow(time=1772438400)).encode(),
    ],
    ids=lambda line: repr(line[:30]),
)
def test_an_unreadable_record_costs_itself_only(line: bytes) -> None:
    good = json.dumps(flow(flags=SYN)).encode()
    patterns, bad = folded(hubble_json, good, line, good)
    assert [number for number, _ in bad] == [2]
    assert list(patterns.quality.bad) == [bad[0][1].partition(" (byte ")[0]]
    assert bad[0][1].startswith("not a Hubble flow")
    patterns.quality.bad = Tally(64)
    assert patterns == fold(flow(flags=SYN), flow(flags=SYN))


def test_enums_may_be_numbers() -> None:
    """As the JSON mapping of protobuf allows; Cilium itself writes names."""
    dropped: Json = {
        "verdict": "DROPPED",
        "drop_reason_desc": "POLICY_DENIED",
        "event_type": {"type": 1},
        "is_reply": None,
    }
    records = [
        flow(flags=SYN, trace_observation_point="TO_ENDPOINT", traffic_direction="INGRESS", Type="L3_L4"),
        flow(flags=SYN, **dropped),
        back(l7=RESPONSE, Type="L7"),
    ]
    numbers = json.loads(json.dumps(records))
    numbers[0] |= {"verdict": 1, "trace_observation_point": 101, "traffic_direction": 1, "Type": 1}
    numbers[1] |= {"verdict": 2, "drop_reason_desc": 133}
    numbers[2]["Type"], numbers[2]["l7"]["type"] = 2, 2
    lost: Json = {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "3"}, "node_name": "n"}
    counted = json.loads(json.dumps(lost))
    counted["lost_events"]["source"] = 3
    assert fold(*numbers, counted) == fold(*records, lost)
    patterns, bad = folded(hubble_json, json.dumps(flow(verdict=99)).encode())
    assert (len(patterns.edges), len(bad)) == (0, 1)


def test_reasons_hold_no_positions_and_no_input() -> None:
    """Else every bad line has a reason of its own, and no count of them says anything."""
    lines = [json.dumps({"flow": {"destination_names": [*("a" * n), n]}}) for n in range(5)]
    patterns, bad = folded(hubble_json, *lines)
    assert len(bad) == 5
    assert [records for _, records in patterns.quality.bad.items()] == [5]


def test_broken_json_is_one_reason_wherever_it_breaks() -> None:
    """The byte is told to the person who waits; in the aggregate each would be a reason of its own."""
    lines = [(number, b'{"flow":{"uuid":"' + b"x" * number + b'"\0}}') for number in range(1, 300)]
    bad: list[str] = []
    patterns = Patterns()
    hubble_json.fold(lines, patterns, lambda _, reason: bad.append(reason))
    assert patterns.quality.bad.kept == {"not a Hubble flow: JSON is malformed: expected ',' or '}'": 299}
    assert len(set(bad)) == 299
