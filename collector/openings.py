"""What the whole aggregate says about both ends of an edge: which ports listen, whose replies the capture shows, and
what was opened in the other direction.

Invariant: all of this is known before anything is settled, and settling changes none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

from collector.direction import EPHEMERAL
from collector.endpoints import Endpoint
from collector.evidence import CONTESTED, INFERRED, RESET, Evidence, socket_port
from collector.flow import Signal
from collector.patterns import Edge, EdgeKey, Patterns

Identify = Callable[[Endpoint], Hashable]
Declared = Callable[[Endpoint, str, int], bool]
Totals = dict[str, int]  # records per signal
PROXY_POINTS = frozenset({"inbound", "outbound", "gateway", "waypoint"})  # the observation points of access logs
# The two kinds of record that show replies: packets, and messages of an L7 proxy.
_PACKETS, _MESSAGES = "packets", "messages"
_REFUSALS = frozenset({Signal.REFUSED.value, f"{Signal.REFUSED}:{INFERRED}"})


class Openings:
    """Answers questions about edges: who listens, and who opened what."""

    def __init__(self, patterns: Patterns, identify: Identify, declared: Declared) -> None:
        self.identify = identify
        self.declared = declared
        self.edges: list[tuple[EdgeKey, Edge]] = list(patterns.sorted_edges())
        self._patterns = patterns
        self.ports: dict[EdgeKey, list[tuple[int, Evidence, Totals]]] = {
            key: [(port, evidence, evidence.totals()) for port, evidence in edge.ports()] for key, edge in self.edges
        }
        # (party, protocol, kind of record) of which this capture shows replies
        self._talking: set[tuple[Hashable, str, str]] = set()
        self._listening: dict[tuple[Hashable, str], set[int]] = {}
        for key, edge in self.edges:
            self._note_answers(key, edge)
        self._shown = {(protocol, kind) for _, protocol, kind in self._talking}  # by anybody
        for key in self.ports:
            self._note_listeners(key)

    def _note_answers(self, key: EdgeKey, edge: Edge) -> None:
        names = {name for _, evidence, _ in self.ports[key] for name in evidence.signals}
        kinds = {kind for name in names if (kind := _answers_in(name))}
        resets = {sport for (sport, _), told in edge.open.items() if RESET in told.signals}
        if resets and resets & self.opened_back(key):
            kinds.add(_PACKETS)
        if kinds:
            self._talking |= {(party, key.protocol, kind) for party in self._heard(key) for kind in kinds}

    def _heard(self, key: EdgeKey) -> set[Hashable]:
        """The ends whose replies show what is captured: the pods. The outside and the nodes are in no single place."""
        ends = (key.source, key.destination)
        return {self.identify(end) for end in ends if end.kind == "pod"} or {self.identify(end) for end in ends}

    def _note_listeners(self, key: EdgeKey) -> None:
        """A port listens if a certain opening at it was answered (or answers cannot be seen)."""
        party = self.identify(key.destination)
        ports = self._listening.setdefault((party, key.protocol), set())
        for port, evidence, totals in self.ports[key]:
            opened = Signal.OPENED in totals
            alive = Signal.ANSWERED in totals or Signal.CARRIED in totals
            by_proxy = (alive and evidence.requests) or evidence.mtls
            if by_proxy or (opened and (alive or not (refused(evidence) or self.shows_answers(key, evidence)))):
                ports.add(port)

    def shows_answers(self, key: EdgeKey, evidence: Evidence) -> bool:
        """Whether silence means something: the capture shows replies of an end to anyone, in records of this kind.

        Where a pod's datagrams are answered (name look-ups), answers to its connections would be shown as well, if any
        of this protocol are shown. The reverse does not hold: many datagrams are meant to have no answer. A policy
        verdict is for a first packet and shows no reply; what a proxy reports as opened has not ended yet.
        """
        kinds = {kind for name in evidence.signals if (kind := _openings_in(name))}
        protocols = [key.protocol] if key.protocol == "UDP" else [key.protocol, "UDP"]
        return any(
            (party, protocol, kind) in self._talking
            for kind in kinds
            if (key.protocol, kind) in self._shown
            for party in self._heard(key)
            for protocol in protocols
        )

    def listens(self, endpoint: Endpoint, protocol: str, port: int) -> bool:
        """Whether a port is known to listen: by connections of certain direction, or by declaration."""
        known = self._listening.get((self.identify(endpoint), protocol), set())
        return port in known or self.declared(endpoint, protocol, port)

    def open_ports(self, key: EdgeKey) -> Collection[tuple[int, int]]:
        """The (source, destination) port pairs of an edge whose direction is open."""
        edge = self._patterns.edges.get(key)
        return edge.open.kept.keys() if edge is not None else ()

    def opened_back(self, key: EdgeKey) -> set[int]:
        """The ports at which connections certainly run the other way; replies to those come from one of these ports."""
        other = self.ports.get(key.back(), ())
        return {port for port, _, totals in other if Signal.OPENED in totals}

    def came_from_listener(self, key: EdgeKey, evidence: Evidence) -> bool:
        """Whether records came from a port at which the other end opened connections, as replies do."""
        own = set(_openers_ports(evidence)) - {None}
        opened = self.opened_back(key)
        return bool(opened & own if own else opened)

    def came_from_clients(self, key: EdgeKey, evidence: Evidence) -> bool:
        """Whether the openers' ports are ephemeral and the other end opened nothing there, so these are no replies."""
        opened = self.opened_back(key)
        return all(port is not None and port >= EPHEMERAL and port not in opened for port in _openers_ports(evidence))

    def is_conversation(self, key: EdgeKey, port: int, evidence: Evidence) -> bool:
        """Whether both directions were seen at a port, and the openers' ports are none that their end serves.

        Pods may have client ports from 1024 on (net.ipv4.ip_local_port_range). Replies that are mistaken for requests
        come from a server's port, whatever is then taken for their answers.
        """
        totals, served = evidence.totals(), self.opened_back(key)
        if Signal.ANSWERED not in totals:
            return False
        if Signal.CARRIED not in totals and not any(dport == port for _, dport in self.open_ports(key)):
            return False
        return all(
            own is not None and own not in served and not self.listens(key.source, key.protocol, own)
            for own in _openers_ports(evidence)
        )

    def came_from_several_clients(self, key: EdgeKey, evidence: Evidence) -> bool:
        """Whether several client ports meet at the destination's port: a server's, whatever its number is.

        (Requests mistaken for replies look the other way round: one port meets many.)
        """
        lowest, highest = _openers_ports(evidence)
        return lowest != highest and self.came_from_clients(key, evidence)


def refused(evidence: Evidence) -> bool:
    """Whether openings were refused at the point that saw them: packets by packets, a proxy's by the same proxy.

    What a proxy calls a failure may be a response (404) over a connection that Hubble saw opened.
    """
    signals = evidence.signals
    return not _REFUSALS.isdisjoint(signals) or any(
        f"{Signal.OPENED}:{point}" in signals and f"{Signal.REFUSED}:{point}" in signals for point in PROXY_POINTS
    )


def _answers_in(name: str) -> str:
    """Which kind of record shows replies with this signal; "" when none does."""
    if name in _REFUSALS or name in (Signal.ANSWERED, CONTESTED):
        return _PACKETS
    return _MESSAGES if name == f"{Signal.ANSWERED}:l7" else ""


def _openings_in(name: str) -> str:
    """Which kind of record would show the reply to an opening with this signal; "" when none would."""
    signal, _, point = name.partition(":")
    if signal != Signal.OPENED or point in PROXY_POINTS or point.startswith("verdict"):
        return ""
    return _MESSAGES if point == "l7" else _PACKETS


def _openers_ports(evidence: Evidence) -> tuple[int | None, int | None]:
    """The source ports of the lowest and highest socket (equal if there is only one); None where not known."""
    return socket_port(evidence.lowest), socket_port(evidence.highest)
