"""The pods of one workload that policies distinguish: a StatefulSet's pods by their names, two versions in a rollout,
the addresses of a workload whose pods are not known.

Invariant: what holds for every pod given here holds for every pod of the workload, and pods of one class are equal to
every policy in all that it can ask about: labels, service account, named ports, addresses, membership in the mesh.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product

import msgspec

from leastway.verify.mesh import Mesh
from leastway.verify.networkpolicy_schema import Block, Network, Pods
from leastway.verify.policies import PolicySet
from leastway.verify.reading import network
from leastway.verify.selectors import Selector
from leastway.verify.verdict import End
from leastway.verify.world import NamedPort, Subject, World, address

PAIRS = 256  # pairs of two workloads' addresses beyond which they are not judged one by one
POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"
ADDRESSES = frozenset({"ipBlocks", "source.ip", "destination.ip"})
# What policies can ask about a pod: the labels that selectors name (None: some other value), the account, named ports,
# the position of its addresses among the ends of ipBlocks, and its place in the mesh (member, waypoints, Services).
Traits = tuple[
    tuple[tuple[str, str | None], ...], str, tuple[NamedPort, ...], frozenset[tuple[int, int]], tuple[object, ...]
]


class Variants:
    """The pods of workloads, as far as the policies of any given set distinguish them."""

    def __init__(self, world: World, *sets: PolicySet, meshes: Iterable[Mesh] = ()) -> None:
        self._world = world
        self._meshes = [mesh for mesh in meshes if mesh.mode != "none"]
        self._values: dict[str, set[str]] = defaultdict(set)
        self._by_account = any(policies.authorization for policies in sets)
        self._by_ports = bool(self._meshes)
        blocks: set[Network] = set()
        for policies in sets:
            self._read(policies, blocks)
        self._ends = {
            version: sorted(
                {end for n in blocks if n.version == version for end in (int(n[0]), int(n.broadcast_address) + 1)}
            )
            for version in (4, 6)
        }
        self._members: dict[str, list[Subject]] | None = None
        self._found: dict[Subject, tuple[tuple[Subject, ...], ...]] = {}
        self._replicas: dict[Subject, tuple[Subject, Subject]] = {}

    def of(self, end: End) -> list[End]:
        """The end itself, or the pods that stand for its workload if policies distinguish them; for an end with a known
        address, the pod that has it."""
        subject = end.subject
        if subject is None or subject.single:
            return [end]
        found = self.classes(subject)
        if not found:
            return [end]
        if end.address is not None:
            owner = next((pod for pods in found for pod in pods if _has(pod, end)), None)
            if owner is not None:
                return [end._replace(subject=owner)]
        return [end._replace(subject=pods[0]) for pods in found]

    def _addressed(self, end: End) -> list[End]:
        """The pods of a workload by address; the end itself if it has a particular address, or none is known."""
        subject = end.subject
        if subject is None or end.address is not None or subject.host_network:
            return [end]
        found = [ip for text in subject.ips if (ip := address(text)) is not None]
        return [End(self._world.at(str(ip)) or subject, ip) for ip in found] or [end]

    def pairs(self, source: End, destination: End) -> list[tuple[str, End, End]]:
        """The pairs of pods that stand for two ends, each with its name in messages; none if the ends stand for
        themselves."""
        sources, destinations = self.of(source), self.of(destination)
        if sources[0].subject is source.subject and destinations[0].subject is destination.subject:
            return []
        found = []
        for one, other in product(sources, destinations):
            shown = f"{one.shown} → {other.shown}"
            if one.subject is not None and _replicas(one, other, source, destination):
                if self.alone(one.subject):
                    continue  # a replica is another pod
                copies = self.replicas(one.subject)
                one, other = one._replace(subject=copies[0]), other._replace(subject=copies[1])
            found.append((shown, one, other))
        return found

    def by_address(self, source: End, destination: End) -> list[tuple[End, End]]:
        """The pairs of addresses of two ends; none if there are too many."""
        sources, destinations = self._addressed(source), self._addressed(destination)
        if not 1 < len(sources) * len(destinations) <= PAIRS:
            return []
        return [
            (one, other)
            for one, other in product(sources, destinations)
            if one.address is None or other.address is None or one.address.version == other.address.version
            if one.subject is not other.subject  # a replica is another pod
        ]

    def replicas(self, subject: Subject) -> tuple[Subject, Subject]:
        """Two replicas like a pod, as different subjects."""
        known = self._replicas.get(subject)
        if known is None:
            one, other = (msgspec.structs.replace(subject, single=False) for _ in range(2))
            known = self._replicas[subject] = one, other
        return known

    def classes(self, subject: Subject) -> tuple[tuple[Subject, ...], ...]:
        """The pods of a workload by class, in the order of their names; () if the policies do not distinguish them."""
        found = self._found.get(subject)
        if found is None:
            found = self._found[subject] = () if subject.single or subject.member_of else self._differing(subject)
        return found

    def alone(self, pod: Subject) -> bool:
        """Is a pod (one that `of` gave for its workload) the only one of its class?"""
        workload = self._world.subjects.get(pod.member_of)
        if workload is None:
            return False
        found = self.classes(workload)
        numbered = workload.kind == "StatefulSet" and (POD_NAME in self._values or POD_INDEX in self._values)
        return (pod,) in found and (len(found) > 1 or numbered)

    def subjects(self, workload: Subject) -> list[Subject]:
        """One subject for each class of pods; none if policies do not distinguish them."""
        return [
            pods[0] if len(pods) == 1 and self.alone(pods[0]) else _together(workload, pods)
            for pods in self.classes(workload)
        ]

    def _differing(self, subject: Subject) -> tuple[tuple[Subject, ...], ...]:
        if self._members is None:
            self._members = defaultdict(list)
            for _, pod in sorted(self._world.subjects.items()):
                if pod.member_of:
                    self._members[pod.member_of].append(pod)
        members = self._members.get(subject.ref) or self._ordinals(subject) or _by_address(subject)
        if not members:
            return ()
        alike: dict[Traits, list[Subject]] = defaultdict(list)
        for pod in members:
            alike[self._traits(pod)].append(pod)
        return tuple(map(tuple, alike.values())) if set(alike) - {self._traits(subject)} else ()

    def _ordinals(self, subject: Subject) -> list[Subject]:
        """The pods that a StatefulSet without live pods will have: those that policies name, and one that they do
        not."""
        if subject.kind != "StatefulSet" or not (POD_NAME in self._values or POD_INDEX in self._values):
            return []
        texts = {name.removeprefix(f"{subject.name}-") for name in self._values.get(POD_NAME, ())}
        texts |= self._values.get(POD_INDEX, set())
        named = {int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 10}
        named.add(next(number for number in range(len(named) + 1) if number not in named))
        return [_ordinal(subject, number) for number in sorted(named) if number < (subject.replicas or number + 1)]

    def _traits(self, subject: Subject) -> Traits:
        labels = subject.labels
        asked = tuple(
            (key, labels[key] if labels[key] in values else None)
            for key, values in self._values.items()
            if key in labels
        )
        ports = tuple(port for port in subject.ports if port.name) if self._by_ports else ()
        places = [ip for text in subject.ips if (ip := address(text)) is not None]
        among = frozenset((ip.version, bisect_right(self._ends[ip.version], int(ip))) for ip in places)
        return asked, subject.service_account if self._by_account else "", ports, among, self._in_mesh(subject)

    def _in_mesh(self, subject: Subject) -> tuple[object, ...]:
        if not self._meshes:
            return ()
        services = self._world.services_of(subject)
        by_name = any(isinstance(entry.target, str) for service in services for entry in service.ports)
        names = tuple(service.name for service in services), subject.ports if by_name else ()
        return (names, subject.proxied, *((mesh.meshed(subject), mesh.behind(subject)) for mesh in self._meshes))

    def _read(self, policies: PolicySet, blocks: set[Network]) -> None:
        for policy in policies.network:
            self._learn(policy.selector)
            for rule in (*(policy.ingress or ()), *(policy.egress or ())):
                self._by_ports = self._by_ports or any(entry.name for entry in rule.ports or ())
                for peer in rule.peers or ():
                    if isinstance(peer, Block):
                        blocks.update((peer.network, *peer.excepts))
                    elif isinstance(peer, Pods):
                        self._learn(peer.pods)
        for access in policies.authorization:
            self._learn(Selector(access.selector))
            for allowed in access.rules:
                fields = [field for entry in (*(allowed.sources or ()), allowed.conditions) for field in entry]
                blocks.update(network(v) for f in fields if f.name in ADDRESSES for v in f.values)
        for authentication in policies.peer:
            self._learn(Selector(authentication.selector))

    def _learn(self, selector: Selector) -> None:
        for key, value in selector.pairs:
            self._values[key].add(value)
        for requirement in selector.requirements:
            self._values[requirement.key].update(requirement.values)


def _replicas(one: End, other: End, source: End, destination: End) -> bool:
    """Does the same pod stand for a workload at both ends, without addresses that show it to be one pod?"""
    if one.subject is not other.subject or (one.address is not None and other.address is not None):
        return False
    return one.subject is not source.subject or other.subject is not destination.subject


def _has(pod: Subject, end: End) -> bool:
    return any(address(text) == end.address for text in pod.ips)


def _ordinal(subject: Subject, number: int) -> Subject:
    name = f"{subject.name}-{number}"
    labels: Mapping[str, str] = {**subject.labels, POD_NAME: name, POD_INDEX: str(number)}
    return msgspec.structs.replace(
        subject, name=name, labels=labels, kind="Pod", single=True, member_of=subject.ref, replicas=0
    )


def _by_address(subject: Subject) -> list[Subject]:
    """The pods of a workload that is known from traffic alone: one per address. If there are several of both families,
    each pod has all addresses of the other, since it is not known which of them are its own."""
    found = [ip for text in subject.ips if (ip := address(text)) is not None]
    four, six = ([str(ip) for ip in found if ip.version == version] for version in (4, 6))
    own = [(ip, *six) for ip in four if len(four) > 1] + [(ip, *four) for ip in six if len(six) > 1]
    return [
        msgspec.structs.replace(
            subject,
            name=f"{subject.name} ({ips[0]})",
            ips=ips,
            kind="Pod",
            single=True,
            member_of=subject.ref,
            replicas=0,
        )
        for ips in own
    ]


def _together(workload: Subject, pods: tuple[Subject, ...]) -> Subject:
    """One class of pods as a subject, which also stands for further replicas like them."""
    nodes = {pod.node_ip for pod in pods}
    return msgspec.structs.replace(
        pods[0],
        kind=workload.kind,
        ips=tuple(sorted({ip for pod in pods for ip in pod.ips})),
        node_ip=nodes.pop() if len(nodes) == 1 else "",
        ports=tuple(sorted({port for pod in pods for port in pod.ports})),
        meshed=True if any(pod.meshed for pod in pods) else pods[0].meshed,
        single=False,
        member_of=workload.ref,
        replicas=len(pods),
    )
