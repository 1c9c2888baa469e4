"""Direction on generated traffic: the same in any order, and no rule at a port that nobody serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from collector.direction import EPHEMERAL
from tests.collector.settled import DENIED, INITIATED, OPEN, UNANSWERED, conclusion, fold, line_of
from tests.e2e.hostile.scene import Record, Scene
from tests.simulator import hubble_records

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
        (line_of(pattern), pattern.standing, pattern.because)
        for pattern in settled
        if pattern.standing not in (OPEN, UNANSWERED, DENIED)
        and pattern.port >= EPHEMERAL
        and (pattern.protocol, pattern.port) not in served
    ]
    assert wrong == []
    assert any(pattern.standing is INITIATED for pattern in settled)
