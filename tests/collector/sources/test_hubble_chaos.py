"""Whatever happens to the connection: no flow twice, no flow lost unsaid."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.patterns import Patterns
from collector.sources import hubble_resume
from collector.wire import relay_pb2
from collector.wire.observer_pb2 import GetFlowsResponse
from leastway.playback.capture import Capture
from tests import http2
from tests.live import differences, eventually, observing, offline, playing, received, serving
from tests.simulator import hubble_records

SECOND = 1_000_000_000
START = 1_772_438_400  # 2026-03-02T08:00:00Z


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of some nodes, dense enough that records can be moved."""
    path = tmp_path_factory.mktemp("chaos") / "flows.jsonl"
    records = hubble_records(1).records
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def arrived(capture: Capture, missing: set[int], folder: Path) -> Patterns:
    """What a file with all records but the missing ones gives."""
    from google.protobuf.json_format import MessageToDict

    path = folder / "arrived.jsonl"
    with path.open("w") as file:
        for position in range(len(capture)):
            if position not in missing:
                message: Any = GetFlowsResponse.FromString(capture[position])
                file.write(json.dumps(MessageToDict(message, preserving_proto_field_name=True)) + "\n")
    return offline(path)


@pytest.mark.parametrize("seed", [1, 2])
def test_fifty_disconnects_and_all_else_count_every_flow_once(seed: int, capture: Path, tmp_path: Path) -> None:
    with playing(capture, seed=seed) as played, observing(played.address) as source:
        chaos = played.chaos
        assert chaos is not None
        assert len(chaos.disconnects) == 50
        expected = arrived(played.capture, chaos.missing, tmp_path)
        flows = len(played.capture) - len(chaos.missing)
        assert eventually(lambda: received(source) >= flows and source.status.reconnects >= 50, 30), source.trouble
        source.stop(5)
        found = source.take()
        assert differences(found, expected, "lost", "nodes", "blind") == []
        assert received(source) == flows
        assert played.wire is not None
        assert played.wire.cuts >= 3
        assert 50 <= source.status.reconnects <= 50 + played.wire.cuts  # a cut may hide a disconnect

        told: Counter[str] = Counter()
        for losses in chaos.lost.values():
            for node, count in losses:
                told[f"{node} HUBBLE_RING_BUFFER"] += count
        assert found.quality.lost.kept == told
        away = {name for nodes in chaos.away.values() for name, back in nodes if not back}
        assert {f"NODE_UNAVAILABLE {name}" for name in away} <= found.quality.nodes.kept.keys()
        gaps = {key.removeprefix("GAP ") for key in found.quality.nodes.kept if key.startswith("GAP ")}
        assert gaps == {name for name, _ in chaos.overruns.values()}
        assert {key.partition(" ")[2] for key in found.quality.blind.kept if key.endswith(": gap")} == {
            f"{name}: gap" for name in gaps
        }


def message(node: str, moment: float, uuid: str = "", port: int = 8080) -> bytes:
    """One response with a first packet from web to api."""
    response: Any = GetFlowsResponse(node_name=node)
    response.time.FromNanoseconds(int((START + moment) * SECOND))
    flow = response.flow
    flow.time.CopyFrom(response.time)
    flow.uuid = uuid
    flow.verdict, flow.IP.source, flow.IP.destination = 1, "10.0.0.1", "10.0.0.2"
    flow.l4.TCP.source_port, flow.l4.TCP.destination_port, flow.l4.TCP.flags.SYN = 40000, port, True
    flow.is_reply.value = False
    flow.event_type.type, flow.trace_observation_point = 4, 101
    for end, name in ((flow.source, "web"), (flow.destination, "api")):
        end.namespace, end.pod_name, end.identity = "shop", f"{name}-1", 1000
        end.labels.append(f"k8s:app={name}")
    return bytes(response.SerializeToString())


def gathered(*streams: list[bytes], torn: bytes = b"") -> Patterns:
    """What comes of a server whose n-th stream is the n-th list and then breaks off; `torn` ends the first."""
    arrived = [threading.Event() for _ in streams]

    def answer(number: int) -> Iterator[bytes]:
        if number <= len(streams):
            yield from map(http2.grpc_message, streams[number - 1])
            yield torn if number == 1 else b""
            yield b""
            arrived[number - 1].wait(10)

    with http2.Server(answer, status=None) as server, observing(server.address) as source:
        awaited = 0
        for stream, event in zip(streams, arrived, strict=True):
            awaited += sum(GetFlowsResponse.FromString(raw).HasField("flow") for raw in stream)
            assert eventually(lambda: received(source) + source.repeated >= awaited), source.trouble  # noqa: B023
            event.set()
        assert eventually(lambda: source.status.reconnects >= len(streams)), source.trouble
        source.stop(5)
        return source.take()


def records(patterns: Patterns) -> int:
    return patterns.quality.records.get("hubble", 0)


def test_the_overlap_is_counted_once_per_node() -> None:
    fast = [message("fast", at, f"fast-{at}") for at in range(20)]
    slow = [message("slow", at / 10, f"slow-{at}") for at in range(20)]
    patterns = gathered(fast[:12] + slow[:10], fast[4:] + slow[3:])
    assert records(patterns) == 40
    assert not [key for key in patterns.quality.nodes.kept if key.startswith("GAP")]


def test_flows_without_an_id_are_told_apart_by_content() -> None:
    flows = [message("node", at) for at in range(20)]
    patterns = gathered(flows[:12], flows[7:])
    assert records(patterns) == 20


def test_what_the_server_repeats_within_a_stream_is_counted_once() -> None:
    flows = [message("node", at, f"flow-{at}") for at in range(20)]
    patterns = gathered([*flows, *flows[5:]])
    assert records(patterns) == 20


def test_one_id_over_two_different_flows_is_two_flows() -> None:
    patterns = gathered([message("node", 1, "same"), message("node", 1, "same", port=9090)])
    assert records(patterns) == 2


def test_late_flows_around_a_reconnect_are_not_lost() -> None:
    flows = [message("node", at / 2, f"flow-{at}") for at in range(20)]
    first = [*flows[:8], *flows[10:12]]  # 8 and 9 are late
    patterns = gathered(first, flows[3:])
    assert records(patterns) == 20


@pytest.mark.parametrize("moment", [250_000_000_000, 4_000_000_000, -62_135_600_000 - START, -START])
def test_a_clock_gone_wrong_costs_nothing_after_a_reconnect(moment: int) -> None:
    flows = [message("node", at, f"flow-{at}") for at in range(20)]
    wrong = GetFlowsResponse.FromString(message("node", 5, "wrong"))
    wrong.time.seconds = wrong.flow.time.seconds = START + moment
    patterns = gathered([*flows[:10], wrong.SerializeToString()], flows[7:])
    assert records(patterns) == 21
    assert patterns.quality.nodes.kept == {}


@pytest.mark.parametrize("ahead", [120, 7200])
def test_a_clock_that_is_set_back_costs_nothing_after_a_reconnect(ahead: int) -> None:
    wrong = [message("node", ahead + at, f"wrong-{at}") for at in range(3)]
    flows = [message("node", at, f"flow-{at}") for at in range(20)]
    patterns = gathered([*wrong, *flows[:10]], flows[7:])
    assert records(patterns) == 23
    assert patterns.quality.nodes.kept == {}


def test_a_gap_after_flows_without_a_time_is_in_the_hour_of_what_came_then() -> None:
    timeless = GetFlowsResponse.FromString(message("node", 0, "timeless"))
    timeless.ClearField("time")
    timeless.flow.ClearField("time")
    patterns = gathered([timeless.SerializeToString()], [message("node", 1, "flow-1")])
    assert [spot for spot in patterns.quality.blind if spot.endswith("node: gap")] == ["2026-03-02T08 node: gap"]


def test_a_buffer_that_has_run_over_is_a_gap_of_its_node_alone() -> None:
    over = [message("over", at, f"over-{at}") for at in range(40)]
    well = [message("well", at, f"well-{at}") for at in range(40)]
    patterns = gathered(over[:10] + well[:10], over[30:] + well[8:])
    assert records(patterns) == 20 + 10 + 30
    assert [key for key in patterns.quality.nodes.kept if key.startswith("GAP")] == ["GAP over"]
    assert list(patterns.quality.blind) == ["2026-03-02T08 over: gap"]


def test_a_node_that_does_not_come_back_is_a_gap() -> None:
    gone = [message("gone", at, f"gone-{at}") for at in range(5)]
    well = [message("well", at, f"well-{at}") for at in range(40)]
    patterns = gathered(gone + well[:20], well[18:])
    assert patterns.quality.nodes.kept == {"GAP gone": 1}


def status(state: str, node: str, text: str = "") -> bytes:
    response: Any = GetFlowsResponse(node_name="relay")
    response.time.FromNanoseconds((START + 60) * SECOND)
    response.node_status.state_change = getattr(relay_pb2, state)
    response.node_status.node_names.append(node)
    response.node_status.message = text
    return bytes(response.SerializeToString())


@pytest.mark.parametrize("named", ["east/node", "node"])
def test_what_relay_sends_again_of_a_node_that_is_back_is_counted_once(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubble_resume, "REMEMBERED", 8)
    flows = [message("east/node", at, f"flow-{at}") for at in range(60)]
    patterns = gathered([*flows[:40], status("NODE_ERROR", named), status("NODE_CONNECTED", named), *flows])
    assert records(patterns) == 60
    assert patterns.quality.nodes.kept == {f"NODE_ERROR {named}": 1, f"NODE_CONNECTED {named}": 1}


@pytest.mark.parametrize("said", ["invalid fieldmask", 'proto: invalid path "uuid" for message "flow.Flow"'])
def test_a_node_behind_relay_that_refuses_the_mask_is_asked_without(said: str) -> None:
    refusal = status("NODE_ERROR", "node", said)
    asked = []

    def get_flows(request: Any, context: Any) -> Iterator[bytes]:
        asked.append(len(request.field_mask.paths))
        yield refusal if asked[-1] else message("node", 1, "flow-1")
        threading.Event().wait(0.3)

    with serving(get_flows) as address, observing(address) as source:
        assert eventually(lambda: received(source) == 1)
    assert asked[0] > 10
    assert asked[1] == 0


@pytest.mark.parametrize("cut", [1, 3, 5, 40, -1])
def test_a_server_that_dies_in_the_middle_of_a_message_costs_nothing(cut: int) -> None:
    flows = [message("node", at, f"flow-{at}") for at in range(10)]
    torn = http2.grpc_message(flows[6])[:cut]
    patterns = gathered(flows[:6], flows[3:], torn=torn)
    assert records(patterns) == 10
    assert not patterns.quality.bad


def test_a_quiet_stream_that_breaks_off_is_a_gap() -> None:
    with http2.Server(lambda _: [b""], status=None) as server, observing(server.address) as source:
        quality = Patterns().quality

        def told() -> list[str]:
            quality.merge(source.take().quality)
            return [key for key in quality.nodes if key.startswith("GAP")]

        assert eventually(lambda: told() != [])  # that it is connected lasts too short to be met
    assert told() == [f"GAP {server.address}"]
    assert {key.partition(" ")[2] for key in quality.blind} >= {f"{server.address}: gap"}


def test_a_server_that_is_there_later_is_a_gap_until_then(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/hubble"
    with observing(address) as source:
        assert eventually(lambda: source.status.reconnects >= 1)
        with serving(lambda *_: iter([message("node", 1, "flow-1")]), address):
            assert eventually(lambda: received(source) == 1)
            assert source.take().quality.nodes.kept == {f"GAP {address}": 1}


def test_a_server_that_is_there_has_no_gap() -> None:
    with serving(lambda *_: iter([message("node", 1, "flow-1")])) as address, observing(address) as source:
        assert eventually(lambda: received(source) == 1)
        assert source.take().quality.nodes.kept == {}


def test_while_there_is_no_connection_every_take_says_so() -> None:
    with observing("127.0.0.1:1") as source:
        assert eventually(lambda: source.status.reconnects >= 1)
        assert [key.partition(" ")[2] for key in source.take().quality.blind] == ["127.0.0.1:1: not connected"]
