"""Istio's default text access log → the fields of the JSON format, for files and for the bodies of OTLP log records.

Invariant: a line is read only if there is just one way to read it. Envoy does not escape quotes, and clients choose
paths, user agents and host names. So a line with a quote too many is refused, not read as some client meant it.
"""

from __future__ import annotations

import re

# kubectl logs --timestamps, and the container runtime's own files, put this in front of a line.
_PREFIX = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z (?:std(?:out|err) [FP] )?(?=[\[{\d])", re.ASCII)
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", re.ASCII)
_BEGIN = re.compile(r'\[\d{4}-\d\d-\d\dT[\d:.]{8,18}Z?\] "', re.ASCII)
# pilot-agent's and Envoy's own messages, which share the container's output with the access log.
_MESSAGE = re.compile(
    r"\d{4}-\d\d-\d\d[T ][\d:.]{8,18}Z?\s+(?:trace|debug|info|warn|warning|error|critical|fatal)\s"
    r"|\[\d{4}-\d\d-\d\d [\d:.]{8,18}\]\[\d+\]\[",
    re.ASCII,
)
# The fields in order; istio/istio, EnvoyTextLogFormat. Before 1.9 there were no details, and a Mixer status instead.
_LINE = re.compile(
    r"\[(?P<start_time>[^\]]*)\] "
    r'"(?P<method>[^" ]*) (?P<path>[^" ]*) (?P<protocol>[^" ]*)" '
    r'(?P<response_code>\d+) (?P<response_flags>[^\s"]+) '
    r'(?:(?P<response_code_details>[^\s"]+) (?P<connection_termination_details>[^"]*?) |"[^"]*" )'
    r'"[^"]*" (?P<bytes_received>\d+) (?P<bytes_sent>\d+) [^\s"]+ [^\s"]+ '
    r'"[^"]*" "[^"]*" "(?P<request_id>[^"]*)" "(?P<authority>[^"]*)" "(?P<upstream_host>[^"]*)" '
    r'(?P<upstream_cluster>[^\s"]+) (?P<upstream_local_address>[^\s"]+) (?P<downstream_local_address>[^\s"]+) '
    r'(?P<downstream_remote_address>[^\s"]+) (?P<requested_server_name>[^\s"]+)(?: (?P<route_name>[^"]*))?',
    re.ASCII,
)


def without_prefix(line: str) -> str:
    """The line without the time stamp that the kubelet or container runtime put in front."""
    match = _PREFIX.match(line)
    return line if match is None else line[match.end() :]


def is_message(line: str) -> bool:
    """True for a message of the proxy about itself."""
    return _MESSAGE.match(line) is not None


def begins_entry(line: str) -> bool:
    """True if the line begins as an entry in the default text format does."""
    return _BEGIN.match(line) is not None


def fields_of(line: str) -> dict[str, str] | None:
    """The fields of one line; None when it is not in the default format or is ambiguous.

    A time stamp that another writer put into the middle of the line is removed, if there is just one and the line makes
    no sense with it.
    """
    fields = _match(line)
    if fields is not None and " " not in fields["upstream_host"]:
        return fields
    mended, stamps = _STAMP.subn("", line)
    return _match(mended) if stamps == 1 else None


def _match(line: str) -> dict[str, str] | None:
    match = _LINE.fullmatch(line.rstrip())
    return None if match is None else {key: value for key, value in match.groupdict().items() if value is not None}
