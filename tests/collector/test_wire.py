"""The wire: field numbers and types are Cilium's, and the stubs are those of the .proto files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from collector.sources.hubble_request import METHOD
from collector.wire import flow_pb2, hubble_records_pb2, observer_pb2, relay_pb2

WIRE = Path(observer_pb2.__file__).parent

# Cilium v1.19.4, api/v1/{flow,observer,relay}: what is declared here and where it stands on the wire.
NUMBERS = """
flow.Flow time=1 verdict=2 drop_reason=3 ethernet=4 IP=5 l4=6 source=8 destination=9 Type=10 node_name=11
  source_names=13 destination_names=14 l7=15 reply=16 event_type=19 source_service=20 destination_service=21
  traffic_direction=22
  policy_match_type=23 trace_observation_point=24 drop_reason_desc=25 is_reply=26 interface=28 proxy_port=29
  trace_context=30 sock_xlate_point=31 socket_cookie=32 cgroup_id=33 uuid=34 auth_type=35 trace_reason=36 node_labels=37
  file=38 emitter=41 egress_allowed_by=21001 ingress_allowed_by=21002 egress_denied_by=21004 ingress_denied_by=21005
  policy_log=21006 aggregate=21007 Summary=100000
flow.Endpoint ID=1 identity=2 namespace=3 labels=4 pod_name=5 workloads=6 cluster_name=7
flow.Workload name=1 kind=2
flow.IP source=1 destination=2 ipVersion=3 encrypted=4 source_xlated=5
flow.Layer4 TCP=1 UDP=2 ICMPv4=3 ICMPv6=4 SCTP=5 VRRP=6 IGMP=7
flow.TCP source_port=1 destination_port=2 flags=3
flow.TCPFlags FIN=1 SYN=2 RST=3 PSH=4 ACK=5 URG=6 ECE=7 CWR=8 NS=9
flow.UDP source_port=1 destination_port=2
flow.SCTP source_port=1 destination_port=2
flow.ICMPv4 type=1 code=2
flow.ICMPv6 type=1 code=2
flow.IGMP type=1 group_address=2
flow.VRRP type=1 vrid=2 priority=3
flow.Ethernet source=1 destination=2
flow.Layer7 type=1 latency_ns=2 dns=100 http=101 kafka=102
flow.DNS query=1 ips=2 ttl=3 cnames=4 observation_source=5 rcode=6 qtypes=7 rrtypes=8
flow.HTTP code=1 method=2 url=3 protocol=4 headers=5
flow.HTTPHeader key=1 value=2
flow.Kafka error_code=1 api_version=2 api_key=3 correlation_id=4 topic=5
flow.Service name=1 namespace=2
flow.CiliumEventType type=1 sub_type=2
flow.NetworkInterface index=1 name=2
flow.Policy name=1 namespace=2 labels=3 revision=4 kind=5
flow.FileInfo name=1 line=2
flow.Emitter name=1 version=2
flow.TraceContext parent=1
flow.TraceParent trace_id=1
flow.LostEvent source=1 num_events_lost=2 cpu=3 first=4 last=5
flow.FlowFilter source_ip=1 source_pod=2 destination_ip=3 destination_pod=4 verdict=5 event_type=6 source_fqdn=7
  destination_fqdn=8 http_status_code=9 source_label=10 destination_label=11 protocol=12 source_port=13
  destination_port=14 reply=15 source_service=16 destination_service=17 dns_query=18 source_identity=19
  destination_identity=20 http_method=21 http_path=22 tcp_flags=23 node_name=24 ip_version=25 source_workload=26
  destination_workload=27 trace_id=28 uuid=29 traffic_direction=30 http_url=31 http_header=32 drop_reason_desc=33
  source_ip_xlated=34 interface=35 node_labels=36 source_cluster_name=37 destination_cluster_name=38 ip_trace_id=39
  encrypted=40
flow.EventTypeFilter type=1 match_sub_type=2 sub_type=3
flow.Aggregate ingress_flow_count=1 egress_flow_count=2 unknown_direction_flow_count=3
relay.NodeStatusEvent state_change=1 node_names=2 message=3
observer.GetFlowsRequest number=1 follow=3 blacklist=5 whitelist=6 since=7 until=8 first=9 field_mask=10
observer.GetFlowsResponse flow=1 node_status=2 lost_events=3 node_name=1000 time=1001
observer.GetNodesRequest
observer.GetNamespacesRequest
observer.ServerStatusRequest
observer.ServerStatusResponse num_flows=1 max_flows=2 seen_flows=3 uptime_ns=4 num_connected_nodes=5
  num_unavailable_nodes=6 unavailable_nodes=7 version=8 flows_rate=9
observer.GetNodesResponse nodes=1
observer.Node name=1 version=2 address=3 state=4 tls=5 uptime_ns=6 num_flows=7 max_flows=8 seen_flows=9
observer.TLS enabled=1 server_name=2
observer.GetNamespacesResponse namespaces=1
observer.Namespace cluster=1 namespace=2
"""

# Our name for a message → Cilium's, and what is written differently in it.
READ_AS = {
    "Response": ("observer", "GetFlowsResponse"),
    "Flow": ("flow", "Flow"),
    "Endpoint": ("flow", "Endpoint"),
    "Workload": ("flow", "Workload"),
    "IP": ("flow", "IP"),
    "Layer4": ("flow", "Layer4"),
    "Ports": ("flow", "TCP"),
    "TCPFlags": ("flow", "TCPFlags"),
    "EventType": ("flow", "CiliumEventType"),
    "Layer7": ("flow", "Layer7"),
    "HTTP": ("flow", "HTTP"),
    "NodeStatus": ("relay", "NodeStatusEvent"),
    "LostEvents": ("flow", "LostEvent"),
}
RENAMED = {"ip": "IP", "type": "Type", "tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp4": "ICMPv4", "icmp6": "ICMPv6"}
PACKAGES: dict[str, Any] = {"flow": flow_pb2, "observer": observer_pb2, "relay": relay_pb2}


def test_every_field_has_ciliums_number() -> None:
    expected = {}
    for line in NUMBERS.strip().replace("\n  ", " ").splitlines():
        name, *fields = line.split()
        expected[name] = {field.partition("=")[0]: int(field.partition("=")[2]) for field in fields}
    declared = {
        message.full_name: {field.name: field.number for field in message.fields}
        for package in PACKAGES.values()
        for message in package.DESCRIPTOR.message_types_by_name.values()
    }
    assert declared == expected


@pytest.mark.parametrize("name", READ_AS)
def test_what_is_read_stands_where_cilium_writes_it(name: str) -> None:
    package, theirs = READ_AS[name]
    whole = PACKAGES[package].DESCRIPTOR.message_types_by_name[theirs].fields_by_name
    for field in hubble_records_pb2.DESCRIPTOR.message_types_by_name[name].fields:
        same = whole.get(field.name) or whole[RENAMED[field.name]]
        assert field.number == same.number
        assert _wire_type(field) == _wire_type(same)


def _wire_type(field: Any) -> str:
    """Varints, fixed-length numbers, or anything with a length (text, bytes, messages)."""
    if field.type in (field.TYPE_STRING, field.TYPE_BYTES, field.TYPE_MESSAGE):
        return "length"
    return "fixed" if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT) else "varint"


@pytest.mark.parametrize("name", ["flow", "relay", "observer", "hubble_records"])
def test_the_stubs_are_those_of_the_proto_file(name: str) -> None:
    """A comparison of what is declared: the compiler itself is not among the test tools."""
    text = re.sub(r"//.*", "", (WIRE / f"{name}.proto").read_text(encoding="utf-8"))
    module: Any = {**PACKAGES, "hubble_records": hubble_records_pb2}[name]
    for kind, found in (
        ("message", module.DESCRIPTOR.message_types_by_name),
        ("enum", module.DESCRIPTOR.enum_types_by_name),
    ):
        blocks = dict(re.findall(rf"^{kind} (\w+) \{{(?:\}}|\n(.*?)^\}})", text, re.MULTILINE | re.DOTALL))
        assert set(blocks) == set(found)
        for each, block in blocks.items():
            declared = {(field, int(number)) for field, number in re.findall(r"(\w+) = (\d+);", block)}
            members = found[each].fields if kind == "message" else found[each].values
            assert {(member.name, member.number) for member in members} == declared, f"{each}: make stubs"


def test_the_service_is_the_one_that_is_called() -> None:
    service = observer_pb2.DESCRIPTOR.services_by_name["Observer"]
    assert METHOD in {f"/{service.full_name}/{method.name}" for method in service.methods}
