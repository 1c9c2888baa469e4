"""Who opened each connection, and how sure we are, once everything was seen.

The second of two phases (the first is `collector.direction`): what single records left open is decided by declared
ports, ports at which certain connections were answered, the same conversation seen the other way round, and last the
ephemeral range.

Invariant: no record gives a pattern at an ephemeral destination port unless that port is known to listen, the
initiator's own SYN names it, or several openers' ports meet there. What cannot be settled keeps `Standing.OPEN` and
never becomes a rule.
"""

from __future__ import annotations

from collector.direction import EPHEMERAL
from collector.evidence import CONTESTED, INFERRED, RESET, Evidence, socket_name, turned
from collector.flow import Signal
from collector.openings import Declared, Identify, Openings, Totals, refused
from collector.patterns import EdgeKey, Patterns
from collector.port_pairs import SPREAD, Guess, PortPairs
from collector.standing import ALIVE, REFUSED, STOPPED, Pattern, Settled, Standing, seen_by_proxy, stopped

# SYN-ACKs that conntrack does not see as replies: its errors (cilium#47913), or forged.
_CONTESTED = frozenset({CONTESTED, Signal.REFUSED.value, RESET})
_VAIN = frozenset({Signal.OPEN.value, Signal.DENIED.value, Signal.REFUSED.value})  # nobody got through
_LISTENS = "the port is known to listen"
_PEERS = "pods of one workload send to each other from and to this port"


def settle(patterns: Patterns, identify: Identify, declared: Declared) -> Settled:
    """All patterns of an aggregate with their standing; the aggregate stays as it is.

    `identify` maps endpoints that are one party (a workload seen by Hubble and by Envoy) to one key. `declared` says
    whether a port is declared at an endpoint (container port, Service target port).
    """
    return _Settlement(Openings(patterns, identify, declared)).run()


def _in_vain(evidence: Evidence, totals: Totals) -> tuple[Standing, str]:
    """What is to be said where nothing was seen opened, spoken or let through in audit mode."""
    if Signal.DENIED in totals:
        return Standing.DENIED, "every attempt was stopped by a policy"
    return Standing.UNANSWERED, REFUSED if refused(evidence) else "refused or never completed"


class _Settlement:
    def __init__(self, openings: Openings) -> None:
        self.openings = openings
        self.settled: dict[tuple[EdgeKey, int], Pattern] = {}
        self.own: set[tuple[EdgeKey, int]] = set()  # those whose evidence is no longer the aggregate's
        self.mistaken = 0
        self.pairs: PortPairs | None = None  # of the edge that was last asked about

    def run(self) -> Settled:
        for key, ports in self.openings.ports.items():
            for port, evidence, totals in ports:
                self._settle_port(key, port, evidence, totals)
        opens = [(key, *ports, told) for key, edge in self.openings.edges for ports, told in edge.open.items()]
        for key, sport, dport, evidence in opens:
            if evidence.signals.keys() != {RESET}:
                self._settle_open(key, sport, dport, evidence)
        for key, sport, dport, evidence in opens:
            if evidence.signals.keys() == {RESET}:
                self._settle_reset(key, sport, dport, evidence)
        for (key, _), pattern in self.settled.items():
            if pattern.standing in ALIVE and (key.source.nameless or key.destination.nameless):
                pattern.apart = self._apart(key, pattern.evidence)
        return Settled([self.settled[key] for key in sorted(self.settled)], self.mistaken)

    def _settle_port(self, key: EdgeKey, port: int, evidence: Evidence, totals: Totals) -> None:
        opened, spoken = Signal.OPENED in totals, Signal.CARRIED in totals or Signal.ANSWERED in totals
        audited = Signal.AUDITED in totals
        certain = (opened and key.protocol == "TCP") or audited
        by_proxy = seen_by_proxy(evidence)
        if not (opened or spoken or audited):
            if Signal.DENIED in totals or by_proxy or Signal.REFUSED in totals:
                standing, because = _in_vain(evidence, totals)
                self._put(key, port, standing, evidence, because)
            return
        if evidence.signals.keys() <= _CONTESTED and not self.openings.listens(key.destination, key.protocol, port):
            self._put(key, port, Standing.OPEN, evidence, "answers to what nobody asked, and conntrack calls them new")
            return
        weak = not certain and not by_proxy and not self.openings.listens(key.destination, key.protocol, port)
        if weak and self._looks_like_replies(key, port, evidence, opened or Signal.CARRIED in totals):
            return
        standing, because = self._standing(key, evidence, totals, by_proxy)
        self._put(key, port, standing, evidence, because)

    def _looks_like_replies(self, key: EdgeKey, port: int, evidence: Evidence, claimed: bool) -> bool:
        """Drop weak records at an unknown port if they are replies of the mirrored edge; hold them if unclear."""
        known = self.openings
        mirrored = bool(known.opened_back(key))
        unclaimed = port >= EPHEMERAL and not claimed
        if not (mirrored or unclaimed):
            return False
        if port < EPHEMERAL and (known.came_from_clients(key, evidence) or known.is_conversation(key, port, evidence)):
            return False
        if unclaimed and known.came_from_several_clients(key, evidence):
            return False
        unknown = [p for p, _, _ in known.ports[key] if not known.listens(key.destination, key.protocol, p)]
        if (port >= EPHEMERAL or len(unknown) >= SPREAD) and known.came_from_listener(key, evidence):
            self.mistaken += 1
            return True
        self._put(key, port, Standing.OPEN, evidence, "only one direction was seen, at a port not known to listen")
        return True

    def _standing(self, key: EdgeKey, evidence: Evidence, totals: Totals, by_proxy: bool) -> tuple[Standing, str]:
        opened, carried = Signal.OPENED in totals, Signal.CARRIED in totals
        answered = Signal.ANSWERED in totals
        silent = not (carried or answered)
        if opened and not by_proxy and key.destination.kind == "pod" and stopped(evidence):
            return Standing.DENIED, STOPPED
        if not answered and refused(evidence):  # packets without a SYN are tried by scans too
            return Standing.UNANSWERED, REFUSED
        if silent and self.openings.shows_answers(key, evidence):
            return Standing.UNANSWERED, "no answer in a capture that shows other answers of these parties"
        if Signal.AUDITED in totals:
            return Standing.AUDITED, "let through by a policy in audit mode"
        if opened and silent:
            return Standing.INITIATED, "opened; this capture shows no replies"
        if opened or by_proxy:
            return Standing.INITIATED, "opened and answered"
        if carried:
            return Standing.INITIATED, "seen in the initiator's direction within an established connection"
        return Standing.INFERRED, "only replies were seen"

    def _apart(self, key: EdgeKey, evidence: Evidence) -> dict[str, tuple[Standing, str]]:
        """The addresses at the nameless end, or pairs of them, for which what others were answered does not vouch."""
        found: dict[str, tuple[Standing, str]] = {}
        for address, signals in evidence.apart().items():
            own = Evidence(signals=signals)
            totals = own.totals()
            if totals.keys() == {Signal.OPEN.value}:
                standing, because = Standing.OPEN, "nothing tells which end opened it"
            elif totals.keys() <= _VAIN:
                standing, because = _in_vain(own, totals)
            else:
                standing, because = self._standing(key, own, totals, seen_by_proxy(own))
            if standing not in ALIVE:
                found[address] = standing, because
        return found

    def _settle_open(self, key: EdgeKey, sport: int, dport: int, evidence: Evidence) -> None:
        """Choose between source→destination:dport and destination→source:sport."""
        there = self.openings.listens(key.destination, key.protocol, dport)
        here = bool(sport) and self.openings.listens(key.source, key.protocol, sport)
        says_new = evidence.signals.get("open:new", 0) > 0
        says_reply = evidence.signals.get("open:reply", 0) > 0
        if there != here:
            forward, because = None if self._pairs(key).searched(there, sport, dport) else there, _LISTENS
        elif self._among_peers(key, sport, dport, evidence):
            forward, because = True, _PEERS
        elif says_new and says_reply:
            forward, because = None, ""
        else:
            forward, because = self._by_ports(key, sport, dport)
            if forward is False and not self._asked(key, sport, dport):
                forward = None  # sending from a server's port is an answer only if somebody asked
            if forward is not None and ((says_new and not forward) or (says_reply and forward)):
                forward = None  # the record's own mark contradicts the ports, and nothing else decides
        if forward is None:
            if (sport in self.openings.opened_back(key) and dport >= EPHEMERAL and says_new) or self._mirrored_by_open(
                key, sport, dport
            ):
                self.mistaken += 1
                return
            self._put(key, dport, Standing.OPEN, evidence, "nothing tells which end opened it")
        elif forward:
            self._conclude(key, sport, dport, evidence, because, Signal.CARRIED)
        else:
            back = key.back()
            self._conclude(back, dport, sport, evidence, because, Signal.ANSWERED)

    def _among_peers(self, key: EdgeKey, sport: int, dport: int, evidence: Evidence) -> bool:
        """Whether pods of one workload send to each other from and to one port: it is one rule, whoever began."""
        source, destination, identify = key.source, key.destination, self.openings.identify
        if sport != dport or source.kind != "pod" or identify(source) != identify(destination):
            return False
        if source != destination:  # two revisions
            return (dport, sport) in self.openings.open_ports(key.back())
        return not set(evidence.sources).isdisjoint(evidence.destinations)

    def _settle_reset(self, key: EdgeKey, sport: int, dport: int, evidence: Evidence) -> None:
        """Settle resets whose sender is not known: a server's reset refuses the connection, and none is an answer."""
        there, here = self._opened(key, dport), self._opened(key.back(), sport)
        if there == here:
            there = self.openings.listens(key.destination, key.protocol, dport)
            here = bool(sport) and self.openings.listens(key.source, key.protocol, sport)
        forward = there if there != here else self._by_ports(key, sport, dport)[0]
        if forward is not False:
            self._put(key, dport, Standing.OPEN, evidence, "nothing but resets was seen")
            return
        back = key.back()
        self._conclude(back, dport, sport, evidence, REFUSED, Signal.REFUSED)
        known = self.settled[back, sport]
        if known.standing is not Standing.DENIED and not known.evidence.count(Signal.ANSWERED):
            known.standing, known.because = Standing.UNANSWERED, REFUSED

    def _opened(self, key: EdgeKey, port: int) -> bool:
        """Whether connections were seen being opened in this direction at this port."""
        known = self.settled.get((key, port))
        return known is not None and Signal.OPENED in known.evidence.totals()

    def _by_ports(self, key: EdgeKey, sport: int, dport: int) -> Guess:
        return self._pairs(key).tell(sport, dport)

    def _pairs(self, key: EdgeKey) -> PortPairs:
        if self.pairs is None or self.pairs.key is not key:
            self.pairs = PortPairs(self.openings, key)
        return self.pairs

    def _asked(self, key: EdgeKey, sport: int, dport: int) -> bool:
        """Whether anything was sent the other way: to a port that was spoken to, or in this very conversation."""
        known = self.settled.get((key.back(), sport))
        spoken = known is not None and known.standing is not Standing.OPEN
        return spoken or (dport, sport) in self.openings.open_ports(key.back())

    def _mirrored_by_open(self, key: EdgeKey, sport: int, dport: int) -> bool:
        """Whether the other direction of this very conversation has been settled already."""
        return (key.back(), sport) in self.settled and dport >= EPHEMERAL

    def _conclude(self, key: EdgeKey, own: int, port: int, evidence: Evidence, because: str, signal: Signal) -> None:
        """Add an open record's evidence to the pattern that it belongs to; `own` is the opener's port."""
        forward = signal is Signal.CARRIED
        known = self.settled.get((key, port))
        if known is None or known.standing is Standing.OPEN:
            standing = Standing.UNANSWERED if signal is Signal.REFUSED else Standing.INFERRED
            self._put(key, port, standing, Evidence(), because)
        elif signal is not Signal.REFUSED:
            self._revive(known, because, forward)
        told = self._own(key, port)
        told.signal(f"{signal}:{INFERRED}", sum(evidence.signals.values()))
        told.span(evidence.first, evidence.last)
        told.hours.merge(evidence.hours)
        sources, destinations = evidence.sources, evidence.destinations
        if not forward:
            sources, destinations = destinations, sources
        told.sources.merge(sources)
        told.destinations.merge(destinations)
        for name, flow_id in evidence.samples.items():
            told.sample(name, flow_id)
        for name, records in evidence.outcomes.items():
            alone = name.partition(" ")[0]
            told.outcomes.add(f"{alone if forward else turned(alone)} {signal}:{INFERRED}", records)
        told.outcomes.saturated |= evidence.outcomes.saturated
        openers = list(sources)
        told.sockets(socket_name(openers[0], own), socket_name(openers[-1], own))

    def _revive(self, known: Pattern, because: str, forward: bool) -> None:
        """Update a pattern that nothing had answered, now that a packet's direction was concluded."""
        # A packet may still be stopped on its way, and an unmarked datagram may be the attempt itself, seen elsewhere.
        alive = not forward or (known.protocol == "TCP" and not known.evidence.count(Signal.REFUSED))
        if known.standing is Standing.DENIED and not forward:
            known.standing, known.because = Standing.INFERRED, because
        elif known.standing is Standing.UNANSWERED and alive:
            known.standing, known.because = Standing.INITIATED, "opened and answered"

    def _put(self, key: EdgeKey, port: int, standing: Standing, evidence: Evidence, because: str) -> None:
        known = self.settled.get((key, port))
        if known is None:
            self.settled[key, port] = Pattern(
                key.source, key.destination, key.protocol, port, key.principal, standing, evidence, because
            )
            return
        self._own(key, port).merge(evidence)
        if known.standing is Standing.OPEN and standing is not Standing.OPEN:
            known.standing, known.because = standing, because

    def _own(self, key: EdgeKey, port: int) -> Evidence:
        """A pattern's evidence, to add to: the aggregate's is copied, once, and stays as it is."""
        pattern = self.settled[key, port]
        if (key, port) not in self.own:
            self.own.add((key, port))
            pattern.evidence = pattern.evidence.copy()
        return pattern.evidence
