"""Ends that are no pods, pods that look like none, and addresses that are neither."""

from __future__ import annotations

import ipaddress
from itertools import permutations
from pathlib import Path
from typing import Literal

import pytest

from tests.e2e.hostile.scene import Record, Scene, twin

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
CNI = pytest.mark.parametrize("cni", ["generic", "cilium", "calico"])


@BOTH
def test_pod_labelled_world(tmp_path: Path, inventory: bool) -> None:
    """`reserved:world` with namespace and pod name is the pod; its labels come from its other records."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/other")
    s.talk(other, api, 8080)
    s.talk(other, web, 80)
    for record in s.talk(web, api, 8080):
        for side in ("source", "destination"):
            record["flow"][side] |= {"identity": 2, "labels": ["reserved:world"]}
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/other", "shop/api", 8080), ("shop/other", "shop/web", 80)]
    assert out.wrong(wanted) == []
    assert out.blocks() == out.blocks("ingress") == []


@BOTH
def test_pod_seen_as_bare_world_during_ipcache_lag(tmp_path: Path, inventory: bool) -> None:
    """A pod's address with `reserved:world` and no name: resolved by the address, never an ipBlock."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(s.world(web.ip), api, 9090)
    s.talk(web, s.world(api.ip), 7070)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", port) for port in (8080, 9090, 7070)]
    assert out.wrong(wanted) == []
    assert out.blocks() == out.blocks("ingress") == []


@BOTH
def test_labels_without_namespace_field(tmp_path: Path, inventory: bool) -> None:
    """The L7 proxy speaks with the pod's identity from the node's address: the namespace is in a label."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    for record in s.talk(web, api, 8080):
        flow = record["flow"]
        for side in ("source", "destination"):
            if flow[side]["pod_name"] == web.pod:
                flow[side] = {"identity": flow[side]["identity"], "labels": flow[side]["labels"]}
                flow["IP"][side] = "172.18.0.3"
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []


@BOTH
@CNI
@pytest.mark.parametrize("order", [*permutations(("kube-apiserver", "world")), ("remote-node", "kube-apiserver")])
def test_kube_apiserver_in_label_sets(tmp_path: Path, inventory: bool, cni: str, order: tuple[str, ...]) -> None:
    """Order decides nothing; the port is the API server's own."""
    s = Scene()
    operator, web = s.pod("ops/operator"), s.pod("ops/web")
    s.talk(operator, web, 8080)
    s.talk(operator, s.place("172.18.0.2", *order, identity=16777217 if "world" in order else 7), 6443, times=5)
    s.nodes(node_0="172.18.0.12")
    out = s.run(tmp_path, inventory=inventory, cni=cni)
    wanted = [("ops/operator", "ops/web", 8080)]
    assert out.wrong(wanted, [("ops/web", "172.18.0.2", 6443)]) == []
    if cni == "cilium":
        assert out.blocks() == []
        assert out.ask("ops/operator", "kube-apiserver", 6443) == "allow"
        assert out.ask("ops/operator", "kube-apiserver", 443) == "deny"
        assert out.ask("ops/web", "kube-apiserver", 6443) == "deny"
        assert out.review("kube-apiserver") == []
    else:
        assert out.blocks() == ["172.18.0.2/32"]


@BOTH
@pytest.mark.parametrize("labels", list(permutations(("host", "kube-apiserver"))), ids="+".join)
def test_probe_from_the_control_plane_node(tmp_path: Path, inventory: bool, labels: tuple[str, ...]) -> None:
    """host + kube-apiserver to a pod is kubelet's probe: implied, never a rule."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(s.place("10.244.1.1", *labels, identity=1, node=api.node), api, 8081)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "shop/api", 8081)]) == []
    assert out.blocks("ingress") == []


@BOTH
def test_health_checks_between_nodes(tmp_path: Path, inventory: bool) -> None:
    """host and remote-node ask the health endpoint: no workload is in it."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    health = s.place("10.244.0.240", "health", identity=4)
    for node in (s.place("172.18.0.3", "host", identity=1), s.place("172.18.0.4", "remote-node", identity=6)):
        s.packet(node, health, 40_000, 4240, flags="SYN", reason="NEW")
        s.packet(health, node, 4240, 40_000, flags="SYN ACK", reply=True)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []


@BOTH
def test_ciliums_health_checks_are_no_rule(tmp_path: Path, inventory: bool) -> None:
    """Cilium's own health checks are nobody's policy."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(s.place("10.244.0.240", "health", identity=4), api, 4240)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "shop/api", 4240)]) == []


@BOTH
@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200"),
        *("fd00:c1::a9fe:a9fe", "fd00:42::42", "169.254.42.42", "169.254.0.23", "fd00:a9fe:a9fe::1", "fe80::a9fe:a9fe"),
        *("fd00:100::100:200", "64:ff9b::a9fe:a9fe", "::ffff:169.254.169.254"),
    ],
)
def test_cloud_metadata(tmp_path: Path, inventory: bool, address: str) -> None:
    """Frequency never approves the address that hands out credentials (semantics 3, no. 30)."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(web, s.world(address), 80, times=40)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", address, 80)]) == []
    assert out.review("cloud-metadata")


@BOTH
@pytest.mark.parametrize("cni", ["generic", "cilium"])
@pytest.mark.parametrize("reserved", ["host", "remote-node"])
def test_metadata_that_the_node_itself_serves(
    tmp_path: Path, inventory: bool, cni: Literal["generic", "cilium"], reserved: str
) -> None:
    """GKE's metadata server runs on each node: Cilium's entity for the node is no reason to allow it."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(web, s.place("169.254.169.254", reserved, identity=1), 80, times=40)
    s.talk(web, s.place("192.168.7.2", reserved, identity=1), 9100)
    out = s.run(tmp_path, inventory=inventory, cni=cni)
    asks = [("shop/web", "169.254.169.254", 80), ("shop/web", "host", 80), ("shop/web", "remote-node", 80)]
    assert out.wrong([("shop/web", "shop/api", 8080)], asks) == []
    assert len(out.review("cloud-metadata")) == 1


@BOTH
def test_private_database_on_premises(tmp_path: Path, inventory: bool) -> None:
    """A private address outside every cluster range is a legitimate /32."""
    s = Scene()
    s.nodes(node_0="172.18.0.10", node_1="172.18.0.11", node_2="172.18.0.12")
    api, web = s.pod("shop/api"), s.pod("shop/web")
    s.talk(web, api, 8080)
    s.talk(api, s.world("10.20.30.40"), 1521, times=6)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/api", "10.20.30.40", 1521)]
    assert out.wrong(wanted, [("shop/api", "10.20.30.41", 1521), ("shop/web", "10.20.30.40", 1521)]) == []


@BOTH
@CNI
def test_internet_egress_to_one_address(tmp_path: Path, inventory: bool, cni: str) -> None:
    """One address, one /32."""
    s = Scene()
    api, web = s.pod("shop/api"), s.pod("shop/web")
    s.talk(web, api, 8080)
    s.talk(api, s.world("203.0.113.77"), 443)
    out = s.run(tmp_path, inventory=inventory, cni=cni)
    wanted = [("shop/web", "shop/api", 8080), ("shop/api", "203.0.113.77", 443)]
    assert out.wrong(wanted, [("shop/api", "203.0.113.78", 443), ("shop/web", "203.0.113.77", 443)]) == []


@BOTH
def test_internet_egress_to_forty_addresses_in_few_networks(tmp_path: Path, inventory: bool) -> None:
    """Merged only within the stated budget: four addresses allowed per address seen."""
    s = Scene()
    api, web = s.pod("shop/api"), s.pod("shop/web")
    s.talk(web, api, 8080)
    seen = [f"198.51.100.{n}" for n in range(0, 40, 2)] + [f"203.0.113.{n * 13}" for n in range(20)]
    for address in seen:
        s.talk(api, s.world(address), 443, times=2)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), *(("shop/api", address, 443) for address in seen)]
    assert out.wrong(wanted, [("shop/api", "8.8.8.8", 443), ("shop/api", "198.51.100.200", 443)]) == []
    allowed = sum(ipaddress.ip_network(cidr).num_addresses for cidr in out.blocks())
    assert allowed <= 4 * len(seen)


@BOTH
def test_internet_egress_at_large(tmp_path: Path, inventory: bool) -> None:
    """2,000 addresses are a question to a person, and nothing else suffers."""
    s = Scene()
    api, web = s.pod("shop/api"), s.pod("shop/web")
    s.talk(web, api, 8080)
    for number in range(2000):
        s.talk(api, s.world(f"{20 + number % 90}.{number % 200}.{number // 100}.{number % 251 + 1}"), 443, times=1)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/api", "8.8.8.8", 443)]) == []
    assert len(out.review("internet-egress")) == 1, out.review()
    assert len(out.blocks()) < 300


@BOTH
def test_internet_ingress(tmp_path: Path, inventory: bool) -> None:
    """Clients are aggregated to the published port; none becomes a /32, and pods are not in the block."""
    s = Scene()
    web, api = s.pod("shop/web", ports=((8443, "TCP"),)), s.pod("shop/api")
    s.service(web, "10.96.1.1", 443, 8443, type="LoadBalancer")
    s.talk(web, api, 8080)
    for number in range(8):
        s.talk(s.world(f"203.0.113.{number + 1}"), web, 8443, times=1)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("198.51.100.1", "shop/web", 8443), ("203.0.113.2", "shop/web", 8443)]
    denied = [("shop/api", "shop/web", 8443), ("203.0.113.2", "shop/web", 8080), ("203.0.113.2", "shop/api", 8080)]
    assert out.wrong(wanted, denied) == []
    assert not [b for b in out.blocks("ingress") if b.endswith("/32")]


@BOTH
def test_one_connection_from_outside_does_not_publish_a_port(tmp_path: Path, inventory: bool) -> None:
    """That it is all that is served says nothing of the internet. That pods use it does, but not against an inventory
    in which no Service publishes it."""
    s = Scene()
    web, api, lone = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/lone")
    s.talk(web, api, 8080)
    s.talk(s.world("203.0.113.7"), api, 8080, times=1)
    s.talk(s.world("203.0.113.8"), lone, 9090, times=1)
    out = s.run(tmp_path, inventory=inventory)
    outsiders = [("203.0.113.7", "shop/api", 8080), ("198.51.100.1", "shop/api", 8080)]
    wanted, denied = ([], outsiders) if inventory else (outsiders, [])
    wanted, denied = [("shop/web", "shop/api", 8080), *wanted], [("203.0.113.8", "shop/lone", 9090), *denied]
    assert out.wrong(wanted, denied) == []
    assert len(out.review("one-off")) == (2 if inventory else 1)
    assert ("Open to the internet" in out.result.files["REVIEW.md"]) is not inventory


def test_one_connection_from_outside_to_a_published_port_is_meant(tmp_path: Path) -> None:
    s = Scene()
    api = s.pod("shop/api", ports=((8080, "TCP"),))
    s.service(api, "10.96.0.9", 80, 8080, type="LoadBalancer")
    s.talk(s.world("203.0.113.7"), api, 8080, times=1)
    out = s.run(tmp_path, inventory=True)
    assert out.wrong([("203.0.113.7", "shop/api", 8080), ("198.51.100.1", "shop/api", 8080)]) == []
    assert "Open to the internet" not in out.result.files["REVIEW.md"]


@BOTH
def test_what_is_opened_to_the_internet_is_told(tmp_path: Path, inventory: bool) -> None:
    """Client addresses stand for all: somebody has to know that (semantics 3, no. 26)."""
    s = Scene()
    s.talk(s.world("203.0.113.7"), s.pod("shop/api"), 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("203.0.113.7", "shop/api", 8080), ("198.51.100.1", "shop/api", 8080)]) == []
    assert "Open to the internet, as outsiders were seen there: shop/api TCP 8080" in out.result.files["REVIEW.md"]


@BOTH
@pytest.mark.parametrize("reserved", ["world-ipv6", "world"])
def test_an_ipv6_address_outside_is_a_block_of_its_own(tmp_path: Path, inventory: bool, reserved: str) -> None:
    """An IPv6 peer is a /128."""
    s = Scene()
    api, web = s.pod("six/api", ip="fd00:10:244::a"), s.pod("six/web", ip="fd00:10:244:1::b")
    s.talk(web, api, 8080)
    s.talk(api, s.place("2001:db8:7::1", reserved, identity=10), 443)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("six/web", "six/api", 8080), ("six/api", "2001:db8:7::1", 443)]
    assert out.wrong(wanted, [("six/api", "2001:db8:7::2", 443)]) == []
    assert out.blocks() == ["2001:db8:7::1/128"]


@BOTH
def test_dual_stack_world(tmp_path: Path, inventory: bool) -> None:
    """`reserved:world-ipv4`, cidr and fqdn labels beside it: still one address outside."""
    s = Scene()
    api, web = s.pod("shop/api"), s.pod("shop/web")
    s.talk(web, api, 8080)
    outside = s.place("203.0.113.5", "world-ipv4", identity=16777300)
    for record in s.talk(api, outside, 443):
        for side in ("source", "destination"):
            if record["flow"][side].get("labels") == ["reserved:world-ipv4"]:
                record["flow"][side]["labels"] = [
                    "cidr:203.0.113.5/32",
                    "fqdn:api.example.com",
                    "reserved:world-ipv4",
                ]
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080), ("shop/api", "203.0.113.5", 443)]) == []


@BOTH
def test_node_port_peer_and_remote_node_egress(tmp_path: Path, inventory: bool) -> None:
    """pod → remote-node:32001: NetworkPolicy has no word for it; it is told, not written as a block."""
    s = Scene()
    s.nodes(node_0="172.18.0.10")
    api, web = s.pod("shop/api"), s.pod("shop/web")
    s.talk(web, api, 8080)
    s.talk(api, s.place("172.18.0.10", "remote-node", identity=6), 32001, times=5)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "172.18.0.10", 32001)]) == []
    assert out.review("node")


@BOTH
def test_gke_nodes_labelled_world(tmp_path: Path, inventory: bool) -> None:
    """Prometheus scrapes node addresses that were captured as world: with the nodes known, never a block."""
    s = Scene()
    s.nodes(node_0="10.128.0.10", node_1="10.128.0.11")
    prom, web = s.pod("mon/prom"), s.pod("mon/web")
    s.talk(prom, web, 9090)
    for ip in ("10.128.0.10", "10.128.0.11"):
        s.talk(prom, s.world(ip), 9990, times=5)
    out = s.run(tmp_path, inventory=inventory)
    if inventory:
        assert out.wrong([("mon/prom", "mon/web", 9090)]) == []
        assert out.blocks() == []
    else:
        assert out.ask("mon/prom", "mon/web", 9090) == "allow"


@BOTH
def test_loopback_multicast_and_unspecified(tmp_path: Path, inventory: bool) -> None:
    """127.0.0.1, 224.0.0.1, ff02::2, 0.0.0.0 and broadcast are no peers of a policy."""
    s = Scene()
    api, web = s.pod("shop/api"), s.pod("shop/web")
    s.talk(web, api, 8080)
    for ip in ("127.0.0.1", "224.0.0.251", "ff02::2", "0.0.0.0", "255.255.255.255", "::1", "::"):
        s.talk(api, s.world(ip), 5353, "UDP", times=4)
        s.talk(s.world(ip), web, 8081, times=4)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    blocks = out.blocks() + out.blocks("ingress")
    assert not [
        b for b in blocks if b.split("/")[0] in ("127.0.0.1", "224.0.0.251", "ff02::2", "0.0.0.0", "255.255.255.255")
    ]


@BOTH
def test_host_network_workload(tmp_path: Path, inventory: bool) -> None:
    """A hostNetwork subject gets no policy, and as a peer it is a node."""
    s = Scene()
    s.nodes(node_0="172.18.0.10", node_1="172.18.0.11")
    agent = s.pod("shop/agent", kind="DaemonSet", ip="172.18.0.11", host_network=True)
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(s.place(agent.ip, "remote-node", identity=6), web, 9100, times=5)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    assert not [d for d in out.policies("NetworkPolicy") if d["metadata"]["name"] == "agent"]
    assert out.review("node")


@BOTH
def test_system_namespaces_are_left_alone(tmp_path: Path, inventory: bool) -> None:
    """No policy in kube-system unless it is named; rules towards it stay."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    metrics = s.pod("kube-system/metrics-server", {"k8s-app": "metrics-server"})
    istiod = s.pod("istio-system/istiod")
    s.talk(web, api, 8080)
    s.talk(metrics, istiod, 15014)
    s.talk(api, metrics, 4443)
    s.talk(metrics, api, 8081)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [
        ("shop/web", "shop/api", 8080),
        ("shop/api", "kube-system/metrics-server", 4443),
        ("kube-system/metrics-server", "shop/api", 8081),
    ]
    assert out.wrong(wanted) == []
    assert {d["metadata"]["namespace"] for d in out.policies("NetworkPolicy")} == {"shop"}


@BOTH
def test_two_pods_one_address_one_after_the_other(tmp_path: Path, inventory: bool) -> None:
    """Address reuse: the records name their pods, and names are believed before addresses."""
    s = Scene()
    web, api, old = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/old")
    heir = s.pod("shop/heir", ip=old.ip)
    s.talk(web, api, 8080)
    s.talk(old, api, 8080)
    s.talk(heir, web, 80)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/old", "shop/api", 8080), ("shop/heir", "shop/web", 80)]
    assert out.wrong(wanted) == []


@BOTH
def test_workload_named_on_the_local_end_only(tmp_path: Path, inventory: bool) -> None:
    """Two pods of one workload on two nodes, each record names one owner only: still one policy."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    second = twin(api, 1, node="node-2")
    s.ends.append(second)
    s.talk(web, api, 8080)
    s.talk(web, second, 8080)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    names = sorted(d["metadata"]["name"] for d in out.policies("NetworkPolicy"))
    assert names == ["allow-dns", "api", "default-deny", "web"]


@BOTH
def test_both_ends_empty_or_null(tmp_path: Path, inventory: bool) -> None:
    """`source: {}`, null, missing; `l4` null; nothing of it stops the run or makes a rule."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    whole = s.packet(web, api, 40_404, 9999, flags="SYN", reason="NEW")["flow"]
    s.records.pop()
    mutilations: list[Record] = [
        {"source": {}},
        {"source": None, "destination": None},
        {"source": {}, "destination": {}, "IP": None},
        {"l4": None},
        {"l4": {}},
        {"l4": {"TCP": None}},
        {"l4": {"TCP": {"source_port": None, "destination_port": None}}},
        {"l4": {"TCP": {"source_port": 1}}},
        {"l4": {"TCP": {"source_port": -1, "destination_port": 70_000}}},
        {"verdict": None},
        {"verdict": ""},
        {"time": None},
        {"event_type": None, "Type": None, "IP": {}},
    ]
    for broken in mutilations:
        s.records.append({"flow": {**whole, **broken}})
    s.records += [{"flow": None}, {"flow": {}}]
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/web", "shop/api", 0), ("shop/web", "shop/api", 1)]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied, closed=False) == []
    assert "port: 0" not in out.yaml
