"""All lines at once, so that a rule can judge one of them by the others.

Invariant: nothing here depends on the order of the lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from collector.flow import Signal
from collector.openings import PROXY_POINTS
from collector.settlement import Standing
from synthesizer.callers import HBONE
from synthesizer.lines import Line
from synthesizer.party import Outside, Place, party_key
from synthesizer.rules.external import is_internet
from synthesizer.workload import Workload
from synthesizer.workloads import Workloads

SCAN_TARGETS = 15  # distinct destinations, or
SCAN_PORTS = 20  # distinct ports, that make a search of
SCAN_ANSWERED = 0.3  # a source that got fewer answers than this
WITNESSES = 4  # sources that must have come to a port for it to be in use, if each came a single time
SCAN_SILENT = 5  # distinct ports of one destination of which none ever answered, where others' answers are shown
_SIDECAR_PORTS = frozenset(
    {15020, 15021, 15090}
)  # merged metrics, health, Envoy metrics (Istio, "Ports used by Istio")
_ALIVE = (Standing.INITIATED, Standing.INFERRED, Standing.AUDITED)
_UNPACKED = PROXY_POINTS | {"l7"}  # the observation points of messages
_NOBODY: frozenset[str] = frozenset()


class Held(msgspec.Struct, frozen=True):
    """Why a line is not policy. `kind` groups review items."""

    kind: str
    why: str
    acceptable: bool = True


class View:
    """What the rules may ask about the whole observation."""

    def __init__(self, lines: list[Line], workloads: Workloads, cni: str) -> None:
        self.lines = lines
        self.workloads = workloads
        self.cni = cni
        self._callers: dict[tuple[str, str, int], set[str]] = {}  # sources by who listens
        self._served: dict[str, set[tuple[str, int]]] = {}
        self._vain: dict[tuple[str, str], int] = {}  # ports that were tried in vain, by source and destination
        self._spoken: dict[tuple[str, str], list[Line]] = {}  # what seems to have been answered, likewise
        self._strewn: dict[tuple[str, str], bool] = {}
        for line in lines:
            if line.standing in _ALIVE:
                self._callers.setdefault(_listener(line), set()).add(line.key[0])
                self._served.setdefault(_destination(line), set()).add((line.protocol, line.port))
                self._spoken.setdefault(line.key[:2], []).append(line)
            elif line.standing in (Standing.UNANSWERED, Standing.DENIED):
                self._vain[line.key[:2]] = self._vain.get(line.key[:2], 0) + 1
        self._shown = {line.protocol for line in lines if answers(line)}  # of which the capture shows answers
        self._searched: set[tuple[str, str]] = set()  # source and destination
        self._silence = dict(self._find_silence())
        self.scanners = frozenset(self._search())
        self._witnesses: dict[tuple[str, str, int], tuple[set[str], set[str]]] = {}  # who came once, who came again
        for line in lines:
            if self._credible(line):
                self._witnesses.setdefault(_listener(line), (set(), set()))[not single(line)].add(line.key[0])

    def used_by_others(self, line: Line) -> bool:
        """Whether another source talks to the same port of the same destination."""
        callers = self._callers.get(_listener(line), _NOBODY)
        return len(callers) > 1 or (bool(callers) and line.key[0] not in callers)

    def vouched(self, line: Line) -> bool:
        """Whether the port is declared, or in use by others: by one who came again, or by several who came once.

        Those who search do not vouch for each other, nor do a few who were all seen a single time. For the internet
        only a Service or host port that publishes the port vouches, and other outsiders: what is meant for pods is
        not meant for everybody.
        """
        once, again = self._witnesses.get(_listener(line), (_NOBODY, _NOBODY))
        if from_internet(line) and isinstance(line.destination, Workload):
            meant = (line.protocol, line.port) in self.workloads.published(line.destination)
            return meant or any(map(_is_outsider, again - {line.key[0]}))
        return self.declared(line) or bool(again - {line.key[0]}) or len(once | {line.key[0]}) >= WITNESSES

    def _credible(self, line: Line) -> bool:
        """Whether a line tells that a port is in use: its source is no scanner, and did not try other doors there."""
        if (
            line.standing not in _ALIVE
            or line.key[0] in self.scanners
            or self.searched(line)
            or self.swept_outside(line)
        ):
            return False
        return not (single(line) and self.knocked_in_vain(line))

    def swept_outside(self, line: Line) -> bool:
        """Whether the same source sent to many addresses outside of which this one, or nearly all, never answered.

        The evidence of addresses outside is shared, but not their records: one that gave no more than openings do at
        each observation point gave no answer, and no more addresses answered than answers were seen.
        """
        return line.records <= (self._silence.get(way, -1) if (way := _way_out(line)) else -1)

    def _find_silence(self) -> Iterator[tuple[tuple[str, str, int], float]]:
        """Up to how many records an address outside gives no answer with, by source and port, for those who sweep."""
        groups: dict[tuple[str, str, int], list[Line]] = {}
        for line in self.lines:
            if line.protocol in self._shown and line.standing in _ALIVE and (way := _way_out(line)) is not None:
                groups.setdefault(way, []).append(line)
        for way, group in groups.items():
            totals, points = group[0].evidence.totals(), _opening_points(group[0])
            if len(group) < SCAN_TARGETS or not points:
                continue
            if max(totals.get(Signal.ANSWERED, 0), totals.get(Signal.CARRIED, 0)) < SCAN_ANSWERED * len(group):
                yield way, math.inf
            elif sum(line.records <= points for line in group) >= SCAN_TARGETS:
                yield way, points

    def declared(self, line: Line) -> bool:
        """Whether the port is declared in the inventory, by name in the flows, or by an injected sidecar."""
        destination = line.destination
        if line.protocol == "TCP" and line.port in _SIDECAR_PORTS:
            return True
        return isinstance(destination, Workload) and self.workloads.declares(destination, line.protocol, line.port)

    def knocked_in_vain(self, line: Line) -> int:
        """At how many ports of the same destination the same source was refused, stopped or not answered."""
        return self._vain.get(line.key[:2], 0)

    def searched(self, line: Line) -> bool:
        """Whether the same source sent to many ports of the same destination of which none ever answered."""
        return (line.key[0], _destination(line)) in self._searched

    def strewn(self, line: Line) -> bool:
        """Whether the same source was seen once a pod at so many ports of the same destination that it searched them.

        Where TCP flags are masked, a closed port's reset looks like an answer.
        """
        ends = line.key[:2]
        if ends not in self._strewn:
            spoken = self._spoken.get(ends, [])
            self._strewn[ends] = len(spoken) >= SCAN_PORTS <= sum(map(self._odd_single, spoken))
        return self._strewn[ends]

    def _odd_single(self, line: Line) -> bool:
        return swept(line) and not (self.used_by_others(line) or self.declared(line))

    def only_port(self, line: Line) -> bool:
        """Whether this is the one port that the destination was ever seen to serve, and it declares no other."""
        if isinstance(line.destination, Workload) and line.destination.ports:
            return False
        served = {port for _, port in self._served.get(_destination(line), ())}
        return served - _SIDECAR_PORTS - {HBONE} <= {line.port}

    def published(self, workload: Workload, protocol: str, port: int) -> bool:
        """Whether a port is reachable from outside: by a Service, or because outsiders were seen there."""
        if (protocol, port) in self.workloads.published(workload):
            return True
        callers = self._callers.get((party_key(workload), protocol, port), ())
        return any(map(_is_outsider, callers))

    def _search(self) -> Iterator[str]:
        """The sources that scan; on the way, where others look as if they did."""
        tried: dict[str, list[Line]] = {}
        for line in self.lines:
            tried.setdefault(line.key[0], []).append(line)
        for source, lines in tried.items():
            odd = [
                line
                for line in lines
                if not (line.standing in _ALIVE and (self.used_by_others(line) or self.declared(line)))
            ]
            if sum(map(answers, odd)) >= SCAN_ANSWERED * len(odd):
                continue
            self._searched.update(self._silent(odd))
            targets = {_destination(line) for line in odd}
            ports = {(line.protocol, line.port) for line in odd}
            if len(targets) >= SCAN_TARGETS or len(ports) >= SCAN_PORTS:
                yield source

    def _silent(self, odd: list[Line]) -> Iterator[tuple[str, str]]:
        """Ends between which many ports were silent: a search, or sinks; what the source does elsewhere is its own."""
        silent: dict[tuple[str, str, str], set[int]] = {}
        for line in odd:
            # What nothing else holds back: TCP that is unanswered is held anyway, and makes nobody a scanner so soon.
            free = line.standing in _ALIVE or line.protocol == "UDP"
            free = free and not (self.declared(line) or self.used_by_others(line))
            if free and line.protocol in self._shown and not answers(line) and _traced(line):
                silent.setdefault((line.key[0], _destination(line), line.protocol), set()).add(line.port)
        return (ends[:2] for ends, tried in silent.items() if len(tried) >= SCAN_SILENT)


def answers(line: Line) -> bool:
    """Whether a conversation took place. (A datagram of unknown direction may be the attempt, seen elsewhere.)"""
    totals = line.evidence.totals()
    return Signal.ANSWERED in totals or (Signal.CARRIED in totals and line.protocol == "TCP")


def swept(line: Line) -> bool:
    """Whether there was no more than one connection to each pod, within an hour."""
    evidence = line.evidence
    return len(evidence.hours) <= 1 and evidence.connections <= max(1, len(evidence.destinations))


def single(line: Line) -> bool:
    """Whether there was one connection, ever."""
    return len(line.evidence.hours) <= 1 and line.evidence.connections <= 1


def from_internet(line: Line) -> bool:
    """Whether a line's source is an address of the internet."""
    source = line.source
    return isinstance(source, Outside) and source.place is Place.EXTERNAL and is_internet(source.address)


def _is_outsider(key: str) -> bool:
    return key.startswith(f"o/{Place.EXTERNAL.value}/")


def _way_out(line: Line) -> tuple[str, str, int] | None:
    """Source and port of what goes to the outside; None for all else."""
    outside = isinstance(line.destination, Outside) and line.destination.place is Place.EXTERNAL
    return (line.key[0], line.protocol, line.port) if outside else None


def _opening_points(line: Line) -> int:
    """At how many observation points, policy verdicts among them, openings were seen in packets."""
    return sum(name.startswith("opened:") and name.partition(":")[2] not in _UNPACKED for name in line.evidence.signals)


def _traced(line: Line) -> bool:
    """Whether packets were seen; a policy's verdict is of the first one only, so that no answer would be."""
    return any(name.startswith("opened") and "verdict" not in name for name in line.evidence.signals)


def _destination(line: Line) -> str:
    """Like the key of a line's destination, with everything outside the cluster as one place."""
    party = line.destination
    return f"o/{party.place.value}" if isinstance(party, Outside) else line.key[1]


def _listener(line: Line) -> tuple[str, str, int]:
    return (_destination(line), line.protocol, line.port)
