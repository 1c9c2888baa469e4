"""How far the observation itself can be trusted: what was lost, masked, skipped or unreadable.

Invariant: it merges like the patterns and holds no file position and no clock, so the same records give the same
quality in any order and from any files. (The positions of bad lines are in `collector.reading.Reading`.) Only a live
collector adds times of its own: the marks of its sessions, and how far it has read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from collector.sessions import Mark
from collector.sketch import Greatest, Tally

_ONLY = "flows outside of "  # begins an entry of `masked` for a filtered stream; the namespaces follow
SESSIONS = 1024  # sessions that are remembered
CURSORS = 8192  # nodes whose newest record is remembered


class Quality:
    """What the reader of a policy must know about the observation behind it.

    `records` by origin; `skipped` records by reason (kinds that carry no connection); `bad` unreadable records by
    reason; `lost` events by "node source"; `nodes` status changes by "STATE node"; `blind` spots in time by "hour node:
    what" (see `blind_spot`); `masked` records that lack a field, by field, and what was not asked for (see `narrowed`);
    `first`/`last` in unix seconds (0 = none); `replies` counts records of replies.
    Of live collectors: `sessions`, the newest mark by session id; `cursors`, up to which record's time (unix
    nanoseconds) a node's records have been counted, by "collector node".
    """

    __slots__ = (
        "bad",
        "blind",
        "cursors",
        "first",
        "last",
        "lost",
        "masked",
        "nodes",
        "records",
        "replies",
        "sessions",
        "skipped",
    )

    def __init__(self) -> None:
        self.records: dict[str, int] = {}
        self.skipped: Tally[str] = Tally(64)
        self.bad: Tally[str] = Tally(64)
        self.lost: Tally[str] = Tally(4096)
        self.nodes: Tally[str] = Tally(4096)
        self.masked: Tally[str] = Tally(64)
        self.blind: Tally[str] = Tally(4096)
        self.replies = 0
        self.first = 0
        self.last = 0
        self.sessions: Greatest[str, Mark] = Greatest(SESSIONS)
        self.cursors: Greatest[str, int] = Greatest(CURSORS)

    def saw(self, origin: str, moment: int, records: int = 1) -> None:
        """Count records of one origin at one time."""
        self.records[origin] = self.records.get(origin, 0) + records
        if moment:
            self.first = min(self.first or moment, moment)
            self.last = max(self.last, moment)

    def blind_spot(self, moment: int, node: str, what: str) -> None:
        """Note that some of what a node saw in the hour of `moment` (unix seconds, 0 unknown) is missing here."""
        try:
            hour = datetime.fromtimestamp(moment, UTC).isoformat()[:13] if moment else "unknown hour"
        except (ValueError, OverflowError, OSError):
            hour = "unknown hour"
        self.blind.add(f"{hour} {node}: {what}", 1)

    def narrowed(self, namespaces: Sequence[str]) -> None:
        """Note that only flows with an end in one of these namespaces were asked for; all others are missing."""
        self.masked.add(_ONLY + ",".join(sorted(namespaces)), 1)

    @property
    def scope(self) -> frozenset[str]:
        """The namespaces that a filtered collector asked for; empty if no collector filtered."""
        asked = (field.removeprefix(_ONLY) for field, _ in self.masked.items() if field.startswith(_ONLY))
        return frozenset(namespace for names in asked for namespace in names.split(","))

    def merge(self, other: Quality) -> None:
        """Take in the quality of another part of the observation."""
        for origin, records in other.records.items():
            self.records[origin] = self.records.get(origin, 0) + records
        for sketch in ("skipped", "bad", "lost", "nodes", "masked", "blind", "sessions", "cursors"):
            getattr(self, sketch).merge(getattr(other, sketch))
        self.replies += other.replies
        if other.first:
            self.first = min(self.first or other.first, other.first)
        self.last = max(self.last, other.last)

    @property
    def total(self) -> int:
        """All readable records of connections."""
        return sum(self.records.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quality) and all(getattr(self, s) == getattr(other, s) for s in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # mutable
