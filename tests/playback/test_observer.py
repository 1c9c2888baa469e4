"""What the replay server answers: ranges, filters, masks, status; over a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from collector.sources.hubble_request import FIELDS
from collector.transport import open_channel
from collector.wire import observer_pb2 as api
from collector.wire.peer_pb2 import PEER_ADDED, ChangeNotification
from leastway.playback.server import Played
from tests.live import differences, observed, offline, playing

HOUR = "2026-03-02T08"
EXPERIMENTAL = b"\xba\x3e"  # field 999 of a request and of a filter, a message


def record(second: int, **more: Any) -> dict[str, Any]:
    """A flow from shop/web to shop/api, at a second of the hour; `more` are members of the flow."""
    time = f"{HOUR}:00:{second:02}.500Z"
    flow: dict[str, Any] = {
        "time": time,
        "uuid": f"flow-{second}",
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.1.2", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40000 + second, "destination_port": 8080, "flags": {"SYN": True}}},
        "source": {"ID": 1, "identity": 100, "namespace": "shop", "labels": ["k8s:app=web"], "pod_name": "web-1"},
        "destination": {
            "identity": 200,
            "namespace": "shop",
            "labels": ["k8s:app=api", "k8s:tier=back"],
            "pod_name": "api-1",
        },
        "Type": "L3_L4",
        "is_reply": False,
        "event_type": {"type": 4},
        "traffic_direction": "INGRESS",
        "trace_observation_point": "TO_ENDPOINT",
        "ethernet": {"source": "aa:aa:aa:aa:aa:aa"},
    }
    return {"flow": flow | more, "node_name": f"cluster/node-{second % 2}", "time": time}


RECORDS = [
    record(0),
    record(1, is_reply=True, source={"namespace": "shop", "pod_name": "api-1"}, traffic_direction="EGRESS"),
    record(2, verdict="DROPPED", drop_reason_desc="POLICY_DENIED", event_type={"type": 1, "sub_type": 133}),
    record(
        3,
        l4={"UDP": {"source_port": 40000, "destination_port": 53}},
        destination={"namespace": "kube-system", "pod_name": "coredns-x"},
    ),
    record(
        4,
        Type="L7",
        l7={"type": "RESPONSE", "latency_ns": "12", "http": {"method": "GET", "url": "http://api/", "code": 404}},
        destination_names=["api.example.com"],
    ),
    record(
        5,
        IP={"source": "fd00::1", "destination": "fd00::9", "ipVersion": "IPv6"},
        source={"labels": ["reserved:world"], "identity": 2, "workloads": [{"name": "web", "kind": "Deployment"}]},
    ),
    record(6, l4={"ICMPv4": {}}, destination={"namespace": "default", "pod_name": "solo-0"}),
    {
        "lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "3"},
        "node_name": "cluster/node-0",
        "time": f"{HOUR}:00:07Z",
    },
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    capture = tmp_path_factory.mktemp("observer") / "flows.jsonl"
    capture.write_text("".join(json.dumps(each) + "\n" for each in RECORDS))
    with playing(capture) as found:
        yield found


def ask(played: Played, **request: Any) -> list[Any]:
    """All responses to GetFlows; `request` in protojson form."""
    message: Any = ParseDict(request, api.GetFlowsRequest())
    with open_channel(played.address, None) as channel:
        call = channel.unary_stream(
            "/observer.Observer/GetFlows", response_deserializer=api.GetFlowsResponse.FromString
        )
        return list(call(message.SerializeToString(), timeout=5))


def seconds(responses: list[Any]) -> list[int]:
    return [response.time.seconds % 60 for response in responses]


def call(played: Played, method: str, reply: Any) -> Any:
    with open_channel(played.address, None) as channel:
        return channel.unary_unary(f"/observer.Observer/{method}", response_deserializer=reply.FromString)(
            b"", timeout=5
        )


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"number": "2"}, [6, 7]),
        ({"number": "2", "first": True}, [0, 1]),
        ({"number": "100"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"since": f"{HOUR}:00:05Z"}, [5, 6, 7]),
        ({"until": f"{HOUR}:00:01.500Z"}, [0, 1]),
        ({"since": f"{HOUR}:00:01.500Z", "until": f"{HOUR}:00:03Z"}, [1, 2]),
        ({"since": f"{HOUR}:30:00Z"}, []),
        ({"since": f"{HOUR}:00:02Z", "number": "2"}, [2, 3]),
        ({"number": "2", "whitelist": [{"verdict": ["FORWARDED"]}], "blacklist": [{"protocol": ["icmp"]}]}, [5, 7]),
    ],
)
def test_a_request_gets_the_flows_of_its_range(played: Played, request_: dict[str, Any], expected: list[int]) -> None:
    assert seconds(ask(played, **request_)) == expected


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({"source_pod": ["shop/web"]}, [0, 2, 3, 4, 6]),
        ({"source_pod": ["shop/"]}, [0, 1, 2, 3, 4, 6]),
        ({"destination_pod": ["kube-system/coredns-"]}, [3]),
        ({"destination_pod": ["solo"]}, [6]),
        ({"destination_pod": ["/coredns", "solo-"]}, [3, 6]),
        ({"source_ip": ["fd00::/64"]}, [5]),
        ({"destination_ip": ["10.0.1.2"]}, [0, 1, 2, 3, 4, 6]),
        ({"source_label": ["reserved:world"]}, [5]),
        ({"destination_label": ["app=api,tier"]}, [0, 1, 2, 4, 5]),
        ({"destination_label": ["k8s:app=web"]}, []),
        ({"verdict": ["DROPPED", "AUDIT"]}, [2]),
        ({"drop_reason_desc": ["POLICY_DENIED"]}, [2]),
        ({"event_type": [{"type": 1}]}, [2]),
        ({"event_type": [{"type": 1, "match_sub_type": True, "sub_type": 181}]}, []),
        ({"protocol": ["udp"]}, [3]),
        ({"protocol": ["HTTP", "icmp"]}, [4, 6]),
        ({"destination_port": ["53"]}, [3]),
        ({"source_port": ["40001"]}, [1]),
        ({"source_identity": [2]}, [5]),
        ({"node_name": ["node-1"]}, [1, 3, 5]),
        ({"node_name": ["cluster/"]}, [0, 1, 2, 3, 4, 5, 6]),
        ({"node_name": ["other/*"]}, []),
        ({"reply": [True]}, [1]),
        ({"traffic_direction": ["EGRESS"]}, [1]),
        ({"uuid": ["flow-3"]}, [3]),
        ({"http_status_code": ["404"]}, [4]),
        ({"http_status_code": ["4+"]}, [4]),
        ({"http_status_code": ["40+", "500"]}, [4]),
        ({"http_status_code": ["200", "5+"]}, []),
        ({"http_method": ["get"]}, [4]),
        ({"http_method": ["POST"]}, []),
        ({"ip_version": ["IPv6"]}, [5]),
        ({"source_workload": [{"name": "web"}]}, [5]),
        ({"source_workload": [{"name": "web", "kind": "StatefulSet"}, {"kind": "Deployment"}]}, [5]),
        ({"destination_workload": [{"name": "web"}]}, []),
        ({"destination_fqdn": ["*.Example.com."]}, [4]),
        ({"destination_fqdn": ["example.com"]}, []),
        ({"source_fqdn": ["*"]}, []),
        ({"tcp_flags": [{"SYN": True}]}, [0, 1, 2, 4, 5]),
        ({"tcp_flags": [{"SYN": True, "ACK": True}]}, []),
        ({"verdict": ["FORWARDED"], "protocol": ["udp"]}, [3]),
    ],
)
def test_a_filter_allows_or_denies_what_it_matches(played: Played, only: dict[str, Any], expected: list[int]) -> None:
    allowed = [response for response in ask(played, whitelist=[only]) if response.HasField("flow")]
    denied = [response for response in ask(played, blacklist=[only]) if response.HasField("flow")]
    assert seconds(allowed) == expected
    assert seconds(denied) == [second for second in range(7) if second not in expected]


@pytest.mark.parametrize(
    ("request_", "code", "word"),
    [
        ({"whitelist": [{"http_path": ["/x"]}]}, "UNIMPLEMENTED", "http_path"),
        ({"blacklist": [{"dns_query": ["x"]}]}, "UNIMPLEMENTED", "dns_query"),
        ({"whitelist": [{"source_label": ["app in (a, b)"]}]}, "UNIMPLEMENTED", "app in"),
        ({"whitelist": [{"source_ip": ["10.0.0.0/99"]}]}, "UNIMPLEMENTED", "10.0.0.0/99"),
        ({"whitelist": [{"source_port": ["http"]}]}, "UNIMPLEMENTED", "port"),
        ({"whitelist": [{"http_status_code": ["6+"]}]}, "UNIMPLEMENTED", "status code"),
        ({"whitelist": [{"source_fqdn": ["a b"]}]}, "UNIMPLEMENTED", "a b"),
        ({"first": True, "follow": True}, "INVALID_ARGUMENT", "follow"),
        ({"field_mask": "nonsense"}, "INVALID_ARGUMENT", "nonsense"),
        ({"field_mask": "source.labels.x"}, "INVALID_ARGUMENT", "source.labels.x"),
    ],
)
def test_what_is_not_implemented_is_refused(played: Played, request_: dict[str, Any], code: str, word: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        ask(played, **request_)
    assert raised.value.code().name == code
    assert word in raised.value.details()


@pytest.mark.parametrize(
    "raw",
    [b"\x32\x0d" + EXPERIMENTAL + b"\x0a\x0a\x08verdict1", EXPERIMENTAL + b"\x0a\x0a\x08\x0a\x06source"],
    ids=["cel_expression", "field_mask"],
)
def test_what_only_newer_clients_know_is_refused_too(played: Played, raw: bytes) -> None:
    with open_channel(played.address, None) as channel, pytest.raises(grpc.RpcError) as raised:
        list(channel.unary_stream("/observer.Observer/GetFlows")(raw, timeout=5))
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "field 999" in raised.value.details()


def test_a_mask_leaves_what_it_names(played: Played) -> None:
    response = _masked(played, "time", "source.pod_name", "l4")
    flow = response.flow
    assert {field.name for field, _ in flow.ListFields()} == {"time", "source", "l4"}
    assert {field.name for field, _ in flow.source.ListFields()} == {"pod_name"}
    assert response.HasField("time")
    assert not response.node_name  # as Hubble has it: the masked flow has none


def _masked(played: Played, *paths: str) -> Any:
    request = api.GetFlowsRequest(number=1, first=True)
    request.field_mask.paths.extend(paths)
    with open_channel(played.address, None) as channel:
        call = channel.unary_stream(
            "/observer.Observer/GetFlows", response_deserializer=api.GetFlowsResponse.FromString
        )
        return next(iter(call(request.SerializeToString(), timeout=5)))


def test_the_collectors_own_mask_is_understood(played: Played) -> None:
    response = _masked(played, *FIELDS)
    assert not response.flow.HasField("ethernet")
    assert response.node_name
    assert response.HasField("time")


def test_status_nodes_and_namespaces(played: Played) -> None:
    status = call(played, "ServerStatus", api.ServerStatusResponse)
    assert (status.num_flows, status.max_flows, status.num_connected_nodes.value) == (8, 8, 2)
    assert status.version.startswith("leastway replay")
    nodes = call(played, "GetNodes", api.GetNodesResponse).nodes
    assert [(node.name, node.num_flows, node.state) for node in nodes] == [
        ("cluster/node-0", 5, 1),
        ("cluster/node-1", 3, 1),
    ]
    namespaces = call(played, "GetNamespaces", api.GetNamespacesResponse).namespaces
    assert [each.namespace for each in namespaces] == ["default", "kube-system", "shop"]


def test_times_of_any_year_are_played_again_and_again(tmp_path: Path) -> None:
    capture = tmp_path / "flows.jsonl"
    years = ("0001-01-01", "1969-12-31", "2026-03-02", "2262-01-01", "9999-12-31")
    records = [record(second, time=f"{year}T23:59:59.5Z") for second, year in enumerate(years)]
    capture.write_text("".join(json.dumps(each | {"time": each["flow"]["time"]}) + "\n" for each in records))
    with playing(capture) as once:
        assert sorted(response.flow.uuid for response in ask(once)) == [f"flow-{n}" for n in range(5)]
        assert differences(observed(once.address), offline(capture)) == []
    with playing(capture, loop=True) as endless, open_channel(endless.address, None) as channel:
        follow = api.GetFlowsRequest(follow=True).SerializeToString()
        stream = channel.unary_stream("/observer.Observer/GetFlows")(follow, timeout=20)
        for _ in range(5 * 100):  # so many centuries later, the calendar has ended
            assert next(stream)
        stream.cancel()


@pytest.mark.parametrize("method", ["GetAgentEvents", "GetDebugEvents"])
def test_what_a_capture_of_flows_does_not_hold_is_not_made_up(played: Played, method: str) -> None:
    with open_channel(played.address, None) as channel, pytest.raises(grpc.RpcError) as raised:
        list(channel.unary_stream(f"/observer.Observer/{method}")(b"", timeout=5))
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert raised.value.details() == "leastway replay plays flows; it has no events of an agent"


def test_the_nodes_of_the_capture_are_peers_until_the_client_has_enough(played: Played) -> None:
    with open_channel(played.address, None) as channel:
        call = channel.unary_stream("/peer.Peer/Notify", response_deserializer=ChangeNotification.FromString)
        stream = call(b"", timeout=20)
        found = [next(stream), next(stream)]
        assert [(peer.name, peer.type, peer.address) for peer in found] == [
            (name, PEER_ADDED, str(played.address)) for name in ("cluster/node-0", "cluster/node-1")
        ]
        assert not stream.done()  # there may be changes, as far as a client can tell
        stream.cancel()


def test_the_health_check_of_the_upstream_client_is_answered(played: Played) -> None:
    with open_channel(played.address, None) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"\x0a\x16hubble.server.Observer", timeout=5) == b"\x08\x01"


def capture_in(folder: Path) -> Path:
    capture = folder / "flows.jsonl"
    capture.write_text("".join(json.dumps(each) + "\n" for each in RECORDS))
    return capture


def test_the_pace_is_that_of_the_capture(tmp_path: Path) -> None:
    with playing(capture_in(tmp_path), speed=10.0) as slow:
        began = time.monotonic()
        message = api.GetFlowsRequest(follow=True)
        with open_channel(slow.address, None) as channel:
            call = channel.unary_stream("/observer.Observer/GetFlows")(message.SerializeToString(), timeout=10)
            times = []
            for _ in zip(range(7), call, strict=False):
                times.append(time.monotonic() - began)
            call.cancel()
    assert times[-1] - times[0] == pytest.approx(0.6, abs=0.15)


def test_a_loop_goes_on_with_later_times_and_other_ids(tmp_path: Path) -> None:
    with playing(capture_in(tmp_path), loop=True) as endless, open_channel(endless.address, None) as channel:
        stream = channel.unary_stream(
            "/observer.Observer/GetFlows", response_deserializer=api.GetFlowsResponse.FromString
        )
        call = stream(api.GetFlowsRequest(follow=True).SerializeToString(), timeout=10)
        found = [response for _, response in zip(range(24), call, strict=False)]
        call.cancel()
    moments = [response.time.ToNanoseconds() for response in found]
    assert moments == sorted(moments)
    ids = [response.flow.uuid for response in found if response.HasField("flow")]
    assert len(set(ids)) == len(ids) == 21


def test_many_followers_and_no_more_than_many(played: Played) -> None:
    request = api.GetFlowsRequest(follow=True).SerializeToString()
    with open_channel(played.address, None) as channel:
        calls = [channel.unary_stream("/observer.Observer/GetFlows")(request, timeout=10) for _ in range(64)]
        for call in calls:
            next(call)
        with pytest.raises(grpc.RpcError) as raised:
            next(channel.unary_stream("/observer.Observer/GetFlows")(request, timeout=10))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
    limit = time.monotonic() + 5
    while any(t.name.startswith("replay") and t.is_alive() and _busy(played) for t in threading.enumerate()):
        assert time.monotonic() < limit
        time.sleep(0.01)


def _busy(played: Played) -> bool:
    try:
        ask(played, number=1)
    except grpc.RpcError:
        return True
    return False
