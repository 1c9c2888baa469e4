"""The fast counter against the plain reader: the same patterns, whatever repeats and whatever differs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import struct_pb2, wrappers_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from collector.flow import Flow
from collector.patterns import Patterns
from collector.room import Overload
from collector.sources import envoy_als, envoy_als_counter
from collector.sources.accesslog import count_unusable
from collector.sources.envoy_als_counter import AccessLogCounter, Stream, count_held
from collector.wire import access_log_pb2
from tests.collector.sources.test_envoy_als import NODE

HOUR = 1_772_352_000
NODES = (
    NODE,
    NODE.replace("cart", "stock").replace("10.9.0.20", "10.9.0.21"),
    NODE.replace("sidecar~", "router~"),
    "x",
)


def struct(**fields: str) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(fields)
    return made


def at(name: str, ip: str, port: int) -> Callable[[Any], None]:
    def fill(entry: Any) -> None:
        address = getattr(entry.common_properties, name).socket_address
        address.address, address.port_value = ip, port

    return fill


def put(path: str, value: object) -> Callable[[Any], None]:
    """Sets one field of an entry; nothing for an entry that has no such field."""
    *way, last = path.split(".")

    def fill(entry: Any) -> None:
        for name in way:
            if name not in entry.DESCRIPTOR.fields_by_name:
                return
            entry = getattr(entry, name)
        setattr(entry, last, value)

    return fill


def flag(name: str) -> Callable[[Any], None]:
    return put(f"common_properties.response_flags.{name}", True)


def peer(key: str, message: Any) -> Callable[[Any], None]:
    return lambda entry: entry.common_properties.filter_state_objects[key].Pack(message)


def uri(*names: str) -> Callable[[Any], None]:
    def fill(entry: Any) -> None:
        for name in names:
            entry.common_properties.tls_properties.peer_certificate_properties.subject_alt_name.add().uri = name

    return fill


def empty(name: str) -> Callable[[Any], None]:
    return lambda entry: getattr(entry.common_properties, name).SetInParent()


COMMON, REQUEST, RESPONSE = "common_properties.", "request.", "response."
# Everything the reader looks at, with values that matter to it.
CHANGES = [
    *(
        at(name, ip, port)
        for name in (
            "downstream_remote_address",
            "downstream_direct_remote_address",
            "downstream_local_address",
            "upstream_remote_address",
            "upstream_local_address",
        )
        for ip in ("10.9.0.10", "10.9.0.11", "fd00::1", "127.0.0.1", "no address", "")
        for port in (0, 80, 8080, 15006, 40000, 50001, 70000)
    ),
    empty("downstream_direct_remote_address"),
    empty("tls_properties"),
    uri("spiffe://cluster.local/ns/shop/sa/web"),
    uri("spiffe://cluster.local/ns/shop/sa/other", "spiffe://x"),
    put(COMMON + "tls_properties.tls_sni_hostname", "outbound_.80_._.cart.shop.svc.cluster.local"),
    put(COMMON + "tls_properties.tls_session_id", "differs"),
    *(
        put(COMMON + "upstream_cluster", name)
        for name in ("inbound|8080||", "inbound-vip|80|http|a.b.svc.cluster.local", "BlackHoleCluster", "xds-grpc")
    ),
    put(COMMON + "upstream_cluster", "outbound|80||cart.shop.svc.cluster.local"),
    *map(flag, ("upstream_connection_failure", "no_route_found")),
    put(COMMON + "connection_termination_details", "rbac_access_denied_matched_policy[none]"),
    put(COMMON + "intermediate_log_entry", True),
    *(put(COMMON + "access_log_type", kind) for kind in (3, 4, 14)),
    peer("downstream_peer", struct(NAME="web-0", NAMESPACE="shop", WORKLOAD_NAME="web")),
    peer("downstream_peer", struct(name="web-1", namespace="shop", workload="web")),
    peer("upstream_peer_obj", struct(workload="stock", namespace="shop", name="stock-0")),
    peer("wasm.downstream_peer_id", wrappers_pb2.BytesValue(value=NODE.encode())),
    *(put(COMMON + "start_time.seconds", HOUR + more) for more in (-1, 0, 1, 59, 3600, 7201)),
    *(put(COMMON + "start_time.seconds", odd) for odd in (-5, 1, 1 << 40)),
    *(put(COMMON + "start_time.nanos", nanos) for nanos in (-1, 1, 250_000_000, 2_000_000_000)),
    *(put(REQUEST + "request_method", method) for method in (0, 1, 3, 9)),
    *(
        put(REQUEST + "path", path)
        for path in (
            "/", "/a", "/a?x", "/a?y=\x01", "/a?\ufffd", "/a#f?q", "?x", "*", "http://h/p?q", "http://h?q", "/\x7f",
            "/" + "p" * 2050, "/a?" + "q" * 3000,
        )
    ),
    *(put(REQUEST + "request_id", name) for name in ("b", "a", "c", "x" * 200, "\n")),
    *(put(RESPONSE + "response_code.value", code) for code in (200, 204, 403, 503, 5000)),
    *(
        put(RESPONSE + "response_code_details", details)
        for details in ("via_upstream", "rbac_access_denied_matched_policy[none]", "direct_response")
    ),
    *(put("connection_properties.sent_bytes", sent) for sent in (0, 1, 7)),
]  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Messages of a few streams whose entries are much alike."""
    found = []
    base = draw(st.lists(st.sampled_from(CHANGES), max_size=6))
    for _ in range(draw(st.integers(1, 6))):
        message = als_pb2.StreamAccessLogsMessage()
        node = draw(st.sampled_from([None, None, *NODES]))
        if node is not None:
            message.identifier.node.id = node
        logs = message.http_logs if draw(st.booleans()) else message.tcp_logs
        for _ in range(draw(st.integers(0, 4))):
            entry = logs.log_entry.add()
            at("downstream_local_address", "10.9.0.20", 8080)(entry)
            put(COMMON + "start_time.seconds", HOUR)(entry)
            for change in (*base, *draw(st.lists(st.sampled_from(CHANGES), max_size=2))):
                change(entry)
        found.append((draw(st.integers(0, 1)), message.SerializeToString()))
    return found


def plainly(sent: list[tuple[int, bytes]]) -> tuple[Patterns, int]:
    """Every flow of every entry, one by one; and the damaged entries' number."""
    patterns, bad = Patterns(), 0
    identifiers: dict[int, Any] = {}
    for stream, raw in sent:
        message = als_pb2.StreamAccessLogsMessage.FromString(raw)
        if message.identifier.HasField("node"):
            identifiers[stream] = message.identifier
        for outcome in envoy_als.flows_of(message, identifiers.get(stream)):
            if isinstance(outcome, Flow):
                patterns.add(outcome)
                patterns.quality.replies += outcome.signal == "answered"
            else:
                bad += count_unusable(outcome, patterns)
    return patterns, bad


def taken(counter: AccessLogCounter) -> Patterns:
    patterns, held = counter.exchange()
    count_held(patterns, held)
    return patterns


@given(sent=messages(), exchanged=st.sets(st.integers(0, 5)), kinds=st.integers(1, 4))
def test_patterns_are_those_of_the_plain_reader(sent: list[tuple[int, bytes]], exchanged: set[int], kinds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envoy_als_counter, "KINDS", kinds)
        patch.setattr(envoy_als_counter, "FORGOTTEN", 1)
        counter, whole, bad = AccessLogCounter(1 << 30), Patterns(), 0
        streams = {number: Stream(str(number)) for number in range(2)}
        for place, (stream, raw) in enumerate(sent):
            bad += counter.count(raw, streams[stream]).bad
            if place in exchanged:
                whole.merge(taken(counter))
        whole.merge(taken(counter))
    assert (whole, bad) == plainly(sent)


def entry(*changes: Callable[[Any], None]) -> bytes:
    """A message of one HTTP entry."""
    message = als_pb2.StreamAccessLogsMessage()
    added = message.http_logs.log_entry.add()
    for change in (at("downstream_local_address", "10.9.0.20", 8080), *changes):
        change(added)
    raw: bytes = message.SerializeToString()
    return raw


def test_what_differs_from_request_to_request_makes_no_new_kind() -> None:
    counter, stream = AccessLogCounter(1 << 30), Stream("one")
    for number in range(50):
        counter.count(
            entry(
                at("downstream_remote_address", "10.9.0.10", 32768 + number),
                at("upstream_local_address", "10.9.0.20", 40000 + number),
                put(COMMON + "start_time.seconds", HOUR + number),
                put(COMMON + "tls_properties.tls_session_id", str(number)),
                put(REQUEST + "path", f"/a?{number}"),
                put(REQUEST + "request_id", str(number)),
            ),
            stream,
        )
    assert len(counter.kinds) == 1


def test_kinds_are_forgotten_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_als_counter, "FORGOTTEN", 4)
    monkeypatch.setattr(envoy_als_counter, "KINDS", 10)
    counter, stream = AccessLogCounter(1 << 30), Stream("one")
    for number in range(100):
        counter.count(entry(put(REQUEST + "path", f"/{number}")), stream)
        assert len(counter.kinds) <= 10
    monkeypatch.setattr(envoy_als_counter, "KEPT", 20_000)
    for number in range(100):
        counter.count(entry(put(COMMON + "connection_termination_details", "x" * 3000 + str(number))), stream)
    assert len(counter.kinds) < 8
    assert taken(counter).quality.total == 200


def test_without_room_only_what_is_new_is_refused() -> None:
    counter, stream, other = AccessLogCounter(200_000), Stream("one"), Stream("other")
    known = entry(put(REQUEST + "path", "/known"))
    counter.count(known, other)
    new = (entry(put(COMMON + "upstream_cluster", f"outbound|80||s{number}.shop.svc")) for number in range(10_000))
    accepted = 0
    with contextlib.suppress(Overload):
        for raw in new:
            counter.count(raw, stream)
            accepted += 1
    assert 0 < accepted < 10_000
    for _ in range(100):
        counter.count(known, other)
    assert taken(counter).quality.total == 1 + accepted + 100
    counter.count(next(new), stream)


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x12\x7f\x00", b"\x0a\x02\xff\xff", b"\x12\x04\x0a\x02\x0a\xff"])
def test_what_is_no_message_is_told(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        AccessLogCounter(1 << 30).count(raw, Stream("one"))


def test_our_subset_has_the_numbers_of_the_original() -> None:
    todo: list[tuple[Any, Any]] = [
        (access_log_pb2.StreamAccessLogsMessage.DESCRIPTOR, als_pb2.StreamAccessLogsMessage.DESCRIPTOR)
    ]
    seen = 0
    while todo:
        ours, theirs = todo.pop()
        for field in ours.fields:
            original = theirs.fields_by_number.get(field.number)
            if ours.name == "Entry" and (original is None or original.name != field.name):
                continue  # the other kind of entry's
            seen += 1
            assert original.name == field.name
            taken_apart = field.message_type is not None
            assert (original.message_type is not None) == (taken_apart or field.type == FieldDescriptor.TYPE_BYTES)
            if taken_apart and field.name != "tcp_logs":
                todo.append((field.message_type, original.message_type))
            elif taken_apart:
                todo.append((field.message_type.fields[0].message_type, original.message_type.fields[0].message_type))
    assert seen > 30


@given(cut=st.integers(0, 400), length=st.integers(0, 12), more=st.binary(max_size=12), good=messages())
def test_damaged_messages_are_counted_or_refused_and_nothing_else(
    cut: int, length: int, more: bytes, good: list[tuple[int, bytes]]
) -> None:
    counter, stream = AccessLogCounter(1 << 30), Stream("one")
    for _, raw in good:
        counter.count(raw, stream)
        with contextlib.suppress(DecodeError):
            counter.count(raw[:cut] + more + raw[cut + length :], stream)
    taken(counter)
