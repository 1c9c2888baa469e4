"""One single connection: intent only if something else vouches for it."""

from __future__ import annotations

from typing import Any

from collector.flow import Signal
from synthesizer.rules.rare import one_off
from synthesizer.rules.view import Held
from tests.synthesizer.objects import deployment
from tests.synthesizer.traffic import Traffic, at, drawn, view


def word(traffic: Traffic, port: int, *objects: dict[str, Any]) -> Held | None:
    (line,) = [line for line in drawn(traffic, *objects) if line.port == port and "web" in str(line.source)]
    return one_off(line, view(traffic, *objects))


def once(port: int) -> Traffic:
    """One connection of web to db, which serves something else too."""
    traffic = Traffic()
    db = traffic.pod("shop/db")
    traffic.talk(traffic.pod("shop/web"), db, port, times=1)
    traffic.talk(traffic.pod("shop/api"), db, 5432)
    return traffic


def test_a_single_connection_to_a_port_that_nothing_vouches_for_is_held() -> None:
    assert word(once(2222), 2222) is not None


def test_a_second_connection_is_enough() -> None:
    traffic = Traffic()
    db = traffic.pod("shop/db")
    traffic.talk(traffic.pod("shop/web"), db, 2222, times=2)
    traffic.talk(traffic.pod("shop/api"), db, 5432)
    assert word(traffic, 2222) is None


def test_both_ends_reporting_one_connection_do_not_make_it_two() -> None:
    traffic = once(2222)
    web, db = traffic.pod("shop/web"), traffic.pod("shop/db")
    traffic.add(web, db, 2222, records=1, point="to-stack")
    assert word(traffic, 2222) is not None


def test_a_port_that_others_use_is_vouched_for() -> None:
    assert word(once(5432), 5432) is None


def test_a_declared_port_is_vouched_for() -> None:
    assert word(once(2222), 2222, deployment("db", {"app": "db"}, {"containerPort": 2222})) is None


def test_the_only_port_of_a_workload_is_vouched_for_unless_it_is_ephemeral() -> None:
    for port, held in ((8080, False), (45_000, True)):
        traffic = Traffic()
        traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db"), port, times=1)
        assert bool(word(traffic, port)) is held, port


def test_a_workload_that_declares_other_ports_has_no_only_port() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db", ports=["sql/TCP/5432"]), 8080, times=1)
    assert word(traffic, 8080) is not None


def test_one_connection_outside_needs_a_name_or_another_caller() -> None:
    traffic = Traffic()
    web = traffic.pod("shop/web")
    traffic.talk(web, at("8.8.8.8"), 443, times=1)
    assert word(traffic, 443) is not None
    traffic.add(web, at("8.8.8.8"), 443, "TCP", Signal.ANSWERED, 1, names=("api.example.com",))
    assert word(traffic, 443) is None
