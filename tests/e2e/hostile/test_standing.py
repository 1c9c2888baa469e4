"""Denied, unanswered, rare: what was seen and is no intent, and what is intent although it was seen once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hostile.logs import envoy
from tests.e2e.hostile.scene import Record, Scene, as_lines

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])


@BOTH
def test_denied_then_allowed(tmp_path: Path, inventory: bool) -> None:
    """Stopped first, then let through: the later traffic is the intent."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.drop(web, api, 8080, times=9)
    s.talk(web, api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []


@BOTH
@pytest.mark.parametrize("flags", ["SYN", "ACK"])
def test_what_was_always_denied_is_never_allowed(tmp_path: Path, inventory: bool, flags: str) -> None:
    """Never, however often; in any form a drop has."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/evil")
    s.talk(web, api, 8080)
    s.drop(evil, api, 8080, times=50)
    for record in s.records:
        if record["flow"]["verdict"] == "DROPPED":
            record["flow"]["l4"]["TCP"]["flags"] = {flags: True}
    s.packet(evil, api, 44_000, 8080, flags="SYN", reply=None, verdict="DROPPED")  # masked: no reason
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/evil", "shop/api", 8080)]) == []
    assert out.review("denied")


@BOTH
@pytest.mark.parametrize("denied", [True, False])
def test_a_record_without_addresses_vouches_for_nobody_outside(tmp_path: Path, inventory: bool, denied: bool) -> None:
    """Null instead of the addresses, beside an address outside that was stopped every time or never answered."""
    s = Scene()
    web, bank, evil = s.pod("shop/web"), s.world("203.0.113.10"), s.world("198.51.100.66")
    s.talk(web, bank, 443)
    for record in s.talk(web, bank, 443):
        record["flow"]["IP"] = None
    if denied:
        s.drop(web, evil, 443, times=9)
    else:
        for number in range(9):
            s.packet(web, evil, 44_000 + number, 443, flags="SYN")
    out = s.run(tmp_path, inventory=inventory)
    assert out.blocks() == ["203.0.113.10/32"]
    assert out.review("denied" if denied else "unanswered")


@BOTH
def test_audit_verdict_is_intent(tmp_path: Path, inventory: bool) -> None:
    """AUDIT: forwarded, and a gap in today's policy (semantics 3, no. 9)."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    for number in range(3):
        s.packet(web, api, 43_000 + number, 8080, flags="SYN", verdict="AUDIT", event_type={"type": 5})
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []


@BOTH
def test_redirected_is_forwarded(tmp_path: Path, inventory: bool) -> None:
    """REDIRECTED to the L7 proxy, and its second leg: one edge."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    for number in range(3):
        s.packet(
            web,
            api,
            43_000 + number,
            8080,
            flags="SYN",
            verdict="REDIRECTED",
            event_type={"type": 5},
            proxy_port=16_000,
            node=web.node,
        )
        s.packet(web, api, 43_000 + number, 8080, flags="SYN", reply=None, point="TO_PROXY", node=web.node)
        s.http(web, api, 8080, "GET", "/items")
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "shop/api", 16_000)]) == []


@BOTH
@pytest.mark.parametrize("verdict", ["ERROR", "VERDICT_UNKNOWN", "TRACED", "TRANSLATED", "SURPRISE"])
def test_other_verdicts_are_no_edges(tmp_path: Path, inventory: bool, verdict: str) -> None:
    """Ignored and counted."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/other")
    s.talk(web, api, 8080)
    s.talk(other, api, 8080, verdict=verdict, replies=False)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/other", "shop/api", 8080)]) == []


@BOTH
def test_icmp_alone_opens_no_port(tmp_path: Path, inventory: bool) -> None:
    """No port rule, port 0 least of all."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    kinds: list[Record] = [
        {"ICMPv4": {"type": 8}},
        {"ICMPv4": {}},
        {"ICMPv6": {"type": 128}},
        {"IGMP": {}},
        {"VRRP": {}},
    ]
    for layer4 in kinds:
        s.packet(web, api, 0, 0, l4=layer4)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([], [("shop/web", "shop/api", 8080)], closed=False) == [] or not out.policies("NetworkPolicy")
    assert "port: 0" not in out.yaml


@BOTH
def test_sctp_is_a_protocol_of_its_own(tmp_path: Path, inventory: bool) -> None:
    """A protocol of its own."""
    s = Scene()
    amf, smf = s.pod("core/amf"), s.pod("core/smf", ports=((38_412, "SCTP"),))
    s.talk(amf, smf, 38_412, "SCTP", times=5)
    s.talk(amf, smf, 2905, "SCTP", times=5)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("core/amf", "core/smf", 38_412, "SCTP"), ("core/amf", "core/smf", 2905, "SCTP")]
    assert out.wrong(wanted, [("core/amf", "core/smf", 2905, "TCP")]) == []


@BOTH
def test_tcp_and_udp_at_one_port(tmp_path: Path, inventory: bool) -> None:
    """Two protocols at one port stay two."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/other")
    s.talk(web, api, 8443)
    s.talk(other, api, 8443, "UDP")
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8443, "TCP"), ("shop/other", "shop/api", 8443, "UDP")]
    denied = [("shop/web", "shop/api", 8443, "UDP"), ("shop/other", "shop/api", 8443, "TCP")]
    assert out.wrong(wanted, denied) == []


@BOTH
def test_one_answered_connection_to_a_declared_port(tmp_path: Path, inventory: bool) -> None:
    """Answered, and declared (or all that the destination serves): intent."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.talk(web, api, 8080, times=1)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []


@BOTH
def test_one_answered_connection_to_an_odd_port(tmp_path: Path, inventory: bool) -> None:
    """Nothing vouches for it: a question, not a rule."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/other")
    s.talk(web, api, 8080)
    s.talk(other, api, 8080)
    s.talk(web, api, 31337, times=1)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/other", "shop/api", 8080)]
    assert out.wrong(wanted, [("shop/web", "shop/api", 31337)]) == []
    assert out.review("one-off")


@BOTH
def test_unanswered_syn_where_replies_are_shown(tmp_path: Path, inventory: bool) -> None:
    """SYNs alone, in a capture that shows these parties' answers."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/other")
    s.talk(web, api, 8080)
    s.talk(other, api, 8080)
    s.talk(other, api, 6379, replies=False, times=6)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/other", "shop/api", 8080)]
    assert out.wrong(wanted, [("shop/other", "shop/api", 6379)]) == []
    assert out.review("unanswered")


@BOTH
def test_unanswered_syn_where_no_reply_is_shown(tmp_path: Path, inventory: bool) -> None:
    """A capture of first packets only: an unanswered SYN means nothing."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/other")
    s.talk(web, api, 8080, replies=False)
    s.talk(other, api, 6379, replies=False)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080), ("shop/other", "shop/api", 6379)]) == []


@BOTH
@pytest.mark.parametrize("how", [{"event_type": {"type": 5}}, {}], ids=["verdicts", "first packets"])
def test_access_logs_that_show_answers_beside_first_packets(
    tmp_path: Path, inventory: bool, how: dict[str, Any]
) -> None:
    """Each source is judged by what it shows itself; what comes from outside and goes there was lost by the other's."""
    s = Scene()
    gateway, web = s.pod("edge/gateway", ports=((8443, "TCP"),)), s.pod("shop/web")
    outside = s.world("203.0.113.7")
    for source, destination, port in ((outside, gateway, 8443), (gateway, web, 8080), (web, outside, 443)):
        s.talk(source, destination, port, replies=False, **how)
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    entries = [envoy(gateway, web, 8080)]
    entries += [
        envoy(
            gateway,
            web,
            8080,
            upstream_cluster="outbound|80||web.shop.svc.cluster.local",
            downstream_remote_address="203.0.113.7:50000",
            downstream_local_address=f"{gateway.ip}:8443",
            node_id=f"router~{gateway.ip}~{gateway.pod}.edge~edge.svc.cluster.local",
            downstream_peer_uri_san=None,
            downstream_local_uri_san=None,
            pod=gateway.pod,
            namespace="edge",
        )
    ]
    (tmp_path / "access.jsonl").write_text(as_lines(entries))
    out = s.run_files([tmp_path / "flows.jsonl", tmp_path / "access.jsonl"], tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "203.0.113.7", 443)], [("203.0.113.7", "shop/web", 8080)]) == []
    assert (out.blocks("ingress"), out.blocks("egress")) == (["0.0.0.0/0"], ["203.0.113.7/32"])
    assert out.review("unanswered") == []


@BOTH
def test_always_refused_where_nothing_else_was_seen(tmp_path: Path, inventory: bool) -> None:
    """Neither party was answered ever; a reset is no answer."""
    s = Scene()
    web, db = s.pod("shop/web"), s.pod("shop/db")
    s.talk(s.pod("shop/api"), s.pod("shop/cache"), 6379)
    for number in range(5):
        s.packet(web, db, 44_000 + number, 9200, flags="SYN", reason="NEW")
        s.packet(db, web, 9200, 44_000 + number, flags="RST ACK", reply=None, node=web.node)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/api", "shop/cache", 6379)], [("shop/web", "shop/db", 9200)]) == []
    assert "every attempt was refused" in out.result.files["REVIEW.md"]


@BOTH
def test_refused_connections(tmp_path: Path, inventory: bool) -> None:
    """SYN, then RST: nobody listens there."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/other")
    s.talk(web, api, 8080)
    for number in range(5):
        s.packet(other, api, 44_000 + number, 9200, flags="SYN", reason="NEW")
        s.packet(api, other, 9200, 44_000 + number, flags="RST ACK", reply=True, reason="REPLY", node=other.node)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/other", "shop/api", 9200)]) == []


@BOTH
@pytest.mark.parametrize("port", [514, 8125, 6831, 12201])
def test_udp_sink_never_answers(tmp_path: Path, inventory: bool, port: int) -> None:
    """syslog, statsd, traces: one-way by design (semantics 3, no. 52)."""
    s = Scene()
    web, api, sink = s.pod("shop/web"), s.pod("shop/api"), s.pod("log/sink")
    s.talk(web, api, 8080)
    s.dns(web, s.pod("kube-system/coredns", {"k8s-app": "kube-dns"}))
    for source in (web, api):
        s.talk(source, sink, port, "UDP", replies=False, times=12)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), *((f"shop/{w}", "log/sink", port, "UDP") for w in ("web", "api"))]
    assert out.wrong(wanted) == []


@BOTH
def test_lost_events_and_node_status_are_no_flows(tmp_path: Path, inventory: bool) -> None:
    """They are told, and change no rule."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    plain = s.run(tmp_path, inventory=inventory).yaml
    s.records.insert(0, {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "1"}, "node_name": "n"})
    s.records.append({"node_status": {"state_change": "NODE_UNAVAILABLE", "node_names": ["n"]}})
    s.records.append({"lost_events": {"source": None, "num_events_lost": "many"}})
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    assert out.yaml == plain
    assert "lost" in out.result.files["REVIEW.md"]


@BOTH
def test_duplicates_do_not_make_a_one_off_frequent(tmp_path: Path, inventory: bool) -> None:
    """The same record twice (two relays) is one connection: rare stays rare."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/other")
    s.talk(web, api, 8080)
    s.talk(other, api, 8080)
    s.talk(web, api, 31337, times=1)
    out = s.run(tmp_path, inventory=inventory, text=as_lines(s.records) * 3)
    assert out.ask("shop/web", "shop/api", 31337) == "deny"
    assert out.ask("shop/web", "shop/api", 8080) == "allow"


@BOTH
def test_retransmitted_syn_is_one_connection(tmp_path: Path, inventory: bool) -> None:
    """The same tuple three times within three seconds: once is once, however often its first packet is seen."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/other")
    s.talk(web, api, 8080)
    s.talk(other, api, 8080)
    for _ in range(3):
        s.packet(web, api, 43_210, 31337, flags="SYN", reason="NEW")
    s.packet(api, web, 31337, 43_210, flags="SYN ACK", reply=True, reason="REPLY", node=web.node)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "shop/api", 31337)], closed=False) == []


@BOTH
@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_twenty_answers_are_no_single_connection(tmp_path: Path, inventory: bool, protocol: str) -> None:
    """Only the replies were captured, to twenty client ports: inferred, and not a one-off."""
    s = Scene()
    web, api, out_there = s.pod("shop/web"), s.pod("shop/api"), s.world("203.0.113.7")
    s.talk(web, api, 8080)
    for number in range(20):
        s.packet(out_there, web, 443, 40_000 + number * 3, protocol, flags="ACK PSH", reply=True, node=web.node)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080), ("shop/web", "203.0.113.7", 443, protocol)]) == []


@BOTH
@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_many_clients_of_a_server_at_an_ephemeral_port(tmp_path: Path, inventory: bool, protocol: str) -> None:
    """No SYN tells, but every conversation ends at the one port, answered, twelve times over."""
    s = Scene()
    a, b, server = s.pod("core/a"), s.pod("core/b"), s.pod("core/server")
    for client in (a, b):
        s.talk(client, server, 51_820, protocol, times=6)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([(client, "core/server", 51_820, protocol) for client in ("core/a", "core/b")]) == []


@BOTH
def test_let_out_for_the_services_address_and_stopped_at_the_pods(tmp_path: Path, inventory: bool) -> None:
    """What left the socket was forwarded, and after translation a policy stopped it."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/evil")
    s.service(api, "10.96.1.1", 80, 8080)
    s.talk(web, api, 8080)
    for _ in range(5):
        s.packet(evil, s.world("10.96.1.1"), 41_000, 80, flags="SYN", point="FROM_ENDPOINT", node=evil.node)
        s.drop(evil, api, 8080, times=1, node=evil.node)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/evil", "shop/api", 8080)]) == []
    assert out.review("denied")
