"""The session's state as Prometheus text, and as answers to health questions.

Invariant: it only reads counters, takes no lock and never waits, so that whoever scrapes cannot slow a source down. The
number of series is bounded by the sources' own kinds, whatever the traffic is.

Format: Prometheus text exposition 0.0.4.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from collector.errors import LeastwayError
from collector.live import LiveSource
from leastway.observing.session import Session

if TYPE_CHECKING:
    from leastway.observing.recording import Recorder

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STUCK = 300.0  # seconds without a round of the loop (and more than five intervals) after which it is not alive
SLOW = 15.0  # seconds in which a store should have answered
PAGE = os.sysconf("SC_PAGE_SIZE")
STATM = Path("/proc/self/statm")

Sample = tuple[dict[str, str], float]


class Family(NamedTuple):
    """One metric: its name, type, explanation and samples."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


def exposition(session: Session, recorders: dict[str, Recorder], version: str) -> str:
    """All metrics as text."""
    lines: list[str] = []
    for family in (*_of_sources(session), *_of_store(session), *_of_recorders(recorders), *_of_process(version)):
        if not family.samples:
            continue
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
    return "\n".join(lines) + "\n"


def alive(session: Session) -> str:
    """ "" if the session's loop goes round, else what is wrong."""
    idle = time.monotonic() - session.beat
    return f"the flush loop has not moved for {idle:.0f} s" if idle > max(STUCK, 5 * session.interval) else ""


def ready(session: Session) -> str:
    """ "" if all sources are up and the store is written, else what is not: a line each, since when, and why."""
    if not session.running:
        return "not observing yet, or not any more"
    lines = [_away(source) for source in session.sources if not source.status.connected]
    waited = time.monotonic() - session.beat  # the loop waits for nothing else
    if waited > SLOW:
        lines.append(f"the store has not answered for {waited:.0f} s, and was last written {_moment(session.flushed)}")
    elif failing := session.failing:
        lines.append(f"the store has not been written since {_moment(session.flushed)}: {failing}")
    return "\n".join(lines)


def _away(source: LiveSource) -> str:
    why = str(LeastwayError(source.trouble))  # one printable line: it may come from the wire
    return f"{source.name} has not been connected since {_moment(source.status.since)}{': ' * bool(why)}{why}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _of_sources(session: Session) -> Iterator[Family]:
    status = {source.name: source.status for source in session.sources}
    flows = [
        ({"source": name, "verdict": verdict}, float(count))
        for name, s in status.items()
        for verdict, count in sorted(_copy(s.flows).items())
    ]
    yield Family("leastway_flows_total", "counter", "Records counted, by source and verdict (or kind).", flows)
    for counter, text in (
        ("lost", "Events that the sender reported as lost."),
        ("bad", "Records that could not be read."),
        ("reconnects", "Times the source connected again."),
        ("refused", "Records or streams turned away because of a limit."),
        ("broken", "Streams that their sender did not close."),
    ):
        samples = [({"source": name}, float(getattr(s, counter))) for name, s in status.items()]
        yield Family(f"leastway_{counter}_total", "counter", text, samples)
    connected = [({"source": name}, float(s.connected)) for name, s in status.items()]
    yield Family("leastway_connected", "gauge", "1 if the source is connected, or listens.", connected)
    streams = [({"source": name}, float(s.streams)) for name, s in status.items()]
    yield Family("leastway_streams", "gauge", "Streams open now.", streams)
    narrowed = [
        ({"source": source.name, "namespaces": ",".join(sorted(source.namespaces))}, 1.0)
        for source in session.sources
        if source.namespaces
    ]
    yield Family("leastway_filter_info", "gauge", "1 for a source that is asked for some namespaces only.", narrowed)
    lag = [({"source": n}, max(0.0, time.time() - s.newest)) for n, s in status.items() if s.newest]
    yield Family("leastway_lag_seconds", "gauge", "Seconds since the newest record's own time.", lag)


def _of_store(session: Session) -> Iterator[Family]:
    results = [({"result": "ok"}, float(session.flushes)), ({"result": "failed"}, float(session.flush_failures))]
    yield Family("leastway_flushes_total", "counter", "Flushes into the store, by result.", results)
    yield _gauge("leastway_patterns", "Patterns (edge and port) in the last flush.", session.patterns)
    yield _gauge("leastway_flush_seconds", "How long the last flush took.", session.flush_seconds)
    seconds: list[Sample] = [({}, session.flush_seconds_total)]
    yield Family("leastway_flush_seconds_total", "counter", "How long all flushes took.", seconds)
    yield _gauge(
        "leastway_last_flush_timestamp_seconds", "Until when everything seen is in the store.", session.flushed
    )


def _of_recorders(recorders: dict[str, Recorder]) -> Iterator[Family]:
    written = [({"source": name}, float(r.written)) for name, r in recorders.items()]
    yield Family("leastway_record_bytes_total", "counter", "Packed bytes of raw messages recorded.", written)
    dropped = [({"source": name}, float(r.dropped)) for name, r in recorders.items()]
    yield Family("leastway_record_dropped_total", "counter", "Raw messages that were not recorded.", dropped)


def _of_process(version: str) -> Iterator[Family]:
    yield Family("leastway_build_info", "gauge", "The version that runs.", [({"version": version}, 1.0)])
    if STATM.exists():  # Linux
        pages = int(STATM.read_text(encoding="ascii").split()[1])
        yield _gauge("process_resident_memory_bytes", "Resident memory.", pages * PAGE)


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, [({}, float(value))])


def _copy(counts: dict[str, int]) -> dict[str, int]:
    """The counts of a moment; a source's thread may add a key meanwhile."""
    while True:
        try:
            return dict(counts)
        except RuntimeError:
            continue


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
