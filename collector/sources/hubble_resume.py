"""Where in each node's stream of flows a client is, so that after a reconnect nothing is counted twice or lost unseen.

Invariant: a flow that the server sends again, byte for byte, among the last `REMEMBERED` to twice that many, is counted
once; and a flow at or before a node's old position is counted only if it was never met. Memory is bounded: what is no
longer remembered is taken as counted, never as new.

After a reconnect the server is asked for flows from a little before the old positions. If it still has them, some flow
that is known comes again, and nothing is missing between; if none does, its buffer has run over meanwhile, which is a
gap of that node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

OVERLAP = 5_000_000_000  # nanoseconds: how far before the old positions flows are asked for again
SKEW = 86_400_000_000_000  # nanoseconds: how far in the future a flow's time may be
ASTRAY = 60_000_000_000  # nanoseconds: clocks of nodes that agree do not differ more
BEHIND = 32  # flows in a row that are so far behind a node's position: its clock was set back
REMEMBERED = 1 << 16  # flows; two such generations are kept
NODES = 4096  # nodes whose position is kept

Nanoseconds = int


class Node:
    """One node's position: `last` is the newest flow's time; `until` its value at the reconnect, 0 once passed."""

    __slots__ = ("again", "behind", "covered", "last", "mark", "until")

    def __init__(self) -> None:
        self.last: Nanoseconds = 0
        self.until: Nanoseconds = 0
        self.behind = 0  # flows in a row that were far behind `last`
        self.again = False  # whether a known flow came again since the reconnect
        self.mark: Nanoseconds = 0  # `last` when the younger generation began
        self.covered: Nanoseconds = 0  # ... and when the older one did: later flows are remembered

    def set_back(self, moment: Nanoseconds) -> None:
        """Its clock is at `moment`, after all."""
        self.last, self.behind = moment, 0
        self.mark, self.covered, self.until = min(self.mark, moment), min(self.covered, moment), min(self.until, moment)


class Positions:
    """All nodes' positions, and the flows last met.

    `repeated` counts flows that were sent again; `gap(node, last known, first new)` is called where some may be lost.
    """

    def __init__(self, gap: Callable[[str, Nanoseconds, Nanoseconds], None]) -> None:
        self.gap = gap
        self.nodes: dict[str, Node] = {}
        self.recent: set[int] = set()
        self.older: set[int] = set()
        self.repeated = 0
        self.resumed = False  # whether there was a reconnect
        self.horizon = 0  # flows up to this time may move a position: a clock gone wrong must not end the observation

    def restore(self, lasts: Mapping[str, Nanoseconds]) -> None:
        """Begin at positions that another process has reached."""
        for name, last in lasts.items():
            node = self._meet(name)
            node.last = node.mark = node.covered = last

    def fresh(self, name: str, moment: Nanoseconds, digest: int, flow_id: str | None) -> bool:
        """Whether a flow of node `name` is to be counted; it is remembered.

        `moment` is its time (0 unknown), `digest` a hash of all of it; without an id, equal flows of one stream may be
        two.
        """
        node = self.nodes.get(name)
        if node is None:
            node = self._meet(name)
        known = digest in self.recent or digest in self.older
        if node.until:
            if not self._fresh_again(name, node, moment, known):
                return False
        elif known and flow_id:
            self.repeated += 1
            return False
        if moment > node.last:
            if moment <= self.horizon or self._plausible(moment):
                node.last, node.behind = moment, 0
        elif 0 < moment < node.last - ASTRAY:
            node.behind += 1
            if node.behind >= BEHIND:
                node.set_back(moment)
        else:
            node.behind = 0
        self._remember(digest)
        return True

    def fresh_event(self, digest: int) -> bool:
        """Whether an event that is no flow (of a certain time) is to be counted; it is remembered."""
        if self.resumed and (digest in self.recent or digest in self.older):
            self.repeated += 1
            return False
        self._remember(digest)
        return True

    def _remember(self, digest: int) -> None:
        self.recent.add(digest)
        if len(self.recent) >= REMEMBERED:
            self._turn()

    def _plausible(self, moment: Nanoseconds) -> bool:
        self.horizon = time.time_ns() + SKEW
        return moment <= self.horizon

    def _fresh_again(self, name: str, node: Node, moment: Nanoseconds, known: bool) -> bool:
        """The same, while a node's stream after a reconnect has not yet passed the old position."""
        if known or 0 < moment <= node.covered:
            node.again = True
            self.repeated += 1
            return False
        if moment > node.until:
            if not node.again:
                self.gap(name, node.until, moment)
            node.until = 0
        return True

    @property
    def known(self) -> bool:
        """Whether there is any position to go on from."""
        return any(node.last for node in self.nodes.values())

    def reached(self, now: Nanoseconds) -> dict[str, Nanoseconds]:
        """Each node's position, for another process to restore at: none is later than `now`, whatever clocks say."""
        return {name: min(node.last, now + ASTRAY) for name, node in self.nodes.items() if node.last}

    def since(self) -> Nanoseconds:
        """From when on flows are needed after a reconnect; 0 if there is no position. Begins the overlap."""
        positions = []
        self.resumed = self.resumed or bool(self.recent or self.older)
        for node in self.nodes.values():
            node.until, node.again = node.last or 1, False
            if node.last:
                positions.append(node.last)
        return max(1, min(positions) - OVERLAP) if positions else 0

    def interrupted(self, name: str) -> None:
        """Relay has lost a node: when it is back, its flows begin again where the whole stream began.

        `name` may lack the cluster that flows have before their node's name. That flows may be missing is said by the
        event that tells of it.
        """
        for known, node in self.nodes.items():
            if known == name or known.endswith(f"/{name}"):
                node.until, node.again = node.last, True

    def forget(self) -> None:
        """What was met will look otherwise when it is met again: take all up to the positions as counted."""
        for node in self.nodes.values():
            node.covered = node.last

    def give_up(self) -> None:
        """Do not ask for what comes right after the positions again: the server cannot send it. A gap of every node."""
        for name, node in self.nodes.items():
            if node.last:
                self.gap(name, node.last, node.last)
            node.until = node.covered = node.last
            node.again = True

    def unresolved(self) -> list[tuple[str, Nanoseconds]]:
        """Nodes that have sent nothing since a reconnect after which others did, with their old position."""
        if all(node.until and not node.again for node in self.nodes.values()):
            return []
        return [(name, node.until) for name, node in self.nodes.items() if node.until > 1 and not node.again]

    def _meet(self, name: str) -> Node:
        if len(self.nodes) >= NODES:
            oldest = min(self.nodes, key=lambda known: self.nodes[known].last)
            del self.nodes[oldest]
        node = self.nodes[name] = Node()
        return node

    def _turn(self) -> None:
        """Forget the older generation."""
        self.older, self.recent = self.recent, set()
        for node in self.nodes.values():
            node.covered, node.mark = node.mark, node.last
