"""The table of patterns: what a notebook, a gate or the report sees."""

from __future__ import annotations

import pandas as pd
from hypothesis import given
from pandas.testing import assert_frame_equal

from collector.endpoints import ADDRESS, Endpoint
from collector.flow import Flow, Signal
from collector.frame import COLUMNS, frame
from tests.collector.traffic import captures, limits, patterns_of

WEB = Endpoint("pod", "east", "shop", (("app", "web"),))
API = Endpoint("pod", "east", "shop", (("app", "api"),))
NOON = "2024-03-01T12:00:00Z"


def test_nothing_seen_is_an_empty_frame_of_the_same_shape() -> None:
    empty, full = patterns_of([]).frame(), frame(patterns_of([Flow(WEB, API, port=80)]))
    assert list(empty.columns) == list(COLUMNS)
    assert len(empty) == 0
    assert list(empty.dtypes) == list(full.dtypes)


def test_one_row_says_who_talks_to_whom_how_often_and_since_when() -> None:
    opened = Flow(WEB, API, port=8080, time=NOON, source_pod="web-1", method="GET", path="/", status=200)
    answered = Flow(WEB, API, port=8080, signal=Signal.ANSWERED, time="2024-03-01T13:30:00Z", source_pod="web-2")
    (row,) = frame(patterns_of([opened, opened, answered])).to_dict("records")
    expected = {
        "source": "shop/app=web",
        "destination_namespace": "shop",
        "source_cluster": "east",
        "protocol": "TCP",
        "port": 8080,
        "opened": 2,
        "answered": 1,
        "denied": 0,
        "connections": 2,
        "first": pd.Timestamp("2024-03-01 12:00", tz="UTC"),
        "last": pd.Timestamp("2024-03-01 13:30", tz="UTC"),
        "hours": 2,
        "sources": 2,
        "requests": 1,
        "capped": False,
    }
    assert {column: row[column] for column in expected} == expected


def test_records_without_a_time_give_no_time_and_no_hour() -> None:
    (row,) = frame(patterns_of([Flow(WEB, API, port=80)])).to_dict("records")
    assert row["first"] is pd.NaT
    assert row["hours"] == 0


def test_a_reached_bound_is_shown() -> None:
    with limits(2):
        flows = [Flow(ADDRESS, WEB, port=80, source_address=f"192.0.2.{n}") for n in range(9)]
        (row,) = frame(patterns_of(flows)).to_dict("records")
    assert row["capped"]
    assert row["sources"] >= 2


def test_open_direction_keeps_both_ports_in_its_own_row() -> None:
    flows = [Flow(WEB, API, port=80), Flow(WEB, API, port=80, source_port=40000, signal=Signal.OPEN)]
    table = frame(patterns_of(flows))
    assert table[["source_port", "opened", "open"]].to_numpy().tolist() == [[0, 1, 0], [40000, 0, 1]]


@given(captures(12))
def test_equal_patterns_give_equal_frames(capture: list[Flow]) -> None:
    assert_frame_equal(frame(patterns_of(capture)), frame(patterns_of(capture[::-1])))


@given(captures(12))
def test_every_record_is_in_exactly_one_signal_column(capture: list[Flow]) -> None:
    table = frame(patterns_of(capture))
    assert int(table[[signal.value for signal in Signal]].to_numpy().sum()) == len(capture)
