"""Real Envoys, set up as Istio sets them up, send their access logs to the live sources; policies come out right.

web's sidecar calls cart's over mutual TLS: HTTP at 8080, gRPC at 9000, TCP at 5432. Both log everything twice: over the
access log service and over OTLP.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, ClassVar

import grpc
import pytest
import yaml
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import json_format

from collector import store
from collector.listening import Tallied
from collector.patterns import Patterns
from collector.sources import envoy_als, otlp_logs
from collector.sources.envoy_als_counter import Stream
from collector.sources.envoy_als_server import AccessLogServer
from collector.sources.otlp_server import LogServer
from collector.wire.otlp_logs_pb2 import ExportLogsServiceRequest
from tests import envoy_server
from tests.certificates import Authority
from tests.cli.conftest import invoke
from tests.collector.sources.entries import folded
from tests.integration.sidecars import Route, Sidecar
from tests.observing.processes import observe

pytestmark = envoy_server.needs_envoy

TIMES = 5  # connections of each kind
PATHS = ("/carts/7", "/carts/9")
RPC = "/shop.Carts/Get"
LOGGED = 2 * TIMES * (len(PATHS) + 2)  # entries, of two sidecars
_PART = os.getpid() % 60000
WEB, CART, APP = (f"127.{1 + _PART // 256}.{_PART % 256}.{last}" for last in (10, 20, 30))  # of this process alone
HOST = "cart.shop.svc.cluster.local"

INVENTORY = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  selector: {app: cart}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: grpc, port: 81, targetPort: 9000}
  - {name: tcp, port: 82, targetPort: 5432}
---
""" + "---\n".join(
    f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{serviceAccountName: {name}, containers: [{{name: main}}, {{name: istio-proxy}}]}}
"""
    for name in ("web", "cart")
)


class Answering(BaseHTTPRequestHandler):
    """The application behind cart's sidecar."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class' name for it
        pass


class Echoing(BaseRequestHandler):
    """Its TCP port."""

    def handle(self) -> None:
        self.request.sendall(self.request.recv(100))


@contextmanager
def application() -> Iterator[None]:
    """cart itself, on its three ports."""

    def method(_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)

    class Every(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is untyped
        def service(self, handler_call_details: Any) -> Any:
            return method(handler_call_details)

    ThreadingTCPServer.allow_reuse_address = True
    plain, echo = ThreadingHTTPServer((APP, 8080), Answering), ThreadingTCPServer((APP, 5432), Echoing)
    rpc = grpc.server(futures.ThreadPoolExecutor(2))
    rpc.add_generic_rpc_handlers((Every(),))
    assert rpc.add_insecure_port(f"{APP}:9000")
    rpc.start()
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in (plain, echo)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        rpc.stop(0).wait(5)
        for server in (plain, echo):
            server.shutdown()
            server.server_close()


def listens(place: tuple[str, int]) -> bool:
    """Whether a port is open. Not to be asked of a TCP proxy: it logs every connection."""
    with socket.socket() as one:
        return one.connect_ex(place) == 0


def ask() -> None:
    """web's own calls, through its sidecar."""
    for number in range(TIMES):
        for path in PATHS:
            to = http.client.HTTPConnection(WEB, 8080, timeout=20)
            to.request("GET", f"{path}?n={number}", headers={"Host": HOST})
            assert to.getresponse().status == 200
            to.close()
        with grpc.insecure_channel(f"{WEB}:9000") as channel:
            assert channel.unary_unary(RPC)(b"hello", timeout=20, wait_for_ready=True) == b"hello"
        with socket.create_connection((WEB, 5432), timeout=20) as plain:
            plain.sendall(b"hello")
            assert plain.recv(100) == b"hello"


class RecordedEntries(AccessLogServer):
    """The live source, which also keeps its messages, stream by stream."""

    messages: ClassVar[dict[str, list[bytes]]] = {}

    def count(self, raw: bytes, stream: Stream) -> Tallied:
        self.messages.setdefault(stream.name, []).append(raw)
        return super().count(raw, stream)


class RecordedRequests(LogServer):
    """The same for OTLP."""

    messages: ClassVar[list[bytes]] = []

    def count(self, raw: bytes, stream: str) -> Tallied:
        self.messages.append(raw)
        return super().count(raw, stream)


@dataclass
class Seen:
    """What each source has gathered, and the messages themselves as protobuf JSON lines."""

    als: Patterns
    otlp: Patterns
    als_lines: list[str]
    otlp_lines: list[str]


def sidecars(authority: Authority, als: str, otlp: str) -> tuple[Sidecar, Sidecar]:
    kinds = {"http": (8080, 80), "grpc": (9000, 81), "tcp": (5432, 82)}
    both = {}
    for name, ip, secures in (("cart", CART, "inbound"), ("web", WEB, "outbound")):
        certificate, key = authority.issue(name, f"spiffe://cluster.local/ns/shop/sa/{name}")
        routes = [
            Route(kind, (CART, port), (APP, port), f"inbound|{port}||")
            if name == "cart"
            else Route(kind, (WEB, port), (CART, port), f"outbound|{service}||{HOST}", f"outbound_.{service}_._.{HOST}")
            for kind, (port, service) in kinds.items()
        ]
        both[name] = Sidecar(name, ip, secures, certificate, key, authority.ca, routes, als, otlp, labels={"app": name})
    return both["cart"], both["web"]


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait for it."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


@contextmanager
def mesh(folder: Path, authority: Authority, als: str, otlp: str) -> Iterator[None]:
    """Both pods and their sidecars, after web has called cart."""
    with ExitStack() as stack:
        stack.enter_context(application())
        for sidecar in sidecars(authority, als, otlp):
            (folder / sidecar.workload).mkdir()
            ready = partial(listens, sidecar.routes[0].listen)
            environment = {"POD_NAME": sidecar.pod, "POD_NAMESPACE": sidecar.namespace}
            envoy = envoy_server.running(
                sidecar.configuration(), folder / sidecar.workload, ready, environment=environment
            )
            stack.enter_context(envoy)
        ask()
        yield


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("mesh")
    authority = Authority(folder)
    tls = authority.server(mutual=True)
    als, otlp = RecordedEntries("127.0.0.1:0", tls), RecordedRequests("127.0.0.1:0", tls)
    with ExitStack() as stack:
        for source in (als, otlp):
            source.start()
            stack.callback(source.stop, 2)
        stack.enter_context(mesh(folder, authority, str(als.address), str(otlp.address)))
        for source in (als, otlp):
            until(
                lambda source=source: sum(source.status.flows.values()) >= LOGGED,  # type: ignore[misc]
                lambda source=source: (source.status.flows, envoy_server.said(folder / "web")),  # type: ignore[misc]
            )
    streams = [raw for stream in als.messages.values() for raw in stream]
    return Seen(
        als.take(),
        otlp.take(),
        [json_line(als_pb2.StreamAccessLogsMessage.FromString(raw)) for raw in streams],
        [json_line(ExportLogsServiceRequest.FromString(raw)) for raw in otlp.messages],
    )


def json_line(message: Any) -> str:
    return str(json_format.MessageToJson(message, indent=None))


def generated(at: Path) -> list[dict[str, Any]]:
    """cart's rules, from a store and an inventory."""
    inventory, policies = at.with_suffix(".yaml"), at.with_suffix(".policies")
    inventory.write_text(INVENTORY)
    result = invoke("generate", at, "--inventory", inventory, "--mesh", "sidecar", "-o", policies)
    assert result.exit_code == 0, result.output
    policy = yaml.safe_load((policies / "shop/authorizationpolicy-cart.yaml").read_text())
    assert policy["spec"]["selector"] == {"matchLabels": {"app": "cart"}}
    rules: list[dict[str, Any]] = policy["spec"]["rules"]
    return rules


def rule(port: int, **request: list[str]) -> dict[str, Any]:
    operation = {"ports": [str(port)], **request}
    return {"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/web"]}}], "to": [{"operation": operation}]}


RULES = [
    rule(5432),
    rule(8080, methods=["GET"], paths=["/carts/{*}"]),
    rule(9000, methods=["POST"], paths=[RPC]),
]


@pytest.mark.parametrize("name", ["als", "otlp"])
def test_the_policy_names_caller_port_method_and_path(seen: Seen, tmp_path: Path, name: str) -> None:
    store.save(getattr(seen, name), tmp_path / "store")
    assert generated(tmp_path / "store") == RULES


def test_leastway_observe_gathers_what_the_right_policy_needs(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.server(mutual=True)
    files = ("--server-cert", str(tls.certificate), "--server-key", str(tls.key), "--server-ca", str(tls.ca))
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(
                observe(tmp_path / name, f"--{name}", "127.0.0.1:0", "--metrics", "127.0.0.1:0", *files)
            ).running()
            for name in ("als", "otlp")
        }
        addresses = [process.addresses[name] for name, process in running.items()]
        stack.enter_context(mesh(tmp_path, authority, *addresses))
        for name, process in running.items():
            series = [f'leastway_flows_total{{source="{name}",verdict="{kind}"}}' for kind in ("http", "tcp", "log")]
            until(lambda: sum(map(process.metric, series)) >= LOGGED, lambda: process.said)  # noqa: B023  # at once
            assert process.end() == 0
    assert [generated(tmp_path / name) for name in running] == [RULES, RULES]


@pytest.mark.parametrize("name", ["als", "otlp"])
def test_both_sidecars_are_heard_and_only_the_receiver_vouches_for_the_caller(seen: Seen, name: str) -> None:
    patterns: Patterns = getattr(seen, name)
    told = {
        (key.principal, key.source.namespace, key.destination.kind, port): (evidence.connections, evidence.mtls)
        for key, edge in patterns.sorted_edges()
        for port, evidence in edge.ports()
    }
    counts = {8080: TIMES * len(PATHS), 9000: TIMES, 5432: TIMES}
    received = {("cluster.local/ns/shop/sa/web", "shop", "pod", port): (n, n) for port, n in counts.items()}
    assert told == received | {("", "shop", "service", port): (n, 0) for port, n in counts.items()}
    assert patterns.quality.bad.kept == patterns.quality.skipped.kept == {}


def test_the_recorded_messages_give_the_same_patterns_as_the_live_ones(seen: Seen) -> None:
    assert folded(envoy_als, *seen.als_lines) == (seen.als, [])
    assert folded(otlp_logs, *seen.otlp_lines) == (seen.otlp, [])
