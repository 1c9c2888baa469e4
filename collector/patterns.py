"""What was seen, counted: the mergeable aggregate that every source feeds and everything later reads.

Invariant: `merge` is commutative and associative, and `add` is `merge` with a single flow; so a capture may be split
anywhere and read in any order, on any number of processes, with the same patterns in the end. Every part is bounded by
`collector.sketch`, whatever the traffic does.

Shape: `Patterns.edges[EdgeKey]` → `Edge` → one `Evidence` a destination port. Ports that were only knocked at are
bounded apart from ports at which a conversation was seen, so that a scan cannot push a real port out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import msgspec

from collector.endpoints import Endpoint
from collector.flow import Flow, Signal
from collector.quality import Quality
from collector.sketch import BottomK, Members, Tally

if TYPE_CHECKING:
    import pandas

PORTS = 1024  # ports kept per edge and class
OPEN_PAIRS = 256  # (source port, destination port) pairs kept per edge whose direction is open
PARTIES = 1024  # pods or addresses kept per end and port
REQUESTS = 4096  # method and path pairs kept per port and outcome
HOURS = 2048  # hourly buckets kept per port: twelve weeks
NAMES = 16
PODS = 8192  # pods kept per endpoint
OWNERS = 16

INFERRED = "inferred"  # the observation point of records whose direction was concluded at the end

Seconds = int
K = TypeVar("K", int, tuple[int, int])


class EdgeKey(msgspec.Struct, frozen=True, order=True):
    """Between whom. `principal` is the source's mTLS identity as the destination's proxy saw it, or ""."""

    source: Endpoint
    destination: Endpoint
    protocol: str
    principal: str = ""


class Evidence:
    """Why we believe in one pattern. All counts are records, not packets.

    `signals` counts records by `Signal` value, with the observation point after a colon for OPENED and CARRIED and the
    drop reason for DENIED. `hours` counts records per hour (unix time // 3600). `sources`/`destinations` count records
    by pod name or, failing that, address. HTTP requests are counted as "METHOD path": in `requests` when they were
    answered below 400, in `rejected` from 400 on, in `asked` when the record came before the answer. `samples` holds
    per signal the smallest flow id (or time) of its records, to find one again. `first`/`last` are unix seconds.
    """

    __slots__ = (
        "asked",
        "destinations",
        "first",
        "highest",
        "hours",
        "last",
        "lowest",
        "mtls",
        "names",
        "plaintext",
        "rejected",
        "requests",
        "samples",
        "sides",
        "signals",
        "sources",
    )

    def __init__(self) -> None:
        self.signals: dict[str, int] = {}
        self.first: Seconds = 0
        self.last: Seconds = 0
        self.lowest = ""  # of all sockets (opener and source port) or record ids; see `connections`
        self.highest = ""
        self.hours: Tally[int] = Tally(HOURS)
        self.sources: Tally[str] = Tally(PARTIES)
        self.destinations: Tally[str] = Tally(PARTIES)
        self.asked: Tally[str] = Tally(REQUESTS)
        self.requests: Tally[str] = Tally(REQUESTS)
        self.rejected: Tally[str] = Tally(REQUESTS)
        self.names: Members[str] = Members(NAMES)
        self.samples: dict[str, str] = {}
        self.sides: set[str] = set()
        self.mtls = 0
        self.plaintext = 0

    def signal(self, name: str, records: int) -> None:
        """Count `records` records under a signal's name."""
        self.signals[name] = self.signals.get(name, 0) + records

    def sample(self, name: str, flow_id: str) -> None:
        """Offer a record's id as the one to remember for a signal."""
        known = self.samples.get(name)
        if flow_id and (known is None or flow_id < known):
            self.samples[name] = flow_id

    def sockets(self, lowest: str, highest: str) -> None:
        """Take in the lowest and highest name among the connections of some records."""
        if lowest and (not self.lowest or lowest < self.lowest):
            self.lowest = lowest
        self.highest = max(self.highest, highest)

    def span(self, first: Seconds, last: Seconds) -> None:
        """Widen first and last seen; 0 means unknown."""
        if first and (not self.first or first < self.first):
            self.first = first
        self.last = max(self.last, last)

    def merge(self, other: Evidence) -> Evidence:
        """Take in other evidence of the same pattern, and return self."""
        for name, records in other.signals.items():
            self.signal(name, records)
        self.span(other.first, other.last)
        self.sockets(other.lowest, other.highest)
        for name, flow_id in other.samples.items():
            self.sample(name, flow_id)
        for sketch in ("hours", "sources", "destinations", "asked", "requests", "rejected", "names"):
            theirs = getattr(other, sketch)
            if theirs.kept:
                getattr(self, sketch).merge(theirs)
        self.sides |= other.sides
        self.mtls += other.mtls
        self.plaintext += other.plaintext
        return self

    def count(self, signal: Signal) -> int:
        """Records under one signal, whatever is after the colon."""
        records = 0
        for name, n in self.signals.items():
            if name == signal or name.partition(":")[0] == signal:
                records += n
        return records

    @property
    def connections(self) -> int:
        """Distinct connections (or requests a proxy logged), at least.

        One if all records name the same socket: retransmissions, duplicates and the points along the way are not more.
        Otherwise as many as some observation point reported, for each reports a connection's opening once.
        """
        if self.lowest and self.lowest == self.highest:
            return max(1, len(self.destinations))
        seen = [
            n
            for name, n in self.signals.items()
            for signal, _, point in [name.partition(":")]
            if signal == Signal.OPENED or (signal == Signal.ANSWERED and point not in ("", INFERRED))
        ]
        if self.lowest:
            return max([2, *seen])
        return max(seen, default=1 if self.signals else 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evidence) and all(getattr(self, s) == getattr(other, s) for s in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # mutable


class _Evidences(BottomK[K, Evidence]):
    __slots__ = ()

    @staticmethod
    def combine(old: Evidence, new: Evidence) -> Evidence:
        return old.merge(new)


_SPOKEN = frozenset({Signal.CARRIED.value, Signal.ANSWERED.value, Signal.AUDITED.value})


class Edge:
    """Everything between two endpoints over one protocol, by destination port."""

    __slots__ = ("knocked", "open", "spoken")

    def __init__(self) -> None:
        self.spoken: BottomK[int, Evidence] = _Evidences(PORTS)
        self.knocked: BottomK[int, Evidence] = _Evidences(PORTS)
        self.open: BottomK[tuple[int, int], Evidence] = _Evidences(OPEN_PAIRS)

    def merge(self, other: Edge) -> None:
        """Take in another edge between the same endpoints."""
        self.spoken.merge(other.spoken)
        self.knocked.merge(other.knocked)
        self.open.merge(other.open)

    def evidence(self, port: int, signal: str, source_port: int = 0) -> Evidence:
        """The evidence that records with this signal (a `Signal` value) belong to; add to it at once."""
        if signal == "open":
            pairs = self.open
            pair = (source_port, port)
            found = pairs.kept.get(pair)
            if found is None:
                found = pairs.kept[pair] = Evidence()
                if len(pairs.kept) > 2 * OPEN_PAIRS:
                    pairs.trim()
            return found
        ports = self.spoken if signal in _SPOKEN else self.knocked
        found = ports.kept.get(port)
        if found is None:
            found = ports.kept[port] = Evidence()
            if len(ports.kept) > 2 * PORTS:
                ports.trim()
        return found

    def ports(self) -> list[tuple[int, Evidence]]:
        """Evidence per port whose direction is settled, both classes joined, sorted by port."""
        joined = dict(self.spoken.items())
        for port, evidence in self.knocked.items():
            joined[port] = Evidence().merge(joined[port]).merge(evidence) if port in joined else evidence
        return sorted(joined.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edge) and all(getattr(self, s) == getattr(other, s) for s in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # mutable


class Sighting:
    """What was seen of an endpoint besides its identity.

    `pods` counts records by "pod|address" (either part may be empty), `owners` by "Kind/name", `ports` by
    "name/PROTOCOL/number" (container ports that the source knows by name), `origins` by source module.
    """

    __slots__ = ("origins", "owners", "pods", "ports")

    def __init__(self) -> None:
        self.pods: Tally[str] = Tally(PODS)
        self.owners: Tally[str] = Tally(OWNERS)
        self.ports: Tally[str] = Tally(PORTS)
        self.origins: Tally[str] = Tally(OWNERS)

    def merge(self, other: Sighting) -> None:
        """Take in another sighting of the same endpoint."""
        for sketch in self.__slots__:
            getattr(self, sketch).merge(getattr(other, sketch))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sighting) and all(getattr(self, s) == getattr(other, s) for s in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # mutable


class Patterns:
    """The aggregate. `edges` by `EdgeKey`, `sightings` by endpoint, `quality` of the observation itself."""

    __slots__ = ("edges", "quality", "sightings")

    def __init__(self) -> None:
        self.edges: dict[EdgeKey, Edge] = {}
        self.sightings: dict[Endpoint, Sighting] = {}
        self.quality = Quality()

    def edge(self, key: EdgeKey) -> Edge:
        """The edge between two endpoints, made if there is none."""
        found = self.edges.get(key)
        if found is None:
            found = self.edges[key] = Edge()
        return found

    def sighting(self, endpoint: Endpoint) -> Sighting:
        """The sighting of an endpoint, made if there is none."""
        found = self.sightings.get(endpoint)
        if found is None:
            found = self.sightings[endpoint] = Sighting()
        return found

    def add(self, flow: Flow, records: int = 1) -> None:
        """Count one flow (or `records` equal ones)."""
        key = EdgeKey(flow.source, flow.destination, flow.protocol, flow.principal)
        evidence = self.edge(key).evidence(flow.port, flow.signal, flow.source_port)
        detail = flow.reason if flow.signal is Signal.DENIED else flow.point
        name = f"{flow.signal.value}:{detail}" if detail else flow.signal.value
        evidence.signal(name, records)
        evidence.sample(name, flow.flow_id or flow.time)
        evidence.sockets(flow.socket, flow.socket)
        moment = seconds(flow.time)
        evidence.span(moment, moment)
        evidence.hours.add(moment // 3600, records)
        evidence.sources.add(flow.source_pod or flow.source_address, records)
        evidence.destinations.add(flow.destination_pod or flow.destination_address, records)
        if flow.method or flow.path:
            asked = flow.signal is Signal.OPENED and not flow.status
            outcome = evidence.asked if asked else evidence.rejected if flow.status >= 400 else evidence.requests
            outcome.add(f"{flow.method} {flow.path}", records)
        for host in flow.names:
            evidence.names.add(host, 1)
        if flow.side:
            evidence.sides.add(flow.side)
        if flow.mtls is not None:
            evidence.mtls += records if flow.mtls else 0
            evidence.plaintext += 0 if flow.mtls else records
        for end, pod, address in (
            (flow.source, flow.source_pod, flow.source_address),
            (flow.destination, flow.destination_pod, flow.destination_address),
        ):
            if end.kind == "pod":
                sighting = self.sighting(end)
                sighting.pods.add(f"{pod}|{address}", records)
                sighting.origins.add(flow.origin, records)
            elif end.kind == "entity" and address:
                self.sighting(end).pods.add(f"|{address}", records)
        self.quality.saw(flow.origin, moment, records)

    def merge(self, other: Patterns) -> None:
        """Take in another aggregate; `other` may be changed and must not be used afterwards."""
        for key, edge in other.edges.items():
            mine = self.edges.get(key)
            if mine is None:
                self.edges[key] = edge
            else:
                mine.merge(edge)
        for endpoint, sighting in other.sightings.items():
            known = self.sightings.get(endpoint)
            if known is None:
                self.sightings[endpoint] = sighting
            else:
                known.merge(sighting)
        self.quality.merge(other.quality)

    def frame(self) -> pandas.DataFrame:
        """The patterns as a table for a notebook; see `collector.frame` for its columns."""
        from collector.frame import frame

        return frame(self)

    def sorted_edges(self) -> Iterator[tuple[EdgeKey, Edge]]:
        """Edges in the keys' own order, so that whatever is written from them is too."""
        return iter(sorted(self.edges.items(), key=lambda item: item[0]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and all(getattr(self, s) == getattr(other, s) for s in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # mutable


def socket_name(opener: str, port: int) -> str:
    """How `Flow.socket` names a connection: the opener's pod or address, and its port."""
    return f"{opener} {port:05d}"


def seconds(time: str) -> Seconds:
    """RFC 3339 → unix seconds; 0 when it is empty or no time at all (a flow without a time is still a flow)."""
    try:
        if time[-1] == "Z" and time[16] == ":":
            return _hour(time[:13]) + 60 * int(time[14:16]) + int(time[17:19])
        return max(0, int(datetime.fromisoformat(time).timestamp()))
    except (ValueError, IndexError, OverflowError):
        return 0


@lru_cache(maxsize=4096)
def _hour(hour: str) -> Seconds:
    """The start of an hour, `2026-11-24T08`."""
    return max(0, int(datetime.fromisoformat(hour + ":00:00+00:00").timestamp()))
