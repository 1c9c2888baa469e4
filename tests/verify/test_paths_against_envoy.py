"""What Envoy makes of each character of a path (`normalize_path`, Istio's default), asked of a real one.

Both normalisers are compared with what it logs: the judge's, and the one that the generator writes paths with.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from collector import paths
from leastway.verify.httppath import normalise
from tests.envoy_server import needs_envoy, running
from tests.http2 import END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, literal

pytestmark = needs_envoy

ASCII = [f"/a{chr(number)}b" for number in range(0x21, 0x7F) if chr(number) not in "?#%"]
PATHS = [*ASCII, "/a%22b", "/a%7bb", "/caf%c3%a9", "/a%zz", "/a%5Cb", "/a%2Fb", "/%2e%2e/b", "/{a}/{*}", "/a%01b"]
BEYOND = ["/caf\u00e9", "/\u20ac/x", "/\U0001f600", "/a\u00adb", "/\u2028", "/\u00ff|"]  # over HTTP/2 only
EXTENSION = "type.googleapis.com/envoy.extensions"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The path that Envoy logged, after normalisation, for each path that it was sent."""
    folder = tmp_path_factory.mktemp("paths")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sent = PATHS + BEYOND
    with running(_configuration(port, folder), folder, lambda: _answers(port), "--file-flush-interval-msec", "20"):
        for path in PATHS:
            with socket.create_connection(("127.0.0.1", port), 5) as one:
                one.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                assert one.recv(12) == b"HTTP/1.1 200", path
        for path in BEYOND:
            _over_http2(port, path)
        deadline = time.monotonic() + 20
        while len(found := _entries(folder)) < len(sent) and time.monotonic() < deadline:
            time.sleep(0.05)
    return dict(zip(sent, found, strict=True))


def test_the_judge_normalises_as_envoy_does(logged: dict[str, str]) -> None:
    assert {path: normalise(path) for path in logged} == logged


def test_written_paths_are_as_envoy_compares_them(logged: dict[str, str]) -> None:
    assert {path: paths.normalise(path) for path in logged} == logged


@pytest.mark.parametrize("path", ["/a b", "/a\x01b", "/a\x7fb", "/a%00b"])
def test_what_envoy_refuses_is_no_path(path: str) -> None:
    assert normalise(path) is None
    assert paths.normalise(path) is None


def _entries(folder: Path) -> list[str]:
    log = folder / "access.log"
    return [json.loads(line)["path"] for line in log.read_text().splitlines()] if log.exists() else []


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _over_http2(port: int, path: str) -> None:
    fields = {":method": "GET", ":scheme": "http", ":authority": "a", ":path": path}
    with socket.create_connection(("127.0.0.1", port), 5) as one:
        head = b"".join(_field(name, value) for name, value in fields.items())
        one.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_STREAM | END_HEADERS, 1, head))
        received = b""
        while b"\x88" not in received:  # :status 200, from HPACK's static table
            received += one.recv(4096)


def _field(name: str, value: str) -> bytes:
    raw = value.encode()
    return literal(name, "x" * len(raw))[: -len(raw)] + raw


def _configuration(port: int, folder: Path) -> dict[str, Any]:
    log = {
        "@type": f"{EXTENSION}.access_loggers.file.v3.FileAccessLog",
        "path": str(folder / "access.log"),
        "log_format": {"json_format": {"path": "%REQ(:PATH)%"}},
    }
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    router = {"@type": f"{EXTENSION}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{EXTENSION}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "paths",
        "normalize_path": True,
        "access_log": [{"name": "file", "typed_config": log}],
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {"address": address, "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener]}}
