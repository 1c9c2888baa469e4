"""Hubble's Observer API over a playback: the gRPC server behind `leastway replay --hubble`.

Invariant: what a request asks for and is not implemented is refused with a status that says so; nothing is ignored.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

import grpc

from collector.transport import TLS, UNSHARED_PORT, Address, listen
from collector.wire import observer_pb2 as api
from collector.wire.peer_pb2 import PEER_ADDED, ChangeNotification
from collector.wire.relay_pb2 import NODE_CONNECTED
from leastway.playback import filters, masking
from leastway.playback.capture import BILLION
from leastway.playback.stream import Disconnect, Playback, Wanted

STREAMS = 64  # clients at a time

Context = Any  # grpc.ServicerContext


class Observer:
    """The service."""

    def __init__(self, playback: Playback, address: str = "") -> None:
        self.playback = playback
        self.address = address

    def get_flows(self, request: Any, context: Context) -> Iterator[bytes]:
        """GetFlows: serialised responses."""
        ended = threading.Event()
        if not context.add_callback(ended.set):
            return
        try:
            yield from self.playback.messages(_understood(request, context), ended)
        except Disconnect:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is broken off, as --chaos has planned")

    def get_nodes(self, request: object, context: Context) -> Any:  # noqa: ARG002  # the signature is gRPC's
        """GetNodes: all nodes of the capture, connected."""
        capture = self.playback.capture
        counts = Counter(capture.nodes[: self._happened()])
        nodes = [
            api.Node(
                name=name,
                version=_version(),
                address=self.address,
                state=NODE_CONNECTED,
                uptime_ns=self._uptime(),
                num_flows=counts[number],
                max_flows=len(capture),
                seen_flows=counts[number],
            )
            for name, number in sorted((name, number) for number, name in enumerate(capture.names))
        ]
        return api.GetNodesResponse(nodes=nodes)

    def get_namespaces(self, request: object, context: Context) -> Any:  # noqa: ARG002  # as above
        """GetNamespaces: those of all flows of the capture."""
        names = sorted(self.playback.capture.namespaces)
        return api.GetNamespacesResponse(namespaces=[api.Namespace(cluster=c, namespace=n) for c, n in names])

    def notify(self, request: object, context: Context) -> Iterator[bytes]:  # noqa: ARG002  # as above
        """Peer's Notify: the nodes of the capture, all served here, and then silence: they do not change."""
        ended = threading.Event()
        if not context.add_callback(ended.set):
            return
        for name in sorted(self.playback.capture.names):
            if name:
                peer = ChangeNotification(name=name, address=self.address, type=PEER_ADDED)
                yield bytes(peer.SerializeToString())
        ended.wait()

    def events(self, request: object, context: Context) -> Any:  # noqa: ARG002  # as above
        """GetAgentEvents and GetDebugEvents: a stream without any would say that there were none."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "leastway replay plays flows; it has no events of an agent")

    def server_status(self, request: object, context: Context) -> Any:  # noqa: ARG002  # as above
        """ServerStatus: how far the playback has got."""
        capture = self.playback.capture
        happened = self.playback.clock.happened()
        status: Any = api.ServerStatusResponse(
            num_flows=self._happened(),
            max_flows=len(capture),
            seen_flows=happened,
            uptime_ns=self._uptime(),
            version=_version(),
            flows_rate=happened / max(1.0, self.playback.clock.uptime),
        )
        status.num_connected_nodes.value = len(capture.names)
        status.num_unavailable_nodes.value = 0
        return status

    def _happened(self) -> int:
        return min(self.playback.clock.happened(), len(self.playback.capture))

    def _uptime(self) -> int:
        return int(self.playback.clock.uptime * BILLION)


def _understood(request: Any, context: Context) -> Wanted:
    """Ends the call with INVALID_ARGUMENT or UNIMPLEMENTED when the request cannot be answered as it is meant."""
    if request.first and request.follow:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "first and follow exclude each other")
    if unknown := filters.foreign(request):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{unknown} of the request is not implemented by leastway replay")
    try:
        mask = masking.compiled(request.field_mask.paths) if request.field_mask.paths else None
    except ValueError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"invalid field mask: {error}")
    try:
        allow, deny = filters.compiled(request.whitelist), filters.compiled(request.blacklist)
    except filters.Unsupported as error:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error))
    return Wanted(
        number=request.number,
        first=request.first,
        follow=request.follow,
        since=_nanoseconds(request, "since"),
        until=_nanoseconds(request, "until"),
        allow=allow,
        deny=deny,
        mask=mask,
    )


def _nanoseconds(request: Any, name: str) -> int:
    if not request.HasField(name):
        return 0
    stamp = getattr(request, name)
    return max(1, int(stamp.seconds * BILLION + stamp.nanos))


def _version() -> str:
    try:
        return f"leastway replay {metadata.version('leastway')}"
    except metadata.PackageNotFoundError:
        return "leastway replay"


def serve(playback: Playback, address: Address, tls: TLS | None) -> tuple[Any, Address]:
    """Start a server; gives it (a `grpc.Server`) and the address that it really listens on.

    Raises SourceError when it cannot listen there.
    """
    pool = ThreadPoolExecutor(STREAMS + 4, thread_name_prefix="replay")
    server = grpc.server(pool, options=UNSHARED_PORT, maximum_concurrent_rpcs=STREAMS)
    bound = listen(server, address, tls)
    observer = Observer(playback, str(bound))
    server.add_generic_rpc_handlers((_handlers(observer), _peers(observer), _health()))
    server.start()
    return server, bound


def _handlers(observer: Observer) -> Any:
    def unary(answer: Callable[[Any, Context], Any], request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(answer, request.FromString, lambda reply: reply.SerializeToString())

    methods = {
        "GetFlows": grpc.unary_stream_rpc_method_handler(observer.get_flows, api.GetFlowsRequest.FromString),
        "GetAgentEvents": grpc.unary_stream_rpc_method_handler(observer.events),
        "GetDebugEvents": grpc.unary_stream_rpc_method_handler(observer.events),
        "GetNodes": unary(observer.get_nodes, api.GetNodesRequest),
        "GetNamespaces": unary(observer.get_namespaces, api.GetNamespacesRequest),
        "ServerStatus": unary(observer.server_status, api.ServerStatusRequest),
    }
    return grpc.method_handlers_generic_handler("observer.Observer", methods)


def _peers(observer: Observer) -> Any:
    notify = grpc.unary_stream_rpc_method_handler(observer.notify)
    return grpc.method_handlers_generic_handler("peer.Peer", {"Notify": notify})


def _health() -> Any:
    """grpc.health.v1.Health/Check, which `hubble status` asks first: always SERVING (1)."""
    check = grpc.unary_unary_rpc_method_handler(lambda *_: b"\x08\x01")
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
