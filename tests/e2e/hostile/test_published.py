"""Ports that are published: who stands behind a node's address there, and which of a node's addresses that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hostile.scene import Scene

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
CNI = pytest.mark.parametrize("cni", ["generic", "cilium", "calico"])


def masked_calls_from_a_node(s: Scene) -> None:
    """A node calls the published port of shop/web, in a field-masked export without addresses."""
    web, api = s.pod("shop/web", ports=((8080, "TCP"),)), s.pod("shop/api")
    s.service(web, "10.96.3.4", 80, 8080, type="LoadBalancer")
    s.talk(web, api, 9000)
    s.talk(s.place("172.18.0.11", "remote-node", identity=6), web, 8080, times=5)
    for record in s.records:
        del record["flow"]["IP"]


@pytest.mark.parametrize("known", [True, False], ids=["nodes-known", "nodes-unknown"])
def test_a_masked_node_behind_a_load_balancer_may_be_any(tmp_path: Path, known: bool) -> None:
    """A field-masked export has no addresses: it is one of the inventory's nodes; without them, nobody can tell."""
    s = Scene()
    if known:
        s.nodes(node_0="172.18.0.10", node_1="172.18.0.11")
    masked_calls_from_a_node(s)
    objects = s.documents()
    for pod in (document for document in objects if document["kind"] == "Pod"):
        pod["status"] = {}
    s.documents = lambda: objects  # type: ignore[method-assign]  # pods that tell of no node
    out = s.run(tmp_path, inventory=True)
    assert out.result.sound
    assert bool(out.review("node")) != known
    assert (out.ask("172.18.0.11", "shop/web", 8080) == "allow") == known


def test_a_masked_node_of_either_family_behind_a_load_balancer(tmp_path: Path) -> None:
    """Nodes with addresses of both families: which of them the export left out cannot be told."""
    s = Scene()
    s.nodes(node_0="172.18.0.10", node_1="fd10:aa::11")
    masked_calls_from_a_node(s)
    out = s.run(tmp_path, inventory=True)
    assert out.result.sound
    assert [out.ask(ip, "shop/web", 8080) for ip in ("172.18.0.10", "fd10:aa::11")] == ["allow", "allow"]


@pytest.mark.parametrize(("mask", "open_to_pods"), [("10.0.0.11", False), ("10.244.1.0", True)])
def test_nodes_beside_pods_behind_a_load_balancer(tmp_path: Path, mask: str, open_to_pods: bool) -> None:
    """Nodes and pods share a private range: what lets nodes in leaves the pods out, unless nodes send from among them.

    (Over an overlay, a masqueraded packet has the address of the node's end of the tunnel, which is one of the pods'.)
    """
    s = Scene()
    s.nodes(node_0="10.0.0.10", node_1="10.0.0.11", node_2="10.0.0.12")
    web, api = s.pod("shop/web", ports=((8080, "TCP"),)), s.pod("shop/api")
    s.service(web, "10.96.3.4", 80, 8080, type="LoadBalancer")
    s.talk(web, api, 9000)
    s.talk(s.place(mask, "remote-node", identity=6), web, 8080, times=5)
    out = s.run(tmp_path, inventory=True)
    assert out.result.sound
    assert [out.ask(ip, "shop/web", 8080) for ip in ("203.0.113.9", mask, "10.0.0.12")] == ["allow"] * 3
    assert (out.ask("10.244.2.77", "shop/web", 8080) == "allow") == open_to_pods


@BOTH
@CNI
def test_remote_node_behind_a_load_balancer(tmp_path: Path, inventory: bool, cni: str) -> None:
    """SNAT by another node: with the Service known it stands for the internet; without, nobody can tell.

    On Cilium an ipBlock never matches a node (semantics 1.9), but it knows other nodes by name.
    """
    s = Scene()
    s.nodes(node_0="172.18.0.10", node_1="172.18.0.11")
    web, api = s.pod("shop/web", ports=((8080, "TCP"),)), s.pod("shop/api")
    s.service(web, "10.96.3.4", 80, 8080, type="LoadBalancer")
    s.talk(web, api, 9000)
    s.talk(s.place("172.18.0.11", "remote-node", identity=6), web, 8080, times=5)
    out = s.run(tmp_path, inventory=inventory, cni=cni)
    problems = [p for p in out.wrong([("shop/web", "shop/api", 9000)]) if "which is a pod, node or Service" not in p]
    assert problems == []
    if inventory and cni != "cilium":
        assert out.ask("203.0.113.9", "shop/web", 8080) == "allow"
        assert out.ask("172.18.0.11", "shop/web", 8080) == "allow"
        assert out.ask("203.0.113.9", "shop/web", 9000) == "deny"
    elif cni == "cilium":
        assert out.blocks("ingress") == []
        assert [out.ask("remote-node", "shop/web", port) for port in (8080, 9000)] == ["allow", "deny"]
        assert out.review("node") == []
    else:
        assert out.blocks("ingress") == []
        assert out.review("node")
