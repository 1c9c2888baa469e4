"""What was seen, counted: the mergeable aggregate that every source fills and every later step reads.

Invariant: `merge` is commutative and associative, and `add` is `merge` with a single flow; so a capture may be split
anywhere and read in any order, on any number of processes, with the same patterns in the end. Every part is bounded by
`collector.sketch`, whatever the traffic does.

Shape: `Patterns.edges[EdgeKey]` → `Edge` → one `Evidence` per destination port. Ports that were only knocked at are
bounded separately from ports with a conversation, so that a scan cannot push out a real port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import field

from collector.endpoints import Endpoint
from collector.evidence import Evidence, apart_by
from collector.flow import Flow, Signal
from collector.quality import Quality
from collector.sketch import BottomK, Tally
from collector.times import seconds

if TYPE_CHECKING:
    import pandas

PORTS = 1024  # ports kept per edge and class
OPEN_PAIRS = 256  # (source port, destination port) pairs kept per edge whose direction is open
PODS = 8192  # pods kept per endpoint
OWNERS = 16  # owners, and source modules, kept per endpoint

K = TypeVar("K", int, tuple[int, int])


class EdgeKey(msgspec.Struct, frozen=True, order=True):
    """The two ends of an edge. `principal` is the source's mTLS identity as the destination's proxy saw it, or ""."""

    source: Endpoint
    destination: Endpoint
    protocol: str
    principal: str = ""

    def back(self) -> EdgeKey:
        """The key of the other direction, without an identity, which no proxy saw there."""
        return EdgeKey(self.destination, self.source, self.protocol)


class _Evidences(BottomK[K, Evidence], eq=False):
    @staticmethod
    def combine(old: Evidence, new: Evidence) -> Evidence:
        return old.merge(new)


_SPOKEN = frozenset({Signal.CARRIED.value, Signal.ANSWERED.value, Signal.AUDITED.value})


class Edge(msgspec.Struct):
    """Everything that was seen between two endpoints over one protocol, by destination port.

    `spoken` are ports with a conversation, `knocked` ports with attempts only. `open` is what is still undecided, by
    (source port, destination port).
    """

    spoken: _Evidences[int] = field(default_factory=lambda: _Evidences(PORTS))
    knocked: _Evidences[int] = field(default_factory=lambda: _Evidences(PORTS))
    open: _Evidences[tuple[int, int]] = field(default_factory=lambda: _Evidences(OPEN_PAIRS))

    def merge(self, other: Edge) -> None:
        """Take in another edge between the same endpoints."""
        self.spoken.merge(other.spoken)
        self.knocked.merge(other.knocked)
        self.open.merge(other.open)

    def evidence(self, port: int, signal: str, source_port: int = 0) -> Evidence:
        """The evidence that records with this `Signal` value count in; add to it at once, for a trim may drop it."""
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
        """The evidence of each port whose direction is not open, both classes joined, sorted; for reading only."""
        joined = dict(self.spoken.items())
        for port, evidence in self.knocked.items():
            known = joined.get(port)
            joined[port] = evidence if known is None else known.joined(evidence)
        return sorted(joined.items())


class Sighting(msgspec.Struct):
    """What was seen of an endpoint besides its identity.

    `pods` counts records by "pod|address" (either part may be empty), `owners` by "Kind/name", `ports` by
    "name/PROTOCOL/number" (container ports that the source knows by name), `origins` by source module.
    """

    pods: Tally[str] = field(default_factory=lambda: Tally(PODS))
    owners: Tally[str] = field(default_factory=lambda: Tally(OWNERS))
    ports: Tally[str] = field(default_factory=lambda: Tally(PORTS))
    origins: Tally[str] = field(default_factory=lambda: Tally(OWNERS))

    def merge(self, other: Sighting) -> None:
        """Take in another sighting of the same endpoint."""
        for sketch in self.__struct_fields__:
            getattr(self, sketch).merge(getattr(other, sketch))


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
        moment = seconds(flow.time)
        source, destination = flow.source_pod or flow.source_address, flow.destination_pod or flow.destination_address
        alone = apart_by(source, destination, (flow.source.nameless, flow.destination.nameless))
        evidence.saw(name, records, flow.flow_id or flow.time, moment, moment, source, destination, alone)
        evidence.sockets(flow.socket, flow.socket)
        if flow.method or flow.path:
            caller = source if flow.source.nameless else None
            evidence.request(_outcome(flow), f"{flow.method} {flow.path}", records, caller)
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
        """The edges, sorted by key, so that whatever is written from them is sorted too."""
        return iter(sorted(self.edges.items(), key=lambda item: item[0]))

    def __reduce__(self) -> tuple[Callable[..., Patterns], tuple[bytes, Quality]]:
        """How other processes get them: in a form that is much faster to send than object by object."""
        from collector.packing import packed, unpacked

        return unpacked, (packed(self), self.quality)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and all(getattr(self, s) == getattr(other, s) for s in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # mutable


def _outcome(flow: Flow) -> str:
    """The sketch of `Evidence` that counts a flow's request.

    What was stopped or never answered is no success, whatever its status: an external authoriser redirects to a login
    (302), and a client that hangs up leaves no status at all.
    """
    if flow.status >= 400 or flow.signal in (Signal.REFUSED, Signal.DENIED):
        return "rejected"
    return "asked" if flow.signal is Signal.OPENED and not flow.status else "requests"
