"""Access log service messages on the wire, as sidecars of a busy mesh send them.

Invariant: what repeats in a mesh repeats here, for a sidecar has few callers and few paths; connections, ids and
times differ from entry to entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from envoy.service.accesslog.v3 import als_pb2

CALLERS = 6
PATHS = 12
START = 1_772_352_000


def identifier_message(number: int) -> bytes:
    """The first message of the stream of one sidecar among many."""
    message = als_pb2.StreamAccessLogsMessage()
    node = message.identifier.node
    node.id = (
        f"sidecar~10.{number // 250}.{number % 250}.7~cart{number % 100}-6b746f74dc-9rcxx.shop~shop.svc.cluster.local"
    )
    message.identifier.log_name = "http_envoy_accesslog"
    raw: bytes = message.SerializeToString()
    return raw


def messages(count: int, entries: int, seed: int = 0) -> Iterator[bytes]:
    """Messages without an identifier; mutual TLS, HTTP, inbound."""
    rng = Random(seed)
    for _ in range(count):
        message = als_pb2.StreamAccessLogsMessage()
        for _ in range(entries):
            _fill(message.http_logs.log_entry.add(), rng)
        yield message.SerializeToString()


def _fill(entry: Any, rng: Random) -> None:
    common, caller = entry.common_properties, rng.randrange(CALLERS)
    common.start_time.seconds, common.start_time.nanos = START + rng.randrange(60), rng.randrange(1_000_000_000)
    for address, ip, port in (
        (common.downstream_remote_address, f"10.9.0.{caller}", rng.randrange(32768, 61000)),
        (common.downstream_local_address, "10.9.0.20", 8080),
        (common.upstream_remote_address, "10.9.0.20", 8080),
        (common.upstream_local_address, "127.0.0.6", rng.randrange(32768, 61000)),
    ):
        address.socket_address.address, address.socket_address.port_value = ip, port
    common.downstream_direct_remote_address.CopyFrom(common.downstream_remote_address)
    common.upstream_cluster, common.route_name, common.access_log_type = "inbound|8080||", "default", 3
    for duration in ("time_to_last_rx_byte", "time_to_first_upstream_tx_byte", "time_to_last_downstream_tx_byte"):
        getattr(common, duration).nanos = rng.randrange(1_000_000)
    tls = common.tls_properties
    tls.tls_version, tls.tls_sni_hostname = 4, "outbound_.80_._.cart.shop.svc.cluster.local"
    tls.peer_certificate_properties.subject_alt_name.add().uri = f"spiffe://cluster.local/ns/shop/sa/web{caller}"
    tls.local_certificate_properties.subject_alt_name.add().uri = "spiffe://cluster.local/ns/shop/sa/cart"
    request, response = entry.request, entry.response
    request.request_method, request.scheme, request.authority = 1, "http", "cart.shop:80"
    request.path, request.request_id = f"/carts/{rng.randrange(PATHS)}", f"{rng.getrandbits(128):032x}"
    request.user_agent, request.request_headers_bytes = "curl/8.5.0", 312
    response.response_code.value, response.response_code_details = 200, "via_upstream"
    response.response_body_bytes = rng.randrange(5000)
