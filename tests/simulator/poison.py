"""Forged, mutilated and odd records for the hostile story: each a change to a record that was in order.

Invariant: every text here could reach a reader, since labels, paths and names are chosen by whoever runs a pod or owns
a domain; none of it may ever reach the structure of a manifest.
"""

from __future__ import annotations

from typing import Any

from tests.simulator.hubble import Connection, Record, Writer, without

LABELS = (
    ["k8s:app=api\n  ingress:\n  - {}", "k8s:io.kubernetes.pod.namespace=shop"],
    ["k8s:app={{ 7 * 7 }}", "k8s:tier={% for x in y %}", "k8s:io.kubernetes.pod.namespace=shop"],
    ["k8s:app: [evil]=&anchor *alias", "k8s:io.kubernetes.pod.namespace=shop"],
    ["k8s:app=" + "a" * 5000, "k8s:io.kubernetes.pod.namespace=shop"],
    ["k8s:app=!!python/object/apply:os.system", "k8s:io.kubernetes.pod.namespace=shop"],
    ["k8s:=", "k8s:", "", "=", "k8s:app", "k8s:io.kubernetes.pod.namespace=shop"],
    ["k8s:app=w\u200beb\u202e", "k8s:na\u00efve=\U0001f512", "k8s:io.kubernetes.pod.namespace=shop"],
)
NAMES = (
    'evil.example.com"\n  - ipBlock: {cidr: 0.0.0.0/0}',
    "{{ cycler.__init__ }}.example.com",
    "../../../etc/passwd",
    "--- # a new document",
    "x" * 4096 + ".example.com",
)
PATHS = (
    '/items/"}]}\n---\nkind: ClusterRoleBinding',
    "/items/{{ config }}",
    "/items/%00%2e%2e/%2e%2e",
    "/items/" + "a/" * 2000,
    "/items/*",
    "/items/{**}",
    "/items/' or 1=1 --",
)
BAD_LINES = (
    '{"flow":{"time":"2026-03-02T08:00:00Z","verdict":',
    "this is not a record",
    '{"flow":[1,2,3]}',
    '{"flow":{"l4":"TCP","source":"everyone","destination":[]}}',
)


def masked(record: Record) -> Record:
    """What a field-masked export leaves: no labels, no identity, no type, no direction."""
    flow = record["flow"]
    kept = {key: flow[key] for key in ("time", "verdict", "l4", "IP", "node_name", "is_reply") if key in flow}
    for end in ("source", "destination"):
        kept[end] = {key: flow[end][key] for key in ("namespace", "pod_name") if key in flow[end]}
    return {**record, "flow": kept}


def nulls(record: Record) -> list[Record]:
    """The record with one part after the other set to null, emptied, or filled with nonsense of the right type."""
    changes: list[dict[str, Any]] = [
        {"l4": None},
        {"source": None},
        {"destination": None},
        {"IP": None},
        {"source": None, "destination": None, "IP": None, "l4": None},
        {"source": {}, "destination": {}},
        {"l4": {}},
        {"l4": {"TCP": {}}},
        {"l4": {"TCP": {"source_port": 0, "destination_port": 0}}},
        {"IP": {"source": "not an address", "destination": "999.1.1.1"}, "source": {}, "destination": {}},
        {"time": None, "event_type": None, "verdict": None},
        {"verdict": "A_VERDICT_OF_THE_FUTURE", "Type": "L9"},
    ]
    labelless = {"source": {**record["flow"]["source"], "labels": None}, "is_reply": None}
    flow = record["flow"]
    return [  # each with an id of its own: equal on the wire and with one id, two would be one flow that was sent again
        {**record, "flow": {**flow, "uuid": f"{flow['uuid'][:-2]}{number:02x}", **change}}
        for number, change in enumerate([*changes, labelless])
    ]


def labelled_world(writer: Writer, c: Connection, path: str) -> Record:
    """An L7 record in which the pod carries world's label beside its own name; its path is the attacker's choice."""
    message = {"method": "GET", "url": f"http://api{path}", "protocol": "HTTP/1.1"}
    record = writer.layer7(c, c.at + 2_000_000, c.source.node, {"type": "REQUEST", "http": message})
    end = record["flow"]["destination"]
    world = {"identity": 2, "namespace": end["namespace"], "labels": ["reserved:world"], "pod_name": end["pod_name"]}
    return _with(record, destination=world)


def from_proxy(writer: Writer, c: Connection, address: str) -> Record:
    """What the L7 proxy sends on: the pod's identity and labels, but the node's address and no pod name."""
    record = writer.trace(c, c.at + 3_000_000, c.destination.node, "TO_ENDPOINT", "SYN", reason="NEW")
    source = record["flow"]["source"]
    anonymous = {"identity": source["identity"], "labels": source["labels"]}
    return _with(record, source=anonymous, IP={**record["flow"]["IP"], "source": address})


def translated(writer: Writer, c: Connection, address: str, port: int) -> list[Record]:
    """Socket load balancing: the Service's address, which looks like the world, and then the pod behind it."""
    base = writer.packet(c, c.at - 20_000, c.source.node)
    socket = {"Type": "SOCK", "event_type": {"type": 7}, "socket_cookie": "4711"}
    before = {
        **base,
        **socket,
        "verdict": "TRACED",
        "IP": {**base["IP"], "destination": address},
        "l4": {c.protocol: {"source_port": c.source_port, "destination_port": port}},
        "destination": {"identity": 2, "labels": ["reserved:world"]},
        "sock_xlate_point": "SOCK_XLATE_POINT_PRE_DIRECTION_FWD",
    }
    after = {**base, **socket, "verdict": "TRANSLATED", "sock_xlate_point": "SOCK_XLATE_POINT_POST_DIRECTION_FWD"}
    return [writer.wrap(before), writer.wrap({**after, "uuid": writer.uuid()})]


def other_protocols(writer: Writer, c: Connection) -> list[Record]:
    """What a NetworkPolicy has no word for: ICMP, whose echo reply is an empty object, and protocols without ports."""
    record = writer.trace(c, c.at, c.source.node, "TO_ENDPOINT", "", reason="NEW")
    kinds: list[Record] = [
        {"ICMPv4": {"type": 8}},
        {"ICMPv4": {}},
        {"ICMPv6": {"type": 133}},
        {"VRRP": {"type": 1}},
        {"IGMP": {"type": 22}},
    ]
    return [_with(record, l4=layer4) for layer4 in kinds]


def relabelled(writer: Writer, c: Connection, labels: list[str]) -> Record:
    """An opening packet whose source has forged labels."""
    record = writer.trace(c, c.at, c.destination.node, "TO_ENDPOINT", "SYN", reason="NEW")
    source = {"identity": 66_000, "namespace": "shop", "labels": labels, "pod_name": "forger"}
    return _with(record, source=source, IP={**record["flow"]["IP"], "source": "10.244.1.240"})


def renamed(writer: Writer, c: Connection, name: str) -> Record:
    """An opening packet whose source has a forged pod and owner name."""
    record = writer.trace(c, c.at, c.destination.node, "TO_ENDPOINT", "SYN", reason="NEW")
    owners = [{"name": name, "kind": "Deployment"}]
    source = {"identity": 66_001, "namespace": "shop", "labels": [], "pod_name": name, "workloads": owners}
    return _with(record, source=source, IP={**record["flow"]["IP"], "source": "10.244.1.241"})


def forged_namespace(writer: Writer, c: Connection, text: str) -> Record:
    """An opening packet from a namespace that cannot exist."""
    record = writer.trace(c, c.at, c.destination.node, "TO_ENDPOINT", "SYN", reason="NEW")
    source = {"identity": 66_002, "namespace": text, "labels": ["k8s:app=web"], "pod_name": "forger"}
    return _with(record, source=source, IP={**record["flow"]["IP"], "source": "10.244.1.242"})


def named(writer: Writer, c: Connection, names: tuple[str, ...]) -> Record:
    """A call to an outside address to which somebody has given names."""
    record = writer.trace(c, c.at, c.source.node, "TO_NETWORK", "SYN", reason="NEW")
    return _with(without(record, "destination_names"), destination_names=list(names))


def _with(record: Record, **parts: Any) -> Record:
    return {**record, "flow": {**record["flow"], **parts}}
