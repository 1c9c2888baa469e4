"""What is asked of Hubble's Observer API: observer.GetFlowsRequest.

Invariant: the field mask names every field that `hubble_wire` reads: a flow counts the same with it and without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.errors import SourceError

METHOD = "/observer.Observer/GetFlows"
HEALTH = "/grpc.health.v1.Health/Check"  # ServerStatus would wait for every node behind Relay
BILLION = 1_000_000_000

# See hubble_records.proto. Endpoints and layer 4 are wanted whole; of layer 7 neither DNS nor headers are read. Hubble
# takes a response's own node_name and time from the masked flow, so these must be in the mask as well.
FIELDS = (
    *("time", "node_name", "uuid", "verdict", "drop_reason", "drop_reason_desc", "IP.source", "IP.destination", "l4"),
    *("source", "destination", "Type", "destination_names", "l7.type", "l7.http.code", "l7.http.method", "l7.http.url"),
    *("reply", "is_reply", "event_type", "traffic_direction", "trace_observation_point"),
    *("source_service", "destination_service"),
)


@dataclass(frozen=True)
class Request:
    """Which flows are wanted.

    `since` and `until` are unix seconds; without `since` a followed stream begins now. With `namespaces`, only flows
    with an end in one of them are sent, and the quality must say so. `allow` and `deny` are flow.FlowFilter objects in
    protojson form, as `hubble observe --allowlist` takes them. By default nothing is filtered, so that what is skipped
    is counted. Without `follow` the stream ends with what the server has now. `mask` asks only for the fields of a flow
    that are read.
    """

    since: float | None = None
    until: float | None = None
    follow: bool = True
    namespaces: Sequence[str] = ()
    allow: Sequence[Mapping[str, Any]] = ()
    deny: Sequence[Mapping[str, Any]] = ()
    mask: bool = True

    @property
    def endless(self) -> bool:
        """Whether only a broken connection can end the stream."""
        return self.follow and self.until is None

    def serialised(self, since: int, mask: bool) -> bytes:
        """The message; `since` in unix nanoseconds is the position to go on from, 0 if there is none.

        Raises SourceError when a filter is none.
        """
        from google.protobuf.json_format import ParseDict, ParseError

        from collector.wire.flow_pb2 import FlowFilter
        from collector.wire.observer_pb2 import GetFlowsRequest

        message: Any = GetFlowsRequest(follow=self.follow)
        since = since or round((self.since or 0) * BILLION)
        if since:
            message.since.FromNanoseconds(since)
        if self.until is not None:
            message.until.FromNanoseconds(round(self.until * BILLION))
        if not self.follow and not since and self.until is None:
            message.since.FromNanoseconds(1)  # neither number nor time would be the last 20 flows or so
        try:
            for end in ("source_pod", "destination_pod") if self.namespaces else ():
                message.whitelist.add(**{end: [f"{namespace}/" for namespace in self.namespaces]})
            message.whitelist.extend(ParseDict(dict(each), FlowFilter()) for each in self.allow)
            message.blacklist.extend(ParseDict(dict(each), FlowFilter()) for each in self.deny)
        except (ParseError, TypeError, ValueError) as error:
            raise SourceError(
                f"not a flow filter: {error}", hint="give filters as `hubble observe --print-raw-filters` prints them"
            ) from error
        if mask:
            message.field_mask.paths.extend(FIELDS)
        return bytes(message.SerializeToString())
