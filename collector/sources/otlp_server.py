"""OTLP's log service, live: access logs as Istio's envoyOtelAls provider sends them.

Invariant: a request is answered when all of it is in the aggregate, and if it is refused, nothing of it is; so a sender
may repeat what was not answered.

Facts: opentelemetry-proto's collector.logs.v1 and the OTLP specification of partial success.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from collector.flow import Flow
from collector.listening import ListeningSource, Record, Tallied
from collector.patterns import Patterns
from collector.room import GROWTH, Overload, Room, weight
from collector.serving import Limits
from collector.sources.accesslog import count_unusable
from collector.sources.flow_batch import FlowBatch
from collector.sources.otlp_logs import flows_of
from collector.times import seconds
from collector.transport import TLS
from collector.wire.otlp_logs_pb2 import ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse

KINDS = 1 << 15  # kinds of flows known to be in the aggregate, before they are forgotten


class LogServer(ListeningSource):
    """The live source `otlp`; see `ListeningSource`."""

    name = "otlp"
    service = "opentelemetry.proto.collector.logs.v1.LogsService"
    method = "Export"
    unreadable = "not an OTLP log request"
    lasting = False

    def __init__(
        self, address: str, tls: TLS | None = None, limits: Limits | None = None, record: Record | None = None
    ) -> None:
        """Raises SourceError when the address is none."""
        super().__init__(address, tls, limits, record)
        self._counter = LogCounter(Room(self.limits.held))

    @property
    def gathered(self) -> Patterns:
        """The patterns so far."""
        return self._counter.gathered

    def count(self, raw: bytes, stream: str) -> Tallied:
        """One request."""
        return self._counter.count(raw, stream)

    def exchange(self) -> Callable[[], Patterns]:
        """The end of an aggregate."""
        counter, self._counter = self._counter, LogCounter(Room(self.limits.held))
        return counter.patterns

    def stream(self, name: str) -> str:
        """The sender, by its connection: every request is a call of its own."""
        return name.partition(" ")[0]

    def answer(self, bad: int, reason: str) -> bytes:
        """An ExportLogsServiceResponse; a partial success if records could not be read."""
        if not bad:
            return b""
        partial = ExportLogsPartialSuccess(rejected_log_records=bad, error_message=reason)
        return ExportLogsServiceResponse(partial_success=partial).SerializeToString()


class LogCounter:
    """Counts requests; `patterns()` is the end of it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.gathered = Patterns()
        self.batch = FlowBatch(self.gathered)
        self.kinds: set[tuple[Any, ...]] = set()

    def patterns(self) -> Patterns:
        """Everything counted; the counter must not be used afterwards."""
        self.batch.flush()
        return self.gathered

    def count(self, raw: bytes, stream: str) -> Tallied:
        """Count one request, all of it or nothing.

        Raises DecodeError when it is none, Overload when there is no room for it.
        """
        outcomes = list(flows_of(ExportLogsServiceRequest.FromString(raw)))
        flows = [outcome for outcome in outcomes if isinstance(outcome, Flow)]
        self._make_room(flows, stream, len(outcomes))
        tallied = Tallied("log", len(outcomes))
        for outcome in outcomes:
            if isinstance(outcome, Flow):
                tallied.newest = max(tallied.newest, seconds(outcome.time))
                self.batch.add(outcome)
            elif count_unusable(outcome, self.gathered):
                tallied.bad += 1
                tallied.reason = outcome.reason
        return tallied

    def _make_room(self, flows: list[Flow], sender: str, records: int) -> None:
        new = {kind: len(kind[-1]) for kind in map(_kind, flows) if kind not in self.kinds}
        if not new:
            return
        if not self.room.grow(sender, sum(new.values()) + GROWTH * len(new), self._weigh):
            raise Overload(records)
        if len(self.kinds) > KINDS:
            self.kinds.clear()
        self.kinds.update(new)

    def _weigh(self) -> int:
        self.batch.flush()
        return weight(self.gathered)


def _kind(flow: Flow) -> tuple[Any, ...]:
    """What of a flow may make the aggregate grow."""
    ends = (flow.source, flow.source_pod, flow.source_address)
    others = (flow.destination, flow.destination_pod, flow.destination_address, flow.names)
    return (*ends, *others, flow.principal, flow.port, flow.signal, flow.status >= 400, flow.method, flow.path)
