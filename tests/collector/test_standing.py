"""What a settled pattern is good for: answered or not, denied, audited, requested."""

from __future__ import annotations

from typing import Any

import pytest

from collector.endpoints import ADDRESS, Endpoint
from collector.flow import Flow, Signal
from collector.patterns import Patterns
from collector.settlement import settle
from tests.collector.settled import (
    AUDITED,
    DENIED,
    INFERRED,
    INITIATED,
    OPEN,
    UNANSWERED,
    conclusion,
    fold,
    mislabelled,
    told,
)
from tests.e2e.hostile.scene import End, Scene

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
    """Nodes may be set up differently; and datagrams may be meant to have no answer."""
    log, far = s.pod("shop/log"), s.pod("shop/far")
    s.talk(web, api, 8080)
    s.talk(web, log, 514, "UDP", replies=False)
    s.talk(log, far, 9000, replies=False)
    assert told(s) == {
        "web → api:8080 TCP": INITIATED,
        "web → log:514 UDP": INITIATED,
        "log → far:9000 TCP": INITIATED,
    }


def test_a_pod_whose_lookups_are_answered_would_show_answers_to_its_connections(s: Scene, web: End, api: End) -> None:
    """Two parties that never answered over TCP: one of them is known to show what comes back to it."""
    far = s.pod("shop/far")
    s.talk(s.pod("shop/one"), s.pod("shop/two"), 80)
    s.talk(web, s.pod("kube-system/dns"), 53, "UDP")
    s.talk(web, far, 6379, replies=False)
    s.talk(api, far, 6379, replies=False)
    found = told(s)
    assert found["web → far:6379 TCP"] is UNANSWERED
    assert found["api → far:6379 TCP"] is INITIATED


def test_answered_lookups_tell_nothing_where_no_answer_over_tcp_is_shown_at_all(s: Scene, web: End, api: End) -> None:
    """A capture may have the first packets of TCP alone, and all datagrams."""
    s.talk(web, s.pod("kube-system/dns"), 53, "UDP")
    s.talk(web, api, 6379, replies=False)
    assert told(s)["web → api:6379 TCP"] is INITIATED


def test_one_party_seen_by_two_sources_answers_for_both() -> None:
    """`identify` says who is one party."""
    patterns = Patterns()
    here, there = (Endpoint("pod", "", "shop", labels) for labels in ((("app", "web"),), (("name", "web"),)))
    api = Endpoint("pod", "", "shop", (("app", "api"),))
    patterns.add(Flow(here, api, port=8080, signal=Signal.ANSWERED))
    patterns.add(Flow(there, Endpoint("pod", "", "shop", (("app", "db"),)), port=5432, signal=Signal.OPENED))
    apart = settle(patterns, lambda endpoint: endpoint, lambda *_: False)
    joined = settle(patterns, lambda endpoint: "web" if endpoint in (here, there) else endpoint, lambda *_: False)
    assert [pattern.standing for pattern in apart.patterns if pattern.port == 5432] == [INITIATED]
    assert [pattern.standing for pattern in joined.patterns if pattern.port == 5432] == [UNANSWERED]


@pytest.mark.parametrize("point", ["inbound", "outbound", "gateway", "waypoint"])
def test_answers_in_access_logs_say_nothing_about_packets(s: Scene, web: End, point: str) -> None:
    """A proxy logs answers whatever Hubble was asked for; and a gateway's clients are outside, as web's peer is."""
    s.talk(web, s.world("203.0.113.7"), 443, replies=False)
    s.talk(s.world("203.0.113.9"), web, 8443, replies=False)
    patterns = fold(s.records)
    (pod,) = {key.source for key in patterns.edges if key.source.kind == "pod"}
    for ends in ((ADDRESS, pod), (pod, ADDRESS)):
        patterns.add(Flow(*ends, port=8080, signal=Signal.ANSWERED, point=point))
    found = told(patterns)
    assert found.pop("web → address:443 TCP") is found.pop("address → web:8443 TCP") is INITIATED


def test_responses_say_nothing_about_packets(s: Scene, web: End, api: End) -> None:
    """Cilium's proxy tells of responses where no packet is captured."""
    s.http(web, api, 8080, "GET", "/items")
    s.talk(web, api, 6379, replies=False)
    assert told(s) == {"web → api:8080 TCP": INITIATED, "web → api:6379 TCP": INITIATED}


def test_requests_without_a_response_count_where_responses_are_shown(s: Scene, web: End, api: End) -> None:
    s.http(web, api, 8080, "GET", "/items")
    s.http(web, s.pod("shop/mute"), 8080, "GET", "/items")
    del s.records[-1]
    assert told(s) == {"web → api:8080 TCP": INITIATED, "web → mute:8080 TCP": UNANSWERED}


def test_answers_from_outside_to_one_pod_say_nothing_about_another(s: Scene, web: End, api: End) -> None:
    """The outside is no place whose packets were captured; another node may have reported first packets only."""
    s.talk(web, s.world("203.0.113.7"), 443)
    s.talk(api, s.world("203.0.113.7"), 443, replies=False)
    s.talk(s.place("192.168.1.7", "host"), api, 8080, replies=False)
    s.talk(s.place("192.168.1.7", "host"), web, 8080)
    assert set(told(s).values()) == {INITIATED}


def test_policy_verdicts_show_no_answers(s: Scene, web: End, api: End) -> None:
    """They are of first packets; beside a file of traces, one of verdicts says as much as alone."""
    s.talk(web, api, 8080)
    for number in range(3):
        s.packet(web, api, 41000 + number, 6379, flags="SYN", event_type={"type": 5}, traffic_direction="EGRESS")
    assert told(s) == {"web → api:8080 TCP": INITIATED, "web → api:6379 TCP": INITIATED}


def test_a_verdict_and_a_trace_of_an_attempt_are_an_attempt(s: Scene, web: End, api: End) -> None:
    s.talk(web, api, 8080)
    s.packet(web, api, 41000, 6379, flags="SYN", event_type={"type": 5}, traffic_direction="EGRESS")
    s.packet(web, api, 41000, 6379, flags="SYN", reason="NEW")
    assert told(s)["web → api:6379 TCP"] is UNANSWERED


def test_what_ztunnel_saw_opened_and_not_ended_is_still_open() -> None:
    """An attempt that fails ends with an error, so silence is a connection that outlives the log."""
    patterns = Patterns()
    web, api = (Endpoint("pod", "", "shop", (("app", name),)) for name in ("web", "api"))
    for port, *signals in ((80, "opened", "answered"), (5432, "opened"), (6379, "opened", "refused")):
        for signal in signals:
            patterns.add(Flow(web, api, port=port, signal=Signal(signal), point="inbound", mtls=True))
    assert [pattern.standing for pattern in conclusion(patterns)] == [INITIATED, INITIATED, UNANSWERED]


def test_resets_are_no_answers(s: Scene, web: End, api: End) -> None:
    s.packet(web, api, 41000, 9200, flags="SYN", reason="NEW")
    s.packet(api, web, 9200, 41000, flags="RST ACK", reply=True, reason="REPLY")
    s.talk(web, api, 8080)
    assert told(s) == {"web → api:8080 TCP": INITIATED, "web → api:9200 TCP": UNANSWERED}


@pytest.mark.parametrize("mark", [True, False, None])
@pytest.mark.parametrize("client", [41000, 20011, 53])
@pytest.mark.parametrize("port", [9200, 50051, 22])
def test_attempts_that_were_always_reset_are_no_connections(
    s: Scene, web: End, api: End, port: int, client: int, mark: bool | None
) -> None:
    """Nothing else was captured, and the resets are marked rightly, wrongly or not at all."""
    for _ in range(5):
        s.packet(web, api, client, port, flags="SYN", reason="NEW")
        s.packet(api, web, port, client, flags="RST ACK", reply=mark)
    assert told(s)[f"web → api:{port} TCP"] is UNANSWERED
    assert set(told(s).values()) <= {UNANSWERED, OPEN}


def test_attempts_in_audit_mode_that_were_always_reset(s: Scene, web: End, api: End) -> None:
    """Where a policy is only audited, every knock has its verdict."""
    for port, flags in ((8080, "SYN ACK"), (9200, "RST ACK"), (9300, "")):
        s.packet(web, api, 41000, port, flags="SYN", verdict="AUDIT", event_type={"type": 5})
        s.packet(web, api, 41000, port, flags="SYN", reason="NEW")
        if flags:
            s.packet(api, web, port, 41000, flags=flags, reply=True)
    found = told(s)
    assert found == {"web → api:8080 TCP": AUDITED, "web → api:9200 TCP": UNANSWERED, "web → api:9300 TCP": UNANSWERED}


@pytest.mark.parametrize("mark", [True, None])
def test_reset_at_first_and_answered_later(s: Scene, web: End, api: End, mark: bool | None) -> None:
    """The server was starting."""
    s.packet(web, api, 41000, 9200, flags="SYN", reason="NEW")
    s.packet(api, web, 9200, 41000, flags="RST ACK", reply=mark)
    s.talk(web, api, 9200)
    assert told(s) == {"web → api:9200 TCP": INITIATED}


@pytest.mark.parametrize("mark", [True, None])
def test_a_reset_shows_that_answers_would_be_seen(s: Scene, web: End, api: End, mark: bool | None) -> None:
    s.packet(web, api, 41000, 9200, flags="SYN", reason="NEW")
    s.packet(api, web, 9200, 41000, flags="RST ACK", reply=mark)
    s.talk(web, api, 6379, replies=False)
    assert set(told(s).values()) == {UNANSWERED}


@pytest.mark.parametrize("mark", [False, None])
def test_a_clients_own_reset_refuses_nothing(s: Scene, web: End, api: End, mark: bool | None) -> None:
    s.talk(web, api, 9200, replies=False)
    s.packet(web, api, 41000, 9200, flags="RST", reply=mark)
    assert told(s) == {"web → api:9200 TCP": INITIATED}


@pytest.mark.parametrize("mark", [True, None])
def test_resets_alone_tell_of_attempts(s: Scene, web: End, api: End, mark: bool | None) -> None:
    s.packet(api, web, 9200, 41000, flags="RST", reply=mark, reason="REPLY")
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


def test_what_was_always_denied_is_denied(s: Scene, web: End, api: End) -> None:
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


def test_what_audit_mode_let_through_is_audited(s: Scene, web: End, api: End) -> None:
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
