"""Connections → the access log of ztunnel, the per-node proxy of Istio's ambient mode: as text and as JSON.

Invariant: between mesh workloads the address dialled is port 15008 (HBONE); the port that matters stands in
`dst.hbone_addr`. A caller outside the mesh has neither an identity nor HBONE.
"""

from __future__ import annotations

import json
from random import Random

from tests.simulator.cluster import Party
from tests.simulator.envoy import service_host, spiffe, workload_of
from tests.simulator.hubble import Connection, stamp

HBONE = 15008
REJECTED = "connection closed due to policy rejection: allow policies exist, but none allowed"

Fields = dict[str, str | int]


def fields(c: Connection, direction: str, rng: Random, *, plaintext: bool = False, error: str = "") -> Fields:
    """The key-value pairs about one connection, as the ztunnel on the `direction` side writes them."""
    found: Fields = {"src.addr": f"{c.source.ip}:{c.source_port}", **_end("src", c.source, plaintext)}
    found["dst.addr"] = f"{c.destination.ip}:{c.port if plaintext else HBONE}"
    if not plaintext:
        found["dst.hbone_addr"] = f"{c.destination.ip}:{c.port}"
    if workload_of(c.destination).services:
        found["dst.service"] = service_host(workload_of(c.destination))
    found |= _end("dst", c.destination, plaintext)
    found |= {"direction": direction, "bytes_sent": rng.randrange(100, 9000), "bytes_recv": rng.randrange(60, 900)}
    found["duration"] = f"{rng.randrange(1, 90)}ms"
    return found | ({"error": error} if error else {})


def through_waypoint(found: Fields, waypoint: Party, service_address: str) -> Fields:
    """A client's line when a waypoint stands before the Service: it is the next hop, the Service the target."""
    hop = {"dst.addr": f"{waypoint.ip}:{HBONE}", "dst.hbone_addr": service_address}
    return {**found, **hop, **_end("dst", waypoint, plaintext=False)}


def _end(side: str, party: Party, plaintext: bool) -> Fields:
    workload = workload_of(party)
    found: Fields = {f"{side}.workload": party.pod, f"{side}.namespace": workload.namespace}
    return found if plaintext else {**found, f"{side}.identity": spiffe(party)}


def as_text(c: Connection, found: Fields) -> str:
    """One line of the text format: tabs between its four heads, then `key=value`, values quoted where not addresses."""
    bare = {"src.addr", "dst.addr", "dst.hbone_addr", "bytes_sent", "bytes_recv"}
    pairs = " ".join(f"{key}={value}" if key in bare else f"{key}={json.dumps(value)}" for key, value in found.items())
    return "\t".join((_moment(c), "error" if "error" in found else "info", "access", "connection complete", pairs))


def as_json(c: Connection, found: Fields) -> str:
    """The same as one JSON object, flat, with dotted keys."""
    level = "error" if "error" in found else "info"
    head = {"level": level, "time": _moment(c), "scope": "access", "message": "connection complete"}
    return json.dumps({**head, **found}, separators=(",", ":"))


def _moment(c: Connection) -> str:
    return stamp(c.at)[:26] + "Z"
