"""Connections → Hubble's flows, one JSON object for each observation point, as the exporter writes them.

Invariant: only the node where an end is local knows that end's `ID` and `workloads`; `traffic_direction` is the
connection's as seen from the local end; zero values are left out. (The form is protojson of observer.GetFlowsResponse.)

Points, for a connection between pods of two nodes of a VXLAN cluster: on the source's node a policy verdict and
TO_OVERLAY; on the destination's a policy verdict and TO_ENDPOINT; the reply comes the same way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.simulator.cluster import HOST, REMOTE_NODE, WORLD, Party

Record = dict[str, Any]

SECOND = 1_000_000_000
START = int(datetime(2026, 3, 2, 8, tzinfo=UTC).timestamp()) * SECOND
POINTS = {"TO_ENDPOINT": 0, "TO_PROXY": 1, "TO_STACK": 3, "TO_OVERLAY": 4, "FROM_ENDPOINT": 5, "TO_NETWORK": 11}
NODE_LABELS = (
    "beta.kubernetes.io/arch=amd64",
    "beta.kubernetes.io/os=linux",
    "kubernetes.io/arch=amd64",
    "kubernetes.io/os=linux",
    "node.kubernetes.io/instance-type=standard-8",
    "topology.kubernetes.io/region=region-1",
    "topology.kubernetes.io/zone=region-1a",
)
PREFIX = "io.cilium.k8s."


@dataclass(frozen=True)
class Connection:
    """One connection: `at` in nanoseconds since the epoch, `port` at the destination pod."""

    source: Party
    destination: Party
    protocol: str
    port: int
    source_port: int
    at: int
    method: str = ""
    path: str = ""
    status: int = 200
    answered: bool = True


@dataclass(frozen=True)
class Style:
    """How a Hubble installation is set up, which shapes all of its records."""

    workloads: bool = True
    replies: bool = True
    cluster: str = "default"
    version: str = "1.19.4"
    named_ports: bool = False
    node_labels: bool = False
    redirect: bool = False  # DNS and HTTP go through the L7 proxy, and are seen there


class Writer:
    """Writes the records of connections. `rng` makes what no reader may depend on: ids, hardware addresses, delays."""

    def __init__(self, rng: Random, style: Style | None = None) -> None:
        self.rng = rng
        self.style = style or Style()

    def connection(self, c: Connection) -> list[Record]:
        """All records of one connection, in order of time."""
        found = [*self._towards(c, "SYN", 0)]
        if self.style.replies and c.answered:
            found += self._back(c, "SYN ACK", 300_000)
            found += self._carried(c, "ACK PSH", 900_000)
            found += self._back(c, "ACK PSH", 1_700_000)
        if c.method and self.style.redirect:
            found += self.http(c)
        return found

    def _towards(self, c: Connection, flags: str, delay: int) -> Iterator[Record]:
        """The first packet: verdict and trace at each end that is a pod."""
        start = c.at + delay
        if c.source.pod:
            yield self.verdict(c, start, c.source.node, "EGRESS")
            point = "TO_ENDPOINT" if c.destination.node == c.source.node else self._leaves(c)
            yield self.trace(c, start + 40_000, c.source.node, point, flags, reason="NEW")
        if c.destination.pod and (c.destination.node != c.source.node or not c.source.pod):
            yield self.verdict(c, start + 120_000, c.destination.node, "INGRESS")
            yield self.trace(c, start + 150_000, c.destination.node, "TO_ENDPOINT", flags, reason="NEW")

    def _carried(self, c: Connection, flags: str, delay: int) -> Iterator[Record]:
        if c.destination.pod:
            yield self.trace(c, c.at + delay, c.destination.node, "TO_ENDPOINT", flags, reason="ESTABLISHED")

    def _back(self, c: Connection, flags: str, delay: int) -> Iterator[Record]:
        """A reply: leaving the destination's node, arriving at the source's."""
        if c.destination.pod and c.destination.node != c.source.node:
            point = "TO_OVERLAY" if c.source.pod else "TO_STACK"
            yield self.trace(c, c.at + delay, c.destination.node, point, flags, reply=True, reason="REPLY")
        if c.source.pod:
            at = c.at + delay + 90_000
            yield self.trace(c, at, c.source.node, "TO_ENDPOINT", flags, reply=True, reason="REPLY")

    def _leaves(self, c: Connection) -> str:
        if c.destination.pod:
            return "TO_OVERLAY"
        return "TO_STACK" if c.destination.reserved == "host" else "TO_NETWORK"

    def verdict(self, c: Connection, at: int, node: str, direction: str, verdict: str = "FORWARDED") -> Record:
        """A policy verdict: always about the first packet, never a reply."""
        flow = self.packet(c, at, node, flags="SYN")
        flow |= {"verdict": verdict, "event_type": {"type": 5}, "traffic_direction": direction}
        flow |= {"policy_match_type": 4, "is_reply": False}
        return self.wrap(flow)

    def drop(self, c: Connection, at: int, node: str, reason: str = "POLICY_DENIED", number: int = 133) -> Record:
        """A dropped first packet: `is_reply` is absent."""
        flow = self.packet(c, at, node, flags="SYN")
        direction = "EGRESS" if c.source.node == node else "INGRESS"
        flow |= {"verdict": "DROPPED", "drop_reason": number, "drop_reason_desc": reason}
        flow |= {"event_type": {"type": 1, "sub_type": number}, "traffic_direction": direction}
        return self.wrap(flow)

    def trace(
        self, c: Connection, at: int, node: str, point: str, flags: str, *, reply: bool = False, reason: str = ""
    ) -> Record:
        """A trace event. Encapsulated packets carry no conntrack state, hence neither direction nor `is_reply`."""
        flow = self.packet(c, at, node, reply=reply, flags=flags)
        kind: Record = {"type": 4}
        if POINTS[point]:
            kind["sub_type"] = POINTS[point]
        flow |= {"event_type": kind, "trace_observation_point": point}
        if point not in ("TO_OVERLAY", "FROM_ENDPOINT"):
            opened_here = c.source.node == node and c.source.reserved != "host"
            flow["traffic_direction"] = "EGRESS" if opened_here else "INGRESS"
            flow |= {"trace_reason": reason, "is_reply": reply}
            if reply:
                flow["reply"] = True
        return self.wrap(flow)

    def http(self, c: Connection) -> list[Record]:
        """Request and response as the destination node's proxy saw them."""
        host = c.destination.workload.name if c.destination.workload else c.destination.ip
        message: Record = {"method": c.method, "url": f"http://{host}{c.path}", "protocol": "HTTP/1.1"}
        asked = self.layer7(c, c.at + 1_000_000, c.destination.node, {"type": "REQUEST", "http": message})
        if not (self.style.replies and c.answered):
            return [asked]
        answer = {"type": "RESPONSE", "latency_ns": "2300000", "http": {"code": c.status, **message}}
        return [asked, self.layer7(c, c.at + 3_300_000, c.destination.node, answer, reply=True)]

    def dns(self, c: Connection, name: str, ips: list[str]) -> list[Record]:
        """A lookup as the DNS proxy on the client's node saw it; no `ips` means NXDOMAIN."""
        query: Record = {"query": f"{name}.", "observation_source": "proxy", "qtypes": ["A"]}
        answer = {**query, "ips": ips, "ttl": 30, "rrtypes": ["A"]} if ips else {**query, "ttl": 4294967295, "rcode": 3}
        asked = self.layer7(c, c.at + 200_000, c.source.node, {"type": "REQUEST", "dns": query})
        if not self.style.replies:
            return [asked]
        told = {"type": "RESPONSE", "latency_ns": "600000", "dns": answer}
        return [asked, self.layer7(c, c.at + 800_000, c.source.node, told, reply=True)]

    def layer7(self, c: Connection, at: int, node: str, message: Record, *, reply: bool = False) -> Record:
        """A message seen by the proxy of `node`."""
        flow = self.packet(c, at, node, reply=reply)
        flow |= {"Type": "L7", "l7": message, "event_type": {"type": 129}, "is_reply": reply}
        flow["traffic_direction"] = "EGRESS" if node == c.source.node else "INGRESS"
        if reply:
            flow["reply"] = True
        return self.wrap(flow)

    def packet(self, c: Connection, at: int, node: str, *, reply: bool = False, flags: str = "") -> Record:
        """The part that all flows share: addresses, ports and ends, turned round for a reply."""
        ends = (c.destination, c.source) if reply else (c.source, c.destination)
        ports = (c.port, c.source_port) if reply else (c.source_port, c.port)
        layer4: Record = {"source_port": ports[0], "destination_port": ports[1]}
        if c.protocol == "TCP" and flags:
            layer4["flags"] = dict.fromkeys(flags.split(), True)
        version = "IPv6" if ":" in c.source.ip else "IPv4"
        flow: Record = {
            "time": stamp(at),
            "uuid": self.uuid(),
            "emitter": {"name": "Hubble", "version": self.style.version},
            "verdict": "FORWARDED",
            "IP": {"source": ends[0].ip, "destination": ends[1].ip, "ipVersion": version},
            "l4": {c.protocol: layer4},
            "source": self.endpoint(ends[0], node),
            "destination": self.endpoint(ends[1], node),
            "Type": "L3_L4",
            "node_name": node,
        }
        if self.style.node_labels:
            flow["node_labels"] = [f"kubernetes.io/hostname={node}", *NODE_LABELS]
        if ends[1].names and not reply:
            flow["destination_names"] = list(ends[1].names)
        if ends[0].names and reply:
            flow["source_names"] = list(ends[0].names)
        return flow

    def endpoint(self, party: Party, node: str) -> Record:
        """One end as Hubble on `node` prints it."""
        if party.workload is None:
            return _reserved(party, node)
        workload = party.workload
        found: Record = {"ID": party.endpoint_id} if party.node == node else {}
        found |= {"identity": party.identity, "cluster_name": self.style.cluster, "namespace": workload.namespace}
        found |= {"labels": self.labels(party), "pod_name": party.pod}
        if party.node == node and self.style.workloads and workload.kind != "Pod":
            found["workloads"] = [{"name": workload.name, "kind": workload.kind}]
        return found

    def labels(self, party: Party) -> list[str]:
        """The identity's labels, sorted as Cilium prints them."""
        workload = party.workload
        if workload is None:
            return []
        own = [f"k8s:{key}={value}" for key, value in workload.labels]
        own += [
            f"k8s:{PREFIX}namespace.labels.kubernetes.io/metadata.name={workload.namespace}",
            f"k8s:{PREFIX}policy.cluster={self.style.cluster}",
            f"k8s:{PREFIX}policy.serviceaccount={workload.account}",
            f"k8s:io.kubernetes.pod.namespace={workload.namespace}",
        ]
        if self.style.named_ports and workload.ports:
            ports = "_".join(f"{name}.{protocol}.{number}" for name, number, protocol in workload.ports)
            own.append(f"gen:{PREFIX}named-ports={ports}")
        return sorted(own)

    def wrap(self, flow: Record) -> Record:
        """The exporter's envelope."""
        return {"flow": flow, "node_name": flow["node_name"], "time": flow["time"]}

    def uuid(self) -> str:
        """A random-looking version 4 UUID."""
        digits = f"{self.rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _reserved(party: Party, node: str) -> Record:
    if party.reserved == "host":
        if party.node == node:
            return {"identity": HOST, "labels": ["reserved:host"]}
        return {"identity": REMOTE_NODE, "labels": ["reserved:remote-node"]}
    if party.reserved == "kube-apiserver":  # here on a node of the cluster: the labels come as a set, in any order
        return {"identity": 7, "labels": ["reserved:remote-node", "reserved:kube-apiserver"]}
    return {"identity": WORLD, "labels": ["reserved:world"]}


def stamp(at: int) -> str:
    """Nanoseconds since the epoch → RFC 3339 with nine digits."""
    whole, rest = divmod(at, SECOND)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def without(record: Record, *fields: str) -> Record:
    """A copy of a record whose flow lacks the fields."""
    flow = {key: value for key, value in record["flow"].items() if key not in fields}
    return {**record, "flow": flow}


def by_time(records: Iterable[Record]) -> list[Record]:
    """In the order in which the relay would send them; ties stay as they were made."""
    return sorted(records, key=lambda record: str(record["time"]))


def mistaken_for_new(c: Connection, writer: Writer, at: int) -> Record:
    """A reply that the datapath took for a new connection (netkit does): its port is the client's ephemeral one."""
    record = writer.trace(c, at, c.source.node, "TO_ENDPOINT", "ACK PSH", reply=True, reason="NEW")
    return {**record, "flow": {**without(record, "reply")["flow"], "is_reply": False, "traffic_direction": "INGRESS"}}
