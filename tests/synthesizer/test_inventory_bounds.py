"""Inventories of any shape and of any size."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import InventoryError
from synthesizer.inventory import parse
from tests.synthesizer.objects import Document, deployment, pod, service

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["web", "10.0.0.1", "TCP"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    ("metadata", "labels"),
    ("metadata", "ownerReferences"),
    ("metadata", "annotations"),
    ("spec", "selector"),
    ("spec", "selector", "matchLabels"),
    ("spec", "template", "spec", "containers"),
    ("spec", "template", "metadata", "labels"),
    ("spec", "containers"),
    ("spec", "ports"),
    ("spec", "clusterIPs"),
    ("spec", "jobTemplate", "spec"),
    ("status", "podIPs"),
    ("status", "addresses"),
    ("subsets",),
    ("endpoints",),
    ("webhooks",),
]
KINDS = {
    "Pod": "v1",
    "Service": "v1",
    "Node": "v1",
    "Namespace": "v1",
    "Endpoints": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Deployment": "apps/v1",
    "CronJob": "batch/v1",
    "MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.lists(st.tuples(st.sampled_from(PATHS), ANYTHING), max_size=4))
def test_objects_of_any_shape_are_read_or_refused_never_a_crash(kind: str, parts: list[tuple[Any, Any]]) -> None:
    document: Document = {"apiVersion": KINDS[kind], "kind": kind, "metadata": {"name": "x"}}
    for path, value in parts:
        at = document
        for step in path[:-1]:
            inner = at.setdefault(step, {})
            at = inner if isinstance(inner, dict) else {}
        at[path[-1]] = value
    try:
        inventory = parse([document])
    except InventoryError:
        return
    for item in inventory.workloads:
        inventory.published_ports(item)
    for found in inventory.services:
        inventory.backends(found)


def test_a_large_cluster_is_indexed_and_asked_in_seconds() -> None:
    hashed = {"pod-template-hash": "6b746f74dc"}
    given_documents: list[Document] = []
    for i in range(2000):
        labels = {"app": f"w{i}", "team": "all"}
        given_documents.append(deployment(f"w{i}", labels, {"name": "http", "containerPort": 8080}))
        given_documents.append(service(f"w{i}", {"app": f"w{i}"}, {"port": 80, "targetPort": "http"}))
        given_documents += [
            pod(
                f"w{i}-6b746f74dc-{end}cxxx",
                {**labels, **hashed},
                ("ReplicaSet", f"w{i}-6b746f74dc"),
                f"10.{i // 250}.{i % 250}.{end}",
            )
            for end in range(2, 6)
        ]
    started = time.monotonic()
    inventory = parse(given_documents)
    for i in range(2000):
        item = inventory.workload_of_address(f"10.{i // 250}.{i % 250}.3")
        assert item is not None
        assert item.name == f"w{i}"
        assert inventory.workloads_by_labels("shop", {"team": "all", "app": f"w{i}"}) == [item]
        found = inventory.service("shop", f"w{i}")
        assert found is not None
        assert inventory.target_ports(found, "TCP", 80) == [(item, 8080)]
        assert inventory.workload_of_pod("shop", f"w{i}-6b746f74dc-zzzzz") is item
    assert time.monotonic() - started < 8
