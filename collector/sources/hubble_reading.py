"""Serialised responses of Hubble → patterns: decoding, recognising repeated flows, counting.

Invariant: whatever bytes come, they end in a counter: of flows, of events, of repeated or of bad messages.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from collector.live import SourceStatus
from collector.patterns import Patterns
from collector.sources.hubble_counter import NAME, FlowCounter
from collector.sources.hubble_request import BILLION
from collector.sources.hubble_resume import ASTRAY, NODES, Nanoseconds, Positions
from collector.sources.hubble_wire import Translator, endpoint, layer7, service
from collector.wire.hubble_records_pb2 import Response

GAP_HOURS = 48  # hours of one gap that are named
REFUSALS = ("invalid fieldmask", "invalid path")  # how nodes of several versions say that they do not know a field


class MaskRefusedError(Exception):
    """A node does not know a field of our mask. Relay passes its answer on inside the stream, as a node's status."""


class Reader:
    """Counts messages; one thread at a time."""

    def __init__(self, status: SourceStatus) -> None:
        self.status = status
        self.counter = FlowCounter(Patterns(), endpoint, layer7, service)
        self.positions = Positions(self.gap)
        self.translator = Translator()
        self.newest: Nanoseconds = 0
        self.soon: Nanoseconds = 0  # later times are checked against the clock: a wrong one would hide any lag
        self.flows = status.flows

    def message(self, raw: bytes) -> bool:
        """Count one observer.GetFlowsResponse. False if it had been counted before.

        Raises MaskRefusedError after counting.
        """
        try:
            response = Response.FromString(raw)
            if not response.HasField("flow"):
                return self._event(response, hash(raw))
            flow = self.translator.flow(response.flow)
            moment = self.translator.moment
            if not moment and response.HasField("time"):
                moment = response.time.seconds * BILLION + response.time.nanos
            if not self.positions.fresh(response.node_name, moment, hash(raw), flow.uuid):
                return False
            self.counter.count(flow)
        except (msgspec.MsgspecError, DecodeError) as error:
            self.bad(f"not a Hubble flow: {error}")
            return True
        verdict = flow.verdict or "VERDICT_UNKNOWN"
        flows = self.flows
        flows[verdict] = flows.get(verdict, 0) + 1
        if self.newest < moment and (moment <= self.soon or self._past(moment)):
            self.newest = moment
            self.status.newest = moment / BILLION
        return True

    def _past(self, moment: Nanoseconds) -> bool:
        """Whether a time is not later than now, give or take the difference of sound clocks."""
        self.soon = time.time_ns() + ASTRAY
        return moment <= self.soon

    @property
    def received(self) -> int:
        """Messages so far that were flows, or meant to be."""
        return sum(self.status.flows.values()) + self.status.bad + self.positions.repeated

    def bad(self, reason: str) -> None:
        """Count a message that cannot be read."""
        self.status.bad += 1
        self.counter.patterns.quality.bad.add(reason[:120], 1)

    def gap(self, node: str, last: Nanoseconds, next_known: Nanoseconds) -> None:
        """Note that flows of a node between two times may be missing."""
        name = node[:NAME] or "unknown node"
        quality = self.counter.patterns.quality
        quality.nodes.add(f"GAP {name}", 1)
        end = next_known // BILLION
        begin = last // BILLION or end  # a node without a position had none before that
        for second in [*range(begin, end, 3600)[: GAP_HOURS - 1], end]:
            quality.blind_spot(second, name, "gap")

    def hand_over(self) -> Patterns:
        """What was counted since the last call."""
        return self.counter.hand_over()

    def close(self) -> None:
        """Note the nodes that sent nothing more after a reconnect although others did."""
        for node, last in self.positions.unresolved():
            self.gap(node, last, self.newest)

    def _event(self, response: Any, digest: int) -> bool:
        if response.HasField("time") and not self.positions.fresh_event(digest):
            return False
        line = self.translator.event(response)
        self.counter.event(line)
        if line.node_status is not None and line.node_status.state_change != "NODE_CONNECTED":
            for node in (line.node_status.node_names or [])[:NODES]:
                self.positions.interrupted(node)
            if any(refusal in response.node_status.message for refusal in REFUSALS):
                raise MaskRefusedError
        if line.lost_events is not None:
            self.status.lost += line.lost_events.count
        return True
