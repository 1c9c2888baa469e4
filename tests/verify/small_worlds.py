"""Random worlds small enough to be asked pod by pod, port by port and address by address.

Policies name ports up to `TOP` and addresses within two small blocks, so that a few stand for all others.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Any

from msgspec.structs import replace

from leastway.verify.judge import Judge, Question
from leastway.verify.mesh import Mode
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed
from leastway.verify.world import Subject, World
from tests.verify.kit import NAME, access, gateway, namespace, peers, policy, service

TOP = 9
PORTS = range(1, TOP + 2)  # the last stands for all that follow
BLOCKS = ("198.51.100.8/29", "2001:db8::8/125")
_EDGES = [[str(n[0] - 1), *map(str, n), str(n[-1] + 1)] for n in map(ipaddress.ip_network, BLOCKS)]
SINGLE = ("10.0.0.1", "10.0.1.1", "fd00::1:1")  # pods' addresses that policies name
# Ascending; those that are not in a block stand for all between the blocks that policies may name. No pod has any.
OUTSIDE = [
    ["9.0.0.0", *(f"10.0.{number}.{i}" for number in range(4) for i in (0, 2, 200)), *_EDGES[0]],
    [*_EDGES[1], *(f"fd00::{number}:{i}" for number in range(4) for i in ("0", "2", "ffff")), "fd00:1::", "fe00::"],
]
SPACES = ("a", "b")
IN_MESH = {"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"}
ACCOUNTS = ("one", "two", "default")
MEMBERSHIP: tuple[Document, ...] = (
    {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"},
    {"sidecar.istio.io/inject": "true", "istio.io/dataplane-mode": "ambient"},
)
MODES = ("STRICT", "PERMISSIVE", "DISABLE")
WAYPOINTS = ("one", "way")  # the account of the first is a workload's as well
GATEWAY = {"kind": "Gateway", "group": "gateway.networking.k8s.io"}
Connection = tuple[str, str, str, int]


class SmallWorld:
    """Workloads of one to three pods that have labels, ports and address families of their own, and policies; in a
    `mesh` also accounts, pods that are left out of it, Services, waypoints, and policies about connections."""

    def __init__(self, seed: int, mesh: Mode = "none") -> None:
        self._draw = random.Random(seed)
        self.mesh: Mode = mesh
        self.pods: dict[str, list[str]] = {}
        self.hosts: list[str] = []  # workloads and pods on the host network
        self.known: dict[str, set[tuple[str, int]]] = {}
        self.taken: set[str] = set()  # addresses of pods
        self.things: list[Document] = [namespace(name, team=name) for name in SPACES]
        for number in range(self._draw.randint(2, 4)):
            self._workload(f"{self._draw.choice(SPACES)}/w{number}", number)
        if mesh == "ambient":
            self.things += [self._service(f"s{number}") for number in range(self._draw.randint(0, 3))]
            for name in WAYPOINTS:
                serves = self._draw.choice(("", "", "service", "workload", "all", "none"))
                self.things += [gateway(f"{space}/{name}", serves) for space in SPACES if serves]
        self.policies = [self.policy(f"p{number}") for number in range(self._draw.randint(0, 5))]
        if mesh != "none":
            if seed % 3 == 0:  # the other namespace is not in it
                self.things[0]["metadata"]["labels"] |= {
                    "istio-injection": "enabled",
                    "istio.io/dataplane-mode": "ambient",
                }
            self.policies += [self.grant(f"g{number}") for number in range(self._draw.randint(0, 3))]
            if self._draw.random() < 0.4:
                self.policies.append(peers(f"{self._place()}/d", mtls={"mode": self._draw.choice(MODES)}))

    def _workload(self, ref: str, number: int) -> None:
        draw = self._draw
        where, _, name = ref.partition("/")
        families = draw.choice(("4", "4", "4", "6", "46", "mixed"))
        owned = draw.random() < 0.85
        self.pods[ref] = []
        self.known[ref] = set()
        host = draw.random() < 0.1
        account = draw.choice(ACCOUNTS)
        for i in range(draw.randint(1, 3) if owned else 1):
            ips = self._ips(families, number, i)
            self.taken.update(ips if not host else ())
            own = f"{ref}-{i}" if owned else ref
            self.pods[ref].append(own)
            found = {"app": draw.choice("xy") if i == 0 else str(self.things[-1]["metadata"]["labels"]["app"])}
            found |= {"pod": own.partition("/")[2]} | ({"track": draw.choice("st")} if draw.random() < 0.7 else {})
            if self.mesh != "none" and draw.random() < 0.3:
                found |= draw.choice(MEMBERSHIP)
            if self.mesh == "ambient" and draw.random() < 0.4:
                found["istio.io/use-waypoint"] = draw.choice(WAYPOINTS)
            ports: list[Document] = []
            if draw.random() < 0.8:
                port = draw.choice((2, 2, 5))
                ports.append({"name": "web", "containerPort": port, "protocol": "TCP"})
                self.known[ref].add(("TCP", port))
            thing: Document = {
                "kind": "Pod",
                "metadata": {"name": own.partition("/")[2], "namespace": where, "labels": found},
                "spec": {
                    "hostNetwork": host,
                    "serviceAccountName": account,
                    "containers": [{"name": "c", "ports": ports}],
                },
                "status": {"podIPs": [{"ip": ip} for ip in ips], "hostIP": "192.0.2.1"},
            }
            if owned:
                thing["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": name, "controller": True}]
            self.things.append(thing)
        if host:
            self.hosts += {ref, *self.pods[ref]}
            del self.pods[ref], self.known[ref]

    def _service(self, name: str) -> Document:
        """One in front of the pods of an app, which may have a waypoint of its own or none."""
        draw = self._draw
        own = draw.choice(({}, *({"istio.io/use-waypoint": name} for name in (*WAYPOINTS, "none"))))
        pairs = zip(draw.sample(range(1, TOP + 1), 2), draw.sample(("web", 2, 5, 8), 2), strict=True)
        ports = [{"name": f"p{port}", "port": port, "targetPort": target} for port, target in pairs]
        return service(f"{draw.choice(SPACES)}/{name}", {"app": draw.choice("xy")}, *ports, **own)

    def _ips(self, families: str, number: int, i: int) -> list[str]:
        chosen = self._draw.choice(("4", "46")) if families == "mixed" else families
        both = {"4": f"10.0.{number}.{2 * i + 1}", "6": f"fd00::{number}:{2 * i + 1}"}
        return [both[family] for family in chosen]

    def selector(self) -> Document:
        draw = self._draw
        kind = draw.randrange(6)
        if kind == 0:
            return {}
        if kind < 3:
            return {"matchLabels": {"app": draw.choice("xyz")}}
        names = [pod.partition("/")[2] for pods in self.pods.values() for pod in pods] or ["none"]
        if kind == 3:
            return {"matchLabels": {"pod": draw.choice(names)}}
        key, values = draw.choice((("pod", names), ("track", ["s", "t"])))
        operator = draw.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        requirement: Document = {"key": key, "operator": operator}
        if operator.endswith("In"):
            requirement["values"] = draw.sample(values, 1)
        return {"matchExpressions": [requirement]}

    def peer(self) -> Document:
        draw = self._draw
        if draw.random() < 0.35:
            wide = ("10.0.0.0/16", "10.0.0.0/23", "fd00::/64", "0.0.0.0/0", "::/0", *BLOCKS)
            cidr = draw.choice((*wide, *(str(ipaddress.ip_network(ip)) for ip in SINGLE), "10.0.1.0/31"))
            if cidr in BLOCKS and draw.random() < 0.8:
                cidr = str(draw.choice(list(ipaddress.ip_network(cidr).subnets(draw.randint(1, 3)))))
            block: Document = {"cidr": cidr}
            if cidr == "0.0.0.0/0" and draw.random() < 0.5:
                block["except"] = [draw.choice(("198.51.100.10/31", "10.0.1.0/24"))]
            return {"ipBlock": block}
        found: Document = {"podSelector": self.selector()}
        if draw.random() < 0.5:
            found["namespaceSelector"] = draw.choice(({}, {"matchLabels": {NAME: draw.choice(SPACES)}}))
        return found

    def port(self) -> Document:
        draw = self._draw
        kind, low = draw.randrange(5), draw.randint(1, TOP)
        if kind == 0:
            return {"port": "web"}
        if kind < 3:
            return {"port": low, "protocol": draw.choice(("TCP", "TCP", "UDP"))}
        return {"port": low, "endPort": draw.randint(low, TOP)} if kind == 3 else {}

    def policy(self, name: str) -> Document:
        draw = self._draw
        spec: Document = {"podSelector": self.selector(), "policyTypes": []}
        for side, key in draw.choice(
            ([("ingress", "from")], [("egress", "to")], [("ingress", "from"), ("egress", "to")])
        ):
            spec["policyTypes"].append(side.capitalize())
            spec[side] = []
            for _ in range(draw.randint(0, 2)):
                rule: Document = {}
                if draw.random() < 0.85:
                    rule[key] = [self.peer() for _ in range(draw.randint(1, 2))]
                if draw.random() < 0.7:
                    rule["ports"] = [self.port() for _ in range(draw.randint(1, 2))]
                spec[side].append(rule)
        return policy(f"{draw.choice(SPACES)}/{name}", **spec)

    def _place(self) -> str:
        return self._draw.choice((*SPACES, "istio-system"))

    def grant(self, name: str) -> Document:
        """An AuthorizationPolicy about connections."""
        draw = self._draw
        rules = []
        for _ in range(draw.randint(0, 2)):
            rule: Document = {}
            if draw.random() < 0.8:
                rule["from"] = [{"source": self.source()} for _ in range(draw.choice((1, 1, 2)))]
            if draw.random() < 0.6:
                key = draw.choice(("ports", "ports", "notPorts"))
                rule["to"] = [{"operation": {key: [str(draw.randint(1, TOP))]}}]
            if draw.random() < 0.2:
                key, side = draw.choice(("source.ip", "destination.ip")), draw.choice(("values", "notValues"))
                rule["when"] = [{"key": key, side: [self.block()]}]
            rules.append(rule)
        spec: Document = {"action": draw.choice(("ALLOW", "ALLOW", "DENY")) if rules else "ALLOW", "rules": rules}
        if rules and draw.random() < 0.15:  # which knows no identities
            rules = [{key: value for key, value in rule.items() if key != "from"} for rule in rules]
            rules[0]["from"] = [{"source": {draw.choice(("ipBlocks", "notIpBlocks")): [self.block()]}}]
            spec = {"action": "CUSTOM", "provider": {"name": "opa"}, "rules": rules}
        if draw.random() < 0.6:
            names = [pod.partition("/")[2] for pods in self.pods.values() for pod in pods] or ["none"]
            pair = draw.choice((("app", draw.choice("xy")), ("pod", draw.choice(names))))
            spec["selector"] = {"matchLabels": dict([pair])}
        elif self.mesh == "ambient" and draw.random() < 0.6:
            services = [f"s{number}" for number in range(3)]
            spec["targetRefs"] = [
                {**GATEWAY, "name": draw.choice(WAYPOINTS)}
                if draw.random() < 0.6
                else {"kind": "Service", "group": "", "name": draw.choice(services)}
            ]
            return access(f"{draw.choice(SPACES)}/{name}", **spec)
        return access(f"{self._place()}/{name}", **spec)

    def source(self) -> Document:
        """Who may be meant by one source of a rule."""
        draw = self._draw
        principal = f"cluster.local/ns/{draw.choice(SPACES)}/sa/{draw.choice(ACCOUNTS)}"
        values = {"Principals": principal, "Namespaces": draw.choice(SPACES), "IpBlocks": self.block()}
        found: Document = {}
        for name in draw.sample(sorted(values), draw.choice((1, 1, 2))):
            found[f"not{name}" if draw.random() < 0.3 else name[0].lower() + name[1:]] = [values[name]]
        return found

    def block(self) -> str:
        """Addresses of a pod, of a workload, or of some outside."""
        draw = self._draw
        number, cidr = draw.randrange(4), draw.choice(BLOCKS)
        inside = [f"10.0.{number}.0/{n}" for n in (30, 31)] + [f"fd00::{number}:0/{n}" for n in (126, 127)]
        return draw.choice((*inside, "fd00::/64", str(draw.choice(list(ipaddress.ip_network(cidr).subnets(1))))))

    def outside(self) -> list[list[str]]:
        """Addresses that no pod has, ascending."""
        free = [ip for ip in SINGLE if ip not in self.taken]
        families = [[*family, *(ip for ip in free if (":" in ip) == (":" in family[0]))] for family in OUTSIDE]
        return [sorted(family, key=ipaddress.ip_address) for family in families]

    def observed(self) -> list[Observed]:
        draw = self._draw
        found = []
        for _ in range(draw.randint(0, 4) if self.pods else 0):
            ends = draw.choice(list(self.pods)), draw.choice(list(self.pods))
            place = draw.choice(_EDGES[0][1:-1])
            ends = draw.choice((ends, ends, (place, ends[0]), (ends[0], place)))
            found.append(Observed(*ends, draw.choice(("TCP", "TCP", "UDP")), draw.randint(1, TOP)))
        return found

    def judge(self, policies: Sequence[Document] | None = None, cni: Any = "generic") -> Judge:
        chosen = self.policies if policies is None else policies
        return Judge(World.from_manifests(self.things), chosen, cni=cni, mesh=self.mesh)


class Asked:
    """A judge's answers, one by one."""

    def __init__(self, world: SmallWorld, judge: Judge) -> None:
        self.world, self.judge = world, judge
        self._known: dict[Connection, bool] = {}

    def allows(self, source: str, destination: str, protocol: str, port: int) -> bool:
        """Is this allowed for certain, by some Service or to the pod itself?"""
        key = (source, destination, protocol, port)
        if key not in self._known:
            self._known[key] = any(self.judge.ask(question).allowed for question in self._ways(*key))
        return self._known[key]

    def _ways(self, source: str, destination: str, protocol: str, port: int) -> Iterator[Question]:
        asked = Question(source, destination, protocol, port, http=False)
        yield asked
        if self.world.mesh == "ambient" and protocol == "TCP":
            yield replace(asked, direct=True)
            subject = self.judge.end(destination).subject
            for name, number in leading(self.world.things, subject, port) if subject is not None else ():
                yield replace(asked, service=name, service_port=number)

    def workloads(self, source: str, destination: str, protocol: str, port: int) -> bool:
        """May some pod of one reach some other pod of the other? One pod stands for replicas that it may get."""
        key = (source, destination, protocol, port)
        ones, others = self.world.pods[source], self.world.pods[destination]
        if ones == others and len(ones) == 1:
            if ones == [source]:
                return False  # a pod that nothing makes more of
            ends = self.judge.end(source), self.judge.end(destination)
            return any(self.judge.decide(question, *ends).allowed for question in self._ways(*key))
        return any(self.allows(one, other, protocol, port) for one in ones for other in others if one != other)


def leading(things: Iterable[Document], subject: Subject, port: int) -> Iterator[tuple[str, int]]:
    """The Services, and their ports, that lead to a pod's port."""
    named = {entry.name for entry in subject.ports if entry.number == port}
    for thing in things:
        meta, spec = thing["metadata"], thing.get("spec", {})
        if thing["kind"] != "Service" or meta["namespace"] != subject.namespace:
            continue
        if spec["selector"].items() <= subject.labels.items():
            found = (entry for entry in spec["ports"] if entry["targetPort"] in {port, *named})
            yield from ((f"{meta['namespace']}/{meta['name']}", entry["port"]) for entry in found)


def run_count(allowed: Callable[[int], bool], known: Iterable[int], seen: Iterable[int]) -> int:
    """Known ports that are allowed and were not seen, and longest runs of the others."""
    points = set(known)
    rest = [allowed(port) for port in PORTS if port not in points]
    return sum(allowed(port) for port in points - set(seen)) + sum(answer for answer, _ in groupby(rest))


def total(world: SmallWorld, judge: Judge, observed: Sequence[Observed]) -> int:
    """Over-permission, by asking about everything."""
    asked = Asked(world, judge)
    seen = {(i.source, i.destination, i.protocol, i.port) for i in observed}
    count = 0
    for ref in world.pods:
        for protocol in ("TCP", "UDP", "SCTP"):
            inward = {port for _, to, p, port in seen if to == ref and p == protocol}
            known = {port for p, port in world.known[ref] if p == protocol} | inward
            for source in world.pods:
                was = {port for one, to, p, port in seen if (one, to, p) == (source, ref, protocol)}
                count += run_count(partial(asked.workloads, source, ref, protocol), known, was)
            count += _outside(asked, seen, ref, protocol, known, inward=True)
            count += _outside(asked, seen, ref, protocol, _calls(seen, ref, protocol), inward=False)
    return count


def _private(place: str) -> bool:
    return place.startswith(("10.", "fd"))


def _calls(seen: set[Connection], ref: str, protocol: str) -> set[int]:
    places = {*chain(*OUTSIDE)}
    return {port for one, to, p, port in seen if one == ref and p == protocol and to in places}


def _outside(asked: Asked, seen: set[Connection], ref: str, protocol: str, known: Iterable[int], inward: bool) -> int:
    points = set(known)
    pods = asked.world.pods[ref]
    count = 0
    for family in asked.world.outside():
        opened = {
            port: [
                any(asked.allows(*((place, pod) if inward else (pod, place)), protocol, port) for pod in pods)
                for place in family
            ]
            for port in PORTS
        }
        rows = [(port, opened[port]) for port in sorted(points)]
        rows += [(0, row) for row, _ in groupby(opened[port] for port in PORTS if port not in points)]
        for port, row in rows:
            # A range may leave out private addresses.
            places = [
                (answer, place) for answer, place in zip(row, family, strict=True) if answer or not _private(place)
            ]
            for answer, group in groupby(places, key=lambda pair: pair[0]):
                ends = [(place, ref) if inward else (ref, place) for _, place in group]
                count += answer and not all((*pair, protocol, port) in seen for pair in ends)
    return count
