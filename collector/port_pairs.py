"""Which end opened a conversation, by the ports of both: the last resort of `collector.settlement`.

Invariant: a port counts as a server's only if the ports that meet it look like clients' ports. What may just as well be
a scan from one port (nmap -g), or a client that uses reserved ports (NFS, rsh), decides nothing.
"""

from __future__ import annotations

from collector.direction import EPHEMERAL, PRIVILEGED
from collector.endpoints import Endpoint
from collector.openings import Openings
from collector.patterns import EdgeKey

SPREAD = 3  # distinct ports on one side, against one on the other, that mark the client's side
UNRESERVED = 512  # no client picks a source port below this, not even one that may use reserved ports (rresvport(3))

Guess = tuple[bool | None, str]  # whether it was opened forward (None: the ports do not tell), and why


class PortPairs:
    """All pairs of ports between two ends whose direction is open, whichever way they were seen."""

    def __init__(self, openings: Openings, key: EdgeKey) -> None:
        self.openings = openings
        self.key = key
        self.back = openings.open_ports(key.back())
        self.sports: dict[int, set[int]] = {}  # source ports, by the destination's port that they met
        self.dports: dict[int, set[int]] = {}  # destination ports, by the source's port that they met
        for sport, dport in (*openings.open_ports(key), *((s, d) for d, s in self.back)):
            self.sports.setdefault(dport, set()).add(sport)
            self.dports.setdefault(sport, set()).add(dport)
        self._searches: dict[tuple[bool, int], bool] = {}

    def tell(self, sport: int, dport: int) -> Guess:
        """What the ports of one pair say, in view of all other pairs."""
        if not sport:
            return None, ""
        forward, because = self._served(sport, dport)
        if forward is not None and self._met(forward, sport, dport):
            return None, ""
        return forward, because

    def searched(self, forward: bool, sport: int, dport: int) -> bool:
        """Whether a port that is known to listen searched others: a server's pod may scan from its own port."""
        return self._met(forward, sport, dport) and len(self.sports[dport] if forward else self.dports[sport]) > 2

    def _served(self, sport: int, dport: int) -> Guess:
        """`tell`, by what the ports of servers and clients look like."""
        if (sport >= EPHEMERAL) != (dport >= EPHEMERAL):
            return sport >= EPHEMERAL, "one port is in the ephemeral range"
        sports, dports = self.sports[dport], self.dports[sport]
        if (sport < PRIVILEGED) != (dport < PRIVILEGED):
            forward = dport < PRIVILEGED
            return (forward if _clients(sports if forward else dports) else None), "many speak to a privileged port"
        if _clients(sports) and len(dports) == 1:
            return True, "many source ports speak to this one"
        # A server is also spoken to; a search from one port (traceroute) is not.
        if _clients(dports) and len(sports) == 1 and (dport, sport) in self.back:
            return False, "this one port speaks to many, and they to it"
        return None, ""

    def _met(self, forward: bool, sport: int, dport: int) -> bool:
        """Whether ports that met a supposed server's port are servers' too: then it was used to search them."""
        port = dport if forward else sport
        known = self._searches.get((forward, port))
        if known is None:
            client: Endpoint = self.key.source if forward else self.key.destination
            met = (self.sports if forward else self.dports)[port] - {port, 0}
            listens, protocol = self.openings.listens, self.key.protocol
            known = any(other < UNRESERVED or listens(client, protocol, other) for other in met)
            self._searches[forward, port] = known
        return known


def _clients(ports: set[int]) -> bool:
    """Whether the ports that meet one port are clients': several, and not all below the ephemeral range.

    If all are below it, this may be a scan from one port, or clients with a range of their own; marks and flags tell.
    """
    return len(ports) >= SPREAD and max(ports) >= EPHEMERAL
