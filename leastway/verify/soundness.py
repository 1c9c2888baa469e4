"""Soundness: every legitimate observed connection, asked of the judge again.

Invariant: only a certain allow counts as allowed; what is undefined is listed as denied, with the reason. Connections
held back for review are counted, but not required.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from leastway.verify.errors import PolicyError
from leastway.verify.judge import Judge, Question
from leastway.verify.verdict import End, Verdict

Key = tuple[str, str, str, int, str, str]


class Observed(msgspec.Struct, frozen=True):
    """One observed connection or request, with ends as in `Question`.

    `source_address`/`destination_address` are the addresses it had, "" if unknown. `principal` is the source's
    identity as the destination's proxy saw it; "" with `mtls` None means not seen, with `mtls` False plaintext.
    `direct`: an ambient pod's own ztunnel saw the source itself, so no waypoint was in between. `service` is the
    Service (`namespace/name`) that was called, "" if not known. `held` names the review item if the connection is
    deliberately not policy. `declared` marks a connection that was declared, not seen. `weight` is the number of
    records behind it.
    """

    source: str
    destination: str
    protocol: str = "TCP"
    port: int = 0
    method: str = ""
    path: str = ""
    principal: str = ""
    mtls: bool | None = None
    source_address: str = ""
    destination_address: str = ""
    held: str = ""
    declared: bool = False
    direct: bool = False
    service: str = ""
    weight: int = 1

    @property
    def key(self) -> Key:
        """What makes it distinct: ends, protocol, port and, on L7, method and path."""
        return self.source, self.destination, self.protocol, self.port, self.method, self.path


class Replay(msgspec.Struct, frozen=True):
    """`observed` and `allowed` count distinct legitimate connections; `held` distinct ones held back. `denied` is
    sorted; one entry each with `from`, `to`, `protocol`, `port`, `method`, `path`, `outcome`, `layer`, `because`,
    `policies`, `nearest` (the rule that nearly matched, "" if none) and `records`."""

    observed: int
    allowed: int
    held: int
    denied: tuple[dict[str, Any], ...]

    @property
    def sound(self) -> bool:
        """True if every legitimate observed connection is certainly allowed."""
        return not self.denied


def replay(judge: Judge, observed: Iterable[Observed]) -> Replay:
    """Ask the judge about every observed connection. One with an end that the world does not know is denied, not an
    error."""
    seen = list(observed)
    http = http_ports(judge, seen)
    legitimate: dict[Key, list[Observed]] = defaultdict(list)
    held: set[Key] = set()
    for item in seen:
        if item.held:
            held.add(item.key)
        elif not item.declared:
            legitimate[item.key].append(item)
    denied = []
    for items in legitimate.values():
        # One distinct connection may have been seen with several identities or addresses: all of them must be allowed.
        for item in items if len(items) == 1 else _distinct(items):
            verdict, source, destination = _judge(judge, item, http)
            if verdict.outcome != "allow":
                nearest = nearest_rule(judge, verdict, source, destination, item, spoken(item, http))
                denied.append(_entry(item, verdict, nearest, sum(i.weight for i in items)))
                break
    denied.sort(
        key=lambda d: [str(d[k]) for k in ("from", "to", "protocol")] + [f"{d['port']:05d}", d["method"], d["path"]]
    )
    return Replay(len(legitimate), len(legitimate) - len(denied), len(held - set(legitimate)), tuple(denied))


def _distinct(items: list[Observed]) -> Iterable[Observed]:
    return {
        (i.principal, i.mtls, i.source_address, i.destination_address, i.direct, i.service): i for i in items
    }.values()


def question(item: Observed, http: bool | None = None) -> Question:
    """An observed connection as a question."""
    principal = item.principal or ("" if item.mtls is False else None)
    return Question(
        source=item.source,
        destination=item.destination,
        protocol=item.protocol,
        port=item.port,
        method=item.method,
        path=item.path,
        principal=principal,
        source_address=item.source_address,
        destination_address=item.destination_address,
        http=http,
        direct=item.direct,
        service=item.service,
    )


def http_ports(judge: Judge, observed: Iterable[Observed]) -> set[tuple[str, int]]:
    """(destination, port) that spoke HTTP: requests were seen there, or a Service says so."""
    found: set[tuple[str, int]] = set()
    for item in observed:
        if item.method or item.path:
            found.add((item.destination, item.port))
        elif item.protocol == "TCP" and (item.destination, item.port) not in found:
            subject = judge.world.subjects.get(item.destination)
            if subject is not None and judge.speaks_http(subject, item.port):
                found.add((item.destination, item.port))
    return found


def _judge(judge: Judge, item: Observed, http: set[tuple[str, int]]) -> tuple[Verdict, End | None, End | None]:
    """The verdict on one observation.

    At an HTTP port, requests are refused, not connections: a connection without a known request is allowed if some
    request from its source is.
    """
    try:
        if item.destination not in judge.world.subjects and judge.world.service_at(item.destination) is not None:
            return judge.ask(question(item)), None, None
        source = judge.end(item.source, item.source_address)
        destination = judge.end(item.destination, item.destination_address)
    except PolicyError as error:
        return Verdict("undefined", str(error), "inventory"), None, None
    bare = spoken(item, http)
    verdict = judge.decide(question(item, bare), source, destination)
    if bare and verdict.outcome == "undefined" and verdict.layer == "authorizationpolicy":
        return Verdict("allow", f"some requests are allowed ({verdict.because})", verdict.layer), source, destination
    return verdict, source, destination


def spoken(item: Observed, http: set[tuple[str, int]]) -> bool | None:
    """True for a connection without a known request to a port that speaks HTTP."""
    bare = not item.method and not item.path
    return True if bare and (item.destination, item.port) in http else None


def _entry(item: Observed, verdict: Verdict, nearest: str, records: int) -> dict[str, Any]:
    return {
        "from": item.source,
        "to": item.destination,
        "protocol": item.protocol,
        "port": item.port,
        "method": item.method,
        "path": item.path,
        "outcome": verdict.outcome,
        "layer": verdict.layer,
        "because": verdict.because,
        "policies": list(verdict.policies),
        "nearest": nearest,
        "records": records,
    }


def nearest_rule(
    judge: Judge,
    verdict: Verdict,
    source: End | None,
    destination: End | None,
    item: Observed,
    http: bool | None = None,
) -> str:
    """The rule that came closest to matching, and what it lacked; "" if there is none."""
    if source is None or destination is None:
        return ""
    if verdict.layer == "authorizationpolicy":
        from leastway.verify.nearest import nearest_authorization

        return nearest_authorization(judge, verdict, question(item, http), source, destination)
    if verdict.layer == "networkpolicy":
        from leastway.verify.nearest import nearest_network

        return nearest_network(judge, verdict, source, destination, item.protocol, item.port)
    return ""
