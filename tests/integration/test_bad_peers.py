"""Peers that send garbage, floods or nothing at all: a clear status, bounded memory, and nobody else is harmed."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from envoy.service.accesslog.v3 import als_pb2

from collector.sources.envoy_als_server import AccessLogServer
from collector.sources.otlp_server import LogServer
from tests.collector.sources.als import wire as als_wire
from tests.collector.sources.entries import INBOUND
from tests.collector.sources.test_envoy_als import NODE, entry, message
from tests.collector.sources.test_otlp_logs import request
from tests.collector.sources.test_otlp_server import wire as otlp_wire
from tests.integration.listening_process import Listening, listening
from tests.observing.processes import until

METHODS = {source.name: f"/{source.service}/{source.method}" for source in (AccessLogServer, LogServer)}
GOOD = {"als": als_wire(message(entry(), node=NODE)), "otlp": otlp_wire(request(said=INBOUND))}
BOTH = pytest.mark.parametrize("name", ["als", "otlp"])
SENT = 1_000_000  # entries of a flood, each of another caller's address and with another path
FLOODED = 320  # megabytes in all
MARGIN = 60  # megabytes by which memory may grow while nothing is kept


@pytest.fixture(scope="module")
def peers() -> Iterator[Listening]:
    """One process for all; what it survives here, it survives in a row."""
    with listening() as started:
        yield started


@contextmanager
def friend(peers: Listening) -> Iterator[Callable[[], None]]:
    """A well-behaved stream that is open all the time; call it to send an entry, and see that it is counted."""
    go = threading.Semaphore(0)
    ends = threading.Event()

    def messages() -> Iterator[bytes]:
        while True:
            go.acquire()
            if ends.is_set():
                return
            yield GOOD["als"]

    def send() -> None:
        before = peers.ask("status")["als"]["flows"].get("http", 0)
        go.release()
        until(lambda: peers.ask("status")["als"]["flows"].get("http", 0) > before)
        assert not future.done()

    with own_channel(peers.als) as channel:
        future = channel.stream_unary(METHODS["als"]).future(messages(), timeout=600)
        send()
        yield send
        send()
        ends.set()
        go.release()
        assert future.result() == b""


def own_channel(address: str) -> Any:
    """A connection of its own: gRPC would share it between channels."""
    return grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


def ended(address: str, name: str, *messages: bytes) -> tuple[grpc.StatusCode, str]:
    with own_channel(address) as channel:
        try:
            channel.stream_unary(METHODS[name])(iter(messages), timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@BOTH
def test_random_bytes_in_a_message_are_refused_by_name(peers: Listening, name: str) -> None:
    rng = random.Random(1)
    with friend(peers) as send:
        for size in (1, 50, 5000, 100_000):
            raw = b"\xff" + rng.randbytes(size)
            assert ended(getattr(peers, name), name, GOOD[name], raw)[0] is grpc.StatusCode.INVALID_ARGUMENT
            send()
    assert peers.ask("status")[name]["bad"] == 4


@BOTH
def test_random_bytes_on_the_socket_end_the_connection(peers: Listening, name: str) -> None:
    host, _, port = getattr(peers, name).rpartition(":")
    rng = random.Random(2)
    with friend(peers) as send:
        for opening in (b"", b"GET / HTTP/1.1\r\n\r\n", PREFACE, PREFACE + SETTINGS):
            with socket.create_connection((host, int(port)), timeout=10) as raw:
                raw.sendall(opening + b"\xff" * 9 + rng.randbytes(20_000))
                raw.settimeout(10)
                try:
                    while raw.recv(65536):
                        pass
                except ConnectionError:
                    pass
            send()


def until_broken(peers: Listening, name: str, number: int) -> None:
    """Wait until so many streams are known to have broken."""
    until(lambda: bool(peers.ask("status")[name]["broken"] == number))


@BOTH
@pytest.mark.parametrize("packed", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_an_oversized_message_is_refused_and_not_kept_in_memory(peers: Listening, name: str, packed: Any) -> None:
    before, counted = peers.memory(), peers.ask("status")[name]["broken"]
    with friend(peers) as send, own_channel(getattr(peers, name)) as channel:
        with pytest.raises(grpc.RpcError, match="larger than max") as refusal:
            channel.stream_unary(METHODS[name])(iter([bytes(256 << 20)]), timeout=30, compression=packed)
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        until_broken(peers, name, counted + 1)
        send()
    assert peers.memory("VmHWM") < before + MARGIN


def test_streams_that_end_without_a_word_are_counted_apart_from_those_that_are_closed(peers: Listening) -> None:
    name = "als"  # of OTLP each message is a call of its own, and what came of it was counted
    before = peers.ask("status")[name]

    def hanging() -> Iterator[bytes]:
        yield GOOD[name]
        released.wait(20)

    for cut in (False, True):  # the call is cancelled; the connection goes, as with a proxy that is killed
        released = threading.Event()
        with own_channel(getattr(peers, name)) as channel:
            call = channel.stream_unary(METHODS[name]).future(hanging(), timeout=30)
            until(lambda: peers.ask("status")[name]["streams"] == 1)
            channel.close() if cut else call.cancel()
            until_broken(peers, name, before["broken"] + 1 + cut)
            released.set()
    assert ended(getattr(peers, name), name, GOOD[name])[0] is grpc.StatusCode.OK
    with own_channel(getattr(peers, name)) as channel:
        assert channel.stream_unary(METHODS[name])(iter([]), timeout=10) == b""  # closed, though without a message
    after = peers.ask("status")[name]
    assert (after["broken"], after["refused"]) == (before["broken"] + 2, before["refused"])


def test_ten_thousand_labels_are_a_few(peers: Listening) -> None:
    peers.ask("take")
    metadata = {"LABELS": {f"key-{number}": "x" * 40 for number in range(10_000)}, "NAMESPACE": "shop"}
    before = peers.memory()
    for number in range(20):
        node = NODE.replace("cart-", f"cart{number}-")
        assert ended(peers.als, "als", als_wire(message(entry(), node=node, metadata=metadata)))[0].name == "OK"
    assert peers.memory("VmHWM") < before + MARGIN
    taken = peers.ask("take")["als"]
    assert (taken["records"], taken["labels"]) == (20, 64)


def flood(first: int, last: int) -> Iterator[bytes]:
    """Messages of a thousand entries; the numbers tell their addresses and paths."""
    made = als_pb2.StreamAccessLogsMessage.FromString(GOOD["als"])
    only = made.http_logs.log_entry[0]
    only.common_properties.downstream_remote_address.socket_address.address = "101.101.101.101"
    only.request.path, only.request.user_agent = "/path/0000000", "x" * 100
    raw = only.SerializeToString()
    assert 128 <= len(raw) < 16384  # so that its length takes two bytes
    head = b"\x0a" + bytes([len(raw) & 0x7F | 0x80, len(raw) >> 7])
    before, _, rest = raw.partition(b"101.101.101.101")
    between, _, after = rest.partition(b"0000000")
    assert after
    triples = [b"%d" % (100 + digit) for digit in range(150)]
    for begin in range(first, last, 1000):
        entries = []
        for n in range(begin, begin + 1000):
            address = b".".join([triples[n % 150], triples[n // 150 % 150], triples[n // 22500 % 150], b"101"])
            entries.append(head + before + address + between + b"%07d" % n + after)
        body = als_pb2.StreamAccessLogsMessage()
        body.http_logs.MergeFromString(b"".join(entries))
        yield body.SerializeToString()


def test_a_flood_of_distinct_paths_and_addresses_takes_bounded_memory(peers: Listening) -> None:
    peers.ask("take")
    with friend(peers) as send:
        for part in range(0, SENT, SENT // 10):
            assert ended(peers.als, "als", GOOD["als"], *flood(part, part + SENT // 10))[0] is grpc.StatusCode.OK
        send()
    assert peers.memory("VmHWM") < FLOODED
    taken = peers.ask("take")["als"]
    assert taken["records"] == SENT + 13  # the ten streams' first messages, and the friend's
    assert taken["edges"] <= 2


def test_senders_of_ever_new_workloads_are_refused_and_others_are_not() -> None:
    with listening(held=20_000_000) as peers, friend(peers) as send:
        before = peers.memory()
        statuses = set()
        for burst in range(20):
            new = [
                als_wire(message(entry(upstreamCluster=f"outbound|80||s{burst}-{n}.shop.svc.cluster.local"), node=NODE))
                for n in range(1000)
            ]
            statuses.add(ended(peers.als, "als", *new)[0])
            send()
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in statuses
        assert peers.memory("VmHWM") < before + MARGIN
        taken = peers.ask("take")["als"]
        assert taken["refused"] > 0
        assert taken["lost"] == {"overload als": taken["refused"]}
        assert taken["records"] == taken["flows"]["http"]


# -- peers that stall, by hand: the frames of HTTP/2 (RFC 9113) without a library --------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(4, 0, 0, b"")


def header(name: str, value: str) -> bytes:
    """A literal header that is not indexed (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def half_a_message(name: str) -> bytes:
    """A call whose one message of a million bytes breaks off after a few thousand."""
    headers = [(":method", "POST"), (":scheme", "http"), (":path", METHODS[name]), (":authority", "x")]
    headers += [("content-type", "application/grpc"), ("te", "trailers")]
    opened = frame(1, 4, 1, b"".join(header(*each) for each in headers))
    return PREFACE + SETTINGS + opened + frame(0, 0, 1, b"\x00" + (1_000_000).to_bytes(4, "big") + bytes(10_000))


@BOTH
def test_stalled_peers_cost_neither_the_others_nor_the_end(name: str) -> None:
    with listening() as peers, ExitStack() as stack:
        host, _, port = getattr(peers, name).rpartition(":")
        before = peers.memory()
        for number in range(200):
            stalled = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            stalled.sendall((b"", PREFACE, PREFACE + SETTINGS, half_a_message(name))[number % 4])
        until(lambda: peers.ask("status")[name]["streams"] == 50)
        with friend(peers) as send:
            for _ in range(5):
                send()
        assert ended(getattr(peers, name), name, GOOD[name])[0] is grpc.StatusCode.OK
        assert peers.memory("VmHWM") < before + MARGIN
        assert peers.ask("stop")["seconds"] < 6.5


def test_too_many_streams_are_told_so_and_the_open_ones_go_on() -> None:
    with listening(streams=30) as peers, friend(peers) as send, ExitStack() as stack:
        hold = threading.Event()
        stack.callback(hold.set)

        def idle() -> Iterator[bytes]:
            yield GOOD["als"]
            hold.wait(30)

        channel = stack.enter_context(own_channel(peers.als))
        calls = [channel.stream_unary(METHODS["als"]).future(idle(), timeout=30) for _ in range(29)]
        until(lambda: peers.ask("status")["als"]["streams"] == 30)
        for _ in range(10):
            code, details = ended(peers.als, "als", GOOD["als"])
            assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "30 streams are open already")
        send()
        assert peers.ask("status")["als"]["refused"] == 10
        hold.set()
        assert [call.result() for call in calls] == [b""] * 29
