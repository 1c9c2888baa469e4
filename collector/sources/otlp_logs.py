"""Access logs that Envoy sends over OpenTelemetry, recorded as OTLP JSON: one `ExportLogsServiceRequest` a line.

Invariant: a log record is read from its body (the default text format, a JSON object or a key-value list) and its
attributes together; attributes win, since they are what a user added on purpose.

The live collector uses `flows_of` for each request. Facts: opentelemetry-proto; Istio's envoyOtelAls provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from collector.patterns import Patterns
from collector.sources.accesslog import Outcome, Unusable, fold_lines
from collector.sources.accesslog import flows_of as flows_of_record
from collector.sources.accesslog_record import IDENTITY_KEYS, record_of
from collector.sources.accesslog_text import begins_entry, fields_of

ORIGIN = "otlp-logs"

_TELLING = frozenset({"upstream_cluster", "upstream_host", "downstream_local_address", "response_flags"})
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def recognises(head: bytes) -> bool:
    """True if the first record is an ExportLogsServiceRequest (or LogsData, which has the same form)."""
    try:
        fields = _decode(head)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields.get("resourceLogs", fields.get("resource_logs")), list)


def fold(lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Callable[[int, str], None]) -> None:
    """Count every log record of every request in `lines` (line number, one JSON value); see `fold_lines`."""
    fold_lines(lines, outcomes, patterns, bad)


def outcomes(line: bytes) -> Iterable[Outcome]:
    """The flows of one request, or why it has none."""
    request = request_of(line)
    return (request,) if isinstance(request, Unusable) else flows_of(request)


def request_of(line: bytes) -> Any:
    """The ExportLogsServiceRequest that a line holds, or why it holds none."""
    from google.protobuf import json_format
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

    try:
        if not recognises(line):
            return Unusable("not an OTLP log request")
        return json_format.Parse(line.decode(), logs_service_pb2.ExportLogsServiceRequest(), ignore_unknown_fields=True)
    except (json_format.Error, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return Unusable("not an OTLP log request")


def flows_of(request: Any) -> Iterator[Outcome]:
    """The flows of one ExportLogsServiceRequest."""
    for resource in request.resource_logs:
        shared = {key: value for key, value in _texts(resource.resource.attributes) if key in IDENTITY_KEYS}
        for scope in resource.scope_logs:
            for log in scope.log_records:
                yield from _flows(log, shared)


def _flows(log: Any, shared: Mapping[str, str]) -> tuple[Outcome, ...]:
    said = dict(_texts(log.attributes))
    fields: dict[str, object] = {**shared, **_body(log.body), **said}
    if _TELLING.isdisjoint(fields):
        if begins_entry(log.body.string_value):
            return (Unusable("not in the default text format, or ambiguous"),)
        return (Unusable("log record that is no access log entry", readable=True),)
    record = record_of(fields, ORIGIN)
    if not record.time:
        record.time = _time(log.time_unix_nano or log.observed_time_unix_nano)
    return flows_of_record(record)


def _body(body: Any) -> Mapping[str, object]:
    """The fields that a log record's body holds, in any of the forms that Envoy can be told to write."""
    kind = body.WhichOneof("value")
    if kind == "kvlist_value":
        return dict(_texts(body.kvlist_value.values))
    if kind != "string_value":
        return {}
    text = body.string_value
    if text.startswith("{"):
        try:
            return _decode(text)
        except (ValueError, RecursionError):
            return {}
    return fields_of(text) or {}


def _texts(attributes: Any) -> Iterator[tuple[str, str]]:
    """Attributes as text; structured values are left out."""
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        if kind in ("string_value", "int_value"):
            yield attribute.key, str(getattr(attribute.value, kind))


def _time(nanoseconds: int) -> str:
    """Unix nanoseconds as RFC 3339; "" for none."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if nanoseconds else ""
