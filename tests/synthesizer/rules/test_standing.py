"""Denied, open and unanswered lines are questions; datagram sinks and audited traffic are not."""

from __future__ import annotations

from typing import Any

from collector.flow import Signal
from collector.standing import Standing
from synthesizer.rules import standing
from synthesizer.rules.view import Held
from tests.synthesizer.traffic import Traffic, drawn, view

Rule = Any


def ask(rule: Rule, traffic: Traffic, standing_of: Standing, *objects: dict[str, Any]) -> Held | None:
    """The rule's word on the one line with this standing."""
    (line,) = [line for line in drawn(traffic, *objects) if line.standing is standing_of]
    found: Held | None = rule(line, view(traffic, *objects))
    return found


def test_what_a_policy_stopped_every_time_is_held_with_the_reason() -> None:
    traffic = Traffic()
    traffic.add(
        traffic.pod("shop/web"), traffic.pod("shop/db"), 5432, "TCP", Signal.DENIED, 900, reason="POLICY_DENIED"
    )
    held = ask(standing.denied, traffic, Standing.DENIED)
    assert held is not None
    assert held.acceptable
    assert "POLICY_DENIED" in held.why


def test_what_was_let_through_passes_even_if_it_was_stopped_before() -> None:
    traffic = Traffic()
    web, db = traffic.pod("shop/web"), traffic.pod("shop/db")
    traffic.add(web, db, 5432, "TCP", Signal.DENIED, 900)
    traffic.talk(web, db, 5432)
    assert ask(standing.denied, traffic, Standing.INITIATED) is None


def test_what_audit_mode_let_through_passes() -> None:
    traffic = Traffic()
    traffic.add(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432, "TCP", Signal.AUDITED)
    assert ask(standing.denied, traffic, Standing.AUDITED) is None


def test_a_line_whose_opener_is_unknown_can_never_be_accepted() -> None:
    traffic = Traffic()
    web, db = traffic.pod("shop/web"), traffic.pod("shop/db")
    traffic.add(web, db, 40_000, "TCP", Signal.OPEN, 5, source_port=40_001, point="unknown")
    held = ask(standing.direction_open, traffic, Standing.OPEN)
    assert held is not None
    assert not held.acceptable


def test_attempts_without_an_answer_are_held_where_answers_can_be_seen() -> None:
    traffic = Traffic()
    web, db = traffic.pod("shop/web"), traffic.pod("shop/db")
    traffic.add(web, db, 9999)
    traffic.talk(web, db, 5432)
    held = ask(standing.unanswered, traffic, Standing.UNANSWERED)
    assert held is not None
    assert held.kind == "unanswered"


def test_attempts_are_not_called_unanswered_in_a_capture_without_any_answers() -> None:
    traffic = Traffic()
    traffic.add(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432)
    assert ask(standing.unanswered, traffic, Standing.INITIATED) is None


def sink(records: int, *, declared: bool = False, others: bool = False) -> Held | None:
    """The word on datagrams to a statsd that never answers."""
    traffic = Traffic()
    web, other = traffic.pod("shop/web"), traffic.pod("shop/other")
    statsd = traffic.pod("shop/statsd", ports=["statsd/UDP/8125"] if declared else ())
    traffic.talk(web, other, 53, "UDP")
    traffic.add(web, statsd, 8125, "UDP", records=records)
    if others:
        traffic.talk(other, statsd, 8125, "UDP")
    return ask(standing.unanswered, traffic, Standing.UNANSWERED)


def test_repeated_declared_or_shared_datagrams_are_a_sink() -> None:
    assert sink(standing.SINK_RECORDS) is None
    assert sink(1, declared=True) is None
    assert sink(1, others=True) is None


def test_a_few_datagrams_are_none() -> None:
    assert sink(standing.SINK_RECORDS - 1) is not None


def test_datagrams_of_a_scanner_are_no_sink_even_where_a_port_is_declared() -> None:
    """Knocking at every door three times must not open the one that is there."""
    traffic = Traffic()
    scanner = traffic.pod("shop/scanner")
    doors = [traffic.pod(f"shop/w{n:02}", ports=["statsd/UDP/8125"] if n == 0 else ()) for n in range(20)]
    for door in doors:
        traffic.add(scanner, door, 8125, "UDP", records=5)
        traffic.talk(door, doors[1], 9000, "UDP")
    asked = view(traffic)
    knocks = [line for line in drawn(traffic) if str(line.source) == "shop/scanner"]
    assert len(knocks) == 20
    assert all(standing.unanswered(line, asked) for line in knocks)
