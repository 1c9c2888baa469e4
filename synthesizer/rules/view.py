"""All lines at once, so that a rule can judge one line by the others.

Invariant: nothing here depends on the order of the lines.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from collector.flow import Signal
from collector.standing import ALIVE, Standing
from synthesizer.callers import HBONE, SIDECAR_PORTS
from synthesizer.lines import Line
from synthesizer.party import Outside, Place, party_key
from synthesizer.rules.external import is_internet
from synthesizer.workload import Workload
from synthesizer.workloads import Workloads

# A source scans if it got answers on less than this share of its lines that nothing vouches for,
SCAN_ANSWERED = 0.3
# and tried this many distinct destinations, or ports, or pairs of both (a client of a few dead ones tries fewer).
SCAN_TARGETS = 15
SCAN_PORTS = 20
SCAN_DOORS = 30
# It searches one destination if this many ports there never answered, while the capture shows other answers.
SCAN_SILENT = 5
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
        self._callers: dict[tuple[str, str, int], set[str]] = {}  # sources by listening (destination, protocol, port)
        self._served: dict[str, set[tuple[str, int]]] = {}
        self._vain: dict[tuple[str, str], int] = {}  # ports that were tried in vain, by source and destination
        self._spoken: dict[tuple[str, str], list[Line]] = {}  # lines that seem to have been answered, likewise
        self._strewn: dict[tuple[str, str], bool] = {}
        for line in lines:
            if line.standing in ALIVE:
                self._callers.setdefault(_listener(line), set()).add(line.key[0])
                self._served.setdefault(_destination(line), set()).add((line.protocol, line.port))
                self._spoken.setdefault(line.key[:2], []).append(line)
            elif line.standing in (Standing.UNANSWERED, Standing.DENIED):
                self._vain[line.key[:2]] = self._vain.get(line.key[:2], 0) + 1
        self._shown = {line.protocol for line in lines if answers(line)}  # of which the capture shows answers
        self._searched: set[tuple[str, str]] = set()  # source and destination
        self._swept = frozenset(self._sweeps())
        self.scanners = frozenset(self._search())
        self._witnesses: dict[tuple[str, str, int], set[str]] = {}  # like `_callers`, without those who search
        for line in lines:
            if self._credible(line):
                self._witnesses.setdefault(_listener(line), set()).add(line.key[0])

    def used_by_others(self, line: Line) -> bool:
        """Whether another source talks to the same port of the same destination."""
        callers = self._callers.get(_listener(line), _NOBODY)
        return len(callers) > 1 or (bool(callers) and line.key[0] not in callers)

    def vouched(self, line: Line) -> bool:
        """Whether the port is declared or used by others, except by those who search.

        For the internet, where the inventory knows the destination, only a Service or host port that publishes the port
        vouches: what is meant for pods is not meant for everybody.
        """
        destination = line.destination
        if from_internet(line) and isinstance(destination, Workload) and destination.known:
            return (line.protocol, line.port) in self.workloads.published(destination)
        return self.declared(line) or not self._witnesses.get(_listener(line), _NOBODY) <= {line.key[0]}

    def _credible(self, line: Line) -> bool:
        """Whether a line shows that a port is in use: its source does not search, and did not try other doors there."""
        if line.standing not in ALIVE or line.key[0] in self.scanners:
            return False
        if self.searched(line) or self.swept_outside(line):
            return False
        return not (self.knocked_in_vain(line) and single(line))

    def swept_outside(self, line: Line) -> bool:
        """Whether the same source sent to many addresses outside at this port, of which few answered."""
        return _way_out(line) in self._swept

    def _sweeps(self) -> Iterator[tuple[str, str, int]]:
        groups: dict[tuple[str, str, int], list[Line]] = {}
        for line in self.lines:
            if line.protocol in self._shown and (way := _way_out(line)) is not None:
                groups.setdefault(way, []).append(line)
        for way, group in groups.items():
            if len(group) >= SCAN_TARGETS:
                # Addresses outside that answered share one evidence: no more of them answered than answers were seen.
                totals = max((line.evidence.totals() for line in group), key=_conversations)
                if _conversations(totals) < SCAN_ANSWERED * len(group):
                    yield way

    def declared(self, line: Line) -> bool:
        """Whether the port is declared in the inventory, by name in the flows, or by an injected sidecar."""
        destination = line.destination
        if line.protocol == "TCP" and line.port in SIDECAR_PORTS:
            return True
        return isinstance(destination, Workload) and self.workloads.declares(destination, line.protocol, line.port)

    def knocked_in_vain(self, line: Line) -> int:
        """At how many ports of the same destination the same source was refused, stopped or left without an answer."""
        return self._vain.get(line.key[:2], 0)

    def searched(self, line: Line) -> bool:
        """Whether the same source sent to many ports of the same destination of which none ever answered."""
        return (line.key[0], _destination(line)) in self._searched

    def strewn(self, line: Line) -> bool:
        """Whether the same source was seen just once per pod at so many ports of the destination that it searched them.

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
        return served - SIDECAR_PORTS - {HBONE} <= {line.port}

    def published(self, workload: Workload, protocol: str, port: int) -> bool:
        """Whether a port is reachable from outside: by a Service, or because outsiders were seen there."""
        if (protocol, port) in self.workloads.published(workload):
            return True
        callers = self._callers.get((party_key(workload), protocol, port), ())
        return any(map(_is_outsider, callers))

    def _search(self) -> Iterator[str]:
        """The sources that scan. Fills `_searched`, where a source searched a single destination."""
        tried: dict[str, list[Line]] = {}
        for line in self.lines:
            tried.setdefault(line.key[0], []).append(line)
        for source, lines in tried.items():
            odd = [
                line
                for line in lines
                if not (line.standing in ALIVE and (self.used_by_others(line) or self.declared(line)))
            ]
            if sum(map(answers, odd)) >= SCAN_ANSWERED * len(odd):
                continue
            self._searched.update(self._silent(odd))
            targets = {_destination(line) for line in odd}
            doors = {_listener(line) for line in odd}
            ports = {(line.protocol, line.port) for line in odd}
            if len(targets) >= SCAN_TARGETS or len(ports) >= SCAN_PORTS or len(doors) >= SCAN_DOORS:
                yield source

    def _silent(self, odd: list[Line]) -> Iterator[tuple[str, str]]:
        """(source, destination) with many silent ports between them: a search, or sinks. Other lines are not judged."""
        silent: dict[tuple[str, str, str], set[int]] = {}
        for line in odd:
            # Only what nothing else holds back: unanswered TCP is held anyway, and does not make a scanner so soon.
            free = line.standing in ALIVE or line.protocol == "UDP"
            free = free and not (self.declared(line) or self.used_by_others(line))
            if free and line.protocol in self._shown and not answers(line) and _traced(line):
                silent.setdefault((line.key[0], _destination(line), line.protocol), set()).add(line.port)
        return (ends[:2] for ends, tried in silent.items() if len(tried) >= SCAN_SILENT)


def answers(line: Line) -> bool:
    """Whether a conversation took place. (A datagram of unknown direction may be the attempt, seen elsewhere.)"""
    totals = line.evidence.totals()
    return Signal.ANSWERED in totals or (Signal.CARRIED in totals and line.protocol == "TCP")


def swept(line: Line) -> bool:
    """Whether there was at most one connection to each pod, all within one hour."""
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


def _conversations(totals: dict[str, int]) -> int:
    return max(totals.get(Signal.ANSWERED, 0), totals.get(Signal.CARRIED, 0))


def _traced(line: Line) -> bool:
    """Whether packets were seen. A policy verdict is for the first packet only, so answers would not show."""
    return any(name.startswith("opened") and "verdict" not in name for name in line.evidence.signals)


def _destination(line: Line) -> str:
    """The key of a line's destination, with all addresses of one place outside as one."""
    party = line.destination
    return f"o/{party.place.value}" if isinstance(party, Outside) else line.key[1]


def _listener(line: Line) -> tuple[str, str, int]:
    return (_destination(line), line.protocol, line.port)
