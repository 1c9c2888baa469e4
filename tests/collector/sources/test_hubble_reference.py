"""The fast fold says what the reference fold says, on every sample, real capture and changed record."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.sketch import Tally
from collector.sources import hubble_counter, hubble_json
from tests.collector import reference
from tests.collector.sources.entries import folded
from tests.collector.sources.flows import ACK, API, FORMS, REQUEST, RESPONSE, SYN, SYN_ACK, WEB, Json, back, flow
from tests.goldens import SAMPLES
from tests.simulator import hubble_records


def differs(lines: Sequence[bytes]) -> list[str]:
    """Where the fold and the reference disagree."""
    fast, bad = folded(hubble_json, *lines)
    slow, unread = reference.fold(lines)
    fast.quality.bad = Tally(64)  # the reference knows positions, not msgspec's words
    quality = [name for name in fast.quality.__slots__ if getattr(fast.quality, name) != getattr(slow.quality, name)]
    edges = [str(k) for k in {**fast.edges, **slow.edges} if fast.edges.get(k) != slow.edges.get(k)]
    sightings = [str(e) for e in {**fast.sightings, **slow.sightings} if fast.sightings.get(e) != slow.sightings.get(e)]
    positions = [] if [number for number, _ in bad] == unread else [f"bad lines {bad} != {unread}"]
    return [*positions, *quality, *edges, *sightings]


def values_of(path: Path) -> list[bytes]:
    """The records of a capture: JSON lines, or one pretty-printed value after the other."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    if not text.startswith(("{\n", "[")):
        return [line.strip().encode() for line in text.splitlines() if line.strip()]
    found, at, decoder = [], 0, json.JSONDecoder()
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        found += value if isinstance(value, list) else [value]
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return [json.dumps(value).encode() for value in found]


# -- against the reference -------------------------------------------------------------------------------------------

SAMPLES_OF_FLOWS = sorted(
    p for p in SAMPLES.glob("*/*") if p.name.startswith(("flows.", "bare.", "masked.", "pretty."))
)


@pytest.mark.parametrize("path", SAMPLES_OF_FLOWS, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_agrees_with_the_reference_on_the_stories(path: Path) -> None:
    lines = values_of(path)
    assert len(lines) > 20
    assert differs(lines) == []


def test_agrees_with_the_reference_on_real_captures(captures: Path) -> None:
    files = sorted(path for path in (captures / "hubble").rglob("*.json*"))
    assert files
    assert {path.name: wrong for path in files if (wrong := differs(values_of(path)))} == {}


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
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_reference_on_random_applications(seed: int, shape: dict[str, Any]) -> None:
    assert differs([json.dumps(record).encode() for record in hubble_records(seed, **shape).records]) == []


ABSENT = object()
PORTS = (0, 53, 80, 8080, 20000, 32767, 32768, 41000, 50051, 65535, 65536, -1, None, ABSENT)
CHANGES: dict[str, tuple[Any, ...]] = {
    "verdict": ("FORWARDED", "REDIRECTED", "AUDIT", "DROPPED", "TRACED", "SURPRISE", "", None, ABSENT),
    "is_reply": (True, False, None, ABSENT),
    "reply": (True, False, None),
    "event_type": ({"type": 5}, {"type": 1, "sub_type": 133}, {"type": 1, "sub_type": 181}, {"type": 129}, {}, None),
    "drop_reason": (133, 181, 189, 140, 0, None),
    "drop_reason_desc": ("POLICY_DENIED", "AUTH_REQUIRED", "CT_MAP_INSERTION_FAILED", "", None),
    "Type": ("L7", "SOCK", "", None, ABSENT),
    "traffic_direction": ("EGRESS", "INGRESS", "TRAFFIC_DIRECTION_UNKNOWN", "Sideways", None),
    "trace_observation_point": ("TO_OVERLAY", "TO_NETWORK", "FROM_ENDPOINT", "UNKNOWN_POINT", "NOWHERE", "", None),
    "destination_names": (
        ["api.example."],
        [],
        None,
        ["b", "a", ""],
        [f"n{i}.example" for i in range(20)],
        ["x" * 300],
    ),
    "l7": (
        *(REQUEST, RESPONSE, {"type": "RESPONSE", "http": {"code": 503, "url": "/x"}}, {"type": "SAMPLE"}),
        *({"type": "REQUEST", "dns": {"query": "a.example."}}, {"type": "REQUEST", "http": {"url": "*"}}),
        *({}, None, ABSENT),
    ),
    "time": (
        *("2026-03-02T08:30:00Z", "2026-03-02T08:59:59.999999999Z", "2026-03-02T09:00:00Z"),
        *("2026-03-02T08:00:00+02:00", "2026-03-02T08:15:00-05:00", "yesterday", "", None, ABSENT),
        *("2026-03-02T08:1x:00Z", "2026-03-02T08Z", "2026-03-02T08:10:\u0669\u0669Z", "Z"),
    ),
    "uuid": ("id-1", "id-9", "", None, ABSENT),
    "IP": (
        {"source": "::ffff:10.0.0.1", "destination": "2001:DB8::1"},
        {"source": "nowhere"},
        {"source": None},
        {},
        None,
    ),
    "source_service": ({"name": "web", "namespace": "shop"}, None),
    "destination_service": (
        *({"name": "api", "namespace": "shop"}, {"name": "other", "namespace": "shop"}, {"name": "api"}),
        *({"name": "No Name", "namespace": "shop"}, {}, None),
    ),
    "source": (WEB, API, {}, None, ABSENT, {"identity": 1}, {"labels": ["reserved:host", "reserved:kube-apiserver"]}),
    "destination": (
        API,
        WEB,
        {"labels": ["reserved:world"]},
        {"identity": 7, "labels": ["reserved:remote-node"]},
        None,
    ),
}
FLAGS: tuple[Json | None, ...] = (SYN, SYN_ACK, ACK, {"RST": True}, {"RST": True, "ACK": True}, {"SYN": None}, {}, None)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """A flow with some of its fields changed, in one of the forms in which flows come."""
    found = deepcopy(draw(st.sampled_from((flow(flags=SYN), flow(flags=ACK), back(flags=SYN_ACK), back(flags=ACK)))))
    for name in draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=5, unique=True)):
        _put(found, name, draw(st.sampled_from(CHANGES[name])))
    if draw(st.booleans()):
        protocol = draw(st.sampled_from(("TCP", "UDP", "SCTP", "ICMPv4", "ICMPv6")))
        layer: Json = {}
        for name in ("source_port", "destination_port"):
            _put(layer, name, draw(st.sampled_from(PORTS)))
        layer["flags"] = draw(st.sampled_from(FLAGS))
        found["l4"] = draw(
            st.sampled_from(({protocol: layer}, {protocol: layer, "UDP": layer}, {protocol: {}}, {}, None))
        )
    wrap: Callable[[Json], Json] = draw(st.sampled_from(FORMS))
    return json.dumps(wrap(found)).encode()


def _put(record: Json, name: str, value: Any) -> None:
    if value is ABSENT:
        record.pop(name, None)
    else:
        record[name] = value


@given(st.lists(records(), max_size=12))
def test_agrees_with_the_reference_on_changed_records(lines: list[bytes]) -> None:
    """Absent, null and contradicting fields; also the times, ids and names that share a counter in the fast fold."""
    assert differs(lines) == []


@given(st.lists(records(), max_size=12), st.integers(0, 12), st.integers(1, 4))
def test_splitting_a_capture_and_flushing_early_change_nothing(lines: list[bytes], cut: int, batch: int) -> None:
    whole, _ = folded(hubble_json, *lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hubble_counter, "BATCH", batch)
        later, _ = folded(hubble_json, *reversed(lines[cut:]))
        earlier, _ = folded(hubble_json, *lines[:cut])
    later.merge(earlier)
    assert later == whole


@given(st.lists(records(), max_size=12), st.integers(0, 12))
def test_counting_in_several_processes_changes_nothing(lines: list[bytes], cut: int) -> None:
    whole, _ = folded(hubble_json, *lines)
    here, _ = folded(hubble_json, *lines[:cut])
    there, _ = folded(hubble_json, *lines[cut:])
    sent = pickle.loads(pickle.dumps(there))
    assert sent == there
    here.merge(sent)
    assert here == whole


@pytest.mark.parametrize(
    "odd", ["2026-03-02T08:1x:00Z", "2026-03-02T08Z", "2026-03-02T08:10:\u0669\u0669Z", "2026-03-02T08:10x00Z", "Z"]
)
def test_a_malformed_time_does_not_hide_the_others_of_its_hour(odd: str) -> None:
    times = [odd, "2026-03-02T08:30:00Z", "2026-03-02T08:05:00Z"]
    assert differs([json.dumps(flow(time=time)).encode() for time in times]) == []
