"""OTLP's log service over real sockets: what it counts, what it answers, what it refuses."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from collector.patterns import Patterns
from collector.room import Room
from collector.serving import Limits
from collector.sources import otlp_logs
from collector.sources.otlp_server import LogCounter, LogServer
from collector.transport import TLS, open_channel
from collector.wire import otlp_logs_pb2
from tests.certificates import Authority
from tests.collector.sources.entries import CALLER, INBOUND, OUTBOUND, folded
from tests.collector.sources.test_istio_text import HTTP
from tests.collector.sources.test_otlp_logs import request, text

LINES = [
    request(text(HTTP), {"downstream_peer_uri_san": CALLER}, {"node_id": "sidecar~10.9.0.20~cart-0.shop~shop.svc"}),
    request(said=OUTBOUND),
    request(text(json.dumps(INBOUND))),
    request(text("no entry")),
]


def wire(line: str) -> bytes:
    """The protobuf form of a request in JSON."""
    return json_format.Parse(line, otlp_logs_pb2.ExportLogsServiceRequest()).SerializeToString()


def export(server: LogServer, raw: bytes, tls: TLS | None = None) -> otlp_logs_pb2.ExportLogsServiceResponse:
    """What a server answers; through a unary call, as every sender makes it."""
    with open_channel(server.address, tls) as channel:
        call = channel.unary_unary(f"/{server.service}/{server.method}")
        return otlp_logs_pb2.ExportLogsServiceResponse.FromString(call(raw, timeout=10, wait_for_ready=True))


def refused(server: LogServer, raw: bytes) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as error:
        export(server, raw)
    code: grpc.StatusCode = error.value.code()
    return code


@pytest.fixture
def server() -> Iterator[LogServer]:
    started = LogServer("127.0.0.1:0")
    started.start()
    yield started
    started.stop(2)


def test_live_and_recorded_requests_give_the_same_patterns(server: LogServer) -> None:
    for line in LINES:
        assert not export(server, wire(line)).HasField("partial_success")
    assert server.take() == folded(otlp_logs, *LINES)[0]
    assert (server.status.flows, server.status.bad) == ({"log": 4}, 0)


def test_an_answered_request_is_in_the_next_take(server: LogServer) -> None:
    for line in LINES[:3]:
        export(server, wire(line))
        assert server.take().quality.total == 1


def test_records_that_cannot_be_read_are_rejected_and_the_others_counted(server: LogServer) -> None:
    both = json.loads(LINES[1])
    both["resourceLogs"] += json.loads(request(text(HTTP[:200])))["resourceLogs"]
    partial = export(server, wire(json.dumps(both))).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (1, "not in the default text format, or ambiguous")
    assert server.take() == folded(otlp_logs, json.dumps(both))[0]
    assert server.status.bad == 1


def test_random_bytes_are_an_invalid_argument_and_counted(server: LogServer) -> None:
    assert refused(server, b"\xff\xfe\xfd") is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(server.take().quality.bad.items()) == {"not an OTLP log request": 1}
    assert server.status.bad == 1


def test_a_request_over_the_limit_is_refused_and_the_next_one_is_not() -> None:
    started = LogServer("127.0.0.1:0", limits=Limits(message=1000))
    started.start()
    assert refused(started, wire(request(text("x" * 1000)))) is grpc.StatusCode.RESOURCE_EXHAUSTED
    export(started, wire(LINES[3]))
    started.stop(2)


def test_a_request_without_room_is_refused_as_a_whole() -> None:
    started = LogServer("127.0.0.1:0", limits=Limits(held=50_000))
    started.start()
    many = [request(said=INBOUND | {"path": f"/{number:0999}"}) for number in range(50)]
    first, *rest = (json.loads(line) for line in many)
    first["resourceLogs"] += [resource for other in rest for resource in other["resourceLogs"]]
    for _ in range(3):
        export(started, wire(LINES[1]))
    code = grpc.StatusCode.OK
    for line in [*many, json.dumps(first)]:
        before = started.status.flows.get("log", 0)
        try:
            export(started, wire(line))
        except grpc.RpcError as error:
            code = error.code()
            assert started.status.flows["log"] == before
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    taken = started.take()
    assert taken.quality.total == started.status.flows["log"]
    assert dict(taken.quality.lost.items()) == {"overload otlp": started.status.refused}
    assert taken != Patterns()
    export(started, wire(many[0]))
    started.stop(2)


def test_over_mutual_tls_and_a_unix_socket(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for address, theirs, ours in (
        ("127.0.0.1:0", authority.server(mutual=True), authority.client(mutual=True)),
        (f"unix://{tmp_path}/otlp.sock", None, None),
    ):
        started = LogServer(address, theirs)
        started.start()
        export(started, wire(LINES[1]), ours)
        assert started.take().quality.total == 1
        started.stop(2)


def test_our_stubs_have_the_numbers_of_the_original() -> None:
    def numbers(message: object) -> dict[str, tuple[int, str]]:
        """Every field below a message type, by path of numbers."""
        found: dict[str, tuple[int, str]] = {}
        todo = [("", message.DESCRIPTOR)]  # type: ignore[attr-defined]  # a message class
        while todo:
            at, kind = todo.pop()
            for field in kind.fields:
                path = f"{at}/{field.number}"
                found[path] = (field.type, "" if field.number == 2 else field.name)
                if field.message_type is not None and path.count("/") < 7:
                    todo.append((path, field.message_type))
        return found

    theirs = numbers(logs_service_pb2.ExportLogsServiceRequest)
    for path, said in numbers(otlp_logs_pb2.ExportLogsServiceRequest).items():
        if said[0] != FieldDescriptor.TYPE_BYTES and not path.endswith("/11"):  # not taken apart; newer than the stubs
            assert theirs[path] == said, path


@given(line=st.sampled_from(LINES), cut=st.integers(0, 700), length=st.integers(0, 12), more=st.binary(max_size=12))
def test_damaged_requests_are_counted_or_refused_and_nothing_else(
    line: str, cut: int, length: int, more: bytes
) -> None:
    raw, counter = wire(line), LogCounter(Room(1 << 30))
    with contextlib.suppress(DecodeError):
        counter.count(raw[:cut] + more + raw[cut + length :], "sender")
    counter.patterns()
