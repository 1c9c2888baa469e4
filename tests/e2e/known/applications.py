"""Applications that everybody knows, in their authors' labels, ports and Services, and captures of them at work.

Invariant: an application's capture shows each of its calls several times, answered, from both ends; the look-ups that
come before them; and the kubelet's probes. What a policy breaks is a subset of `calls` and `lookups`, never a probe.

Topologies are written from what is published about each application; nothing of theirs is copied. A workload's row is
`name labels ports services`: `port-name:number[/protocol]`, `service:port:target`, `-` for none.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.simulator import envoy
from tests.simulator.cluster import Cluster, Party, Service, Workload, build, outside
from tests.simulator.hubble import SECOND, START, Connection, Record, Style, Writer, by_time
from tests.simulator.inventory import documents, to_yaml

RESOLVER = "kube-system/coredns"
CLIENT = "203.0.113.7"
REPEATED = 4


class Call(NamedTuple):
    """One edge. Ends are `namespace/workload`, or an address outside; `method` and `path` if it is a request."""

    source: str
    destination: str
    port: int
    protocol: str = "TCP"
    method: str = ""
    path: str = ""


class Application(NamedTuple):
    """`namespaces` carry extra labels; `calls` are all that its parts say to each other and to the outside."""

    name: str
    workloads: list[Workload]
    calls: list[Call]
    namespaces: dict[str, dict[str, str]]

    def lookups(self) -> list[Call]:
        """Whoever calls by name has asked the resolver before."""
        callers = sorted({call.source for call in self.calls if "/" in call.source})
        return [Call(caller, RESOLVER, 53, "UDP") for caller in callers]

    def cluster(self) -> Cluster:
        """Its pods, and those of the cluster's own resolver."""
        found = build([*self.workloads, *system()], Random(7))
        for namespace, labels in self.namespaces.items():
            found.namespaces[namespace] |= labels
        return found

    def write(self, folder: Path) -> tuple[Path, list[Path]]:
        """(inventory, captures) in a folder: Hubble's flows, and the requests as the sidecars' access log."""
        cluster, rng = self.cluster(), Random(7)
        writer = Writer(rng, Style())
        records: list[Record] = []
        requests = []
        for call in [*self.calls, *self.lookups()]:
            for c in connections(cluster, call, rng):
                if call.method:
                    requests.append(envoy.inbound(envoy.Request(c), rng))
                else:
                    records += writer.connection(c)
        records += [record for c in probes(cluster, rng) for record in writer.connection(c)]
        inventory = folder / "inventory.yaml"
        inventory.write_text(to_yaml(documents(cluster)))
        captures = []
        for name, found in (("flows.jsonl", by_time(records)), ("access-log.jsonl", requests)):
            if found:
                captures.append(folder / name)
                captures[-1].write_text("".join(json.dumps(record) + "\n" for record in found))
        return inventory, captures


def connections(cluster: Cluster, call: Call, rng: Random) -> list[Connection]:
    """A call, a few times over two hours, over all pods of both ends."""
    found = []
    for turn in range(REPEATED):
        ends: list[Party] = []
        for name in (call.source, call.destination):
            pods = cluster.pods.get(name)
            ends.append(pods[turn % len(pods)] if pods else outside(name))
        at = START + turn * 1500 * SECOND + rng.randrange(600 * SECOND)
        port, path = rng.randrange(32768, 61000), call.path.replace("{id}", str(turn + 7))
        found.append(Connection(ends[0], ends[1], call.protocol, call.port, port, at, call.method, path))
    return found


def probes(cluster: Cluster, rng: Random) -> list[Connection]:
    """The kubelet of each node knocks at its pods."""
    found = []
    for _, pods in sorted(cluster.pods.items()):
        for pod in pods:
            if pod.workload is not None and pod.workload.ports and pod.workload.ports[0][2] == "TCP":
                at = START + rng.randrange(3600) * SECOND
                host = cluster.host(pod.node)
                found.append(Connection(host, pod, "TCP", pod.workload.ports[0][1], rng.randrange(32768, 61000), at))
    return found


def system() -> list[Workload]:
    """What every cluster has."""
    return parsed("kube-system", "coredns k8s-app=kube-dns dns:53/UDP,dns-tcp:53/TCP kube-dns:53:53")


def parsed(namespace: str, text: str) -> list[Workload]:
    """The workloads of a table; each runs under an account of its own name."""
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, labels, ports, services = line.split()
        pairs = tuple(sorted((key, value) for key, _, value in (pair.partition("=") for pair in labels.split(","))))
        numbered = []
        for port in ports.split(",") if ports != "-" else ():
            label, _, rest = port.partition(":")
            number, _, protocol = rest.partition("/")
            numbered.append((label, int(number), protocol or "TCP"))
        fronts = [service.split(":") for service in services.split(",")] if services != "-" else []
        made = tuple(Service(front, int(port), int(target)) for front, port, target in fronts)
        found.append(
            Workload(namespace, name, labels=pairs, account=name, replicas=2, ports=tuple(numbered), services=made)
        )
    return found


def called(namespace: str, text: str) -> list[Call]:
    """Calls inside a namespace: `caller > called:port called:port`; names with `/` or dots stand for themselves."""
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        caller, _, rest = line.partition(" > ")
        for target in rest.split():
            end, _, port = target.rpartition(":")
            found.append(Call(_full(namespace, caller), _full(namespace, end), int(port)))
    return found


def _full(namespace: str, name: str) -> str:
    return name if "/" in name or name[0].isdigit() else f"{namespace}/{name}"
