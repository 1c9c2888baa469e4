"""Live sources under test: started and stopped within a test, and waited for by condition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from collector.patterns import Patterns
from collector.reading import read
from collector.sources.hubble_grpc import HubbleSource
from collector.sources.hubble_request import Request
from collector.transport import TLS, UNSHARED_PORT, Address, listen, parse_address
from collector.wire.observer_pb2 import GetFlowsRequest
from leastway.playback.server import Played, play

ANYWHERE = Address("127.0.0.1", 0)


def eventually(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Whether a condition becomes true in time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.005)
    return True


def received(source: HubbleSource) -> int:
    """Flows counted so far."""
    return sum(source.status.flows.values())


@contextmanager
def observing(
    address: str | Address, tls: TLS | None = None, request: Request | None = None, **more: Any
) -> Iterator[HubbleSource]:
    source = HubbleSource(address, tls, request, **more)
    source.start()
    try:
        yield source
    finally:
        source.stop(5)


def observed(address: str | Address, tls: TLS | None = None, request: Request | None = None, **more: Any) -> Patterns:
    """All that a server has now."""
    with observing(address, tls, request or Request(follow=False), **more) as source:
        assert source.finished.wait(10), source.trouble
        return source.take()


@contextmanager
def playing(*captures: object, **options: Any) -> Iterator[Played]:
    """A replay server over captures, with everything at once."""
    with play([str(capture) for capture in captures], options.pop("address", ANYWHERE), **options) as played:
        yield played


@contextmanager
def serving(get_flows: Callable[[Any, Any], Iterator[bytes]], where: str = "") -> Iterator[str]:
    """A server of grpcio's with GetFlows and nothing else."""
    server = grpc.server(ThreadPoolExecutor(4), options=UNSHARED_PORT)
    handler = grpc.unary_stream_rpc_method_handler(get_flows, GetFlowsRequest.FromString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("observer.Observer", {"GetFlows": handler}),))
    address = listen(server, parse_address(where) if where else ANYWHERE, None)
    server.start()
    try:
        yield str(address)
    finally:
        server.stop(0).wait(5)


def differences(live: Patterns, offline: Patterns, *apart_from: str) -> list[str]:
    """Where two aggregates disagree, in words, apart from some parts of the quality."""
    found = [str(key) for key in {**live.edges, **offline.edges} if live.edges.get(key) != offline.edges.get(key)]
    ends = {**live.sightings, **offline.sightings}
    found += [str(end) for end in ends if live.sightings.get(end) != offline.sightings.get(end)]
    for part in set(live.quality.__slots__) - set(apart_from):
        if getattr(live.quality, part) != getattr(offline.quality, part):
            found.append(f"quality.{part}")
    return found


def offline(*captures: object) -> Patterns:
    return read([str(capture) for capture in captures]).patterns
