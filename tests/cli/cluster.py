"""A cluster of three workloads in one namespace, and its flows: web → api 8080 → db 5432; one knock is denied."""

from __future__ import annotations

import json
from typing import Any

PORTS = {"web": 80, "api": 8080, "db": 5432}
ADDRESSES = {"web": "10.0.0.1", "api": "10.0.0.2", "db": "10.0.0.3"}


def flow(source: str, destination: str, port: int, number: int, verdict: str = "FORWARDED", reply: bool = False) -> str:
    """One Hubble flow of a connection from `source` to `destination`:`port`, as a JSON line without its break."""
    ends = [(source, 40000 + number), (destination, port)]
    if reply:
        ends.reverse()
    (one, one_port), (two, two_port) = ends
    value: dict[str, Any] = {
        "time": f"2026-03-02T08:{number % 60:02d}:00.000000000Z",
        "uuid": f"flow-{source}-{destination}-{port}-{number}-{int(reply)}",
        "verdict": verdict,
        "IP": {"source": ADDRESSES[one], "destination": ADDRESSES[two], "ipVersion": "IPv4"},
        "l4": {
            "TCP": {
                "source_port": one_port,
                "destination_port": two_port,
                "flags": {"SYN": True, "ACK": True} if reply else {"SYN": True},
            }
        },
        "source": _endpoint(one),
        "destination": _endpoint(two),
        "Type": "L3_L4",
        "node_name": "node-1",
        "traffic_direction": "INGRESS" if verdict == "DROPPED" else "EGRESS",
        "is_reply": reply,
    }
    if verdict == "DROPPED":
        value |= {"drop_reason_desc": "POLICY_DENIED", "event_type": {"type": 1}}
    return json.dumps({"flow": value, "node_name": "node-1", "time": value["time"]})


def _endpoint(name: str) -> dict[str, Any]:
    labels = [
        f"k8s:app={name}",
        "k8s:io.kubernetes.pod.namespace=shop",
        "k8s:io.cilium.k8s.policy.cluster=default",
        f"k8s:io.cilium.k8s.policy.serviceaccount={name}",
    ]
    return {
        "ID": 100 + PORTS[name],
        "identity": 2000 + PORTS[name],
        "namespace": "shop",
        "labels": labels,
        "pod_name": f"{name}-5d4f8c7b9-abcde",
        "workloads": [{"name": name, "kind": "Deployment"}],
    }


def _deployment(name: str) -> str:
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      serviceAccountName: {name}
      containers:
        - name: {name}
          ports: [{{name: http, containerPort: {PORTS[name]}, protocol: TCP}}]
"""


INVENTORY = "---\n".join(
    [
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}\n",
        *map(_deployment, PORTS),
    ]
)

CAPTURE = "".join(
    line + "\n"
    for number in range(1, 6)
    for line in (
        flow("web", "api", 8080, number),
        flow("web", "api", 8080, number, reply=True),
        flow("api", "db", 5432, number),
        flow("api", "db", 5432, number, reply=True),
    )
) + flow("web", "db", 5432, 30, verdict="DROPPED")
