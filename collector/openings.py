"""What the whole aggregate tells about both ends of an edge: which ports listen, who is heard to answer, and what was
opened the other way.

Invariant: all of it is known before anything is settled, and settling changes none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from collector.direction import EPHEMERAL
from collector.endpoints import Endpoint
from collector.evidence import Evidence, socket_port
from collector.flow import Signal
from collector.patterns import Edge, EdgeKey, Patterns

Identify = Callable[[Endpoint], Hashable]
Declared = Callable[[Endpoint, str, int], bool]
Totals = dict[str, int]  # records per signal


class Openings:
    """Who listens and who opened what, asked edge by edge."""

    def __init__(self, patterns: Patterns, identify: Identify, declared: Declared) -> None:
        self.identify = identify
        self.declared = declared
        self.edges: list[tuple[EdgeKey, Edge]] = list(patterns.sorted_edges())
        self.ports: dict[EdgeKey, list[tuple[int, Evidence, Totals]]] = {
            key: [(port, evidence, evidence.totals()) for port, evidence in edge.ports()] for key, edge in self.edges
        }
        self._talking: set[tuple[Hashable, str]] = set()  # (party, protocol) whose replies this capture shows
        self._listening: dict[tuple[Hashable, str], set[int]] = {}
        for key in self.ports:
            self._note_answers(key)
        for key in self.ports:
            self._note_listeners(key)

    def _note_answers(self, key: EdgeKey) -> None:
        if any(Signal.ANSWERED in totals for _, _, totals in self.ports[key]):
            self._talking |= {(self.identify(end), key.protocol) for end in (key.source, key.destination)}

    def _note_listeners(self, key: EdgeKey) -> None:
        """A port listens if a certain opening at it was answered (or answers cannot be seen)."""
        party = self.identify(key.destination)
        ports = self._listening.setdefault((party, key.protocol), set())
        for port, evidence, totals in self.ports[key]:
            opened = Signal.OPENED in totals
            alive = Signal.ANSWERED in totals or Signal.CARRIED in totals
            by_proxy = (alive and evidence.requests) or evidence.mtls
            if by_proxy or (opened and (alive or (party, key.protocol) not in self._talking)):
                ports.add(port)

    def shows_answers(self, key: EdgeKey) -> bool:
        """Whether the capture shows replies of either end to anyone, so that silence means something."""
        return any((self.identify(end), key.protocol) in self._talking for end in (key.source, key.destination))

    def listens(self, endpoint: Endpoint, protocol: str, port: int) -> bool:
        """Whether a port is known to listen, by certain connections or by declaration."""
        known = self._listening.get((self.identify(endpoint), protocol), set())
        return port in known or self.declared(endpoint, protocol, port)

    def opened_back(self, key: EdgeKey) -> set[int]:
        """The ports at which certain connections run the other way; a reply to them comes from one of these."""
        other = self.ports.get(key.back(), ())
        return {port for port, _, totals in other if Signal.OPENED in totals}

    def came_from_listener(self, key: EdgeKey, evidence: Evidence) -> bool:
        """Whether records came from a port at which the other end opened connections; as replies do."""
        own = set(_openers_ports(evidence)) - {None}
        opened = self.opened_back(key)
        return bool(opened & own if own else opened)

    def came_from_clients(self, key: EdgeKey, evidence: Evidence) -> bool:
        """Whether the openers' ports are ephemeral and none at which that end was opened: no replies of the mirror."""
        opened = self.opened_back(key)
        return all(port is not None and port >= EPHEMERAL and port not in opened for port in _openers_ports(evidence))

    def came_from_several_clients(self, key: EdgeKey, evidence: Evidence) -> bool:
        """Whether more than one client port meets at the destination's: a server's side, whatever its number is.

        (Requests taken for replies look the other way round: one port at many.)
        """
        lowest, highest = _openers_ports(evidence)
        return lowest != highest and self.came_from_clients(key, evidence)


def _openers_ports(evidence: Evidence) -> tuple[int | None, int | None]:
    """The ports of two of the sockets that opened, the same one twice if there is but one; None where not known."""
    return socket_port(evidence.lowest), socket_port(evidence.highest)
