"""flow.FlowFilter → a predicate over messages, for the filters that leastway and the `hubble` client use.

Invariant: a filter that is not implemented is refused (Unsupported), never ignored: that would show flows that were
not asked for. All fields of a filter must match, one value of a field is enough.

Facts: matching is that of Cilium's pkg/hubble/filters, see the comments in its flow.proto.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

Predicate = Callable[[Any], bool]  # of an observer.GetFlowsResponse that holds a flow


class Unsupported(ValueError):
    """A filter that is not implemented, or not well-formed."""


def compiled(filters: Iterable[Any]) -> list[Predicate]:
    """A predicate per filter.

    Raises Unsupported.
    """
    return [_filter(each) for each in filters]


def foreign(message: Any) -> str:
    """Which field of a message, if any, is not in our definitions (an experimental one, say): its number."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    found = UnknownFieldSet(message)
    return f"field {found[0].field_number}" if len(found) else ""


def _filter(message: Any) -> Predicate:
    tests: list[Predicate] = []
    if unknown := foreign(message):
        raise Unsupported(f"the filter with {unknown} is not implemented by leastway replay")
    for field, values in message.ListFields():
        make = _MAKERS.get(field.name)
        if make is None:
            raise Unsupported(f"the filter {field.name} is not implemented by leastway replay")
        tests.append(make(values))
    return lambda response: all(test(response) for test in tests)


def _end(side: str) -> Callable[[Any], Any]:
    return lambda response: getattr(response.flow, side)


def _pod(side: str) -> Callable[[Any], Predicate]:
    """`pod`, `namespace/pod`, `namespace/` or `/pod`; pod names by prefix, in namespace `default` unless told."""
    end = _end(side)

    def make(values: Any) -> Predicate:
        wanted = [value.rpartition("/") for value in values]

        def matches(response: Any) -> bool:
            found = end(response)
            return any(
                (found.namespace == (namespace if slash else "default") or (slash and not namespace))
                and found.pod_name.startswith(prefix)
                and (found.pod_name or found.namespace)
                for namespace, slash, prefix in wanted
            )

        return matches

    return make


def _ip(side: str) -> Callable[[Any], Predicate]:
    """An address, or a network in CIDR form."""

    def make(values: Any) -> Predicate:
        try:
            networks = [ip_network(value, strict=False) for value in values]
        except ValueError as error:
            raise Unsupported(str(error)) from error

        def matches(response: Any) -> bool:
            try:
                address = ip_address(getattr(response.flow.IP, side))
            except ValueError:
                return False
            return any(address in network for network in networks)

        return matches

    return make


def _label(side: str) -> Callable[[Any], Predicate]:
    """`key` or `key=value`, with or without a label source; of selectors, only lists of these joined by commas."""
    end = _end(side)

    def make(values: Any) -> Predicate:
        for value in values:
            if any(sign in value for sign in "!() ") or "==" in value:
                raise Unsupported(f"the label selector {value!r} is not implemented by leastway replay")

        def matches(response: Any) -> bool:
            labels: set[str] = set()
            for label in end(response).labels:
                for form in (label, label.partition(":")[2]):
                    labels |= {form, form.partition("=")[0]}
            return any(all(term in labels for term in value.split(",")) for value in values)

        return matches

    return make


def _port(side: str) -> Callable[[Any], Predicate]:
    def make(values: Any) -> Predicate:
        if not all(value.isdecimal() for value in values):
            raise Unsupported("a port is a number")
        ports = {int(value) for value in values}

        def matches(response: Any) -> bool:
            kind = response.flow.l4.WhichOneof("protocol")
            layer = getattr(response.flow.l4, kind) if kind in ("TCP", "UDP", "SCTP") else None
            return layer is not None and getattr(layer, side) in ports

        return matches

    return make


def _protocol(values: Any) -> Predicate:
    wanted = {value.lower() for value in values}

    def matches(response: Any) -> bool:
        flow = response.flow
        found = {(flow.l4.WhichOneof("protocol") or "").lower(), (flow.l7.WhichOneof("record") or "").lower()}
        found |= {"icmp"} if found & {"icmpv4", "icmpv6"} else set()
        return bool(wanted & found)

    return matches


def _event_type(values: Any) -> Predicate:
    def matches(response: Any) -> bool:
        found = response.flow.event_type
        return any(
            value.type == found.type and (not value.match_sub_type or value.sub_type == found.sub_type)
            for value in values
        )

    return matches


def _node_name(values: Any) -> Predicate:
    """Shell patterns for the node's name, with its cluster before a slash if the pattern has one; `cluster/` is all."""

    def matches(response: Any) -> bool:
        name = response.node_name or response.flow.node_name
        return any(
            fnmatch.fnmatchcase(name if "/" in value else name.rpartition("/")[2], value + "*" * value.endswith("/"))
            for value in values
        )

    return matches


def _value(name: str) -> Callable[[Any], Predicate]:
    """A field of the flow that must be one of the values."""

    def make(values: Any) -> Predicate:
        wanted = set(values)
        return lambda response: getattr(response.flow, name) in wanted

    return make


def _identity(side: str) -> Callable[[Any], Predicate]:
    end = _end(side)

    def make(values: Any) -> Predicate:
        wanted = set(values)
        return lambda response: end(response).identity in wanted

    return make


def _reply(values: Any) -> Predicate:
    wanted = set(values)
    return lambda response: response.flow.HasField("is_reply") and response.flow.is_reply.value in wanted


def _named(field: str) -> Callable[[Any], Predicate]:
    """Patterns of host names, in which * stands for any number of their letters."""

    def make(values: Any) -> Predicate:
        wanted = [value.strip().lower().removesuffix(".") for value in values]
        for value in wanted:
            if not re.fullmatch(r"[-a-z0-9_.*]+", value):
                raise Unsupported(f"{value[:80]!r} is no pattern of a host name")
        return lambda response: any(
            fnmatch.fnmatchcase(name, value) for name in getattr(response.flow, field) for value in wanted
        )

    return make


def _workload(side: str) -> Callable[[Any], Predicate]:
    end = _end(side)

    def make(values: Any) -> Predicate:
        return lambda response: any(
            value.name in ("", owner.name) and value.kind in ("", owner.kind)
            for owner in end(response).workloads
            for value in values
        )

    return make


def _http_status(values: Any) -> Predicate:
    """`404`, or `4+` and `40+` by their beginning; requests have none."""
    for value in values:
        if not re.fullmatch(r"[1-5](\d\d|\d?\+)", value, re.ASCII):
            raise Unsupported(f"{value[:80]!r} is no HTTP status code")
    whole, begun = {v for v in values if v[-1] != "+"}, tuple(v[:-1] for v in values if v[-1] == "+")

    def matches(response: Any) -> bool:
        code = f"{response.flow.l7.http.code:03}"
        return code in whole or code.startswith(begun)

    return matches


def _http_method(values: Any) -> Predicate:
    wanted = {value.upper() for value in values}
    return lambda response: response.flow.l7.http.method.upper() in wanted


def _ip_version(values: Any) -> Predicate:
    wanted = set(values)
    return lambda response: response.flow.IP.ipVersion in wanted


def _tcp_flags(values: Any) -> Predicate:
    """Packets that have all flags of a value, and maybe others."""
    wanted = [[flag.name for flag, _ in value.ListFields()] for value in values]

    def matches(response: Any) -> bool:
        packet = response.flow.l4.TCP
        return packet.HasField("flags") and any(all(getattr(packet.flags, f) for f in flags) for flags in wanted)

    return matches


_MAKERS: dict[str, Callable[[Any], Predicate]] = {
    "source_ip": _ip("source"),
    "destination_ip": _ip("destination"),
    "source_pod": _pod("source"),
    "destination_pod": _pod("destination"),
    "source_label": _label("source"),
    "destination_label": _label("destination"),
    "source_port": _port("source_port"),
    "destination_port": _port("destination_port"),
    "source_identity": _identity("source"),
    "destination_identity": _identity("destination"),
    "verdict": _value("verdict"),
    "traffic_direction": _value("traffic_direction"),
    "drop_reason_desc": _value("drop_reason_desc"),
    "uuid": _value("uuid"),
    "event_type": _event_type,
    "protocol": _protocol,
    "node_name": _node_name,
    "reply": _reply,
    "source_fqdn": _named("source_names"),
    "destination_fqdn": _named("destination_names"),
    "source_workload": _workload("source"),
    "destination_workload": _workload("destination"),
    "http_status_code": _http_status,
    "http_method": _http_method,
    "ip_version": _ip_version,
    "tcp_flags": _tcp_flags,
}
