"""Envoy's access log service, live: every proxy of a mesh holds one stream of entries open to us.

Invariant: an entry is counted with the identifier that its stream sent first. The service answers nothing while a
stream lasts, so a proxy never waits for us.

Facts: envoy.service.accesslog.v3.
"""

from __future__ import annotations

from collections.abc import Callable

from collector.listening import ListeningSource, Record, Tallied
from collector.patterns import Patterns
from collector.serving import Limits
from collector.sources.envoy_als_counter import AccessLogCounter, Stream, count_held
from collector.transport import TLS


class AccessLogServer(ListeningSource):
    """The live source `als`; see `ListeningSource`."""

    name = "als"
    service = "envoy.service.accesslog.v3.AccessLogService"
    method = "StreamAccessLogs"
    unreadable = "not an access log service message"
    lasting = True

    def __init__(
        self, address: str, tls: TLS | None = None, limits: Limits | None = None, record: Record | None = None
    ) -> None:
        """Raises SourceError when the address is none."""
        super().__init__(address, tls, limits, record)
        self._counter = AccessLogCounter(self.limits.held)

    @property
    def gathered(self) -> Patterns:
        """The patterns so far."""
        return self._counter.gathered

    def count(self, raw: bytes, stream: Stream) -> Tallied:
        """One message."""
        return self._counter.count(raw, stream)

    def exchange(self) -> Callable[[], Patterns]:
        """The end of an aggregate; what the kinds of entries mean is kept."""
        gathered, held = self._counter.exchange()

        def finish() -> Patterns:
            count_held(gathered, held)
            return gathered

        return finish

    def stream(self, name: str) -> Stream:
        """A stream whose identifier is still to come."""
        return Stream(name)

    def recorded(self, raw: bytes, stream: Stream) -> bytes:
        """The message after its stream's identifier: one protobuf message behind another is both in one."""
        return stream.said + raw

    def answer(self, bad: int, reason: str) -> bytes:  # noqa: ARG002  # there is no way to tell it
        """A StreamAccessLogsResponse, which has no fields."""
        return b""
