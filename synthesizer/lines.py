"""Settled patterns → lines between workloads and places: who really talks to whom.

Invariant: there is one line per `Line.key`, however many patterns it comes from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from collector.endpoints import Endpoint
from collector.evidence import UNNAMED, Evidence, paired
from collector.flow import Signal
from collector.patterns import Patterns, Sighting
from collector.settlement import settle
from collector.standing import STOPPED, Pattern, Settled, Standing, seen_by_proxy, stopped
from synthesizer.inventory import Inventory
from synthesizer.party import Outside, Party, Place, party_key
from synthesizer.resolver import End, Resolver
from synthesizer.workload import Workload
from synthesizer.workloads import Workloads

_TOO_MANY = "the records have addresses alone, too many of them to keep who met whom"
_STRENGTH = {
    Standing.INITIATED: 5,
    Standing.AUDITED: 4,
    Standing.INFERRED: 3,
    Standing.UNANSWERED: 2,
    Standing.DENIED: 1,
    Standing.OPEN: 0,
}


class Line(msgspec.Struct, eq=False):
    """`source` talks to `destination` at pod port `port`. `records` counts what was seen between just these two.

    `evidence` may be shared by several sources that an access log distinguishes only by address; `own` is then what
    `source` itself asked for. `together`: that was not kept, so `own` is what all of them asked for. `unsecured`: the
    destination's proxy saw no mutual TLS, while the capture shows it elsewhere.
    """

    source: Party
    destination: Party
    protocol: str
    port: int
    standing: Standing
    evidence: Evidence
    own: Evidence
    records: int
    because: str = ""
    principals: tuple[str, ...] = ()
    via: tuple[str, ...] = ()  # the Services whose addresses were used
    key: tuple[str, str, str, int] = ("", "", "", 0)  # sorts and identifies: the parties' keys, protocol, port
    together: bool = False
    unsecured: bool = False

    def __post_init__(self) -> None:
        self.key = (party_key(self.source), party_key(self.destination), self.protocol, self.port)


class _Meeting(NamedTuple):
    """Two parties of a pattern that met, the source's `number`, and the keys of `Evidence.apart` that tell of them."""

    number: int | None
    source: End
    destination: End
    names: Collection[str] = ()


def via_waypoint(line: Line) -> bool:
    """Whether the connection went through a waypoint, whose proxy then stands between caller and workload."""
    return any(name.endswith(":waypoint") for name in line.evidence.signals)


def past_waypoint(line: Line) -> bool:
    """Whether the workload's own proxy saw the caller itself, whatever else went through a waypoint."""
    return any(name.endswith(":inbound") for name in line.evidence.signals)


def conclude(patterns: Patterns, workloads: Workloads) -> Settled:
    """Settle who opened what, with the endpoints of one workload as one party."""

    def identify(endpoint: Endpoint) -> object:
        workload = workloads.of.get(endpoint)
        return workload.key if workload is not None else endpoint

    def declared(endpoint: Endpoint, protocol: str, port: int) -> bool:
        workload = workloads.of.get(endpoint)
        return workload is not None and workloads.declares(workload, protocol, port)

    return settle(patterns, identify, declared)


def lines(
    settled: Settled, sightings: Mapping[Endpoint, Sighting], workloads: Workloads, inventory: Inventory
) -> list[Line]:
    """All lines, sorted by `Line.key`; evidence of the same line from several sources is joined."""
    resolver = Resolver(sightings, workloads, inventory)
    joined: dict[tuple[str, str, str, int], Line] = {}
    for pattern in settled.patterns:
        for line in _of(pattern, resolver):
            known = joined.get(line.key)
            joined[line.key] = line if known is None else _join(known, line)
    found = [joined[key] for key in sorted(joined)]
    _tell_requests(found)
    received = [line for line in found if past_waypoint(line)]
    if any(line.evidence.mtls for line in received):
        for line in received:
            line.unsecured = not line.evidence.mtls
    return found


def _tell_requests(found: list[Line]) -> None:
    """Tell what was asked of a Service to all its workloads that a connection through its waypoint may have reached.

    A client's ztunnel names the Service alone, so its record stands for every workload behind; the waypoint's log knows
    which pod answered. Without this, what was not read at one of them would be open to any request at all of them.
    """
    called: dict[tuple[str, str, int, str], list[Line]] = {}
    for line in found:
        for service in line.via if via_waypoint(line) else ():
            called.setdefault((line.key[0], line.protocol, line.port, service), []).append(line)
    for group in called.values():
        told = max(group, key=lambda line: (len(line.own.requests) + len(line.own.asked), len(line.own.rejected)))
        for line in group:
            if not (line.own.requests or line.own.rejected or line.own.asked):
                own = told.own
                line.own = line.evidence = replace(
                    line.evidence, requests=own.requests, rejected=own.rejected, asked=own.asked
                )


def _of(pattern: Pattern, resolver: Resolver) -> list[Line]:
    """The lines of one pattern: usually one; more if an end stands for several parties."""
    evidence = pattern.evidence
    principals = (pattern.principal,) if pattern.principal else ()
    found: list[Line] = []
    sources = resolver.ends(pattern.source, evidence, True, pattern)
    destinations = resolver.ends(pattern.destination, evidence, False, pattern)
    several = len(sources) > 1
    each = evidence.of_each([source.names for source in sources]) if several and all(s.names for s in sources) else None
    for meeting in _meetings(pattern, sources, destinations):
        for party, port, via in resolver.behind(meeting.destination.party, pattern):
            if isinstance(meeting.source.party, Outside) and isinstance(party, Outside):
                continue  # neither end can carry a policy
            standing, because, told = _apart(pattern, meeting)
            found.append(
                Line(
                    meeting.source.party,
                    party,
                    pattern.protocol,
                    port,
                    standing,
                    told,
                    told if each is None or meeting.number is None else each[meeting.number],
                    min(meeting.source.records, meeting.destination.records),
                    because,
                    principals,
                    (via,) if via else (),
                    together=several and each is None,
                )
            )
    return found


def _meetings(pattern: Pattern, sources: list[End], destinations: list[End]) -> Iterator[_Meeting]:
    """Who met whom, of all parties that the ends of a pattern stand for.

    Where both ends are addresses alone (a capture whose labels are masked), it is whoever was seen together.
    """
    if not (pattern.source.nameless and pattern.destination.nameless):
        for number, source in enumerate(sources):
            for destination in destinations:
                names = source.names if pattern.source.nameless else destination.names
                yield _Meeting(number, source, destination, names)
        return
    of_source = {name: number for number, end in enumerate(sources) for name in end.names or ("",)}
    of_destination = {name: number for number, end in enumerate(destinations) for name in end.names or ("",)}
    met: dict[tuple[int, int], list[str]] = {}
    for told in pattern.evidence.apart():
        one, two = (of.get(name) for of, name in zip((of_source, of_destination), paired(told), strict=True))
        if one is not None and two is not None:
            met.setdefault((one, two), []).append(told)
    if met or len(sources) == 1 or len(destinations) == 1:
        for number, source in enumerate(sources):
            for place, destination in enumerate(destinations):
                if not met or (number, place) in met:
                    yield _Meeting(number, source, destination, met.get((number, place), ()))
        return
    anyone = End(Outside(Place.UNRESOLVED, "", _TOO_MANY), pattern.evidence.connections)
    yield from (_Meeting(number, source, anyone) for number, source in enumerate(sources))
    yield from (_Meeting(None, anyone, destination) for destination in destinations)


def _apart(pattern: Pattern, meeting: _Meeting) -> tuple[Standing, str, Evidence]:
    """What is to be said of addresses, or pairs of them: what is said of these, if less than of the whole."""
    names = [name or UNNAMED for name in meeting.names]
    told = [pattern.apart.get(name) for name in names] if pattern.apart else []
    less = [one for one in told if one is not None]
    if not less or len(less) < len(told):
        own = pattern.evidence.alone(names) if _is_known_pod(pattern, meeting) else pattern.evidence
        return pattern.standing, pattern.because, own if own.signals else pattern.evidence
    standing, because = max(less, key=lambda one: (_STRENGTH[one[0]], one[1]))
    return standing, because, pattern.evidence.alone(names)


def _is_known_pod(pattern: Pattern, meeting: _Meeting) -> bool:
    """Whether a nameless end is a pod that other records name: with the others left nameless it shares nothing."""
    one, two = pattern.source.nameless, pattern.destination.nameless
    party = meeting.source.party if one else meeting.destination.party
    return one != two and isinstance(party, Workload) and not seen_by_proxy(pattern.evidence)


def _join(one: Line, two: Line) -> Line:
    stronger, weaker = (one, two) if _strength(one) >= _strength(two) else (two, one)
    evidence = _joined(one.evidence, two.evidence)
    own = evidence if one.own is one.evidence and two.own is two.evidence else _joined(one.own, two.own)
    principals = tuple(sorted({*one.principals, *two.principals}))
    standing, because = stronger.standing, stronger.because
    if Standing.DENIED in (one.standing, two.standing) and stopped(evidence) and not seen_by_proxy(evidence):
        standing, because = Standing.DENIED, STOPPED  # sent to the Service's address, it never reached the pod's
    elif weaker.standing is Standing.UNANSWERED and not (_spoken(evidence) or seen_by_proxy(evidence)):
        standing, because = weaker.standing, weaker.because  # one end's records show what the other's cannot
    return Line(
        stronger.source,
        stronger.destination,
        one.protocol,
        one.port,
        standing,
        evidence,
        own,
        one.records + two.records,
        because,
        principals,
        tuple(sorted({*one.via, *two.via})),
        together=one.together or two.together,
    )


def _spoken(evidence: Evidence) -> bool:
    totals = evidence.totals()
    return Signal.CARRIED in totals or Signal.ANSWERED in totals


def _strength(line: Line) -> tuple[int, bool]:
    return _STRENGTH[line.standing], line.evidence.count(Signal.ANSWERED) > 0


def _joined(one: Evidence, two: Evidence) -> Evidence:
    return one if one is two else one.copy().merge(two)
