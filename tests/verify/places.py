"""Random clusters whose addresses matter: nodes, pods on the host's network, one or two families, workloads of several
pods, and blocks that cut through all of them. The same for the same seed."""

from __future__ import annotations

from typing import Any

from leastway.verify.reading import Document
from tests.verify.clusters import SPACES, Clusters
from tests.verify.kit import NAME, namespace, pod

NODES = {"n1": ("192.168.0.1", "fd00:192::1"), "n2": ("192.168.0.2", "fd00:192::2")}
OUTSIDE = ("192.0.2.1", "192.0.2.77", "198.51.100.3", "2001:db8::1", "2001:db8:0:1::77")
BLOCKS: dict[str, tuple[str, ...]] = {
    "0.0.0.0/0": ("10.1.0.0/16", "192.168.0.0/24", "192.0.2.0/25", "10.1.1.2/32"),
    "10.1.0.0/16": ("10.1.0.0/24", "10.1.1.2/31"),
    "10.1.1.2/32": (),
    "192.168.0.1/32": (),
    "192.168.0.0/23": ("192.168.0.2/32",),
    "192.0.2.0/24": ("192.0.2.64/26",),
    "::/0": ("fd00::/8", "fd00:10:1::/64", "2001:db8::/48"),
    "fd00:10::/32": ("fd00:10:1::/64", "fd00:10:1:1::2/127"),
    "fd00:192::/64": ("fd00:192::1/128",),
    "2001:db8::/32": ("2001:db8:0:1::/64", "2001:db8::1/128"),
}


class Places(Clusters):
    """`stack` is "4", "6", or "46" for both; then some pods have one family only all the same."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, blocks=tuple(BLOCKS))
        self.stack = self.draw.choice(("4", "6", "46", "46"))
        self.host_pods = self.draw.random() < 0.6

    def things(self) -> list[Document]:
        """Two nodes; three namespaces of two single pods and a workload of two."""
        found = [self._node(name) for name in NODES]
        for i, space in enumerate(SPACES):
            extra = {"team": self.draw.choice(("red", "blue"))} if self.draw.random() < 0.7 else {}
            found.append(namespace(space, **{NAME: space}, **extra))
            shared, ports = self.labels(), self.ports()
            for j in range(4):
                if j < 2:
                    found.append(self._pod(f"{space}/p{j}", self.labels(), self.ports(), (i, j)))
                else:
                    own = shared | ({"statefulset.kubernetes.io/pod-name": f"set-{j}"} if i == 0 else {})
                    found.append(self._owned(self._pod(f"{space}/set-{j}", own, ports, (i, j))))
        return found

    def _node(self, name: str) -> Document:
        addresses = [{"type": "InternalIP", "address": ip} for ip in self._of(NODES[name], self.stack)]
        return {"kind": "Node", "metadata": {"name": name}, "spec": {}, "status": {"addresses": addresses}}

    @staticmethod
    def _of(pair: tuple[str, str], stack: str) -> list[str]:
        return [ip for ip, digit in zip(pair, "46", strict=True) if digit in stack]

    def _pod(self, ref: str, labels: dict[str, str], ports: list[dict[str, Any]], at: tuple[int, int]) -> Document:
        node = self.draw.choice(sorted(NODES))
        host = self.host_pods and at[1] == 1 and self.draw.random() < 0.7
        pair = NODES[node] if host else (f"10.1.{at[0]}.{at[1] + 1}", f"fd00:10:1:{at[0]}::{at[1] + 1}")
        mixed = self.stack == "46" and not host and at[1] < 2  # the pods of one workload are alike
        stack = self.draw.choice(("46", "46", "4", "6")) if mixed else self.stack
        ips = self._of(pair, stack)
        found = pod(ref, labels, ips[0], host=self._of(NODES[node], self.stack)[0], nodeName=node, ports=ports)
        found["status"]["podIPs"] = [{"ip": ip} for ip in ips]
        if host:
            found["spec"]["hostNetwork"] = True
        return found

    def _owned(self, found: Document) -> Document:
        found["metadata"]["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "set", "controller": True}
        ]
        return found

    def labels(self) -> dict[str, str]:
        """A label may be there with nothing in it."""
        return super().labels() | ({"env": ""} if self.draw.random() < 0.2 else {})

    def policy(self, number: int) -> Document:
        """Rules may stand there without their type, and count for nothing then."""
        found = super().policy(number)
        if found["spec"].get("policyTypes") == ["Ingress"] and self.draw.random() < 0.3:
            found["spec"]["egress"] = [self.rule("to")]
        return found

    def selector(self, keys: dict[str, tuple[str, ...]], quirks: bool) -> dict[str, Any]:
        """Sometimes of a label that must be empty."""
        if "env" in keys and self.draw.random() < 0.15:
            return {"matchLabels": {"env": ""}}
        return super().selector(keys, quirks)

    def rule(self, side: str) -> dict[str, Any]:
        """Empty lists mean what missing ones mean; here and there a careful author thinks of both families."""
        found = super().rule(side)
        for key in (side, "ports"):
            if key not in found and self.draw.random() < 0.5:
                found[key] = []
        if self.stack == "46" and self.draw.random() < 0.2:
            found[side] = [{"ipBlock": {"cidr": cidr}} for cidr in ("0.0.0.0/0", "::/0")]
        return found

    def peer(self) -> dict[str, Any]:
        """Every second peer is a block, and every second block has an exception."""
        if self.draw.random() < 0.5:
            return super().peer()
        cidr = self.draw.choice(sorted(BLOCKS))
        block: dict[str, Any] = {"cidr": cidr}
        if BLOCKS[cidr] and self.draw.random() < 0.5:
            block["except"] = [self.draw.choice(BLOCKS[cidr])]
        return {"ipBlock": block}

    def ends(self, things: list[Document]) -> list[str]:
        """Everyone who can be asked about: pods, workloads, and addresses of pods, nodes and the outside."""
        pods = [t for t in things if t["kind"] == "Pod"]
        names = [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in pods]
        inside = [entry["ip"] for p in pods for entry in p["status"]["podIPs"]]
        nodes = [ip for pair in NODES.values() for ip in self._of(pair, self.stack)]
        outside = [ip for ip in OUTSIDE if ("6" if ":" in ip else "4") in self.stack]
        return [*names, *(f"{space}/set" for space in SPACES), *dict.fromkeys([*inside, *nodes]), *outside]
