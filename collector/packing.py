"""Patterns as bytes, for another process: each endpoint once, everything else as msgspec writes it.

Invariant: what is unpacked equals what was packed. Only processes of one release exchange these bytes; what is to last
is a pattern store (`collector.store`).
"""

from __future__ import annotations

import msgspec

from collector.endpoints import Endpoint
from collector.patterns import Edge, EdgeKey, Patterns, Sighting
from collector.quality import Quality


class _Packed(msgspec.Struct, array_like=True):
    """Endpoints, and by their position: edges as source, destination, protocol, principal and `Edge`; sightings."""

    endpoints: list[Endpoint]
    edges: list[tuple[int, int, str, str, Edge]]
    sightings: list[tuple[int, Sighting]]


_decode = msgspec.msgpack.Decoder(_Packed).decode


def packed(patterns: Patterns) -> bytes:
    """Everything but the quality."""
    places: dict[Endpoint, int] = {}
    edges = [
        (
            places.setdefault(key.source, len(places)),
            places.setdefault(key.destination, len(places)),
            key.protocol,
            key.principal,
            edge,
        )
        for key, edge in patterns.edges.items()
    ]
    sightings = [(places.setdefault(endpoint, len(places)), told) for endpoint, told in patterns.sightings.items()]
    return msgspec.msgpack.encode(_Packed(list(places), edges, sightings))


def unpacked(data: bytes, quality: Quality) -> Patterns:
    """The patterns of `packed` with their quality."""
    found = _decode(data)
    ends = found.endpoints
    patterns = Patterns()
    patterns.edges = {EdgeKey(ends[one], ends[other], *rest): edge for one, other, *rest, edge in found.edges}
    patterns.sightings = {ends[place]: told for place, told in found.sightings}
    patterns.quality = quality
    return patterns
