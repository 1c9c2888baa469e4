"""What a settled pattern is good for: answered or not, denied, audited, requested."""

from __future__ import annotations

from typing import Any

import pytest

from collector.endpoints import Endpoint
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
    assert [pattern.standing for pattern in apart.patterns if pattern.port == 5432] == [INITIATED]
    assert [pattern.standing for pattern in joined.patterns if pattern.port == 5432] == [UNANSWERED]


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
