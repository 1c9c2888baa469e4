"""Raw messages of the live sources as the JSON lines that the file readers take: one function for each source.

Invariant: reading the lines counts what counting the messages did; and no message, whatever it holds, raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def converter(source: str) -> Callable[[bytes], str | None]:
    """For a live source's name: raw message → one line of JSON, None for a message that cannot be written as such."""
    return {"hubble": _hubble, "als": _als, "otlp": _otlp}[source]


def _hubble(raw: bytes) -> str | None:
    from collector.wire.observer_pb2 import GetFlowsResponse

    return _line(GetFlowsResponse, raw, proto_names=True)  # as Hubble's own exporter writes it


def _als(raw: bytes) -> str | None:
    from envoy.service.accesslog.v3 import als_pb2
    from google.protobuf import struct_pb2, wrappers_pb2  # noqa: F401  # types that an `Any` may name

    return _line(als_pb2.StreamAccessLogsMessage, raw, _strip)


def _otlp(raw: bytes) -> str | None:
    from collector.wire.otlp_logs_pb2 import ExportLogsServiceRequest

    return _line(ExportLogsServiceRequest, raw)


def _line(
    kind: Any, raw: bytes, prepare: Callable[[Any], None] | None = None, *, proto_names: bool = False
) -> str | None:
    from google.protobuf.json_format import Error, MessageToJson
    from google.protobuf.message import DecodeError

    try:
        message = kind.FromString(raw)
        if prepare is not None:
            prepare(message)
        return str(MessageToJson(message, indent=None, preserving_proto_field_name=proto_names))
    except (DecodeError, Error, ValueError, TypeError, RecursionError, OverflowError):
        return None


# Types of values in an `Any` that sources read; the parsers refuse a message with any other that they do not know.
READABLE = ("google.protobuf.Struct", "google.protobuf.BytesValue", "google.protobuf.StringValue")


def _strip(message: Any) -> None:
    """Leave out what nobody reads: what a proxy was built with, and values of types that are not known here."""
    message.identifier.node.ClearField("extensions")
    for entries in (message.http_logs.log_entry, message.tcp_logs.log_entry):
        for entry in entries:
            common = entry.common_properties
            common.ClearField("metadata")
            common.ClearField("custom_tags")
            objects = common.filter_state_objects
            for name in [name for name, value in objects.items() if not value.type_url.endswith(READABLE)]:
                del objects[name]
