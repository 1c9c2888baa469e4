"""Who opened the connection: replies in every disguise that real captures have, and none of them becomes a rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hostile.scene import Scene

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])


@BOTH
@pytest.mark.parametrize("client", [41_000, 20_011])
@pytest.mark.parametrize("syn", [True, False], ids=["with-syn", "without-syn"])
def test_netkit_replies_marked_new(tmp_path: Path, syn: bool, client: int, inventory: bool) -> None:
    """cilium#47913: the server's packets come as new connections to the client's port."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    other = s.pod("shop/other")
    s.talk(other, api, 8080)
    for number in range(6):
        port = client + number * 13
        if syn:
            s.packet(web, api, port, 8080, flags="SYN", reason="NEW")
        s.packet(web, api, port, 8080, flags="ACK PSH", reason="NEW")
        s.packet(api, web, 8080, port, flags="ACK PSH", reason="NEW", node=web.node)
    out = s.run(tmp_path, inventory=inventory)
    asks = [("shop/api", "shop/web", client + n * 13) for n in range(6)]
    assert out.wrong([("shop/web", "shop/api", 8080), ("shop/other", "shop/api", 8080)], asks) == []


@BOTH
def test_only_replies_marked_new_and_nothing_else(tmp_path: Path, inventory: bool) -> None:
    """Only the disguised replies were captured: no rule at a client's port, whatever else is concluded."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    ports = [40_000 + n * 17 for n in range(6)]
    for port in ports:
        s.packet(api, web, 8080, port, flags="ACK PSH", reason="NEW")
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([], [("shop/api", "shop/web", port) for port in ports], closed=False) == []


@BOTH
def test_only_replies_marked_new_to_low_client_ports(tmp_path: Path, inventory: bool) -> None:
    """The same with ip_local_port_range below 32768."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    ports = [20_000 + n * 17 for n in range(6)]
    for port in ports:
        s.packet(api, web, 8080, port, flags="ACK PSH", reason="NEW")
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([], [("shop/api", "shop/web", port) for port in ports], closed=False) == []


@BOTH
def test_syn_ack_marked_not_a_reply(tmp_path: Path, inventory: bool) -> None:
    """SYN+ACK is the server's, whatever `is_reply` says."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    for number in range(4):
        port = 45_000 + number * 11
        s.packet(web, api, port, 8080, flags="SYN", reason="NEW")
        s.packet(api, web, 8080, port, flags="SYN ACK", reply=False, reason="NEW", node=web.node)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/api", "shop/web", 45_000 + n * 11) for n in range(4)]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied) == []


@BOTH
def test_is_reply_true_on_a_request_at_the_end(tmp_path: Path, inventory: bool) -> None:
    """retina#1417: the client's last packets are marked as replies."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    for record in s.talk(web, api, 8080, times=4):
        flow = record["flow"]
        if flow["l4"]["TCP"]["flags"] == {"ACK": True, "PSH": True}:
            flow["is_reply"] = True
            flow["l4"]["TCP"]["flags"] = {"ACK": True, "FIN": True}
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/api", "shop/web", 8080)]) == []


@BOTH
def test_only_the_deprecated_reply_field(tmp_path: Path, inventory: bool) -> None:
    """`reply: true` or absent, no `is_reply` anywhere."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    for record in s.talk(web, api, 8080, times=4):
        if record["flow"].pop("is_reply", None):
            record["flow"]["reply"] = True
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []


@BOTH
@pytest.mark.parametrize("questions", [True, False], ids=["with-questions", "answers-only"])
def test_udp_answers_after_conntrack_expiry(tmp_path: Path, inventory: bool, questions: bool) -> None:
    """DNS answers that come as new connections 53 → ephemeral."""
    s = Scene()
    web = s.pod("shop/web")
    dns = s.pod("kube-system/coredns", {"k8s-app": "kube-dns"})
    ports = [50_000 + n * 31 for n in range(5)]
    for port in ports:
        if questions:
            s.packet(web, dns, port, 53, "UDP", reason="NEW")
        s.packet(dns, web, 53, port, "UDP", reason="NEW", node=web.node)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("kube-system/coredns", "shop/web", port, "UDP") for port in ports]
    assert out.wrong([("shop/web", "kube-system/coredns", 53, "UDP")], denied) == []


@BOTH
def test_grpc_server_at_an_ephemeral_port(tmp_path: Path, inventory: bool) -> None:
    """50051 lies in the ephemeral range and is a server all the same."""
    s = Scene()
    cart, catalog = s.pod("shop/cart"), s.pod("shop/catalog", ports=((50_051, "TCP"),))
    s.talk(cart, catalog, 50_051)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/cart", "shop/catalog", 50_051)], [("shop/catalog", "shop/cart", 50_051)]) == []


@BOTH
def test_grpc_mid_stream_only(tmp_path: Path, inventory: bool) -> None:
    """A long-lived gRPC connection that was open before the capture; both ports are ephemeral; the marks are right."""
    s = Scene()
    cart, catalog = s.pod("shop/cart"), s.pod("shop/catalog", ports=((50_051, "TCP"),))
    for _ in range(5):
        s.packet(cart, catalog, 39_777, 50_051, flags="ACK PSH", reply=False, reason="ESTABLISHED")
        s.packet(catalog, cart, 50_051, 39_777, flags="ACK PSH", reply=True, reason="REPLY", node=cart.node)
    out = s.run(tmp_path, inventory=inventory)
    legitimate = [("shop/cart", "shop/catalog", 50_051)] if inventory else []
    denied = [("shop/catalog", "shop/cart", 39_777), ("shop/catalog", "shop/cart", 50_051)]
    assert out.wrong(legitimate, denied, closed=inventory) == []


@BOTH
@pytest.mark.parametrize("flags", ["SYN ACK", "ACK PSH", ""])
def test_only_replies_of_a_server_at_an_ephemeral_port_to_several_clients(
    tmp_path: Path, inventory: bool, flags: str
) -> None:
    """The clients' node alone was captured, and what came in there: several client ports meet at one port."""
    s = Scene()
    cart, catalog = s.pod("shop/cart"), s.pod("shop/catalog", ports=((50_051, "TCP"),))
    ports = (39_777, 41_234, 58_001)
    for port in ports:
        s.packet(catalog, cart, 50_051, port, flags=flags, reply=True, reason="REPLY", node=cart.node)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/catalog", "shop/cart", port) for port in (*ports, 50_051)]
    assert out.wrong([("shop/cart", "shop/catalog", 50_051)], denied) == []


@BOTH
def test_requests_marked_as_replies_do_not_open_their_clients_ports(tmp_path: Path, inventory: bool) -> None:
    """Seen from the wrong end, one port meets several at the other side, and never several at one."""
    s = Scene()
    cart, catalog = s.pod("shop/cart"), s.pod("shop/catalog", ports=((50_051, "TCP"),))
    ports = (39_777, 41_234, 58_001)
    for port in ports:
        s.packet(cart, catalog, port, 50_051, flags="ACK FIN", reply=True, reason="REPLY")
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/catalog", "shop/cart", port) for port in ports]
    assert out.wrong([], denied, closed=False) == []


@BOTH
@pytest.mark.parametrize("ports", [(39_777,), (39_777, 41_234)], ids=["one-connection", "two"])
def test_grpc_mid_stream_against_another_connection(tmp_path: Path, inventory: bool, ports: tuple[int, ...]) -> None:
    """The server calls its client back at another port: the client's own calls are no replies to that."""
    s = Scene()
    cart, catalog = (s.pod("shop/cart", ports=((9000, "TCP"),)), s.pod("shop/catalog", ports=((50_051, "TCP"),)))
    s.talk(catalog, cart, 9000)
    for port in ports:
        s.packet(cart, catalog, port, 50_051, flags="ACK PSH", reply=False, reason="ESTABLISHED")
        s.packet(catalog, cart, 50_051, port, flags="ACK PSH", reply=True, reason="REPLY", node=cart.node)
    out = s.run(tmp_path, inventory=inventory)
    settled = inventory or len(ports) > 1
    legitimate = [("shop/catalog", "shop/cart", 9000)] + [("shop/cart", "shop/catalog", 50_051)] * settled
    assert out.wrong(legitimate, [("shop/catalog", "shop/cart", 39_777)], closed=settled) == []
    assert settled or any("shop/cart → shop/catalog" in item and "50051" in item for item in out.review("direction"))
    assert settled or "in which the port is declared" in out.result.files["REVIEW.md"]


@BOTH
@pytest.mark.parametrize("lowest", [33_000, 2_000], ids=["usual-range", "from-1024"])
def test_a_cluster_bus_mid_stream_beside_the_members_own_port(tmp_path: Path, lowest: int, inventory: bool) -> None:
    """Members open 6379 among themselves; their bus was open before, and its port is not declared (redis, erlang).

    Nodes with many connections often have their client ports from 1024 on.
    """
    s = Scene()
    members = [
        s.pod("data/redis", kind="StatefulSet", pod=f"redis-{n}", node=f"node-{n}", ports=((6379, "TCP"),))
        for n in range(3)
    ]
    for one, two in zip(members, members[1:] + members[:1], strict=True):
        s.talk(one, two, 6379)
        port = lowest + 1_111 * members.index(one)
        s.packet(one, two, port, 16_379, flags="ACK PSH", reason="ESTABLISHED")
        s.packet(two, one, 16_379, port, flags="ACK PSH", reply=True, reason="REPLY", node=one.node)
    out = s.run(tmp_path, inventory=inventory)
    bus = ("data/redis", "data/redis", 16_379)
    assert out.wrong([("data/redis", "data/redis", 6379), bus]) == []
    assert out.review("direction") == []


@BOTH
def test_only_replies_of_a_node_that_calls_back(tmp_path: Path, inventory: bool) -> None:
    """The exporter's answers were seen, not the question; its node also probes the one who asks."""
    s = Scene()
    prom = s.pod("mon/prom", ports=((9090, "TCP"),))
    host = s.place("192.168.1.7", "host", identity=1, node=prom.node)
    s.talk(host, prom, 9090)
    for port in (40_001, 40_777):
        s.packet(host, prom, 9100, port, flags="SYN ACK", reply=True, reason="REPLY", node=prom.node)
    out = s.run(tmp_path, inventory=inventory)
    assert out.review("direction") == []


@BOTH
def test_long_lived_database_pool_mid_stream(tmp_path: Path, inventory: bool) -> None:
    """No SYN in the window; pools are legitimate and a deny would hit at the next reconnect."""
    s = Scene()
    api, db = s.pod("shop/api"), s.pod("shop/db", kind="StatefulSet")
    for _ in range(5):
        s.packet(api, db, 39_777, 5432, flags="ACK PSH", reply=False, reason="ESTABLISHED")
        s.packet(db, api, 5432, 39_777, flags="ACK PSH", reply=True, reason="REPLY", node=api.node)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/api", "shop/db", 5432)], [("shop/db", "shop/api", 39_777)]) == []


@BOTH
def test_no_mark_and_no_flags_at_all(tmp_path: Path, inventory: bool) -> None:
    """Overlay records only: neither `is_reply` nor flags; the ports tell."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    for number in range(5):
        s.packet(web, api, 41_000 + number, 8080, reply=None, point="TO_OVERLAY", node=web.node)
        s.packet(api, web, 8080, 41_000 + number, reply=None, point="TO_OVERLAY", node=api.node)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/api", "shop/web", 41_000 + n) for n in range(5)]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied) == []


@BOTH
def test_gossip_on_the_same_port_both_ways(tmp_path: Path, inventory: bool) -> None:
    """Members of two StatefulSets gossip 7946 → 7946 over TCP and UDP, either side first."""
    s = Scene()
    left, right = s.pod("mon/left", kind="StatefulSet"), s.pod("mon/right", kind="StatefulSet")
    for one, two in ((left, right), (right, left)):
        s.talk(one, two, 7946, "UDP", sport=7946, times=4)
        s.talk(one, two, 7946, times=3)
    out = s.run(tmp_path, inventory=inventory)
    pairs = (("mon/left", "mon/right"), ("mon/right", "mon/left"))
    wanted = [(a, b, 7946, protocol) for a, b in pairs for protocol in ("TCP", "UDP")]
    assert out.wrong(wanted) == []


@pytest.mark.parametrize(
    ("revisions", "inventory"),
    [(("v1", "v1"), False), (("v1", "v1"), True), (("v1", "v2"), False)],
    ids=["flows-only", "inventory", "two-revisions"],
)
def test_gossip_of_one_workload_on_one_port_without_marks(
    tmp_path: Path, revisions: tuple[str, str], inventory: bool
) -> None:
    """No `is_reply` at all: who began does not matter, the rule is the same. One way alone is no conversation."""
    s = Scene()
    one, two = (
        s.pod("mon/ring", {"app": "ring", "version": revision}, pod=f"ring-{n}", kind="StatefulSet")
        for n, revision in enumerate(revisions)
    )
    for _ in range(4):
        s.packet(one, two, 7946, 7946, "UDP", reply=None)
        s.packet(two, one, 7946, 7946, "UDP", reply=None)
    for _ in range(2):
        s.packet(one, two, 7947, 7947, "UDP", reply=None)
        s.count += 7200
    out = s.run(tmp_path, inventory=inventory)
    pairs = (("mon/ring-0", "mon/ring-1"), ("mon/ring-1", "mon/ring-0"))
    wanted, denied = ([(*pair, port, "UDP") for pair in pairs] for port in (7946, 7947))
    assert out.wrong(wanted, denied, closed=False) == []


@BOTH
def test_the_loser_of_a_symmetric_pair_is_not_invented(tmp_path: Path, inventory: bool) -> None:
    """web calls api at 8080, api calls back at 9000: two edges, and not their cross product."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    s.talk(web, api, 8080)
    s.talk(api, web, 9000)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080), ("shop/api", "shop/web", 9000)]) == []


@BOTH
def test_traffic_direction_lies(tmp_path: Path, inventory: bool) -> None:
    """cilium#36814: records at the destination say EGRESS, others say nothing: it decides nothing."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api")
    claims = ["EGRESS", "INGRESS", "TRAFFIC_DIRECTION_UNKNOWN"]
    for record, claim in zip(s.talk(web, api, 8080, times=4), claims * 6, strict=False):
        record["flow"]["traffic_direction"] = claim
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []


@BOTH
def test_passive_ftp_data_ports(tmp_path: Path, inventory: bool) -> None:
    """Answered connections to ephemeral ports, each used once: the control port is allowed, nothing backwards."""
    s = Scene()
    web, ftp = s.pod("shop/web"), s.pod("shop/ftp")
    s.talk(web, ftp, 21)
    for number in range(4):
        s.talk(web, ftp, 50_100 + number, times=1)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/ftp", 21)], [("shop/ftp", "shop/web", 50_100)], closed=False) == []
