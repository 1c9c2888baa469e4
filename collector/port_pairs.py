"""Which end opened a conversation, by the ports of both: the last resort of `collector.settlement`.

Invariant: a port is a server's only if those that meet it look like clients'. What could as well be a scan from one
port (nmap -g), or a client that may use reserved ports (NFS, rsh), tells nothing.
"""

from __future__ import annotations

from collector.direction import EPHEMERAL, PRIVILEGED
from collector.endpoints import Endpoint
from collector.openings import Openings
from collector.patterns import EdgeKey

SPREAD = 3  # distinct ports on one side, against one on the other, that tell a client's side
UNRESERVED = 512  # no client picks a source port below, not even one that may pick a privileged one (rresvport(3))

Guess = tuple[bool | None, str]  # whether it was opened forward, None where the ports do not tell; and why


class PortPairs:
    """All pairs of ports between two ends of which it is open who opened them, whichever way they were seen."""

    def __init__(self, openings: Openings, key: EdgeKey) -> None:
        self.openings = openings
        self.key = key
        self.back = openings.open_ports(key.back())
        self.sports: dict[int, set[int]] = {}  # that met a port of the destination
        self.dports: dict[int, set[int]] = {}  # that met a port of the source
        for sport, dport in (*openings.open_ports(key), *((s, d) for d, s in self.back)):
            self.sports.setdefault(dport, set()).add(sport)
            self.dports.setdefault(sport, set()).add(dport)
        self._searches: dict[tuple[bool, int], bool] = {}

    def tell(self, sport: int, dport: int) -> Guess:
        """What the ports of one pair tell, in view of all the others."""
        if not sport:
            return None, ""
        forward, because = self._served(sport, dport)
        if forward is not None and self._met(forward, sport, dport):
            return None, ""
        return forward, because

    def searched(self, forward: bool, sport: int, dport: int) -> bool:
        """Whether a port that is known to listen was used to search others: a server's pod may scan from its port."""
        return self._met(forward, sport, dport) and len(self.sports[dport] if forward else self.dports[sport]) > 2

    def _served(self, sport: int, dport: int) -> Guess:
        """The same by what servers' and clients' ports look like."""
        if (sport >= EPHEMERAL) != (dport >= EPHEMERAL):
            return sport >= EPHEMERAL, "one port is in the ephemeral range"
        sports, dports = self.sports[dport], self.dports[sport]
        if (sport < PRIVILEGED) != (dport < PRIVILEGED):
            forward = dport < PRIVILEGED
            return (forward if _clients(sports if forward else dports) else None), "many speak to a privileged port"
        if _clients(sports) and len(dports) == 1:
            return True, "many source ports speak to this one"
        # A server is asked too, a search from one port (traceroute) is not.
        if _clients(dports) and len(sports) == 1 and (dport, sport) in self.back:
            return False, "this one port speaks to many, and they to it"
        return None, ""

    def _met(self, forward: bool, sport: int, dport: int) -> bool:
        """Whether the ports that met a server's are servers' as well: then its end searched them, from that port."""
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
    """Whether ports that meet one at the other end are clients': several, and not all below where clients' begin.

    What is all below may be a scan from one port; or clients with a range of their own, of which marks or flags tell.
    """
    return len(ports) >= SPREAD and max(ports) >= EPHEMERAL
