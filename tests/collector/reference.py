"""The reference fold: Hubble's JSON records → patterns, the slow and obvious way.

Invariant: one record, one `Patterns.add`; no batches, no typed decoder, nothing remembered between records. It shares
with the product what is tested on its own: `first_look`, `parse`, `path_of` and `Patterns`.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec

from collector.direction import first_look
from collector.endpoints import Endpoint, valid_namespace, valid_object_name
from collector.flow import Flow, Signal
from collector.patterns import EdgeKey, Patterns
from collector.sources.hubble_endpoints import UNNAMED, HubbleEndpoint, SeenEnd, parse
from collector.times import seconds
from collector.urls import path_of

Json = dict[str, Any]
EVENTS = {"flow", "lost_events", "node_status", "agent_event", "debug_event"}
BARE = {"verdict", "l4", "traffic_direction", "event_type", "trace_observation_point", "is_reply"}
POINTS = {f"TO_{place}" for place in ("PROXY", "HOST", "STACK", "OVERLAY", "ENDPOINT", "NETWORK", "CRYPTO")}
POINTS |= {f"FROM_{place}" for place in ("ENDPOINT", "PROXY", "HOST", "STACK", "OVERLAY", "NETWORK", "CRYPTO")}
NO_FLAGS = {"SYN": None, "ACK": None, "RST": None}
POLICY_DROPS = {133: "POLICY_DENIED", 181: "POLICY_DENY", 189: "AUTH_REQUIRED"}


def fold(lines: Iterable[bytes]) -> tuple[Patterns, list[int]]:
    """What the records say, and the positions (from 1) of those that cannot be read. Reasons are not kept."""
    patterns, bad = Patterns(), []
    for number, line in enumerate(lines, 1):
        try:
            count(json.loads(line), patterns)
        except (ValueError, TypeError, AttributeError, RecursionError):
            bad.append(number)
    return patterns, bad


def hour_of(record: Json) -> str:
    """The hour of an event, as text."""
    moment = seconds(record.get("time") or "")
    return datetime.fromtimestamp(moment, UTC).isoformat()[:13] if moment else "unknown hour"


def count(record: Json, patterns: Patterns) -> None:
    """Count one record: an event of the exporter, a bare flow, or either as text in a log shipper's envelope."""
    quality = patterns.quality
    if record.get("flow") is not None:
        count_flow(record["flow"], patterns)
    elif record.get("lost_events") is not None:
        lost = record["lost_events"]
        number = str(lost.get("num_events_lost", 0))
        where = f"{record.get('node_name') or 'unknown node'} {lost.get('source', 'UNKNOWN_LOST_EVENT_SOURCE')}"
        quality.lost.add(where, max(1, int(number)) if number.isascii() and number.isdecimal() else 1)
        quality.blind.add(f"{hour_of(record)} {where.replace(' ', ': ')}", 1)
    elif record.get("node_status") is not None:
        status = record["node_status"]
        for node in status.get("node_names") or [record.get("node_name") or "unknown node"]:
            state = status.get("state_change", "UNKNOWN_NODE_STATE")
            quality.nodes.add(f"{state} {node}", 1)
            if state != "NODE_CONNECTED":
                quality.blind.add(f"{hour_of(record)} {node}: {state}", 1)
    elif record.keys() & BARE or record.keys() >= {"source", "destination"}:
        count_flow(record, patterns)
    elif record.keys() & EVENTS:
        quality.skipped.add("agent or debug event", 1)
    else:
        count(json.loads(record.get("log") or record.get("line") or record.get("message") or ""), patterns)


class NoConnection(Exception):
    """Why a record carries no connection."""


def count_flow(flow: Json, patterns: Patterns) -> None:
    """Count one flow, or the reason why it is no connection."""
    try:
        protocol, sport, dport, flags = transport(flow.get("l4") or {})
        dropped = flow.get("verdict") == "DROPPED"
        first = first_look(protocol, flags, sport, dport, told(flow, dropped), not dropped and is_verdict(flow))
        swapped, signal, point = denial(flow, first) if dropped else passage(flow, first)
        if swapped and not sport:
            raise NoConnection("no port")
    except NoConnection as reason:
        patterns.quality.skipped.add(str(reason), 1)
        return
    near, far = seen_end(flow, "source", not swapped), seen_end(flow, "destination", swapped)
    if swapped:
        near, far, sport, dport = far, near, dport, sport
    http = (flow.get("l7") or {}).get("http") or {} if point == "l7" else {}
    names = flow.get("destination_names") or []
    seen = Flow(
        source=near.endpoint,
        destination=far.endpoint,
        protocol=protocol,
        port=dport,
        signal=Signal(signal),
        time=flow.get("time") or "",
        source_pod=near.pod,
        destination_pod=far.pod,
        source_address=near.address,
        destination_address=far.address,
        source_port=sport if signal == "open" else 0,
        method=http.get("method") or "",
        path=path_of(http.get("url") or ""),
        status=(http.get("code") or 0) if swapped else 0,
        names=() if swapped or dropped else tuple(name[:253].rstrip(".") for name in names[:8]),
        reason=point,
        socket=f"{near.name} {sport:05d}" if sport and signal != "open" else "",
        flow_id=flow.get("uuid") or "",
        point=point,
        origin="hubble",
    )
    patterns.add(seen)
    if not dropped:
        note_services(flow, patterns)
        add_the_rest(patterns, seen, near, far)
        patterns.quality.replies += swapped


def note_services(flow: Json, patterns: Patterns) -> None:
    """The addresses that the record says are Services'."""
    for end in ("source", "destination"):
        told = flow.get(f"{end}_service") or {}
        name, namespace = told.get("name") or "", told.get("namespace") or ""
        address = canonical((flow.get("IP") or {}).get(end) or "")
        if address and valid_object_name(name) and valid_namespace(namespace):
            service = Endpoint("service", namespace=namespace, workload=name)
            patterns.sighting(service).pods.add(f"|{address}", 1)


def transport(l4: Json) -> tuple[str, int, int, SimpleNamespace | None]:
    """Protocol, source port, destination port and TCP flags."""
    protocol = next((name for name in ("TCP", "UDP", "SCTP") if l4.get(name) is not None), "")
    if not protocol:
        raise NoConnection("ICMP" if l4.keys() & {"ICMPv4", "ICMPv6"} else "no layer 4")
    ports = l4[protocol]
    sport, dport = ports.get("source_port") or 0, ports.get("destination_port") or 0
    if not (0 < dport < 65536 and 0 <= sport < 65536):
        raise NoConnection("no port")
    flags = ports.get("flags")
    return protocol, sport, dport, None if flags is None else SimpleNamespace(**(NO_FLAGS | flags))


def told(flow: Json, dropped: bool) -> bool | None:
    """What the record says about its being a reply; the old field counts only where it says yes."""
    if flow.get("is_reply") is not None or dropped:
        return flow.get("is_reply")
    return True if flow.get("reply") else None


def is_verdict(flow: Json) -> bool:
    """Whether this is a policy verdict."""
    return bool((flow.get("event_type") or {}).get("type") == 5)


def denial(flow: Json, first: tuple[bool, str]) -> tuple[bool, str, str]:
    """A drop: only a policy's, and never of a reply."""
    number = flow.get("drop_reason") or (flow.get("event_type") or {}).get("sub_type") or 0
    reason = flow.get("drop_reason_desc") or POLICY_DROPS.get(number, "")
    if reason not in POLICY_DROPS.values() and (reason or number):
        raise NoConnection("dropped, not by policy")
    if first[0]:
        raise NoConnection("dropped reply")
    return False, "denied", reason or "no reason given"


def passage(flow: Json, first: tuple[bool, str]) -> tuple[bool, str, str]:
    """A packet or message that passed: whether it is the reply's direction, its signal and observation point."""
    verdict, layer7 = flow.get("verdict"), flow.get("l7")
    swapped, signal = first
    if verdict not in ("FORWARDED", "REDIRECTED", "AUDIT"):
        known = verdict in ("ERROR", "TRACED", "TRANSLATED", "VERDICT_UNKNOWN")
        raise NoConnection(f"verdict {verdict}" if known else "no verdict")
    if flow.get("Type") == "SOCK":
        raise NoConnection("socket translation")
    if layer7 is not None and layer7.get("type") in ("REQUEST", "RESPONSE"):
        swapped = layer7["type"] == "RESPONSE"
        return swapped, "answered" if swapped else "opened", "l7"
    if signal == "open":
        _, _, _, flags = transport(flow.get("l4") or {})
        mark = {None: "unknown", True: "reply", False: "new"}[told(flow, False)]
        return swapped, signal, "reset" if flags is not None and flags.RST else mark
    if verdict == "AUDIT":
        return swapped, "audited", ""
    if signal not in ("opened", "carried"):
        return swapped, signal, "new" if signal == "answered" and told(flow, False) is False else ""
    if is_verdict(flow):
        side = flow.get("traffic_direction")
        return swapped, signal, f"verdict {side}" if side in ("EGRESS", "INGRESS") else "verdict"
    point = flow.get("trace_observation_point")
    return swapped, signal, str(point) if point in POINTS else ""


def add_the_rest(patterns: Patterns, flow: Flow, near: SeenEnd, far: SeenEnd) -> None:
    """What a passed packet tells besides its `Flow`: both sides at once, owners, named ports, masked fields."""
    key = EdgeKey(flow.source, flow.destination, flow.protocol)
    evidence = patterns.edge(key).evidence(flow.port, flow.signal, flow.source_port)
    evidence.sides |= {side for side, end in (("source", near), ("destination", far)) if end.local}
    for end in (near, far):
        for field in end.masked:
            patterns.quality.masked.add(field, 1)
        if end.unnamed and end.address:
            patterns.sighting(UNNAMED).pods.add(f"|{end.address}", 1)
        if end.endpoint.kind == "pod":
            for owner in end.owners:
                patterns.sighting(end.endpoint).owners.add(owner, 1)
            for port in end.ports:
                patterns.sighting(end.endpoint).ports.add(port, 1)


def seen_end(flow: Json, end: str, opener: bool) -> SeenEnd:
    """One end of a flow, parsed on its own."""
    raw = flow.get(end)
    text = (flow.get("IP") or {}).get(end) or ""
    found = parse(msgspec.convert(raw or {}, HubbleEndpoint), canonical(text), opener)
    unlabelled = not raw or not (raw.get("labels") or raw.get("identity"))
    found.masked = ("labels",) * unlabelled + ("IP",) * (not text)
    return found


def canonical(text: str) -> str:
    """An IP address in its one form, "" when it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)
