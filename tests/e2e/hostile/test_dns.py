"""Names must resolve after isolation, whoever the resolver is."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthesizer.options import CNI
from synthesizer.review import ReviewItem
from tests.e2e.hostile.scene import Scene

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])
DNS = {"k8s-app": "kube-dns"}


@BOTH
def test_lookups_over_tcp_alone_open_both_protocols(tmp_path: Path, inventory: bool) -> None:
    """Both protocols are needed, whichever was seen."""
    s = Scene()
    web, api, dns = s.pod("shop/web"), s.pod("shop/api"), s.pod("kube-system/coredns", DNS)
    s.talk(web, api, 8080)
    s.dns(web, dns, protocol="TCP")
    out = s.run(tmp_path, inventory=inventory)
    wanted = [(w, "kube-system/coredns", 53, p) for w in ("shop/web", "shop/api") for p in ("TCP", "UDP")]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted]) == []


@BOTH
def test_openshift_listens_at_5353(tmp_path: Path, inventory: bool) -> None:
    """dns-default in openshift-dns: pod port 5353."""
    s = Scene()
    labels = {"dns.operator.openshift.io/daemonset-dns": "default"}
    web, dns = s.pod("shop/web"), s.pod("openshift-dns/dns-default", labels, kind="DaemonSet")
    s.dns(web, dns, 5353)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "openshift-dns/dns-default", 5353, p) for p in ("TCP", "UDP")]
    assert out.wrong(wanted) == []
    assert {d["metadata"]["namespace"] for d in out.policies("NetworkPolicy")} == {"shop"}


@BOTH
@pytest.mark.parametrize("labels", [("world",), ("host",), ("remote-node", "host")], ids="+".join)
def test_node_local_cache(tmp_path: Path, inventory: bool, labels: tuple[str, ...]) -> None:
    """169.254.20.10 is the node's cache: link-local, not metadata."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.dns(web, s.place("169.254.20.10", *labels, identity=2 if labels == ("world",) else 1))
    s.dns(web, s.world("169.254.20.10"))  # another node's agent does not know whose it is
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "169.254.20.10", 53, p) for p in ("TCP", "UDP")]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted], [("shop/web", "169.254.169.254", 80)]) == []
    assert out.review("node") == []


@BOTH
@pytest.mark.parametrize("cni", ["generic", "calico", "cilium"])
@pytest.mark.parametrize("own", [True, False], ids=["own-node", "remote-node"])
def test_the_resolver_is_on_the_hosts_network(tmp_path: Path, inventory: bool, cni: CNI, own: bool) -> None:
    """Without its nodes' addresses no name resolves any more; where no block matches a node, it has a name."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    node = s.place("192.168.7.2", "host", identity=1, node=web.node) if own else s.place("192.168.7.2", "remote-node")
    s.dns(web, node)
    s.talk(web, node, 9100)
    out = s.run(tmp_path, inventory=inventory, cni=cni)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    held = [item for item in out.result.synthesis.review if item.kind == "node"]
    if cni == "cilium":
        assert out.blocks() == []
        asked = [(p, e, port) for p in ("TCP", "UDP") for e in ("host", "remote-node") for port in (53, 9100)]
        verdicts = {(p, e, port): out.ask("shop/web", e, port, p) for p, e, port in asked}
        assert {key for key, verdict in verdicts.items() if verdict == "allow"} == {
            key for key in asked if key[2] == 53 or key[0] == "TCP"
        }
        assert out.ask("shop/api", "remote-node", 53, "UDP") == "deny"
        assert held == []
        return
    wanted = [(w, "192.168.7.2", 53, p) for w in ("shop/web", "shop/api") for p in ("TCP", "UDP")]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted]) == []
    assert out.blocks() == ["192.168.7.2/32"]
    assert [_at(item) for item in held] == ["TCP:9100"]


def _at(item: ReviewItem) -> str:
    return ":".join(item.what.split()[-2:])


@BOTH
def test_without_a_single_lookup_kube_dns_is_allowed(tmp_path: Path, inventory: bool) -> None:
    """Aggregation hid it: kube-dns is allowed nevertheless."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.pod("kube-system/coredns", DNS)
    s.talk(web, api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [(w, "kube-system/coredns", 53, p) for w in ("shop/web", "shop/api") for p in ("TCP", "UDP")]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted]) == []


@pytest.mark.parametrize("service", [True, False])
def test_none_seen_and_the_resolver_is_no_kube_dns(tmp_path: Path, service: bool) -> None:
    """Distributions label it in their own way, and it listens where it likes: the inventory knows."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    labels = {"dns.operator.openshift.io/daemonset-dns": "default"} if not service else {"app": "names"}
    name = "kube-system/names" if service else "openshift-dns/dns-default"
    dns = s.pod(name, labels, kind="DaemonSet", ports=((5353, "UDP"), (9154, "TCP")))
    if service:
        s.service(dns, "10.96.0.10", 53, 5353, protocol="UDP")
    s.talk(web, api, 8080)
    out = s.run(tmp_path, inventory=True)
    wanted = [(w, name, 5353, p) for w in ("shop/web", "shop/api") for p in ("TCP", "UDP")]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted], [("shop/web", name, 9154)]) == []


@BOTH
def test_where_the_nodes_cache_was_asked_the_clusters_resolver_may_be_too(tmp_path: Path, inventory: bool) -> None:
    """Without its cache, a node sends lookups to the resolver's pods."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.pod("kube-system/coredns", DNS, ports=((53, "UDP"),))
    s.talk(web, api, 8080)
    s.dns(web, s.world("169.254.20.10"))
    out = s.run(tmp_path, inventory=inventory)
    resolvers = ("169.254.20.10", "kube-system/coredns")
    wanted = [("shop/api", resolver, 53, p) for resolver in resolvers for p in ("TCP", "UDP")]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted]) == []


@BOTH
def test_a_dns_server_of_the_application(tmp_path: Path, inventory: bool) -> None:
    """A workload that listens at 53 and is not the cluster's resolver is an ordinary edge, not the namespace's DNS."""
    s = Scene()
    web, api, powerdns = s.pod("shop/web"), s.pod("shop/api"), s.pod("edge/powerdns")
    s.talk(web, api, 8080)
    s.dns(web, powerdns)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/web", "edge/powerdns", 53, "UDP")]
    assert out.wrong(wanted, [("shop/api", "edge/powerdns", 53, "UDP")]) == []


@BOTH
def test_pods_that_claim_to_be_the_resolver(tmp_path: Path, inventory: bool) -> None:
    """A label anybody may set must not open a whole namespace to a pod that nobody but one asked."""
    s = Scene()
    web, api, fake = s.pod("shop/web"), s.pod("shop/api"), s.pod("evil/tunnel", DNS)
    real = s.pod("kube-system/coredns", DNS)
    s.talk(web, api, 8080)
    s.dns(api, real)
    s.dns(web, fake)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/api", "evil/tunnel", 53, "UDP"), ("shop/api", "evil/tunnel", 53, "TCP")]
    assert out.wrong([("shop/web", "shop/api", 8080), ("shop/api", "kube-system/coredns", 53, "UDP")], denied) == []


@BOTH
def test_the_proxys_own_upstream_lookup(tmp_path: Path, inventory: bool) -> None:
    """remote-node → kube-dns:53 is Cilium's DNS proxy: no traceback, no policy in kube-system, no rule for nodes."""
    s = Scene()
    web, dns = s.pod("shop/web"), s.pod("kube-system/coredns", DNS)
    s.dns(web, dns)
    s.dns(s.place("172.18.0.3", "remote-node", identity=6), dns)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "kube-system/coredns", 53, "UDP")]) == []
    assert {d["metadata"]["namespace"] for d in out.policies("NetworkPolicy")} == {"shop"}
