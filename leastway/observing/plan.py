"""From what was asked for to what runs: the live sources and their recordings.

Invariant: what is wrong with an option is raised here, before anything listens or connects.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from collector.live import LiveSource
from collector.protojson import converter
from collector.transport import TLS
from leastway.observing.recording import Recorder, path_for

PEER_STREAMS = 1024  # the share of collector.serving.Limits
KINDS = ("hubble", "als", "otlp")


class Plan(msgspec.Struct, kw_only=True):
    """What to observe: where Hubble is, and where the proxies' logs are awaited (addresses, "" for what is not)."""

    hubble: str = ""
    hubble_tls: TLS | None = None
    als: str = ""
    otlp: str = ""
    server_tls: TLS | None = None
    since: float | None = None  # unix seconds, for nodes without a resume point; None is now
    until: float | None = None  # unix seconds
    namespaces: tuple[str, ...] = ()  # whose flows Hubble is asked for; empty is all
    peer_streams: int = PEER_STREAMS  # of one address
    resume: dict[str, int] = {}  # node → unix nanoseconds
    record: Path | None = None
    record_limit: int = 0

    @property
    def kinds(self) -> list[str]:
        """The names of the sources that are asked for."""
        return [kind for kind in KINDS if getattr(self, kind)]


def build(plan: Plan) -> tuple[list[LiveSource], dict[str, Recorder]]:
    """The sources, not started yet, and their recorders by source name. Raises SourceError."""
    recorders: dict[str, Recorder] = {}
    if plan.record is not None:
        for kind in plan.kinds:
            path = path_for(plan.record, kind, alone=len(plan.kinds) == 1)
            recorders[kind] = Recorder(path, plan.record_limit, converter(kind))
    return [_source(kind, plan, recorders.get(kind)) for kind in plan.kinds], recorders


def _source(kind: str, plan: Plan, record: Recorder | None) -> LiveSource:
    if kind == "hubble":
        from collector.sources.hubble_grpc import HubbleSource
        from collector.sources.hubble_request import Request

        request = Request(since=plan.since, until=plan.until, namespaces=plan.namespaces)
        return HubbleSource(plan.hubble, plan.hubble_tls, request, record, plan.resume)
    from collector.serving import Limits

    limits = Limits(share=plan.peer_streams)
    if kind == "als":
        from collector.sources.envoy_als_server import AccessLogServer

        return AccessLogServer(plan.als, plan.server_tls, limits, record)
    from collector.sources.otlp_server import LogServer

    return LogServer(plan.otlp, plan.server_tls, limits, record)
