"""Access logs that Envoy sends over OpenTelemetry, recorded as OTLP JSON: one `ExportLogsServiceRequest` a line.

Invariant: a log record is read from its body (the default text format, a JSON object or a key-value list) together with
its attributes; attributes win, since users add them on purpose.

The live collector uses `flows_of` for each request, with stubs of our own (docs/decisions/0005). The JSON form, which
may have either spelling of a name, is read without stubs. Facts: opentelemetry-proto; Istio's envoyOtelAls provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from collector.patterns import Patterns
from collector.sources.accesslog import Outcome, Unusable, fold_lines
from collector.sources.accesslog import flows_of as flows_of_record
from collector.sources.accesslog_record import IDENTITY_KEYS, record_of
from collector.sources.accesslog_text import begins_entry, fields_of

if TYPE_CHECKING:
    from collector.wire.otlp_logs_pb2 import ExportLogsServiceRequest, KeyValue

ORIGIN = "otlp-logs"

_TELLING = frozenset({"upstream_cluster", "upstream_host", "downstream_local_address", "response_flags"})
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class LogRecord(msgspec.Struct):
    """One log record: a body of text or fields, attributes (the resource's below its own), and unix nanoseconds."""

    body: str | dict[str, str]
    attributes: dict[str, str]
    nanoseconds: int = 0


def recognises(head: bytes) -> bool:
    """True if the first record is an ExportLogsServiceRequest (or LogsData, which has the same form)."""
    try:
        return isinstance(_either(_decode(head), "resourceLogs", "resource_logs"), list)
    except (ValueError, RecursionError):
        return False


def fold(lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Callable[[int, str], None]) -> None:
    """Count every log record of every request in `lines` (line number, one JSON value); see `fold_lines`."""
    fold_lines(lines, outcomes, patterns, bad)


def outcomes(line: bytes) -> Iterable[Outcome]:
    """The flows of one request, or why it has none."""
    try:
        records = list(_of_json(_decode(line)))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return (Unusable("not an OTLP log request"),)
    return (outcome for record in records for outcome in _flows(record))


def flows_of(request: ExportLogsServiceRequest) -> Iterator[Outcome]:
    """The flows of one request, record by record."""
    for resource in request.resource_logs:
        shared = _shared(_texts(resource.resource.attributes))
        for scope in resource.scope_logs:
            for log in scope.log_records:
                body: str | dict[str, str] = log.body.string_value
                if log.body.WhichOneof("value") == "kvlist_value":
                    body = dict(_texts(log.body.kvlist_value.values))
                time = log.time_unix_nano or log.observed_time_unix_nano
                yield from _flows(LogRecord(body, shared | dict(_texts(log.attributes)), time))


def _texts(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, str]]:
    """Attributes as text; structured values are left out."""
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        if kind == "string_value":
            yield attribute.key, attribute.value.string_value
        elif kind == "int_value":
            yield attribute.key, str(attribute.value.int_value)


def _shared(attributes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Of a resource's attributes, those that say who logged."""
    return {key: value for key, value in attributes if key in IDENTITY_KEYS}


# -- the JSON form ----------------------------------------------------------------------------------------------------


def _of_json(request: dict[str, Any]) -> Iterator[LogRecord]:
    """The log records of a request in JSON. Raises TypeError, ValueError or AttributeError when it is none."""
    resources = _either(request, "resourceLogs", "resource_logs")
    if not isinstance(resources, list):
        raise TypeError("no resource logs")
    for resource in resources:
        shared = _shared(_pairs((resource.get("resource") or {}).get("attributes")))
        for scope in _either(resource, "scopeLogs", "scope_logs") or ():
            for log in _either(scope, "logRecords", "log_records") or ():
                body = log.get("body") or {}
                text = _either(body, "stringValue", "string_value")
                fields = _either(body, "kvlistValue", "kvlist_value")
                time = _either(log, "timeUnixNano", "time_unix_nano")
                time = time or _either(log, "observedTimeUnixNano", "observed_time_unix_nano")
                yield LogRecord(
                    dict(_pairs(fields.get("values"))) if fields else text if isinstance(text, str) else "",
                    shared | dict(_pairs(log.get("attributes"))),
                    int(time or 0),
                )


def _either(fields: dict[str, Any], camel: str, snake: str) -> Any:
    """A field by its JSON or its proto name; both are legal."""
    return fields.get(camel, fields.get(snake))


def _pairs(attributes: Any) -> Iterator[tuple[str, str]]:
    """Attributes in JSON as text; structured values are left out."""
    for attribute in attributes or ():
        value = attribute.get("value") or {}
        text = _either(value, "stringValue", "string_value")
        if text is None:
            text = _either(value, "intValue", "int_value")
        key = attribute.get("key")
        if isinstance(key, str) and isinstance(text, str | int):
            yield key, text if isinstance(text, str) else str(text)


# -- what a log record says -------------------------------------------------------------------------------------------


def _flows(log: LogRecord) -> tuple[Outcome, ...]:
    fields: dict[str, object] = {**_body(log.body), **log.attributes}
    if _TELLING.isdisjoint(fields):
        if isinstance(log.body, str) and begins_entry(log.body):
            return (Unusable("not in the default text format, or ambiguous"),)
        return (Unusable("log record that is no access log entry", readable=True),)
    record = record_of(fields, ORIGIN)
    if not record.time:
        record.time = _time(log.nanoseconds)
    return flows_of_record(record)


def _body(body: str | dict[str, str]) -> Mapping[str, object]:
    """The fields that a log record's body holds, in any of the forms that Envoy can be told to write."""
    if not isinstance(body, str):
        return body
    if body.startswith("{"):
        try:
            return _decode(body)
        except (ValueError, RecursionError):
            return {}
    return fields_of(body) or {}


def _time(nanoseconds: int) -> str:
    """Unix nanoseconds as RFC 3339; "" for none."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if nanoseconds > 0 else ""
