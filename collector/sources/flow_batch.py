"""Equal flows counted together before they reach the patterns, for sources that see many of a kind.

Invariant: handing over a batch gives the same patterns as handing over every flow; a batch only saves the work of
counting equal flows one by one. Its size is bounded, so hostile traffic costs speed, but no memory.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import astuple

from collector.flow import Flow, Signal
from collector.patterns import EdgeKey, Patterns
from collector.times import seconds

LIMIT = 1 << 15  # distinct flows held before they are handed over


class FlowBatch:
    """Collects flows; `flush` must be called before the patterns are read."""

    __slots__ = ("held", "patterns")

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        # (hour, everything but time, id and socket) → [flow, records, first and last time in unix seconds, smallest id,
        # lowest and highest socket]
        self.held: dict[tuple[Any, ...], list[Any]] = {}

    def add(self, flow: Flow) -> None:
        """Count one flow, which must not be used afterwards."""
        time = flow.time
        flow_id = flow.flow_id or time
        socket = flow.socket
        moment = seconds(time)
        flow.time = flow.flow_id = flow.socket = ""
        key = (moment // 3600, *astuple(flow))
        known = self.held.get(key)
        if known is None:
            flow.time = time
            self.held[key] = [flow, 1, moment, moment, flow_id, socket, socket]
            if len(self.held) >= LIMIT:
                self.flush()
            return
        known[1] += 1
        if moment < known[2]:
            known[2], known[0].time = moment, time
        elif moment > known[3]:
            known[3] = moment
        if flow_id and (flow_id < known[4] or not known[4]):
            known[4] = flow_id
        if socket and (socket < known[5] or not known[5]):
            known[5] = socket
        known[6] = max(known[6], socket)

    def flush(self) -> None:
        """Hand everything over to the patterns."""
        for held in self.held.values():
            hand_over(self.patterns, *held)
        self.held.clear()


def hand_over(
    patterns: Patterns, flow: Flow, records: int, first: int, last: int, flow_id: str, lowest: str, highest: str
) -> None:
    """Count `records` flows that differ only in time (`first` to `last`, one hour) and ids; `flow.time` is the first.

    The flow must not be used afterwards.
    """
    flow.flow_id = flow_id
    patterns.add(flow, records)
    key = EdgeKey(flow.source, flow.destination, flow.protocol, flow.principal)
    evidence = patterns.edge(key).evidence(flow.port, flow.signal, flow.source_port)
    evidence.sockets(lowest, highest)
    if last != first:
        evidence.span(last, last)
        patterns.quality.saw(flow.origin, last, 0)
    if flow.signal is Signal.ANSWERED:
        patterns.quality.replies += records
