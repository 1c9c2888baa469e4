"""A tiny stage for one hostile capture: pods and places, the packets between them, and the run that judges the YAML.

Invariant: the judge's world is built from what the scene declares, never from what the product inferred, and every
(workload, workload, port) of the scene that a test does not call legitimate must be denied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

from leastway import pipeline
from leastway.verify.judge import Judge, Question
from leastway.verify.world import World
from synthesizer.options import Options
from tests.e2e.hostile.structure import problems

Record = dict[str, Any]
Document = dict[str, Any]
Ask = tuple[Any, ...]  # (source, destination, port) or (source, destination, port, protocol)

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
POINTS = {"TO_ENDPOINT": 0, "TO_STACK": 3, "TO_OVERLAY": 4, "FROM_ENDPOINT": 5, "TO_NETWORK": 11}


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod (`namespace`, `pod`) or a place (`reserved` labels)."""

    ip: str
    node: str = "node-9"
    namespace: str = ""
    pod: str = ""
    name: str = ""
    kind: str = "Deployment"
    labels: tuple[tuple[str, str], ...] = ()
    account: str = "default"
    reserved: tuple[str, ...] = ()
    identity: int = 0
    ports: tuple[tuple[int, str], ...] = ()  # declared container ports
    host_network: bool = False

    @property
    def ref(self) -> str:
        """What the judge calls it."""
        return f"{self.namespace}/{self.name}" if self.name else self.ip


@dataclass
class Scene:
    """Pods, Services and records; `run` makes policies of them."""

    ends: list[End] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    extra: list[Document] = field(default_factory=list)  # further inventory objects
    namespace_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    count: int = 0
    ephemeral: int = 40_000

    # -- who is there ---------------------------------------------------------------------------------------------

    def pod(self, ref: str, labels: dict[str, str] | None = None, **more: Any) -> End:
        """A pod of the workload `namespace/name`; label `app: name` unless told otherwise."""
        namespace, _, name = ref.partition("/")
        number = len(self.ends) + 10
        kind = more.get("kind", "Deployment")
        endings = {"Deployment": "-6b746f74dc-9rcxx", "StatefulSet": "-0", "DaemonSet": "-x7k2p", "Job": "-zq8wv"}
        end = End(
            ip=more.pop("ip", f"10.244.{number % 3}.{number}"),
            node=more.pop("node", f"node-{number % 3}"),
            namespace=namespace,
            name=name,
            pod=more.pop("pod", name + endings.get(kind, "")),
            labels=tuple(sorted((labels if labels is not None else {"app": name}).items())),
            **more,
        )
        self.ends.append(end)
        return end

    def place(self, ip: str, *reserved: str, identity: int = 0, node: str = "node-9") -> End:
        """A host, the API server, the internet: whatever has reserved labels."""
        return End(ip=ip, reserved=tuple(f"reserved:{r}" for r in reserved), identity=identity, node=node)

    def world(self, ip: str) -> End:
        """An address outside."""
        return self.place(ip, "world", identity=2)

    # -- what happens ---------------------------------------------------------------------------------------------

    def talk(self, source: End, destination: End, port: int, protocol: str = "TCP", **how: Any) -> list[Record]:
        """`times` complete connections (3), each with its reply unless `replies` is False."""
        times, replies, sport = how.pop("times", 3), how.pop("replies", True), how.pop("sport", 0)
        made: list[Record] = []
        for _ in range(times):
            client = sport or self._client_port()
            ends = (source, destination, client, port, protocol)
            if source.namespace:
                point = "TO_OVERLAY" if destination.namespace else "TO_STACK"
                told: dict[str, Any] = {"reply": None} if destination.namespace else {"reply": False, "reason": "NEW"}
                made.append(self.packet(*ends, flags="SYN", point=point, node=source.node, **told, **how))
            if destination.namespace:
                made.append(self.packet(*ends, flags="SYN", reply=False, reason="NEW", node=destination.node, **how))
            if replies:
                back = (destination, source, port, client, protocol)
                told = {"flags": "SYN ACK", "reply": True, "reason": "REPLY"}
                told |= {"node": source.node if source.namespace else destination.node}
                told |= {"point": "TO_ENDPOINT" if source.namespace else "TO_STACK"}
                made.append(self.packet(*back, **told, **how))
                if destination.namespace:
                    more: Record = {
                        "flags": "ACK PSH",
                        "reply": False,
                        "reason": "ESTABLISHED",
                        "node": destination.node,
                    }
                    made.append(self.packet(*ends, **more, **how))
            self.count += 60
        return made

    def packet(
        self, source: End, destination: End, sport: int, dport: int, protocol: str = "TCP", /, **how: Any
    ) -> Record:
        """One record, kept. `how`: flags, reply (None: absent), reason, point, node, verdict, any field by name."""
        get = how.pop
        flags, reply, reason = get("flags", ""), get("reply", False), get("reason", "")
        point, node, verdict = (
            get("point", "TO_ENDPOINT"),
            get("node", destination.node),
            get("verdict", "FORWARDED"),
        )
        layer4: Record = {"source_port": sport, "destination_port": dport}
        if protocol == "TCP" and flags:
            layer4["flags"] = dict.fromkeys(flags.split(), True)
        kind: Record = {"type": 4}
        if POINTS.get(point):
            kind["sub_type"] = POINTS[point]
        flow: Record = {
            "time": self._stamp(),
            "uuid": f"00000000-0000-4000-8000-{self.count:012x}",
            "verdict": verdict,
            "IP": {
                "source": source.ip,
                "destination": destination.ip,
                "ipVersion": "IPv6" if ":" in source.ip else "IPv4",
            },
            "l4": {protocol: layer4},
            "source": self.endpoint(source, node),
            "destination": self.endpoint(destination, node),
            "Type": "L3_L4",
            "node_name": node,
            "event_type": kind,
            "trace_observation_point": point,
        }
        if reason:
            flow["trace_reason"] = reason
        if reply is not None:
            flow["is_reply"] = reply
        flow |= how
        record = {"flow": flow, "node_name": node, "time": flow["time"]}
        self.records.append(record)
        return record

    def drop(self, source: End, destination: End, port: int, times: int = 3, **how: Any) -> None:
        """First packets stopped by a policy."""
        for _ in range(times):
            more: Record = {"drop_reason": 133, "drop_reason_desc": "POLICY_DENIED", **how}
            more["event_type"] = {"type": 1, "sub_type": 133}
            self.packet(
                source, destination, self._client_port(), port, flags="SYN", reply=None, verdict="DROPPED", **more
            )

    def dns(self, source: End, resolver: End, port: int = 53, protocol: str = "UDP", times: int = 3) -> None:
        """Lookups and their answers."""
        self.talk(source, resolver, port, protocol, times=times)

    def http(self, source: End, destination: End, port: int, method: str, path: str, code: int = 200) -> None:
        """A request and its response as Cilium's proxy sees them."""
        client = self._client_port()
        message: Record = {
            "method": method,
            "url": f"http://{destination.name}:{port}{path}",
            "protocol": "HTTP/1.1",
        }
        for reply, layer7 in (
            (False, {"type": "REQUEST", "http": message}),
            (True, {"type": "RESPONSE", "http": {"code": code, **message}}),
        ):
            ends = (destination, source, port, client) if reply else (source, destination, client, port)
            self.packet(*ends, reply=reply, Type="L7", l7=layer7, event_type={"type": 129}, node=destination.node)

    def endpoint(self, end: End, node: str) -> Record:
        """An end as Hubble on `node` prints it: only the local one has an ID and its workloads."""
        if not end.namespace:
            return {"identity": end.identity, "labels": list(end.reserved)} if end.reserved else {}
        labels = [f"k8s:{key}={value}" for key, value in end.labels]
        labels += [
            f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={end.namespace}",
            "k8s:io.cilium.k8s.policy.cluster=default",
            f"k8s:io.cilium.k8s.policy.serviceaccount={end.account}",
            f"k8s:io.kubernetes.pod.namespace={end.namespace}",
        ]
        found: Record = {"ID": 700 + sum(map(ord, end.pod))} if end.node == node else {}
        found |= {
            "identity": 10_000 + sum(map(ord, end.ref)),
            "cluster_name": "default",
            "namespace": end.namespace,
        }
        found |= {"labels": sorted(labels), "pod_name": end.pod}
        if end.node == node and end.kind != "Pod":
            found["workloads"] = [{"name": end.name, "kind": end.kind}]
        return found

    def _client_port(self) -> int:
        self.ephemeral += 7
        return 32_768 + self.ephemeral % 28_000

    def _stamp(self) -> str:
        self.count += 1
        return (START + timedelta(seconds=self.count)).strftime("%Y-%m-%dT%H:%M:%S.000000001Z")

    # -- the cluster ----------------------------------------------------------------------------------------------

    def documents(self) -> list[Document]:
        """The scene's objects as kubectl prints them."""
        found: list[Document] = []
        named: set[tuple[str, str, str]] = set()
        for namespace in sorted({end.namespace for end in self.ends}):
            labels = {"kubernetes.io/metadata.name": namespace, **self.namespace_labels.get(namespace, {})}
            found.append(_object("v1", "Namespace", "", namespace, labels))
        for end in self.ends:
            if end.kind not in ("Pod",) and (end.namespace, end.kind, end.name) not in named:
                named.add((end.namespace, end.kind, end.name))
                found.append(_owner(end))
            found.append(_pod(end))
        return found + self.extra

    def service(self, end: End, ip: str, port: int, target: int, **more: Any) -> None:
        """A Service in front of a workload."""
        spec: Record = {
            "type": more.get("type", "ClusterIP"),
            "clusterIP": ip,
            "selector": dict(end.labels),
            "ports": [{"name": "p", "port": port, "targetPort": target, "protocol": more.get("protocol", "TCP")}],
        }
        self.extra.append(_object("v1", "Service", end.namespace, end.name) | {"spec": spec})

    def nodes(self, **addresses: str) -> None:
        """Node objects, by name (`_` for `-`) and address; pod ranges 10.244.0-2.0/24."""
        for number, (name, ip) in enumerate(addresses.items()):
            spec = {"podCIDR": f"10.244.{number}.0/24", "podCIDRs": [f"10.244.{number}.0/24"]}
            status = {"addresses": [{"type": "InternalIP", "address": ip}]}
            node = _object("v1", "Node", "", name.replace("_", "-"))
            self.extra.append(node | {"spec": spec, "status": status})

    # -- the run --------------------------------------------------------------------------------------------------

    def run(self, folder: Path, *, inventory: bool = False, text: str | None = None, **options: Any) -> Outcome:
        """Write the capture (and inventory), run the main job, and put a judge before its YAML."""
        capture = folder / "flows.jsonl"
        capture.write_text(as_lines(self.records) if text is None else text)
        return self.run_files([capture], folder, inventory=inventory, **options)

    def run_files(
        self, inputs: Sequence[Path], folder: Path, *, inventory: bool = False, mesh: Any = None, **options: Any
    ) -> Outcome:
        """The main job over these files."""
        inventories = []
        if inventory:
            listed = {"apiVersion": "v1", "kind": "List", "items": self.documents()}
            (folder / "cluster.json").write_text(json.dumps(listed))
            inventories = [str(folder / "cluster.json")]
        run = pipeline.generate([str(path) for path in inputs], inventories, Options(**options), mesh=mesh)
        return Outcome(self, run)


@dataclass
class Outcome:
    """What came of a run, and the judge over the scene's own world."""

    scene: Scene
    result: pipeline.Run

    def __post_init__(self) -> None:
        self.documents = [manifest.document for manifest in self.result.synthesis.manifests]
        options = self.result.options
        self.judge = Judge(
            World.from_manifests(self.scene.documents()),
            [d for d in self.documents if d.get("kind") != "Kustomization"],
            cni=options.cni,
            mesh=options.mesh,
            trust_domain=options.trust_domain,
        )

    def ask(self, source: str, destination: str, port: int, protocol: str = "TCP", **more: Any) -> str:
        """The verdict: allow, deny or undefined."""
        return str(self.judge.ask(Question(source, destination, protocol, port, **more)).outcome)

    def wrong(self, allowed: Iterable[Ask], denied: Iterable[Ask] = (), *, closed: bool = True) -> list[str]:
        """Everything that is not as it should be: verdicts, the whole closed world, and the structure of the YAML."""
        wanted = {_full(ask) for ask in allowed}
        unwanted = {_full(ask) for ask in denied}
        found = [f"legitimate, but {self._because(ask)}" for ask in sorted(wanted) if self.ask(*ask) != "allow"]
        found += [f"not legitimate, but {self._because(ask)}" for ask in sorted(unwanted) if self.ask(*ask) == "allow"]
        if closed:
            found += self._beyond(wanted, unwanted)
        found += problems(self.result.synthesis.manifests, self.scene)
        if not self.result.sound:
            found.append(f"the product itself calls it unsound: {self.result.proof.get('denied')}")
        return found

    def _beyond(self, wanted: set[tuple[str, str, int, str]], unwanted: set[tuple[str, str, int, str]]) -> list[str]:
        refs = sorted({end.ref for end in self.scene.ends if not end.host_network})
        ports = sorted({(port, protocol) for _, _, port, protocol in wanted | unwanted} | {(9, "TCP")})
        isolated = {(d["metadata"]["namespace"], "NetworkPolicy") for d in self.documents if _is_default_deny(d)}
        found = []
        for source, destination, (port, protocol) in product(refs, refs, ports):
            ask = (source, destination, port, protocol)
            if source == destination or ask in wanted or ask in unwanted or port in (53, 5353, 15012, 15008):
                continue
            if not {(end.partition("/")[0], "NetworkPolicy") for end in (source, destination)} & isolated:
                continue
            if self.ask(*ask) == "allow":
                found.append(f"never observed, but {self._because(ask)}")
        return found

    def _because(self, ask: tuple[str, str, int, str]) -> str:
        source, destination, port, protocol = ask
        verdict = self.judge.ask(Question(source, destination, protocol, port))
        return f"{verdict.outcome}: {source} → {destination} {protocol} {port} ({verdict.because})"[:400]

    def policies(self, kind: str) -> list[Document]:
        """The documents of one kind."""
        return [d for d in self.documents if d.get("kind") == kind]

    def blocks(self, direction: str = "egress") -> list[str]:
        """The CIDRs that NetworkPolicies name, sorted."""
        ends = {"egress": "to", "ingress": "from"}[direction]
        return sorted(
            peer["ipBlock"]["cidr"]
            for policy in self.policies("NetworkPolicy")
            for rule in policy["spec"].get(direction, ())
            for peer in rule[ends]
            if "ipBlock" in peer
        )

    def review(self, kind: str = "") -> list[str]:
        """What the review items say, of one kind or all."""
        return [f"{i.kind}: {i.what}" for i in self.result.synthesis.review if not kind or i.kind == kind]

    @property
    def yaml(self) -> str:
        """All manifests in one text."""
        return "".join(manifest.text for manifest in self.result.synthesis.manifests)


def as_lines(records: Iterable[Record]) -> str:
    """JSON lines."""
    return "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


def twin(end: End, number: int, **more: Any) -> End:
    """Another pod of the same workload."""
    head, _, _ = end.ip.rpartition(".")
    pod = f"{end.name}-{number}" if end.kind == "StatefulSet" else f"{end.pod[:-1]}{'bcdfghjklm'[number]}"
    return replace(end, ip=f"{head}.{200 + number}", pod=pod, **more)


def _full(ask: Ask) -> tuple[str, str, int, str]:
    return (ask[0], ask[1], ask[2], ask[3] if len(ask) == 4 else "TCP")


def _is_default_deny(document: Document) -> bool:
    return document.get("kind") == "NetworkPolicy" and document["metadata"]["name"] == "default-deny"


def _object(version: str, kind: str, namespace: str, name: str, labels: dict[str, str] | None = None) -> Document:
    metadata: Record = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _owner(end: End) -> Document:
    template = {"metadata": {"labels": _stable(end)}, "spec": _spec(end)}
    if end.kind == "Job":
        return _object("batch/v1", "Job", end.namespace, end.name) | {"spec": {"template": template}}
    if end.kind == "CronJob":
        job = {"jobTemplate": {"spec": {"template": template}}, "schedule": "0 3 * * *"}
        return _object("batch/v1", "CronJob", end.namespace, end.name) | {"spec": job}
    spec = {"selector": {"matchLabels": _stable(end)}, "template": template, "replicas": 1}
    return _object("apps/v1", end.kind, end.namespace, end.name) | {"spec": spec}


def _stable(end: End) -> dict[str, str]:
    """What the pod template carries: labels that controllers add to single pods are not in it."""
    added = (
        "pod-template-hash",
        "controller-revision-hash",
        "statefulset.kubernetes.io/",
        "apps.kubernetes.io/pod-",
    )
    return {key: value for key, value in end.labels if not key.startswith((*added, "batch.kubernetes.io/", "job-name"))}


def _spec(end: End) -> Record:
    ports = [{"containerPort": port, "protocol": protocol} for port, protocol in end.ports]
    spec: Record = {"serviceAccountName": end.account, "containers": [{"name": "main", "ports": ports}]}
    if end.host_network:
        spec["hostNetwork"] = True
    return spec


def _pod(end: End) -> Document:
    found = _object("v1", "Pod", end.namespace, end.pod, dict(end.labels))
    owner = (end.kind, end.name)
    if end.kind == "Deployment":
        owner = ("ReplicaSet", end.pod.rpartition("-")[0])
    if end.kind != "Pod":
        found["metadata"]["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": owner[0], "name": owner[1], "controller": True}
        ]
    found["spec"] = {**_spec(end), "nodeName": end.node}
    found["status"] = {"phase": "Running", "podIP": end.ip, "podIPs": [{"ip": end.ip}]}
    return found
