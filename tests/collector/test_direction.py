"""Who opened the connection: one record's word, and what all records together make of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.direction import EPHEMERAL, Pattern, Standing, first_look, settle
from collector.endpoints import Endpoint
from collector.flow import Flow, Signal
from collector.patterns import Patterns
from collector.sources import hubble_json
from tests.e2e.hostile.scene import End, Record, Scene
from tests.simulator import hubble_records

INITIATED, INFERRED, UNANSWERED = Standing.INITIATED, Standing.INFERRED, Standing.UNANSWERED
DENIED, AUDITED, OPEN = Standing.DENIED, Standing.AUDITED, Standing.OPEN
Told = dict[str, Standing]
Declared = Callable[[Endpoint, str, int], bool]


# -- one record ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "ports", "reply", "verdict"),
    [
        ("SYN", (41000, 8080), False, (False, "opened")),
        ("SYN", (41000, 8080), None, (False, "opened")),
        ("SYN", (41000, 50051), None, (False, "opened")),  # the SYN itself names the port
        ("SYN", (8080, 41000), False, (False, "opened")),
        ("SYN", (41000, 8080), True, (False, "open")),  # a SYN that claims to be a reply: one of the two is wrong
        ("SYN ACK", (8080, 41000), True, (True, "answered")),
        ("SYN ACK", (8080, 41000), False, (True, "answered")),
        ("SYN ACK", (8080, 41000), None, (True, "answered")),
        ("ACK", (8080, 41000), True, (True, "answered")),
        ("ACK", (50051, 41000), True, (True, "answered")),
        ("ACK", (50051, 20011), True, (False, "open")),  # who replies from an ephemeral port to a low one?
        ("ACK", (41000, 8080), True, (False, "open")),
        ("RST", (8080, 41000), True, (True, "refused")),
        ("RST ACK", (8080, 41000), True, (True, "refused")),
        ("RST ACK", (41000, 8080), True, (False, "open")),
        ("RST", (8080, 41000), None, (False, "open")),
        ("ACK", (41000, 8080), None, (False, "open")),
        ("ACK", (8080, 41000), None, (False, "open")),
        ("", (41000, 8080), None, (False, "open")),
        ("ACK", (41000, 8080), False, (False, "carried")),
        ("RST ACK", (41000, 8080), False, (False, "carried")),
        ("", (41000, 8080), False, (False, "carried")),
        ("ACK", (0, 8080), False, (False, "carried")),  # no source port told
        ("ACK", (20011, 443), False, (False, "carried")),
        ("ACK", (7946, 7946), False, (False, "carried")),
        ("ACK", (50000, 50000), False, (False, "carried")),
        ("ACK", (8080, 41000), False, (False, "open")),
        ("ACK", (41000, 50051), False, (False, "open")),
        ("ACK", (20011, 8080), False, (False, "open")),
        ("ACK", (0, 41000), False, (False, "open")),
        ("ACK", (EPHEMERAL - 1, EPHEMERAL - 1), False, (False, "carried")),
        ("ACK", (EPHEMERAL, EPHEMERAL - 1), False, (False, "carried")),
        ("ACK", (EPHEMERAL - 1, EPHEMERAL), False, (False, "open")),
        ("ACK", (2000, 1023), False, (False, "carried")),
        ("ACK", (2000, 1024), False, (False, "open")),
    ],
)
def test_first_look_at_tcp(flags: str, ports: tuple[int, int], reply: bool | None, verdict: tuple[bool, str]) -> None:
    assert first_look("TCP", _flags(flags), *ports, reply, False) == verdict


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
@pytest.mark.parametrize(
    ("ports", "reply", "verdict"),
    [
        ((41000, 53), False, (False, "opened")),
        ((7946, 7946), False, (False, "opened")),
        ((53, 41000), False, (False, "open")),
        ((53, 41000), True, (True, "answered")),
        ((53, 41000), None, (False, "open")),
        ((41000, 53), None, (False, "open")),
        ((41000, 53), True, (False, "open")),
    ],
)
def test_first_look_at_datagrams(
    protocol: str, ports: tuple[int, int], reply: bool | None, verdict: tuple[bool, str]
) -> None:
    """Nothing but conntrack tells a first datagram from a later one."""
    assert first_look(protocol, None, *ports, reply, False) == verdict


def test_a_policy_verdict_is_about_a_first_packet() -> None:
    """Also where its flags are masked; but not where the ports contradict."""
    assert first_look("TCP", None, 41000, 8080, False, True) == (False, "opened")
    assert first_look("TCP", _flags("ACK"), 8080, 41000, False, True) == (False, "open")


@given(
    st.sampled_from(["TCP", "UDP"]),
    st.sampled_from(["", "SYN", "ACK", "SYN ACK", "RST"]),
    st.integers(0, 65535),
    st.integers(1, 65535),
    st.sampled_from([True, False, None]),
    st.booleans(),
)
def test_no_record_but_a_syn_claims_an_ephemeral_port_for_the_other_end(
    protocol: str, flags: str, sport: int, dport: int, reply: bool | None, verdict: bool
) -> None:
    swapped, signal = first_look(protocol, _flags(flags), sport, dport, reply, verdict)
    assert signal in set(Signal)
    if dport >= EPHEMERAL and sport != dport and not swapped:
        assert signal == "open" or flags == "SYN"
    if signal == "open":
        assert not swapped


def _flags(text: str) -> Any:
    return SimpleNamespace(**{name: name in text.split() for name in ("SYN", "ACK", "RST")}) if text else None


# -- a whole capture -------------------------------------------------------------------------------------------------


@pytest.fixture
def s() -> Scene:
    return Scene()


@pytest.fixture
def web(s: Scene) -> End:
    return s.pod("shop/web")


@pytest.fixture
def api(s: Scene) -> End:
    return s.pod("shop/api", labels={"app": "api"})


def fold(records: Iterable[Record]) -> Patterns:
    patterns, bad = Patterns(), list[int]()
    hubble_json.fold(
        enumerate((json.dumps(record).encode() for record in records), 1), patterns, lambda line, _: bad.append(line)
    )
    assert bad == []
    return patterns


def conclusion(of: Scene | Patterns, declared: Declared = lambda *_: False) -> list[Pattern]:
    """The settled patterns, endpoints being who they are."""
    return settle(of if isinstance(of, Patterns) else fold(of.records), lambda endpoint: endpoint, declared)


def told(of: Scene | Patterns, declared: Declared = lambda *_: False) -> Told:
    """`web → api:8080 TCP` and its standing."""
    return {_line(pattern): pattern.standing for pattern in conclusion(of, declared)}


def _line(pattern: Pattern) -> str:
    names = [dict(end.labels).get("app", str(end)) for end in (pattern.source, pattern.destination)]
    return f"{names[0]} → {names[1]}:{pattern.port} {pattern.protocol}"


def at_api(*ports: int) -> Declared:
    """The inventory knows these ports of api's."""
    return lambda endpoint, _, port: dict(endpoint.labels).get("app") == "api" and port in ports


def mislabelled(s: Scene, server: End, client: End, port: int, ports: Sequence[int], **how: Any) -> None:
    """The server's packets, taken for new connections to the client's ports."""
    for own in ports:
        s.packet(server, client, port, own, reply=False, reason="NEW", node=client.node, **{"flags": "ACK PSH"} | how)


def test_opened_and_answered(s: Scene, web: End, api: End) -> None:
    s.talk(web, api, 8080)
    assert told(s) == {"web → api:8080 TCP": INITIATED}


CLIENTS = pytest.mark.parametrize("ports", [range(41000, 41006), range(20011, 20017)], ids=["high", "low"])


@CLIENTS
def test_replies_marked_as_new_connections_belong_to_the_opening(s: Scene, web: End, api: End, ports: range) -> None:
    """Netkit (cilium#47913). One true opening tells where the server listens, whatever the client's port range."""
    for port in ports:
        s.packet(web, api, port, 8080, flags="SYN", reason="NEW")
    mislabelled(s, api, web, 8080, ports)
    assert told(s) == {"web → api:8080 TCP": INITIATED}
    (pattern,) = conclusion(s)
    assert pattern.evidence.count(Signal.ANSWERED) == len(ports)


@CLIENTS
def test_an_opening_by_anyone_tells_where_a_server_listens(s: Scene, web: End, api: End, ports: range) -> None:
    other = s.pod("shop/other")
    s.talk(other, api, 8080)
    mislabelled(s, api, web, 8080, ports)
    assert told(s) == {"other → api:8080 TCP": INITIATED, "web → api:8080 TCP": INFERRED}


@CLIENTS
def test_replies_marked_as_new_connections_alone_stay_open(s: Scene, web: End, api: End, ports: range) -> None:
    """Their mark says one thing and their ports another."""
    mislabelled(s, api, web, 8080, ports)
    assert set(told(s).values()) == {OPEN}


@CLIENTS
def test_a_declared_port_settles_replies_marked_as_new_connections(s: Scene, web: End, api: End, ports: range) -> None:
    mislabelled(s, api, web, 8080, ports)
    assert told(s, at_api(8080)) == {"web → api:8080 TCP": INFERRED}


@pytest.mark.parametrize(("count", "standings"), [(5, {INITIATED}), (1, {INITIATED, OPEN})])
def test_replies_from_an_ephemeral_port_to_low_ones_are_no_connections(
    s: Scene, web: End, api: End, count: int, standings: set[Standing]
) -> None:
    """By mark and ports they look like a client's packets; but it is the other end that opened, and they scatter."""
    s.talk(web, api, 50051)
    for own in range(20011, 20011 + count):
        s.packet(api, web, 50051, own, flags="ACK", reply=False, reason="NEW")
    assert set(told(s).values()) == standings
    assert told(s)["web → api:50051 TCP"] is INITIATED


@pytest.mark.parametrize("count", [1, 5])
def test_the_same_with_datagrams_is_no_rule_either(s: Scene, web: End, api: End, count: int) -> None:
    s.talk(web, api, 50051, "UDP")
    for own in range(20011, 20011 + count):
        s.packet(api, web, 50051, own, "UDP", reply=False, reason="NEW")
    found = told(s)
    assert found.pop("web → api:50051 UDP") is INFERRED
    assert set(found.values()) <= {OPEN, UNANSWERED}


def test_replies_marked_as_new_mid_stream(s: Scene, web: End, api: End) -> None:
    """No opening was captured, but the client's own packets were."""
    s.packet(web, api, 41000, 8080, flags="ACK", reason="ESTABLISHED")
    mislabelled(s, api, web, 8080, [41000, 41001])
    assert told(s) == {"web → api:8080 TCP": INITIATED}


def test_replies_marked_as_new_between_ephemeral_ports_are_counted_and_left_out(s: Scene, web: End, api: End) -> None:
    s.talk(s.pod("shop/other"), api, 9999)
    s.packet(web, api, 41000, 50051, flags="SYN", reason="NEW")
    mislabelled(s, api, web, 50051, [41000, 41001])
    patterns = fold(s.records)
    assert not [line for line in told(patterns) if line.startswith("api → web")]
    assert dict(patterns.quality.skipped.items()) == {"reply marked as a new connection": 2}


def test_syn_ack_is_the_servers_whatever_its_mark(s: Scene, web: End, api: End) -> None:
    mislabelled(s, api, web, 8080, range(41000, 41003), flags="SYN ACK")
    assert told(s) == {"web → api:8080 TCP": INFERRED}


def test_the_clients_last_packets_marked_as_replies_belong_to_its_connection(s: Scene, web: End, api: End) -> None:
    """retina#1417."""
    s.talk(web, api, 8080)
    for port in range(41000, 41003):
        s.packet(web, api, port, 8080, flags="ACK FIN", reply=True, reason="REPLY")
    assert told(s) == {"web → api:8080 TCP": INITIATED}


def test_the_clients_last_packets_marked_as_replies_alone_stay_open(s: Scene, web: End, api: End) -> None:
    for port in range(41000, 41003):
        s.packet(web, api, port, 8080, flags="ACK FIN", reply=True, reason="REPLY")
    assert set(told(s).values()) == {OPEN}


def test_the_deprecated_reply_field_counts_where_it_says_yes(s: Scene, web: End, api: End) -> None:
    record = s.packet(api, web, 8080, 41000, flags="ACK", reply=None)
    record["flow"]["reply"] = True
    assert told(s) == {"web → api:8080 TCP": INFERRED}
    assert fold(s.records).quality.replies == 1


@pytest.mark.parametrize("questions", [True, False], ids=["with questions", "answers only"])
def test_datagrams_after_the_end_of_their_conntrack_entry(s: Scene, web: End, questions: bool) -> None:
    """DNS answers that come as new connections 53 → ephemeral (cilium#13744)."""
    dns = s.pod("kube-system/dns")
    ports = range(50000, 50005)
    for port in ports:
        if questions:
            s.packet(web, dns, port, 53, "UDP", reason="NEW")
        s.packet(dns, web, 53, port, "UDP", reason="NEW", node=web.node)
    found = told(s)
    if questions:
        assert found == {"web → dns:53 UDP": INITIATED}
    else:
        assert set(found.values()) == {OPEN}


def test_mid_stream_in_the_initiators_direction(s: Scene, web: End, api: End) -> None:
    """A database pool that is older than the capture, and that a deny would cut at the next reconnect."""
    s.packet(web, api, 41000, 5432, flags="ACK PSH", reason="ESTABLISHED")
    assert told(s) == {"web → api:5432 TCP": INITIATED}


def test_mid_stream_without_any_mark_is_settled_by_the_ports(s: Scene, web: End, api: End) -> None:
    """Encapsulated packets carry no conntrack state."""
    s.packet(web, api, 41000, 5432, flags="ACK", reply=None, point="TO_OVERLAY")
    s.packet(api, web, 5432, 41000, flags="ACK", reply=None, point="TO_OVERLAY")
    assert told(s) == {"web → api:5432 TCP": INFERRED}
    (pattern,) = conclusion(s)
    assert pattern.because == "one port is in the ephemeral range"
    assert dict(pattern.evidence.sources.items()) == {web.pod: 2}


def test_a_privileged_port_is_the_servers(s: Scene, web: End, api: End) -> None:
    s.packet(web, api, 20011, 443, flags="ACK", reply=None)
    s.packet(api, web, 443, 20012, flags="ACK", reply=None)
    assert told(s) == {"web → api:443 TCP": INFERRED}


def unmarked(s: Scene, client: End, server: End, port: int, ports: Iterable[int], answers: bool = True) -> None:
    """Packets between two ephemeral ports, of which nothing tells the direction."""
    for own in ports:
        s.packet(client, server, own, port, flags="ACK", reply=None)
        if answers:
            s.packet(server, client, port, own, flags="ACK", reply=None)


def test_both_ports_ephemeral_and_declared(s: Scene, web: End, api: End) -> None:
    unmarked(s, web, api, 50051, [41000])
    assert told(s, at_api(50051)) == {"web → api:50051 TCP": INFERRED}


def test_both_ports_ephemeral_and_known_from_another_connection(s: Scene, web: End, api: End) -> None:
    s.talk(s.pod("shop/other"), api, 50051)
    unmarked(s, web, api, 50051, [41000])
    assert told(s) == {"other → api:50051 TCP": INITIATED, "web → api:50051 TCP": INFERRED}


@pytest.mark.parametrize("answers", [True, False])
def test_both_ports_ephemeral_and_one_is_where_many_meet(s: Scene, web: End, api: End, answers: bool) -> None:
    unmarked(s, web, api, 50051, range(41000, 41003), answers)
    assert told(s) == {"web → api:50051 TCP": INFERRED}


def test_both_ports_ephemeral_and_few_connections(s: Scene, web: End, api: End) -> None:
    unmarked(s, web, api, 50051, [41000, 41001])
    assert set(told(s).values()) == {OPEN}


def test_both_ports_declared_settle_nothing(s: Scene, web: End, api: End) -> None:
    s.packet(web, api, 9090, 8080, flags="ACK", reply=None)
    assert told(s, lambda *_: True) == {"web → api:8080 TCP": OPEN}


def test_marks_that_contradict_each_other_settle_nothing(s: Scene, web: End, api: End) -> None:
    s.packet(api, web, 8080, 41000, flags="ACK", reply=False)
    s.packet(web, api, 8080, 41000, flags="SYN", reply=True)
    s.packet(web, api, 8080, 41000, flags="ACK", reply=False)
    assert set(told(s).values()) == {OPEN}


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_gossip_on_one_port_goes_both_ways(s: Scene, web: End, api: End, protocol: str) -> None:
    """Memberlist: the same port at both ends, and either side may have opened."""
    for one, other in ((web, api), (api, web)):
        s.packet(one, other, 7946, 7946, protocol, flags="ACK", reason="NEW")
    assert told(s) == {f"web → api:7946 {protocol}": INITIATED, f"api → web:7946 {protocol}": INITIATED}


def test_gossip_with_marked_replies_keeps_both_edges(s: Scene, web: End, api: End) -> None:
    for one, other in ((web, api), (api, web)):
        s.talk(one, other, 7946, "UDP", sport=7946)
    assert told(s) == {"web → api:7946 UDP": INITIATED, "api → web:7946 UDP": INITIATED}


def test_replies_alone_tell_the_connection(s: Scene, web: End, api: End) -> None:
    s.packet(api, web, 8080, 41000, flags="ACK", reply=True, reason="REPLY")
    assert told(s) == {"web → api:8080 TCP": INFERRED}


@pytest.mark.parametrize(("declared", "standing"), [((50051,), INFERRED), ((), OPEN)])
def test_replies_alone_at_an_ephemeral_port(
    s: Scene, web: End, api: End, declared: tuple[int, ...], standing: Standing
) -> None:
    """A reply's mark alone is not enough where it may be the client's port."""
    s.packet(api, web, 50051, 41000, flags="ACK", reply=True, reason="REPLY")
    assert told(s, at_api(*declared)) == {"web → api:50051 TCP": standing}


# -- answers ---------------------------------------------------------------------------------------------------------


def test_attempts_without_an_answer_count_where_answers_are_shown(s: Scene, web: End, api: End) -> None:
    s.talk(web, api, 8080)
    s.talk(web, api, 6379, replies=False)
    assert told(s) == {"web → api:8080 TCP": INITIATED, "web → api:6379 TCP": UNANSWERED}


def test_attempts_without_an_answer_are_connections_where_none_is_shown(s: Scene, web: End, api: End) -> None:
    """A capture of first packets only."""
    s.talk(web, api, 8080, replies=False)
    assert told(s) == {"web → api:8080 TCP": INITIATED}


def test_whether_answers_are_shown_is_a_matter_of_party_and_protocol(s: Scene, web: End, api: End) -> None:
    """Nodes may be set up differently; conntrack knows each protocol apart."""
    log, far = s.pod("shop/log"), s.pod("shop/far")
    s.talk(web, api, 8080)
    s.talk(web, log, 514, "UDP", replies=False)
    s.talk(log, far, 9000, replies=False)
    assert told(s) == {
        "web → api:8080 TCP": INITIATED,
        "web → log:514 UDP": INITIATED,
        "log → far:9000 TCP": INITIATED,
    }


def test_one_party_seen_by_two_sources_answers_for_both() -> None:
    """`identify` says who is one party."""
    patterns = Patterns()
    here, there = (Endpoint("pod", "", "shop", labels) for labels in ((("app", "web"),), (("name", "web"),)))
    api = Endpoint("pod", "", "shop", (("app", "api"),))
    patterns.add(Flow(here, api, port=8080, signal=Signal.ANSWERED))
    patterns.add(Flow(there, Endpoint("pod", "", "shop", (("app", "db"),)), port=5432, signal=Signal.OPENED))
    apart = settle(patterns, lambda endpoint: endpoint, lambda *_: False)
    joined = settle(patterns, lambda endpoint: "web" if endpoint in (here, there) else endpoint, lambda *_: False)
    assert [pattern.standing for pattern in apart if pattern.port == 5432] == [INITIATED]
    assert [pattern.standing for pattern in joined if pattern.port == 5432] == [UNANSWERED]


def test_resets_are_no_answers(s: Scene, web: End, api: End) -> None:
    s.packet(web, api, 41000, 9200, flags="SYN", reason="NEW")
    s.packet(api, web, 9200, 41000, flags="RST ACK", reply=True, reason="REPLY")
    s.talk(web, api, 8080)
    assert told(s) == {"web → api:8080 TCP": INITIATED, "web → api:9200 TCP": UNANSWERED}


def test_resets_alone_tell_of_attempts(s: Scene, web: End, api: End) -> None:
    s.packet(api, web, 9200, 41000, flags="RST", reply=True, reason="REPLY")
    assert told(s) == {"web → api:9200 TCP": UNANSWERED}


def test_unmarked_answers_are_answers(s: Scene, web: End, api: End) -> None:
    """The overlay's records of a connection that is otherwise seen as attempts."""
    s.talk(web, s.pod("shop/other"), 8080)
    s.packet(web, api, 41000, 6379, flags="SYN", reason="NEW")
    s.packet(api, web, 6379, 41000, flags="ACK", reply=None, point="TO_OVERLAY")
    assert told(s)["web → api:6379 TCP"] is INITIATED


def test_the_same_datagram_at_another_point_is_no_answer(s: Scene, web: End, api: End) -> None:
    """The overlay's record of an attempt has no mark, but is not one more packet."""
    s.talk(web, s.pod("kube-system/dns"), 53, "UDP")
    for point, reply in (("TO_OVERLAY", None), ("TO_ENDPOINT", False)):
        s.packet(web, api, 41000, 161, "UDP", reply=reply, point=point)
    assert told(s)["web → api:161 UDP"] is UNANSWERED
    s.packet(api, web, 161, 41000, "UDP", reply=None, point="TO_OVERLAY")
    assert told(s)["web → api:161 UDP"] is INITIATED


# -- policies --------------------------------------------------------------------------------------------------------


def test_denied_only(s: Scene, web: End, api: End) -> None:
    s.drop(web, api, 8080, times=50)
    assert told(s) == {"web → api:8080 TCP": DENIED}


def test_denied_at_an_ephemeral_port(s: Scene, web: End, api: End) -> None:
    s.drop(web, api, 50051)
    assert told(s) == {"web → api:50051 TCP": DENIED}


def test_denied_and_allowed(s: Scene, web: End, api: End) -> None:
    """What passed before or after the policy is what somebody wanted."""
    s.drop(web, api, 8080, times=50)
    s.talk(web, api, 8080)
    (pattern,) = conclusion(s)
    assert pattern.standing is INITIATED
    assert pattern.evidence.count(Signal.DENIED) == 50


def test_denied_and_allowed_without_any_mark(s: Scene, web: End, api: End) -> None:
    """The packets that passed are the overlay's; the ports tell their direction, and an answer that it was allowed."""
    s.drop(web, api, 8080)
    s.packet(web, api, 41000, 8080, flags="ACK", reply=None, point="TO_OVERLAY")
    assert told(s) == {"web → api:8080 TCP": DENIED}
    s.packet(api, web, 8080, 41000, flags="ACK", reply=None, point="TO_OVERLAY")
    (pattern,) = conclusion(s)
    assert pattern.standing is INFERRED
    assert pattern.evidence.count(Signal.DENIED) == 3


@pytest.mark.parametrize("answers", [True, False], ids=["answers shown", "none shown"])
def test_let_out_by_the_source_and_stopped_at_the_destination(s: Scene, web: End, api: End, answers: bool) -> None:
    """The overlay's record of a first packet says FORWARDED, and its next stop was its last."""
    s.talk(s.pod("shop/other"), api, 8080, replies=answers)
    s.packet(web, api, 41000, 8080, flags="SYN", reply=None, point="TO_OVERLAY")
    s.packet(web, api, 41000, 8080, flags="SYN", event_type={"type": 5}, traffic_direction="EGRESS")
    s.drop(web, api, 8080)
    assert told(s) == {"other → api:8080 TCP": INITIATED, "web → api:8080 TCP": DENIED}


@pytest.mark.parametrize(
    "arrival", [{"point": "TO_ENDPOINT"}, {"event_type": {"type": 5}, "traffic_direction": "INGRESS"}]
)
def test_denied_and_let_in_where_no_answers_are_shown(s: Scene, web: End, api: End, arrival: dict[str, Any]) -> None:
    s.drop(web, api, 8080)
    s.packet(web, api, 41000, 8080, flags="SYN", **arrival)
    assert told(s) == {"web → api:8080 TCP": INITIATED}


def test_denied_on_the_way_out_and_let_out_later(s: Scene, web: End) -> None:
    """Nobody sees it arrive outside."""
    s.drop(web, s.world("203.0.113.7"), 443)
    s.packet(web, s.world("203.0.113.7"), 41000, 443, flags="SYN", point="TO_NETWORK")
    assert told(s) == {"web → address:443 TCP": INITIATED}


def test_audited(s: Scene, web: End, api: End) -> None:
    s.packet(web, api, 41000, 8080, flags="SYN", verdict="AUDIT", event_type={"type": 5})
    s.packet(api, web, 8080, 41000, flags="SYN ACK", reply=True)
    assert told(s) == {"web → api:8080 TCP": AUDITED}


def test_replies_that_a_policy_audits_as_new_connections(s: Scene, web: End, api: End) -> None:
    """An audit verdict is no better a witness of the direction than any other."""
    s.talk(web, api, 8080)
    mislabelled(s, api, web, 8080, range(41000, 41004), verdict="AUDIT", event_type={"type": 5})
    assert told(s) == {"web → api:8080 TCP": INITIATED}


def test_only_replies_that_a_policy_audits(s: Scene, web: End, api: End) -> None:
    mislabelled(s, api, web, 8080, range(41000, 41004), verdict="AUDIT", event_type={"type": 5})
    assert set(told(s).values()) == {OPEN}


# -- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [8080, 50051])
def test_a_proxys_requests_need_no_port_to_be_known(s: Scene, web: End, api: End, port: int) -> None:
    s.http(web, api, port, "GET", "/items")
    assert told(s) == {f"web → api:{port} TCP": INITIATED}


@pytest.mark.parametrize("reply", [None, False])
def test_a_response_without_its_mark_is_no_request_to_the_client(
    s: Scene, web: End, api: End, reply: bool | None
) -> None:
    s.http(web, api, 8080, "GET", "/items")
    s.records = s.records[1:]
    s.records[0]["flow"]["is_reply"] = reply
    assert told(s) == {"web → api:8080 TCP": INITIATED}


# -- order -----------------------------------------------------------------------------------------------------------

Packet = tuple[int, int, int, int, str, str, bool | None, str]
PACKETS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(1, 2),
        st.sampled_from((0, 53, 8080, 20011, 41000, 41001, 41002, 50051)),
        st.sampled_from((53, 8080, 20011, 41000, 41001, 50051)),
        st.sampled_from(("TCP", "TCP", "UDP")),
        st.sampled_from(("SYN", "SYN ACK", "ACK", "RST ACK", "")),
        st.sampled_from((True, False, None)),
        st.sampled_from(("FORWARDED", "FORWARDED", "AUDIT", "DROPPED")),
    ),
    max_size=24,
)


def scene_of(packets: Sequence[Packet]) -> Scene:
    """Three pods that send each other these packets."""
    s = Scene()
    ends = [s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/db")]
    for source, step, sport, dport, protocol, flags, reply, verdict in packets:
        more = {"drop_reason": 133} if verdict == "DROPPED" else {}
        destination = ends[(source + step) % 3]
        s.packet(ends[source], destination, sport, dport, protocol, flags=flags, reply=reply, verdict=verdict, **more)
    return s


@given(PACKETS, st.randoms(use_true_random=False), st.integers(0, 24))
def test_order_and_splitting_do_not_change_what_is_settled(packets: list[Packet], random: Random, cut: int) -> None:
    """From records to patterns, through a merge, to standings and their evidence."""
    records = scene_of(packets).records
    shuffled = records[:]
    random.shuffle(shuffled)
    merged = fold(shuffled[cut:])
    merged.merge(fold(shuffled[:cut]))
    assert conclusion(merged) == conclusion(fold(records))


@given(PACKETS)
def test_settling_is_repeatable(packets: list[Packet]) -> None:
    patterns = fold(scene_of(packets).records)
    assert conclusion(patterns) == conclusion(patterns)


@given(PACKETS)
def test_every_standing_has_its_reason(packets: list[Packet]) -> None:
    settled = conclusion(scene_of(packets))
    assert all(pattern.because and pattern.evidence.signals for pattern in settled)
    places = [(pattern.source, pattern.destination, pattern.protocol, pattern.port) for pattern in settled]
    assert places == sorted(set(places))


# -- the invariant ---------------------------------------------------------------------------------------------------


def spoilt(records: Iterable[Record], random: Random, share: float) -> list[Record]:
    """A capture in which the marks of a share of the replies are wrong, lost or in the old field."""
    found = []
    for record in records:
        flow = dict(record["flow"])
        if flow.get("is_reply") and random.random() < share:
            layer = next(iter(flow["l4"].values()))
            form = random.choice(("new", "absent", "old", "without flags"))
            flow["is_reply"] = {"new": False, "absent": None, "old": None, "without flags": False}[form]
            flow["reply"] = form == "old"
            if form == "without flags":
                flow["l4"] = {name: {**layer, "flags": None} for name in flow["l4"]}
        found.append({**record, "flow": flow})
    return found


@given(
    st.integers(0, 10_000),
    st.fixed_dictionaries({name: st.booleans() for name in ("one_sided", "missing_is_reply", "udp", "v6", "dns")}),
    st.sampled_from((0.1, 0.5, 1.0)),
    st.booleans(),
)
def test_no_rule_at_a_port_that_nobody_serves(seed: int, shape: dict[str, bool], share: float, inventory: bool) -> None:
    """Whatever happens to the replies' marks: an ephemeral destination port is one that the application serves."""
    app = hubble_records(seed, workloads=6, edges=8, calls=3, **shape)
    served = {(protocol, port) for _, _, protocol, port in app.truth}
    served |= {(kind, number) for work in app.cluster.workloads.values() for _, number, kind in work.ports}
    settled = conclusion(
        fold(spoilt(app.records, Random(seed), share)),
        lambda _, protocol, port: inventory and (protocol, port) in served,
    )
    wrong = [
        (_line(pattern), pattern.standing, pattern.because)
        for pattern in settled
        if pattern.standing not in (OPEN, UNANSWERED, DENIED)
        and pattern.port >= EPHEMERAL
        and (pattern.protocol, pattern.port) not in served
    ]
    assert wrong == []
    assert any(pattern.standing is INITIATED for pattern in settled)
