"""What became of each address at a nameless end: told apart as long as there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from collector.direction import EPHEMERAL
from collector.endpoints import ADDRESS, Endpoint
from collector.evidence import OUTCOMES, Evidence
from collector.flow import Flow, Signal
from collector.settlement import settle
from collector.standing import Standing
from tests.collector.traffic import patterns_of

APP = Endpoint("pod", "", "shop", (("app", "app"),))
OPENED, ANSWERED, REFUSED, DENIED = Signal.OPENED, Signal.ANSWERED, Signal.REFUSED, Signal.DENIED
GOOD, BAD = "203.0.113.9", "198.51.100.66"


def called(address: str, *signals: Signal, **more: object) -> list[Flow]:
    """What a capture shows of connections to an address outside."""
    flows = [Flow(APP, ADDRESS, port=443, signal=signal, destination_address=address) for signal in signals]
    for flow in flows:
        flow.point = "TO_STACK" if flow.signal is OPENED else ""
        for name, value in more.items():
            setattr(flow, name, value)
    return flows


def calling(address: str, *signals: Signal) -> list[Flow]:
    """The same the other way round."""
    return called(address, *signals, source=ADDRESS, destination=APP, source_address=address, destination_address="")


def evidence_of(flows: Sequence[Flow]) -> Evidence:
    """The evidence of the one port that all flows are about."""
    (edge,) = patterns_of(list(flows)).edges.values()
    ((_, evidence),) = edge.ports()
    return evidence


def standings(flows: Sequence[Flow]) -> tuple[Standing, dict[str, Standing]]:
    """The standing of the one pattern, and of the addresses for which it does not hold."""
    (pattern,) = settle(patterns_of(list(flows)), lambda end: end, lambda *_: False).patterns
    return pattern.standing, {address: standing for address, (standing, _) in pattern.apart.items()}


@pytest.mark.parametrize("of", [called, calling])
@pytest.mark.parametrize(
    ("signals", "standing"),
    [
        ([DENIED], Standing.DENIED),
        ([OPENED], Standing.UNANSWERED),
        ([REFUSED], Standing.UNANSWERED),
        ([OPENED, REFUSED], Standing.UNANSWERED),
        ([OPENED, ANSWERED, DENIED], None),
        ([Signal.AUDITED], None),
    ],
)
def test_an_answer_of_one_address_does_not_vouch_for_another(
    of: Callable[..., list[Flow]], signals: list[Signal], standing: Standing | None
) -> None:
    expected = {} if standing is None else {BAD: standing}
    found, apart = standings([*of(GOOD, OPENED, ANSWERED), *of(BAD, *signals)])
    assert found in (Standing.INITIATED, Standing.AUDITED)
    assert apart == expected


@pytest.mark.parametrize("of", [called, calling])
def test_a_record_without_an_address_vouches_for_no_address(of: Callable[..., list[Flow]]) -> None:
    flows = [*of(GOOD, OPENED, ANSWERED), *of("", OPENED, ANSWERED), *of(BAD, OPENED)]
    assert standings(flows) == (Standing.INITIATED, {BAD: Standing.UNANSWERED})
    evidence = evidence_of([*flows, *of("", DENIED)])
    assert evidence.alone(["-"]).count(DENIED) == 1
    ends = evidence.alone(["-"]).destinations if of is called else evidence.alone(["-"]).sources
    assert ends.kept == {"": 3}


def test_a_direction_that_is_concluded_counts_for_its_address() -> None:
    """Replies of unknown direction, from a port that listens, are answers of who sent them; others' are not."""
    replies = [
        Flow(ADDRESS, APP, port=EPHEMERAL + n, source_port=443, signal=Signal.OPEN, source_address=GOOD)
        for n in range(3)
    ]
    found, apart = standings(
        [*called("203.0.113.8", OPENED, ANSWERED), *called(GOOD, OPENED), *called(BAD, OPENED), *replies]
    )
    assert (found, apart) == (Standing.INITIATED, {BAD: Standing.UNANSWERED})


def test_the_evidence_of_an_address_is_its_own() -> None:
    evidence = evidence_of(
        [*called(GOOD, OPENED, ANSWERED), *called(BAD, OPENED, DENIED, DENIED, reason="POLICY_DENIED")]
    )
    alone = evidence.alone([BAD])
    assert sum(alone.signals.values()) == 3
    assert alone.count(DENIED) == 2
    assert alone.destinations.kept == {BAD: 3}
    assert alone.sources == evidence.sources


def test_of_two_addresses_the_pair_is_told_apart_and_turned_with_the_direction() -> None:
    pairs = [("10.0.0.1", "10.0.0.2", 443), ("10.0.0.3", "10.0.0.4", 443)]
    asked = [
        Flow(ADDRESS, ADDRESS, port=port, source_address=source, destination_address=destination)
        for source, destination, port in pairs
    ]
    answers = [
        Flow(
            ADDRESS,
            ADDRESS,
            port=EPHEMERAL,
            source_port=443,
            signal=Signal.OPEN,
            source_address="10.0.0.2",
            destination_address="10.0.0.1",
        )
    ]
    patterns = settle(patterns_of([*asked, *answers]), lambda end: end, lambda *_: False).patterns
    (found,) = (pattern for pattern in patterns if pattern.port == 443)
    assert found.evidence.apart() == {
        "10.0.0.1>10.0.0.2": {"opened": 1, "answered:inferred": 1},
        "10.0.0.3>10.0.0.4": {"opened": 1},
    }
    assert found.evidence.alone(["10.0.0.3>10.0.0.4"]).sources.kept == {"10.0.0.3": 1}


def test_ends_with_an_identity_cost_nothing_more() -> None:
    assert not evidence_of(called(GOOD, OPENED, destination=Endpoint("pod", "", "shop", (("app", "api"),)))).outcomes


def test_beyond_the_bound_nothing_is_told_apart() -> None:
    many = [flow for n in range(OUTCOMES + 1) for flow in called(f"203.0.{n >> 8}.{n & 255}", OPENED)]
    evidence = evidence_of([*many, *called(GOOD, ANSWERED)])
    assert len(evidence.outcomes) == OUTCOMES
    assert evidence.apart() == {}
