"""Envoy's access log service, live: every proxy of a mesh holds one stream of entries open to us.

Invariant: an entry is counted with the identifier that its stream sent first. The service answers nothing while a
stream lasts, so a proxy never waits for us.

Facts: envoy.service.accesslog.v3.
"""

from __future__ import annotations

from collector.listening import ListeningSource
from collector.room import Room
from collector.serving import Limits
from collector.sources.envoy_als_counter import AccessLogCounter, Remembered, Stream
from collector.transport import TLS


class AccessLogServer(ListeningSource):
    """The live source `als`; see `ListeningSource`."""

    name = "als"
    service = "envoy.service.accesslog.v3.AccessLogService"
    method = "StreamAccessLogs"
    unreadable = "not an access log service message"

    def __init__(self, address: str, tls: TLS | None = None, limits: Limits | None = None) -> None:
        """Raises SourceError when the address is none."""
        self._remembered = Remembered()
        super().__init__(address, tls, limits)

    def counter(self) -> AccessLogCounter:
        """A counter that knows the kinds of entries that the ones before it have learned."""
        return AccessLogCounter(self._remembered, Room(self.limits.held))

    def stream(self, name: str) -> Stream:
        """A stream whose identifier is still to come."""
        return Stream(name)

    def answer(self, bad: int, reason: str) -> bytes:  # noqa: ARG002  # there is no way to tell it
        """A StreamAccessLogsResponse, which has no fields."""
        return b""
