"""Who opened the connection: one record's word, and what all records together make of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.direction import EPHEMERAL, first_look
from collector.flow import Signal
from collector.settlement import settle
from collector.standing import Standing
from tests.collector.settled import (
    INFERRED,
    INITIATED,
    OPEN,
    UNANSWERED,
    at_api,
    conclusion,
    fold,
    mislabelled,
    told,
    unmarked,
)
from tests.e2e.hostile.scene import End, Scene

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
        ("RST ACK", (41000, 8080), False, (False, "open")),  # either end resets, and it is no word of a conversation
        ("RST", (50051, 20011), False, (False, "open")),
        ("RST ACK", (8080, 53), False, (False, "open")),
        ("", (41000, 8080), False, (False, "carried")),
        ("FIN PSH URG", (41000, 8080), False, (False, "opened")),  # a scan's: every segment but a SYN has ACK set
        ("PSH", (41000, 8080), False, (False, "opened")),
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
    assert settle(patterns, lambda endpoint: endpoint, lambda *_: False).mistaken == 2


def test_settling_leaves_the_patterns_as_they_are(s: Scene, web: End, api: End) -> None:
    s.talk(s.pod("shop/other"), api, 9999)
    s.packet(web, api, 41000, 50051, flags="SYN", reason="NEW")
    mislabelled(s, api, web, 50051, [41000, 41001])
    unmarked(s, web, api, 50052, [41002])
    patterns = fold(s.records)
    once = conclusion(patterns)
    assert conclusion(patterns) == once
    assert patterns == fold(s.records)


def test_syn_ack_is_the_servers_whatever_its_mark(s: Scene, web: End, api: End) -> None:
    s.packet(web, api, 41000, 8080, flags="ACK", reason="ESTABLISHED")
    mislabelled(s, api, web, 8080, range(41000, 41003), flags="SYN ACK")
    assert told(s) == {"web → api:8080 TCP": INITIATED}
    (pattern,) = conclusion(s)
    assert pattern.evidence.signals["answered:new"] == 3
    assert pattern.evidence.connections == 2  # each is told at every point along the way


@pytest.mark.parametrize("refused", [True, False])
def test_answers_that_nobody_asked_for_are_no_connection(s: Scene, web: End, api: End, refused: bool) -> None:
    """Whoever may send raw packets can answer what nobody asked, and conntrack calls that new; the victim resets it."""
    mislabelled(s, api, web, 8080, range(41000, 41003), flags="SYN ACK")
    for port in range(41000, 41003) if refused else ():
        s.packet(web, api, port, 8080, flags="RST", reply=True)
    assert set(told(s).values()) == {OPEN}
    assert told(s, at_api(8080))["web → api:8080 TCP"] is INFERRED


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


def test_a_privileged_port_is_the_servers_where_clients_meet(s: Scene, web: End, api: End) -> None:
    """Clients with a range from 1024 on: some of their ports are where clients' usually are."""
    for port in (20011, 20012, 51000):
        s.packet(web, api, port, 443, flags="ACK", reply=None)
        s.packet(api, web, 443, port, flags="ACK", reply=None)
    assert told(s) == {"web → api:443 TCP": INFERRED}


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("ports", [(800,), (800, 801, 802, 1020)])
def test_a_client_with_a_reserved_port_is_no_server(
    s: Scene, web: End, api: End, protocol: str, ports: tuple[int, ...]
) -> None:
    """NFS, rsh: neither flags nor marks tell, and the ports would tell it the wrong way round."""
    unmarked(s, web, api, 2049, ports, protocol=protocol)
    assert "api → web" not in {line.partition(":")[0] for line, standing in told(s).items() if standing is not OPEN}
    assert told(s, at_api(2049))[f"web → api:2049 {protocol}"] is INFERRED


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("own", [53, 800, 4444, 45000])
@pytest.mark.parametrize("ports", [(22, 80, 8080, 9090), (8000, 8080, 9000, 9090), (80, 8080, 40000), (8080, 40000)])
def test_a_scan_from_one_port_is_no_server_there(
    s: Scene, web: End, api: End, protocol: str, own: int, ports: tuple[int, ...]
) -> None:
    """nmap -g: neither flags nor marks tell, and closed ports send resets back. One of the ports has a client."""
    for port in (41000, 41001):
        s.packet(web, api, port, 8080, protocol, flags="SYN")
        s.packet(api, web, 8080, port, protocol, flags="SYN ACK", reply=True)
    unmarked(s, s.pod("shop/evil"), api, ports[0], [own], protocol=protocol)
    for port in ports[1:]:
        unmarked(s, s.ends[-1], api, port, [own], protocol=protocol)
    assert {line for line, standing in told(s).items() if standing is not OPEN and "→ evil" in line} == set()


@pytest.mark.parametrize("answers", [True, False])
def test_a_servers_pod_that_scans_from_its_port_opens_no_way_to_itself(
    s: Scene, web: End, api: End, answers: bool
) -> None:
    """Its port is known to listen, by a client of its own or by a knock of its replica."""
    s.talk(s.pod("shop/client"), api, 5353, "UDP", replies=answers)
    for port in (22, 80, 1900, 8125, 9000):
        s.packet(api, web, 5353, port, "UDP", reply=None)
        s.packet(api, web, 5353, port, "UDP", reply=None, point="TO_OVERLAY")
    assert {line for line, standing in told(s).items() if "→ api" in line and standing is not OPEN} == {
        "client → api:5353 UDP"
    }


@pytest.mark.parametrize("asked", [True, False])
def test_what_looks_like_answers_needs_somebody_who_asked(s: Scene, web: End, api: End, asked: bool) -> None:
    """A pod may send from any port; with the overlay's records of its node alone it would open a way to itself."""
    for port in (41000, 41001, 41002):
        s.packet(api, web, 443, port, flags="ACK", reply=None, point="TO_OVERLAY")
    if asked:
        s.packet(web, api, 41003, 443, flags="SYN", reason="NEW")
    assert set(told(s).values()) == ({INITIATED} if asked else {OPEN})


def test_a_server_that_asks_from_its_own_port_is_no_search(s: Scene, web: End, api: End) -> None:
    """A resolver that forwards: some of its questions come from 53 too."""
    unmarked(s, web, api, 53, [53, 41000, 41001, 41002], protocol="UDP")
    assert told(s)["web → api:53 UDP"] is INFERRED


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


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_search_from_one_ephemeral_port_is_no_server_there(s: Scene, web: End, api: End, protocol: str) -> None:
    """A traceroute or a scan with a fixed source port speaks to many ports, and nobody speaks back."""
    for port in range(33434, 33440):
        s.packet(api, web, 45000, port, protocol=protocol, flags="ACK" if protocol == "TCP" else None, reply=None)
    assert set(told(s).values()) == {OPEN}


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
