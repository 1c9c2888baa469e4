"""The evidence for one pattern: what its records said, when, and between whom.

Invariant: `merge` is commutative and associative, and every part is bounded by `collector.sketch`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import msgspec
from msgspec import field
from msgspec.structs import replace

from collector.flow import Signal
from collector.sketch import Members, Tally
from collector.times import Seconds

PARTIES = 1024  # pods or addresses kept per end and port
OUTCOMES = 2048  # addresses with a signal, kept per port
REQUESTS = 4096  # method and path pairs kept per port and outcome
HOURS = 2048  # hourly buckets kept per port: twelve weeks
NAMES = 16  # host names of the destination kept per port
UNNAMED = "-"  # in `Evidence.callers` and `Evidence.outcomes`: neither pod nor address is known

_PAIRED = ">"  # in no address and no pod's name
INFERRED = "inferred"  # stands for the observation point where the direction was concluded at the end

CONTESTED = "answered:new"  # the signal of a SYN-ACK that conntrack does not call a reply
RESET = "open:reset"  # the signal of a reset of which it is not known which end sent it

REQUEST_SKETCHES = ("asked", "requests", "rejected")
SKETCHES = ("hours", "sources", "destinations", "outcomes", *REQUEST_SKETCHES, "callers", "names")


class Evidence(msgspec.Struct):
    """The evidence for one pattern. All counts are records, not packets.

    `signals` counts records by `Signal` value, with the observation point after a colon for OPENED and CARRIED, the
    drop reason for DENIED, and for OPEN what the record claims to be (see also `RESET` and `CONTESTED`). `hours` counts
    records per hour (unix time // 3600). `sources`/`destinations` count records by pod name, or by address where there
    is no name. Where only an end's address is known, `outcomes` counts them by address and signal, see `apart`. HTTP
    requests are counted as "METHOD path": in `requests` if they were answered below 400, in `rejected` from 400 on or
    if they were stopped or never answered, in `asked` if the record came before the answer; where only the source's
    address is known, they are counted in `callers` as well, see `of_each`. `samples` holds the smallest flow id (or
    time) per signal, to find a record again. `first`/`last` are unix seconds.
    """

    signals: dict[str, int] = {}
    first: Seconds = 0
    last: Seconds = 0
    lowest: str = ""  # of all sockets (opener and source port) or record ids; see `connections`
    highest: str = ""
    hours: Tally[int] = field(default_factory=lambda: Tally(HOURS))
    sources: Tally[str] = field(default_factory=lambda: Tally(PARTIES))
    destinations: Tally[str] = field(default_factory=lambda: Tally(PARTIES))
    outcomes: Tally[str] = field(default_factory=lambda: Tally(OUTCOMES))
    asked: Tally[str] = field(default_factory=lambda: Tally(REQUESTS))
    requests: Tally[str] = field(default_factory=lambda: Tally(REQUESTS))
    rejected: Tally[str] = field(default_factory=lambda: Tally(REQUESTS))
    callers: Tally[str] = field(default_factory=lambda: Tally(REQUESTS))
    names: Members[str] = field(default_factory=lambda: Members(NAMES))
    samples: dict[str, str] = {}
    sides: set[str] = set()
    mtls: int = 0
    plaintext: int = 0

    def saw(
        self,
        name: str,
        records: int,
        flow_id: str,
        first: Seconds,
        last: Seconds,
        source: str,
        destination: str,
        alone: str = "",
    ) -> None:
        """Count records of one hour under a signal's name: their smallest id, first and last time, and the two ends.

        `alone` is the one of them that nothing but its address tells from others, or the `pair` where both are such.
        """
        # `signal`, `sample` and `span`, written out: nothing is called more often.
        self.signals[name] = self.signals.get(name, 0) + records
        known = self.samples.get(name)
        if flow_id and (known is None or flow_id < known):
            self.samples[name] = flow_id
        if first and (not self.first or first < self.first):
            self.first = first
        if last > self.last:
            self.last = last
        self.hours.add(first // 3600, records)
        self.sources.add(source, records)
        self.destinations.add(destination, records)
        if alone:
            self.outcomes.add(f"{alone} {name}", records)

    def apart(self) -> dict[str, dict[str, int]]:
        """`signals` of each address at the nameless end, or each `pair`; {} if that was not kept for all records.

        Records without an address are `UNNAMED`'s: what became of them says nothing of others.
        """
        told = self.outcomes
        if told.saturated_now or sum(told.kept.values()) != sum(self.signals.values()):  # or of an older store
            return {}
        found: dict[str, dict[str, int]] = {}
        for key, records in told.kept.items():
            address, _, name = key.partition(" ")
            found.setdefault(address, {})[name] = records
        return found

    def alone(self, addresses: Collection[str]) -> Evidence:
        """The evidence of some of the keys of `apart`: their signals and ends, and else what is here."""
        apart = self.apart()
        signals: dict[str, int] = {}
        for address in addresses:
            for name, records in apart.get(address, {}).items():
                signals[name] = signals.get(name, 0) + records
        named = {"" if name == UNNAMED else name for address in addresses for name in address.split(_PAIRED)}
        ends: dict[str, Tally[str]] = {}
        for end in ("sources", "destinations"):
            own = {name: records for name, records in getattr(self, end).kept.items() if name in named}
            if own:
                ends[end] = Tally(PARTIES, own)
        samples = {name: self.samples[name] for name in signals if name in self.samples}
        return replace(self, signals=signals, samples=samples, lowest="", highest="", outcomes=Tally(OUTCOMES), **ends)

    def request(self, outcome: str, request: str, records: int, caller: str | None = None) -> None:
        """Count requests under an outcome (of `REQUEST_SKETCHES`); `caller` is given if only the record names it."""
        getattr(self, outcome).add(request, records)
        if caller is not None:
            self.callers.add(f"{outcome} {caller or UNNAMED} {request}", records)

    def of_each(self, parties: Sequence[Collection[str]]) -> list[Evidence] | None:
        """The evidence of each party by itself, by its pods and addresses; None if that was not kept for all requests.

        Only sources and requests are split; everything else is shared by all parties.
        """
        counted = sum(sum(getattr(self, outcome).kept.values()) for outcome in REQUEST_SKETCHES)
        if self.callers.saturated_now or counted != sum(self.callers.kept.values()):  # bound reached, or an older store
            return None
        party_of = {name or UNNAMED: number for number, names in enumerate(parties) for name in names}
        found = [
            replace(
                self,
                **{name: Tally(REQUESTS) for name in (*REQUEST_SKETCHES, "callers")},
                sources=Tally(PARTIES, {name: self.sources.kept[name] for name in names if name in self.sources.kept}),
            )
            for names in parties
        ]
        for told, records in self.callers.kept.items():
            outcome, caller, request = told.split(" ", 2)
            if caller in party_of:
                found[party_of[caller]].request(outcome, request, records)
        return found

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
        self._take_records(other)
        for sketch in SKETCHES:
            theirs = getattr(other, sketch)
            if theirs.kept:
                getattr(self, sketch).merge(theirs)
        return self

    def _take_records(self, other: Evidence) -> None:
        for name, records in other.signals.items():
            self.signal(name, records)
        self.span(other.first, other.last)
        self.sockets(other.lowest, other.highest)
        for name, flow_id in other.samples.items():
            self.sample(name, flow_id)
        self.sides |= other.sides
        self.mtls += other.mtls
        self.plaintext += other.plaintext

    def copy(self) -> Evidence:
        """An independent copy."""
        made = replace(self, signals=dict(self.signals), samples=dict(self.samples), sides=set(self.sides))
        for sketch in SKETCHES:
            setattr(made, sketch, getattr(self, sketch).copy())
        return made

    def joined(self, other: Evidence) -> Evidence:
        """Both as one, for reading only: a sketch that is empty on one side is shared with the other."""
        made = replace(self, signals=dict(self.signals), samples=dict(self.samples), sides=set(self.sides))
        made._take_records(other)
        for sketch in SKETCHES:
            mine, theirs = getattr(self, sketch), getattr(other, sketch)
            if mine.kept and theirs.kept:
                mine = mine.copy()
                mine.merge(theirs)
            setattr(made, sketch, mine if mine.kept else theirs)
        return made

    def totals(self) -> dict[str, int]:
        """Records per `Signal` value, whatever is after the colon; signals that were not seen are left out."""
        found: dict[str, int] = {}
        for name, records in self.signals.items():
            signal = name.partition(":")[0]
            found[signal] = found.get(signal, 0) + records
        return found

    def count(self, signal: Signal) -> int:
        """Records under one signal, whatever is after the colon."""
        return self.totals().get(signal, 0)

    @property
    def connections(self) -> int:
        """Distinct connections (or requests a proxy logged), at least.

        One if all records name the same socket: retransmissions, duplicates and further observation points add none.
        Otherwise the most that any observation point reported, because each reports a connection's opening once.
        """
        if self.lowest and self.lowest == self.highest:
            return max(1, len(self.destinations))
        seen = [records for name, records in self.signals.items() if _each_a_connection(name)]
        if self.lowest:
            return max([2, *seen])
        return max(seen, default=1 if self.signals else 0)


@lru_cache(maxsize=4096)
def _each_a_connection(name: str) -> bool:
    """Whether each record under a signal's name reports the opening of one connection."""
    signal, _, point = name.partition(":")
    return signal == Signal.OPENED or (signal == Signal.ANSWERED and point not in ("", INFERRED, "new"))


def pair(source: str, destination: str) -> str:
    """How `Evidence.outcomes` names two ends that are both known by their addresses alone."""
    return f"{source}{_PAIRED}{destination}"


def paired(alone: str) -> tuple[str, str]:
    """Source and destination of a pair."""
    source, _, destination = alone.partition(_PAIRED)
    return source, destination


def turned(alone: str) -> str:
    """The same address, or the same pair the other way round."""
    return pair(*reversed(paired(alone))) if _PAIRED in alone else alone


def apart_by(source: str, destination: str, nameless: tuple[bool, bool]) -> str:
    """By what `Evidence.outcomes` tells records apart, given which of their ends are nameless; "" if neither is."""
    if all(nameless):
        return pair(source, destination)
    return (source or UNNAMED) if nameless[0] else (destination or UNNAMED) if nameless[1] else ""


def socket_name(opener: str, port: int) -> str:
    """How `Flow.socket` names a connection: the opener's pod or address, and its port."""
    return f"{opener} {port:05d}"


def socket_port(name: str) -> int | None:
    """The port in a socket's name; None if it is no socket's (a record's id, or not known)."""
    _, space, port = name.rpartition(" ")
    return int(port) if space and len(port) == 5 and port.isascii() and port.isdigit() else None
