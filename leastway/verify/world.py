"""The closed world that policies are judged in: namespaces, workloads and pods, services, node addresses.

Invariant: a `Subject` is looked up by `namespace/name` and holds everything that a policy can ask about it (labels,
addresses, named ports, service account, node). What is not known is marked as such, not guessed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from leastway.verify.errors import PolicyError
from leastway.verify.mesh_config import DEFAULT, MeshConfig
from leastway.verify.reading import Document, read_path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAMESPACE_NAME = "kubernetes.io/metadata.name"


@lru_cache(maxsize=1 << 16)
def address(text: str) -> Address | None:
    """An IP address, None if the text is none. An IPv4-mapped IPv6 address is the IPv4 address."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


class NamedPort(NamedTuple):
    """A container port: `name` may be "", `protocol` is TCP, UDP or SCTP."""

    name: str
    protocol: str
    number: int


class Subject(msgspec.Struct, frozen=True, eq=False):
    """A workload (one pod template) or a single pod.

    `service_account` "" and `meshed` None mean unknown. `ips` are those of all pods, `node_ip` is "" unless all of them
    are on that one node. `single` marks one pod: only there can a connection to itself be a loopback. `member_of` names
    the workload of a pod that is part of one. `replicas` is the number of its pods, 0 if unknown. `inventoried` is
    False for what is known from traffic alone, whose named ports and addresses may be incomplete. `proxied`: it has an
    Envoy of its own, as gateways do.
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    service_account: str = "default"
    ips: tuple[str, ...] = ()
    node_ip: str = ""
    host_network: bool = False
    ports: tuple[NamedPort, ...] = ()
    meshed: bool | None = None
    kind: str = "Pod"
    single: bool = False
    member_of: str = ""
    replicas: int = 0
    inventoried: bool = True
    annotations: Mapping[str, str] = {}
    proxied: bool = False

    @property
    def ref(self) -> str:
        """`namespace/name`, what questions and reports call it."""
        return f"{self.namespace}/{self.name}"


class ServicePort(NamedTuple):
    """A Service port; `target` is a number or a container port's name, `application` its appProtocol."""

    name: str
    protocol: str
    number: int
    target: int | str
    application: str

    def targets(self, subject: Subject) -> tuple[int, ...]:
        """The ports of a subject that it leads to: a name is that of a port of the same protocol (Kubernetes
        pkg/api/v1/pod/util.go, `FindPort`), and may stand for several where a subject's pods differ."""
        if isinstance(self.target, int):
            return (self.target,)
        return tuple(p.number for p in subject.ports if (p.name, p.protocol) == (self.target, self.protocol))


class Service(msgspec.Struct, frozen=True, eq=False):
    """A Service. `selector` is empty if its endpoints are managed elsewhere. `headless`: its name resolves to the
    addresses of its pods."""

    namespace: str
    name: str
    selector: Mapping[str, str] = {}
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    labels: Mapping[str, str] = {}
    headless: bool = False

    @property
    def ref(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class World:
    """Everything that exists. `policies` are the policy documents among the manifests, which are already in force.
    `gateways` say what each serves as a waypoint: `service`, `workload`, `all` or `none`. `mesh_configs` are a mesh's
    settings by the name of their ConfigMap."""

    def __init__(self) -> None:
        self.namespaces: dict[str, dict[str, str]] = {}
        self.subjects: dict[str, Subject] = {}
        self.services: dict[str, Service] = {}
        self.gateways: dict[str, str] = {}
        self.mesh_configs: dict[str, MeshConfig] = {}
        self.node_ips: set[str] = set()
        self.api_servers: set[Address] = set()
        self.policies: list[Document] = []
        self._nodes: dict[Address, Address] = {}  # every address of a node → the one that stands for the node
        self._by_address: dict[Address, str] = {}
        self._services: dict[Address, Service] = {}
        self._by_pair: dict[tuple[str, tuple[str, str]], list[Service]] = {}  # namespace, first pair of the selector
        self._spread = 0

    @classmethod
    def from_manifests(cls, docs: Iterable[Document]) -> World:
        """Read any Kubernetes objects: workloads, Pods, Namespaces, Services, Nodes, policies; other kinds are ignored.

        Pods whose owner is known, or named, belong to it: `NAMESPACE/POD` and `NAMESPACE/WORKLOAD` both answer.
        Raises `PolicyError` naming the object and field that cannot be understood.
        """
        from leastway.verify.inventory import fill

        return fill(cls(), docs)

    @classmethod
    def from_paths(cls, paths: Iterable[str | Path]) -> World:
        """`from_manifests` over files and folders."""
        return cls.from_manifests([document for path in paths for document in read_path(Path(path))])

    @property
    def mesh_config(self) -> MeshConfig:
        """The settings of the mesh, or Istio's defaults. Of several revisions the default one (`istio`) counts, or else
        the first by name."""
        return self.mesh_configs[min(self.mesh_configs)] if self.mesh_configs else DEFAULT

    def add_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Add a namespace, or labels to it; its name label is always set, as in a cluster."""
        known = self.namespaces.setdefault(name, {})
        known.update(labels or {})
        known[NAMESPACE_NAME] = name

    def add_subject(self, subject: Subject) -> None:
        """Add a subject; one with the same reference is replaced."""
        if subject.namespace not in self.namespaces:
            self.add_namespace(subject.namespace)
        self.subjects[subject.ref] = subject
        for ip in subject.ips:
            found = address(ip)
            # The pod itself is a better answer than its workload; host network addresses are the node's.
            if found is not None and not subject.host_network and (subject.single or found not in self._by_address):
                self._by_address[found] = subject.ref
        if subject.host_network and subject.node_ip:
            self.add_node([subject.node_ip])

    def add_node(self, addresses: Iterable[str]) -> str:
        """Note that these are the addresses of one node; returns the first valid one, "" if there is none."""
        found = [ip for ip in map(address, addresses) if ip is not None]
        if not found:
            return ""
        self.node_ips.update(str(ip) for ip in found)
        known = {self._nodes[ip] for ip in found if ip in self._nodes}
        stands = min(known or found, key=str)
        self._nodes.update(dict.fromkeys(found, stands))
        if len(known) > 1:
            self._nodes = {ip: stands if of in known else of for ip, of in self._nodes.items()}
        return str(found[0])

    def same_node(self, one: Address | None, other: Address | None) -> bool:
        """Whether two addresses certainly belong to one node."""
        if one is None or other is None:
            return False
        return self._nodes.get(one, one) == self._nodes.get(other, other)

    def add_service(self, service: Service) -> None:
        """Add a Service."""
        self.services[service.ref] = service
        for ip in service.addresses:
            found = address(ip)
            if found is not None:
                self._services[found] = service

    def find(self, ref: str) -> Subject:
        """The subject called `namespace/name`; raises `PolicyError` with the nearest names if there is none."""
        found = self.subjects.get(ref)
        if found is None:
            raise _unknown("workload or pod", ref, self.subjects)
        return found

    def find_service(self, ref: str) -> Service:
        """The Service called `namespace/name`; raises `PolicyError` with the nearest names if there is none."""
        found = self.services.get(ref)
        if found is None:
            raise _unknown("Service", ref, self.services)
        return found

    def at(self, ip: str) -> Subject | None:
        """The subject with this address on the pod network: the pod if it is known, else its workload."""
        found = address(ip)
        ref = None if found is None else self._by_address.get(found)
        return None if ref is None else self.subjects[ref]

    def service_at(self, ip: str) -> Service | None:
        """The Service with this cluster IP."""
        found = address(ip)
        return None if found is None else self._services.get(found)

    def workload(self, subject: Subject) -> Subject:
        """The workload that a pod belongs to; the subject itself if there is none."""
        return self.subjects.get(subject.member_of, subject) if subject.member_of else subject

    def universe(self) -> list[Subject]:
        """The subjects that are counted: workloads, and pods that belong to none, sorted by reference."""
        return [s for _, s in sorted(self.subjects.items()) if not s.member_of or s.member_of not in self.subjects]

    def services_of(self, subject: Subject) -> list[Service]:
        """The Services that select a subject, sorted by name."""
        if self._spread != len(self.services):
            self._spread = len(self.services)
            self._by_pair = {}
            for service in self.services.values():
                for pair in list(service.selector.items())[:1]:
                    self._by_pair.setdefault((service.namespace, pair), []).append(service)
        near = [s for pair in subject.labels.items() for s in self._by_pair.get((subject.namespace, pair), ())]
        return sorted((s for s in near if s.selector.items() <= subject.labels.items()), key=lambda s: s.name)

    def leading(self, subject: Subject, port: int) -> list[tuple[Service, ServicePort]]:
        """The ports of Services that lead to a port of a subject, whatever their protocol."""
        return [
            (service, entry)
            for service in self.services_of(subject)
            for entry in service.ports
            if port in entry.targets(subject)
        ]

    def backends(self, service: Service) -> list[Subject]:
        """The counted subjects behind a Service."""
        if not service.selector:
            return []
        wanted = service.selector.items()
        return [s for s in self.universe() if s.namespace == service.namespace and wanted <= s.labels.items()]


def _unknown(kind: str, ref: str, known: Iterable[str]) -> PolicyError:
    from difflib import get_close_matches

    near = get_close_matches(ref[:300], list(known)[:5000], n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "the inventory does not contain it"
    return PolicyError(f"no {kind} {ref[:200]!r}", "inventory", hint)
