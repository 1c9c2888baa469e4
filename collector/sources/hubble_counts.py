"""Hubble flows that were counted but not handed over to the patterns yet.

Invariant: handing over a batch gives the same patterns as handing over every flow.
"""

from __future__ import annotations

import msgspec

from collector.evidence import apart_by, socket_name
from collector.patterns import Edge, EdgeKey, Patterns
from collector.sources.hubble_endpoints import SeenEnd, SeenEnds
from collector.times import seconds

ORIGIN = "hubble"


class Count(msgspec.Struct, eq=False, gc=False):
    """Equal records, counted: how many, the first and last time, the smallest id, the opener's extreme ports."""

    first: str
    flow_id: str
    highest: int
    last: str
    lowest: int
    records: int


# (source, destination, protocol, port, signal and point, source port if open, hour, request outcome, request)
Key = tuple[SeenEnd, SeenEnd, str, int, str, int, str, str, str]


class Counts:
    """Counts of records by everything that distinguishes them, and the host names seen with them."""

    def __init__(self, ends: SeenEnds) -> None:
        self.ends = ends
        self.held: dict[Key, Count] = {}
        self.names: dict[tuple[SeenEnd, SeenEnd, str, int, str, int], set[str]] = {}
        self.replies = 0

    def __len__(self) -> int:
        return len(self.held)

    def count(self, key: Key, time: str, flow_id: str, port: int) -> bool:
        """Count one record, with its opener's port; True if it is the first of its kind."""
        known = self.held.get(key)
        if known is None:
            self.held[key] = Count(time, flow_id, port, time, port, 1)
            return True
        known.records += 1
        if time < known.first:
            known.first = time
        elif time > known.last:
            known.last = time
        if flow_id and (flow_id < known.flow_id or not known.flow_id):
            known.flow_id = flow_id
        if port < known.lowest:
            known.lowest = port
        elif port > known.highest:
            known.highest = port
        return False

    def hand_over(self, patterns: Patterns) -> None:
        """Count everything into the patterns, and hold nothing any more."""
        edges: dict[tuple[int, int, str], Edge] = {}
        seen: dict[SeenEnd, int] = {}
        total, earliest, latest = 0, 0, 0
        for (near, far, protocol, port, name, sport, _, outcome, request), count in self.held.items():
            ends = (id(near.endpoint), id(far.endpoint), protocol)
            edge = edges.get(ends)
            if edge is None:
                edge = edges[ends] = patterns.edge(EdgeKey(near.endpoint, far.endpoint, protocol))
            records = count.records
            evidence = edge.evidence(port, name.partition(":")[0], sport)
            begin = seconds(count.first)
            end = begin if count.last is count.first else seconds(count.last)
            alone = apart_by(near.name, far.name, (near.endpoint.nameless, far.endpoint.nameless))
            evidence.saw(name, records, count.flow_id, begin, end, near.name, far.name, alone)
            if not sport:  # while it is open which end opened it, there is no opener to name
                lowest = socket_of(near, count.lowest)
                evidence.sockets(lowest, lowest if count.lowest == count.highest else socket_of(near, count.highest))
            if request:
                evidence.request(outcome, request, records, near.name if near.endpoint.nameless else None)
            if near.local:
                evidence.sides.add("source")
            if far.local:
                evidence.sides.add("destination")
            seen[near] = seen.get(near, 0) + records
            seen[far] = seen.get(far, 0) + records
            total += records
            if begin and (begin < earliest or not earliest):
                earliest = begin
            if end > latest:
                latest = end
        for (near, far, protocol, port, signal, sport), names in self.names.items():
            edge = patterns.edge(EdgeKey(near.endpoint, far.endpoint, protocol))
            evidence = edge.evidence(port, signal, sport)
            for host in names:
                evidence.names.add(host[:253].rstrip("."), 1)
        for one, records in seen.items():
            self.ends.sight(one, records)
        if total:
            patterns.quality.saw(ORIGIN, earliest, total)
            patterns.quality.saw(ORIGIN, latest, 0)
        patterns.quality.replies += self.replies
        self.replies = 0
        self.held.clear()
        self.names.clear()


def socket_of(opener: SeenEnd, port: int) -> str:
    """The connection's name, see `Flow.socket`."""
    return socket_name(opener.name, port) if port else ""
