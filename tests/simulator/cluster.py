"""What runs where: workloads, their pods, nodes and addresses.

Invariant: addresses and names depend only on the order of the workloads and on the seed; an identity number belongs to
a workload, as in Cilium, where equal labels are one identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

SAFE = "bcdfghjklmnpqrstvwxz2456789"  # the alphabet of Kubernetes' generated names
WORLD = 2
HOST = 1
REMOTE_NODE = 6


@dataclass(frozen=True)
class Service:
    """A Service in front of a workload: its own `port`, the pod port `target` behind it, its waypoint if ambient."""

    name: str
    port: int
    target: int
    type: str = "ClusterIP"
    waypoint: str = ""


@dataclass(frozen=True)
class Workload:
    """A row of the table of workloads. `ports` are (name, number, protocol)."""

    namespace: str
    name: str
    kind: str = "Deployment"
    replicas: int = 1
    labels: tuple[tuple[str, str], ...] = ()
    account: str = "default"
    ports: tuple[tuple[str, int, str], ...] = ()
    services: tuple[Service, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/name`, as the tables and the truth write it."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Party:
    """One end of a connection: a pod, a node, the API server or an address outside (`reserved` says which)."""

    ip: str
    node: str = ""
    workload: Workload | None = None
    pod: str = ""
    endpoint_id: int = 0
    identity: int = WORLD
    reserved: str = ""
    names: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/workload`, `host`, or the address."""
        if self.workload is not None:
            return self.workload.key
        return "host" if self.reserved == "host" else self.ip


@dataclass(frozen=True)
class Node:
    """A node: `address` is its own, `router` the address from which the kubelet's probes come."""

    name: str
    address: str
    router: str
    pod_cidr: str


@dataclass
class Cluster:
    """Nodes, workloads and pods of one story."""

    nodes: list[Node]
    workloads: dict[str, Workload] = field(default_factory=dict)
    pods: dict[str, list[Party]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    cluster_ips: dict[str, str] = field(default_factory=dict)
    name: str = "default"

    def host(self, node: str) -> Party:
        """The node as a source of probes."""
        found = next(n for n in self.nodes if n.name == node)
        return Party(found.router, node, identity=HOST, reserved="host")


def outside(ip: str, *names: str) -> Party:
    """An address beyond the cluster, with the names that the client's DNS cache holds for it."""
    return Party(ip, reserved="world", names=names)


def build(workloads: list[Workload], rng: Random, *, nodes: int = 3, v6: bool = False) -> Cluster:
    """Place the workloads' pods on nodes, in turn, and number everything."""
    cluster = Cluster([_node(index, v6) for index in range(nodes)])
    used = [10] * nodes
    turn = 0
    for number, workload in enumerate(workloads):
        cluster.workloads[workload.key] = workload
        cluster.namespaces.setdefault(workload.namespace, {"kubernetes.io/metadata.name": workload.namespace})
        for service in workload.services:
            address = _cluster_ip(len(cluster.cluster_ips), v6)
            cluster.cluster_ips.setdefault(f"{workload.namespace}/{service.name}", address)
        template = "".join(rng.choice(SAFE) for _ in range(10))
        pods = cluster.pods.setdefault(workload.key, [])
        for replica in range(workload.replicas):
            place = turn % nodes
            turn += 1
            used[place] += 1
            ip = f"fd00:10:244:{place}::{used[place]:x}" if v6 else f"10.244.{place}.{used[place]}"
            name = _pod_name(workload, replica, template, rng)
            pods.append(
                Party(ip, cluster.nodes[place].name, workload, name, rng.randrange(64, 4096), _identity(number))
            )
    return cluster


def _node(index: int, v6: bool) -> Node:
    if v6:
        pods = f"fd00:10:244:{index}::"
        return Node(f"node-{index + 1}", f"fd00:172:18::{index + 2:x}", f"{pods}1", f"{pods}/64")
    return Node(f"node-{index + 1}", f"172.18.0.{index + 2}", f"10.244.{index}.1", f"10.244.{index}.0/24")


def _cluster_ip(number: int, v6: bool) -> str:
    return f"fd00:10:96::{number + 16:x}" if v6 else f"10.96.{number // 200}.{number % 200 + 20}"


def _identity(number: int) -> int:
    return 10007 + number * 613 % 50021


def _pod_name(workload: Workload, replica: int, template: str, rng: Random) -> str:
    suffix = "".join(rng.choice(SAFE) for _ in range(5))
    if workload.kind == "StatefulSet":
        return f"{workload.name}-{replica}"
    if workload.kind == "DaemonSet":
        return f"{workload.name}-{suffix}"
    if workload.kind == "Pod":
        return workload.name
    return f"{workload.name}-{template}-{suffix}"
