"""Observed connections laid out as sets, for comparison with what policies allow.

Invariant: what was held back for review is not in here, and what was declared is kept apart from what was seen. Traffic
is observed per workload: what one pod was seen doing stands for all pods of its workload.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from leastway.verify.bits import Universe
from leastway.verify.entities import bits_of
from leastway.verify.httppath import Normalization, normalise
from leastway.verify.judge import ENTITIES
from leastway.verify.soundness import Observed
from leastway.verify.world import address

PortKey = tuple[str, int]


class Sightings:
    """What was seen, by the index of the destination's workload (for `outbound` and `called`, of the source's).

    `sources` per port, those of them that went `direct`ly past its waypoint, and `partners` on any port, are sets with
    all classes of a workload. `inbound` and `outbound` are external addresses per port, as (version, number).
    `called_by` and `called` are Cilium's entities per port, as bits. `requests` are sets of sources per (destination,
    port) and (method, path).
    """

    def __init__(self, universe: Universe, observed: Iterable[Observed], normalization: Normalization = "BASE") -> None:
        self.sources: dict[int, dict[PortKey, int]] = defaultdict(lambda: defaultdict(int))
        self.direct: dict[int, dict[PortKey, int]] = defaultdict(lambda: defaultdict(int))
        self.partners: dict[int, int] = defaultdict(int)
        self.inbound: dict[int, dict[PortKey, set[tuple[int, int]]]] = defaultdict(lambda: defaultdict(set))
        self.outbound: dict[int, dict[PortKey, set[tuple[int, int]]]] = defaultdict(lambda: defaultdict(set))
        self.called_by: dict[int, dict[PortKey, int]] = defaultdict(lambda: defaultdict(int))
        self.called: dict[int, dict[PortKey, int]] = defaultdict(lambda: defaultdict(int))
        self.requests: dict[tuple[int, int], dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
        for item in observed:
            source, outer_source = _place(universe, item.source, item.source_address)
            destination, outer_destination = _place(universe, item.destination, item.destination_address)
            port = (item.protocol.upper(), item.port)
            if destination is not None and item.source in ENTITIES:
                self.called_by[destination][port] |= bits_of([item.source])
            if source is not None and item.destination in ENTITIES:
                self.called[source][port] |= bits_of([item.destination])
            if source is not None and destination is not None:
                bits = universe.spread(1 << source)
                if item.direct:
                    self.direct[destination][port] |= bits
                self.sources[destination][port] |= bits
                self.partners[destination] |= bits
                if item.method or item.path:
                    path = normalise(item.path, normalization) or item.path
                    self.requests[destination, item.port][item.method, path] |= bits
            elif destination is not None and outer_source is not None:
                self.inbound[destination][port].add(outer_source)
            elif source is not None and outer_destination is not None:
                self.outbound[source][port].add(outer_destination)


def _place(universe: Universe, text: str, known_address: str) -> tuple[int | None, tuple[int, int] | None]:
    """(index, None) for a subject, (None, address) for the outside, (None, None) for neither."""
    if text in ENTITIES:
        text = known_address
    found = universe.locate(text)
    if found is None:
        found = universe.locate_address(text)
    if found is not None:
        return found, None
    ip = address(text)
    return None, None if ip is None else (ip.version, int(ip))
