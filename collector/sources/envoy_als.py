"""Envoy's access log service messages, recorded as protobuf JSON: one `StreamAccessLogsMessage` a line.

Invariant: an entry belongs to the proxy that its stream named last. Only a stream's first message holds the identifier,
so a recording is read in order from its beginning.

The live collector uses `reporter_of` once a stream, and `http_record` and `tcp_record` for each kind of entry.
Facts: the definitions of envoy.service.accesslog.v3 and envoy.data.accesslog.v3; Istio's node ids and metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from collector.endpoints import Labels, stable_labels
from collector.patterns import Patterns
from collector.protojson import READABLE
from collector.sources.accesslog import Outcome, Unusable, fold_lines, no_entry
from collector.sources.accesslog import flows_of as flows_of_record
from collector.sources.accesslog_record import (
    NOBODY,
    NOWHERE,
    AccessRecord,
    Peer,
    SocketAddress,
    address_of,
    checked_peer,
    first_principal,
    ip_of,
    peer_of_node,
    peer_of_principal,
)

ORIGIN = "envoy-als"

# envoy.data.accesslog.v3.ResponseFlags → the short form that text and JSON logs use (Envoy's access log documentation).
FLAGS = {
    "failed_local_healthcheck": "LH",
    "no_healthy_upstream": "UH",
    "upstream_request_timeout": "UT",
    "local_reset": "LR",
    "upstream_remote_reset": "UR",
    "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC",
    "upstream_overflow": "UO",
    "no_route_found": "NR",
    "delay_injected": "DI",
    "fault_injected": "FI",
    "rate_limited": "RL",
    "unauthorized_details": "UAEX",
    "rate_limit_service_error": "RLSE",
    "downstream_connection_termination": "DC",
    "upstream_retry_limit_exceeded": "URX",
    "stream_idle_timeout": "SI",
    "invalid_envoy_request_headers": "IH",
    "downstream_protocol_error": "DPE",
    "upstream_max_stream_duration_reached": "UMSDR",
    "response_from_cache_filter": "RFCF",
    "no_filter_config_found": "NFCF",
    "duration_timeout": "DT",
    "upstream_protocol_error": "UPE",
    "no_cluster_found": "NC",
    "overload_manager": "OM",
    "dns_resolution_failure": "DF",
    "downstream_remote_reset": "DR",
}
# What is read of Istio's metadata about a pod, in either case.
PEER_KEYS = frozenset(
    {"config_namespace", "identity", "labels", "name", "namespace", "owner", "pod_name", "service_account"}
    | {"workload", "workload_name"}
)
# envoy.config.core.v3.RequestMethod, by number.
_METHODS = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_LOGS = frozenset({"httpLogs", "http_logs", "tcpLogs", "tcp_logs"})
_STARTS = frozenset({4, 14})  # AccessLogType: DownstreamStart, TcpConnectionStart
_NO_FLAGS: frozenset[str] = frozenset()

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def recognises(head: bytes) -> bool:
    """True if the first record is a StreamAccessLogsMessage, with camelCase or proto names."""
    try:
        return _is_message(_decode(head))
    except (ValueError, RecursionError):
        return False


def fold(lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Callable[[int, str], None]) -> None:
    """Count every entry of every message in `lines` (line number, one JSON value) into `patterns`; see `fold_lines`."""
    reporter = NOBODY

    def read(line: bytes) -> Iterator[Outcome]:
        nonlocal reporter
        message = message_of(line)
        if isinstance(message, Unusable):
            yield message
            return
        if message.identifier.HasField("node"):
            reporter = reporter_of(message.identifier)
        for record in records_of(message, reporter):
            yield from flows_of_record(record)

    fold_lines(lines, read, patterns, bad)


def begins(record: bytes) -> bool:
    """True if a message names its proxy, as the first of each stream does; those after it need not."""
    message = message_of(record)
    return not isinstance(message, Unusable) and bool(message.identifier.HasField("node"))


def flows_of(message: Any, identifier: Any = None) -> Iterator[Outcome]:
    """The flows of one StreamAccessLogsMessage; `identifier` is its stream's, when the message has none of its own."""
    if message.identifier.HasField("node"):
        identifier = message.identifier
    reporter = NOBODY if identifier is None else reporter_of(identifier)
    for record in records_of(message, reporter):
        yield from flows_of_record(record)


def message_of(line: bytes) -> Any:
    """The StreamAccessLogsMessage that a line holds, or why it holds none."""
    from envoy.service.accesslog.v3 import als_pb2
    from google.protobuf import json_format

    try:
        fields = _decode(line)
        if not _is_message(fields):
            return no_entry(line, "JSON that is no access log message")
        message = als_pb2.StreamAccessLogsMessage()
        return json_format.ParseDict(_known(fields), message, ignore_unknown_fields=True)
    except (json_format.Error, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return Unusable("not an access log service message")


def _is_message(fields: Mapping[str, Any]) -> bool:
    if not _LOGS.isdisjoint(fields):
        return True
    identifier = fields.get("identifier")
    return isinstance(identifier, dict) and "node" in identifier


def _known(value: Any) -> Any:
    """JSON without the `Any` messages whose types are not linked in; the parser would refuse the whole message."""
    if isinstance(value, dict):
        return {
            key: _known(item)
            for key, item in value.items()
            if not (isinstance(item, dict) and "@type" in item and not str(item["@type"]).endswith(READABLE))
            and key != "extensions"
        }
    if isinstance(value, list):
        return [_known(item) for item in value]
    return value


def reporter_of(identifier: Any) -> Peer:
    """The proxy that an identifier names: by node id, and by the metadata of new and old Istio versions."""
    node = identifier.node
    named = peer_of_node(node.id)
    metadata = _peer_of_metadata(node.metadata)
    known = named.filled(metadata)
    if metadata.workload and metadata.namespace == known.namespace:  # stated, where the pod's name is only a guess
        known = msgspec.structs.replace(known, workload=metadata.workload)
    return known


def _peer_of_metadata(fields: Any) -> Peer:
    """Istio's metadata about a pod, a Struct with upper-case (proxy metadata) or lower-case (metadata object) keys."""
    text: dict[str, str] = {}
    labels: Labels = ()
    for key, value in fields.fields.items():
        kind = value.WhichOneof("kind")
        if kind == "string_value":
            text[key.lower()] = value.string_value
        elif kind == "struct_value" and key.lower() == "labels":
            pairs = ((name, item.string_value) for name, item in value.struct_value.fields.items())
            labels = stable_labels(pairs)
    get = text.get
    owner = get("owner", "").rpartition("/")[2]
    known = checked_peer(
        get("namespace") or get("config_namespace", ""),
        get("workload_name") or get("workload") or owner,
        get("service_account", ""),
        get("pod_name") or get("name", ""),
        labels=labels,
    )
    return known.filled(peer_of_principal(first_principal(get("identity", ""))))


def records_of(message: Any, reporter: Peer) -> Iterator[AccessRecord]:
    """The entries of one message from one proxy."""
    if message.HasField("http_logs"):
        for entry in message.http_logs.log_entry:
            yield http_record(entry, reporter)
    elif message.HasField("tcp_logs"):
        for entry in message.tcp_logs.log_entry:
            yield tcp_record(entry, reporter)


def http_record(entry: Any, reporter: Peer) -> AccessRecord:
    """One HTTPAccessLogEntry."""
    record = _common(entry.common_properties, reporter)
    request, response = entry.request, entry.response
    method = request.request_method
    record.method = _METHODS[method] if 0 <= method < len(_METHODS) else ""
    record.path = request.path
    record.request_id = request.request_id
    record.status = min(response.response_code.value, 999)
    record.details = response.response_code_details
    return record


def tcp_record(entry: Any, reporter: Peer) -> AccessRecord:
    """One TCPAccessLogEntry."""
    record = _common(entry.common_properties, reporter)
    record.sent_bytes = entry.connection_properties.sent_bytes
    return record


def _common(common: Any, reporter: Peer) -> AccessRecord:
    remote = "downstream_remote_address"
    if common.HasField("downstream_direct_remote_address"):  # the physical peer, whatever headers say
        remote = "downstream_direct_remote_address"
    record = AccessRecord(
        time=time_of(common.start_time.seconds, common.start_time.nanos),
        flags=_flags(common.response_flags) if common.HasField("response_flags") else _NO_FLAGS,
        termination=common.connection_termination_details,
        upstream_cluster=common.upstream_cluster,
        upstream_host=_address(common.upstream_remote_address),
        upstream_local=_address(common.upstream_local_address),
        downstream_local=_address(common.downstream_local_address),
        downstream_remote=_address(getattr(common, remote)),
        reporter=reporter,
        mtls=False,
        unfinished=common.intermediate_log_entry or common.access_log_type in _STARTS,
        origin=ORIGIN,
    )
    if common.HasField("tls_properties"):
        tls = common.tls_properties
        record.server_name = tls.tls_sni_hostname
        names = tls.peer_certificate_properties.subject_alt_name
        record.source_principal = first_principal(",".join(name.uri for name in names if name.uri))
        record.mtls = bool(names) or bool(tls.peer_certificate_properties.subject)
    if common.filter_state_objects:
        record.source = _exchanged_peer(common.filter_state_objects, "downstream_peer")
        record.destination = _exchanged_peer(common.filter_state_objects, "upstream_peer")
    return record


def _exchanged_peer(objects: Any, name: str) -> Peer:
    """The peer that Istio's metadata exchange left in the filter state; FlatBuffers of old versions are not read."""
    from google.protobuf import struct_pb2, wrappers_pb2
    from google.protobuf.message import DecodeError

    try:
        for key in (name, f"{name}_obj"):
            fields = struct_pb2.Struct()
            if key in objects and objects[key].Unpack(fields):
                return _peer_of_metadata(fields)
        node = wrappers_pb2.BytesValue()
        if f"wasm.{name}_id" in objects and objects[f"wasm.{name}_id"].Unpack(node):
            return peer_of_node(node.value.decode("utf-8", "replace"))
    except DecodeError:
        pass  # a peer that cannot be read is a peer that is not known
    return NOBODY


def _flags(flags: Any) -> frozenset[str]:
    return frozenset(FLAGS[field.name] for field, _ in flags.ListFields() if field.name in FLAGS)


def _address(address: Any) -> SocketAddress:
    kind = address.WhichOneof("address")
    if kind == "socket_address":
        socket = address.socket_address
        port = socket.port_value
        return (ip_of(socket.address), port if port < 65536 else 0)
    if kind == "envoy_internal_address":
        return address_of(address.envoy_internal_address.endpoint_id)
    return NOWHERE


def time_of(seconds: int, nanos: int) -> str:
    """Unix time as RFC 3339 with milliseconds, as Envoy's other logs have it; "" for none, and for what is no time."""
    second = _second(seconds)
    return f"{second}.{nanos // 1_000_000:03}Z" if second and 0 <= nanos < 1_000_000_000 else ""


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""
