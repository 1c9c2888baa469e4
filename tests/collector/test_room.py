"""How much an aggregate may hold: the estimate of its size, and who is refused when it has grown."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from collector.endpoints import Endpoint
from collector.flow import Flow, Signal
from collector.patterns import Patterns
from collector.room import GROWTH, Room, weight


def pod(name: str) -> Endpoint:
    return Endpoint("pod", namespace="shop", workload=name)


def answered(number: int, **more: object) -> Flow:
    name = f"id{number}"
    fields = {"source": pod("web"), "destination": pod("cart"), "port": 80, "signal": Signal.ANSWERED} | more
    return Flow(time="2026-03-01T08:00:00Z", method="GET", flow_id=name, socket=name, origin="x", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda n: answered(
            n, source=pod(f"web{n}"), source_pod=f"web{n}-0", source_address=f"10.0.{n // 250}.{n % 250}"
        ),
        lambda n: answered(n, port=1 + n % 1000, destination=pod(f"cart{n // 1000}")),
        lambda n: answered(n, path=f"/a/{n}"),
    ],
    ids=["workloads", "ports", "paths"],
)
def test_the_weight_is_about_what_the_interpreter_has_allocated(make: Callable[[int], Flow]) -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    patterns = Patterns()
    for number in range(3000):
        patterns.add(make(number))
    real = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.9 * real < weight(patterns) < 2 * real
    assert real < 3000 * GROWTH


def test_growth_that_the_aggregate_does_not_really_show_costs_nobody_anything() -> None:
    room = Room(1000)
    assert all(room.grow("sender", 100, lambda: 10) for _ in range(1000))


def test_under_pressure_who_brought_most_is_refused_first_and_at_the_end_everyone() -> None:
    room = Room(1000)
    held = 0
    assert room.grow("quiet", 10, lambda: held)
    assert room.grow("loud", 400, lambda: held)
    held = 600
    assert not room.grow("loud", 200, lambda: held)
    assert room.grow("quiet", 10, lambda: held)
    held = 800
    assert not room.grow("loud", 200, lambda: held)
    assert not room.grow("quiet", 10, lambda: held)
    assert not room.grow("new", 1, lambda: held)


def test_it_is_weighed_seldom() -> None:
    weighed = 0

    def weigh() -> int:
        nonlocal weighed
        weighed += 1
        return 500

    room = Room(1_000_000)
    for _ in range(100_000):
        room.grow("sender", 100, weigh)
    assert weighed < 25
