"""Live and offline agree: flows that come over gRPC give the patterns that the same flows give from a file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from collector.patterns import Patterns
from collector.sources.hubble_request import Request
from tests.collector.sources.flows import SYN, flow
from tests.goldens import SAMPLES
from tests.live import differences, observed, observing, offline, playing, received
from tests.simulator import hubble_records

STORIES = sorted(p for p in SAMPLES.glob("*/*") if p.name.startswith(("flows.", "bare.", "masked.", "pretty.")))
BOUTIQUE = SAMPLES / "online-boutique" / "flows.jsonl.gz"


@pytest.mark.parametrize("path", STORIES, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_every_story_gives_the_same_patterns(path: Path) -> None:
    with playing(path) as played:
        live = observed(played.address)
    assert live.edges
    assert differences(live, offline(path), "bad") == []  # what is no record cannot be sent


def test_a_flow_that_a_server_sends_again_is_counted_once_and_a_line_that_a_file_repeats_twice(tmp_path: Path) -> None:
    capture = tmp_path / "flows.jsonl"
    capture.write_text("".join(json.dumps(record) + "\n" for record in hubble_records(3).records[:1] * 2))
    with playing(capture) as played:
        assert observed(played.address).quality.total == 1
    assert offline(capture).quality.total == 2


def test_real_captures_give_the_same_patterns(captures: Path) -> None:
    found = {}
    for path in sorted((captures / "hubble").rglob("*.json*")):
        with playing(path) as played:
            found[path.name] = differences(observed(played.address), offline(path))
    assert found
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"replies": False},
        {"one_sided": True, "missing_is_reply": True, "udp": True},
        {"dnat": True, "workload_field": False},
        {"v6": True},
    ],
    ids=lambda shape: "-".join(shape) or "plain",
)
def test_every_shape_of_an_installation_gives_the_same_patterns(shape: dict[str, Any], tmp_path: Path) -> None:
    capture = tmp_path / "flows.jsonl"
    capture.write_text("".join(json.dumps(record) + "\n" for record in hubble_records(3, **shape).records))
    with playing(capture) as played:
        assert differences(observed(played.address), offline(capture)) == []


def test_the_mask_changes_nothing() -> None:
    with playing(BOUTIQUE) as played:
        masked, whole = (observed(played.address, request=Request(follow=False, mask=mask)) for mask in (True, False))
    assert differences(masked, whole) == []


def test_a_followed_stream_hands_over_each_flow_once() -> None:
    with playing(BOUTIQUE) as played, observing(played.address) as source:
        parts = Patterns()
        taken = 0
        while taken < 20 or received(source) < 1509:
            parts.merge(source.take())
            taken += 1
            time.sleep(0.001)
        assert source.status.connected
        assert source.status.newest == pytest.approx(max(played.capture.times) / 1e9)
        source.stop(5)
        parts.merge(source.take())
    assert differences(parts, offline(BOUTIQUE), "blind") == []
    assert source.cursors.keys() == {name for name in played.capture.names if name}


def test_another_process_goes_on_where_one_has_stopped() -> None:
    with playing(BOUTIQUE) as played:
        middle = played.capture.times[len(played.capture) // 2]
        with observing(played.address, request=Request(follow=False, until=middle / 1e9)) as first:
            assert first.finished.wait(10)
            parts = first.take()
        with observing(played.address, request=Request(follow=False), resume=first.cursors) as second:
            assert second.finished.wait(10)
            parts.merge(second.take())
    whole = offline(BOUTIQUE)
    # Events have no position of their own: those of the overlap are told again.
    assert differences(parts, whole, "lost", "nodes", "blind", "skipped") == []


def test_what_is_recorded_is_what_came() -> None:
    raw: list[bytes] = []
    with playing(BOUTIQUE) as played:
        observed(played.address, request=Request(follow=False, mask=False), record=raw.append)
        assert raw == [played.capture[position] for position in range(len(played.capture))]


def test_a_filter_is_applied_by_the_server() -> None:
    only = Request(follow=False, allow=[{"destination_pod": ["default/cartservice"]}], deny=[{"verdict": ["DROPPED"]}])
    with playing(BOUTIQUE) as played:
        live = observed(played.address, request=only)
    assert live.edges
    for key in live.edges:
        assert "cartservice" in (key.source.workload, *dict(key.source.labels).values()) or "cartservice" in (
            *dict(key.destination.labels).values(),
        )


def test_services_that_flows_name_are_the_same(tmp_path: Path) -> None:
    capture = tmp_path / "flows.jsonl"
    named = flow(flags=SYN, destination_service={"name": "api", "namespace": "shop"})
    capture.write_text(json.dumps({"flow": named, "node_name": "node-1", "time": named["time"]}) + "\n")
    with playing(capture) as played:
        live = observed(played.address)
    assert differences(live, offline(capture)) == []
    assert [end.workload for end in live.sightings if end.kind == "service"] == ["api"]
