"""Who searches the network, and who only looks as if: no door that a search found open becomes a rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hostile.scene import Scene, twin

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])


@BOTH
def test_port_scan(tmp_path: Path, inventory: bool) -> None:
    """200 ports of one pod, three of them open: none is allowed."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/evil")
    s.talk(web, api, 8080)
    for port in range(1, 201):
        s.talk(evil, api, port, times=1, replies=port in (22, 80, 111))
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/evil", "shop/api", port) for port in (22, 80, 111, 1, 200)]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied, closed=False) == []
    assert len(out.review()) < 12, out.review()


@BOTH
def test_host_scan(tmp_path: Path, inventory: bool) -> None:
    """One port of 40 pods, most of them silent."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/evil")
    s.talk(web, api, 8080)
    targets = [s.pod(f"shop/t{n}") for n in range(40)]
    for number, target in enumerate(targets):
        s.talk(evil, target, 6379, times=1, replies=number < 3)
        s.talk(web, target, 8080, times=2)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", f"shop/t{n}", 8080) for n in range(40)]
    denied = [("shop/evil", f"shop/t{n}", 6379) for n in range(40)]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted], denied) == []


@BOTH
def test_scan_of_a_small_cluster(tmp_path: Path, inventory: bool) -> None:
    """Four usual ports of eight workloads: few of either, and the one open door that others use is still the scan's."""
    s = Scene()
    web, db, evil = s.pod("shop/web"), s.pod("shop/db", kind="StatefulSet"), s.pod("shop/evil")
    s.talk(web, db, 6379)
    for target in [web, db, *(s.pod(f"shop/t{n}") for n in range(6))]:
        for port in (22, 443, 3306, 6379):
            s.talk(evil, target, port, times=1, replies=(target, port) == (db, 6379))
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/db", 6379)], [("shop/evil", "shop/db", 6379)]) == []


@BOTH
def test_scanner_with_a_legitimate_edge(tmp_path: Path, inventory: bool) -> None:
    """The compromised pod's own work goes on: others use that port too, or it is declared."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/evil")
    s.talk(web, api, 8080)
    s.talk(evil, api, 8080, times=5)
    for port in range(1, 120):
        s.talk(evil, web, port, times=1, replies=False)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("shop/evil", "shop/api", 8080)]
    assert out.wrong(wanted, [("shop/evil", "shop/web", p) for p in (1, 22, 80)], closed=False) == []


@BOTH
def test_external_scanner_does_not_publish(tmp_path: Path, inventory: bool) -> None:
    """The internet knocks at every port of a public pod: only the answered, published one opens."""
    s = Scene()
    web, api = s.pod("shop/web", ports=((8443, "TCP"),)), s.pod("shop/api")
    s.service(web, "10.96.1.1", 443, 8443, type="LoadBalancer")
    s.talk(web, api, 8080)
    for number in range(5):
        s.talk(s.world(f"198.51.100.{number + 1}"), web, 8443)
    for port in range(20, 80):
        s.talk(s.world("203.0.113.66"), web, port, times=1, replies=False)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/api", 8080), ("198.51.100.1", "shop/web", 8443)]
    assert out.wrong(wanted, [("203.0.113.66", "shop/web", p) for p in (22, 23, 79)], closed=False) == []


@BOTH
def test_scan_that_hits_the_port_others_use(tmp_path: Path, inventory: bool) -> None:
    """One knock of a scan is answered, for the service is there: the scan's, not an edge (semantics 3, no. 42)."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/evil")
    s.talk(web, api, 8080, times=6)
    for port in [*range(1, 120), 8080, 8443, 9000]:
        s.talk(evil, api, port, times=1, replies=port == 8080)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/evil", "shop/api", 8080), ("shop/evil", "shop/api", 22)]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied, closed=False) == []


@BOTH
@pytest.mark.parametrize("refused", [True, False])
def test_scans_with_segments_that_no_connection_has(tmp_path: Path, inventory: bool, refused: bool) -> None:
    """FIN, Xmas, null, and ACK where a closed port resets it: they look like the middle of a connection."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/evil")
    s.talk(web, api, 8080)
    ports = (22, 80, 8081)
    for flags in ("FIN", "FIN PSH URG", "PSH", *(["ACK"] if refused else [])):
        for port in ports:
            for own in range(41_000, 41_003):
                record = s.packet(evil, api, own, port, flags=flags, reason="NEW")
                if flags == "PSH":
                    record["flow"]["l4"]["TCP"]["flags"] = {}
                if refused:
                    s.packet(api, evil, port, own, flags="RST ACK", reply=True, node=evil.node)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/evil", "shop/api", port) for port in ports]) == []


@BOTH
@pytest.mark.parametrize("asks_names", [True, False])
@pytest.mark.parametrize("ports", [(67, 123, 161, 500, 1900), (514, 8125)], ids=["search", "sinks"])
def test_silent_datagrams_to_many_ports_are_a_search(
    tmp_path: Path, inventory: bool, ports: tuple[int, ...], asks_names: bool
) -> None:
    """Whether or not the one who sends them gets answers from anybody else; two may well be sinks."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/other")
    s.talk(web, api, 8080)
    s.dns(web, s.pod("kube-system/coredns", {"k8s-app": "kube-dns"}))
    if asks_names:
        s.dns(other, s.ends[-1])
    for port in ports:
        s.talk(other, api, port, "UDP", replies=False, times=5)
    asks = [("shop/other", "shop/api", port, "UDP") for port in ports]
    wanted, denied = ([], asks) if len(ports) > 2 else (asks, [])
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted], denied) == []
    assert bool(out.review("scan") + out.review("unanswered")) is bool(denied)


@BOTH
def test_forged_answers_open_nothing(tmp_path: Path, inventory: bool) -> None:
    """SYN-ACKs to a pod that asked nothing, from inside and from outside: no way out to who sent them."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/evil")
    s.talk(web, api, 8080)
    for own in range(41_000, 41_020):
        s.packet(evil, web, 4444, own, flags="SYN ACK", reply=False, reason="NEW", node=web.node)
        s.packet(s.world("203.0.113.9"), web, 443, own, flags="SYN ACK", reply=False, reason="NEW", node=web.node)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/web", "shop/evil", 4444), ("shop/web", "203.0.113.9", 443)]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied) == []
    assert len(out.review("direction")) == 2


@BOTH
def test_many_ports_of_which_only_verdicts_were_seen_are_no_search(tmp_path: Path, inventory: bool) -> None:
    """A database's members know each other at five ports; their node reports policy verdicts alone."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    client, db = s.pod("data/client"), s.pod("data/db", kind="StatefulSet")
    s.talk(web, api, 8080)
    ports = (7000, 7001, 7199, 9042, 9160)
    for port in ports:
        s.talk(client, db, port, replies=False, event_type={"type": 5})
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("data/client", "data/db", port) for port in ports]
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted]) == []


@BOTH
def test_a_client_of_dead_ports_keeps_its_own_connection(tmp_path: Path, inventory: bool) -> None:
    """Five closed ports are a poor configuration; twenty are a scan."""
    s = Scene()
    web, api, db = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/db")
    s.talk(web, db, 5432)
    for port in range(9000, 9006):
        s.talk(web, api, port, replies=False)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/db", 5432)], [("shop/web", "shop/api", 9000)]) == []


@BOTH
@pytest.mark.parametrize("times", [1, 3])
def test_a_small_scan_that_hits_the_port_others_use(tmp_path: Path, inventory: bool, times: int) -> None:
    """Too few ports to call their source a scanner; but its one knock at an open door is one of them."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/other")
    s.talk(web, api, 8080)
    for port in (22, 80, 443, 3306, 9090):
        s.packet(other, api, 44_000, port, flags="SYN")
        s.packet(api, other, port, 44_000, flags="RST ACK", reply=True, node=other.node)
    s.talk(other, api, 8080, times=times)
    s.talk(other, s.pod("shop/db", ports=((5432, "TCP"),)), 5432, times=1)
    asks = [("shop/other", "shop/api", 8080)]
    wanted, denied = ([], asks) if times == 1 else (asks, [])
    out = s.run(tmp_path, inventory=inventory)
    known = [("shop/web", "shop/api", 8080), ("shop/other", "shop/db", 5432)]
    assert out.wrong([*known, *wanted], denied) == []


@BOTH
@pytest.mark.parametrize("replicas", [1, 3])
def test_a_scan_whose_resets_cannot_be_told(tmp_path: Path, inventory: bool, replicas: int) -> None:
    """TCP flags are masked: each closed port seems to answer, once a pod, and so does the one that others use."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/evil")
    s.talk(web, api, 8080)
    ports = [*range(100, 140), 8080]
    for pod in [api, *(twin(api, number) for number in range(1, replicas))]:
        for own, port in enumerate(ports, 44_000):
            s.packet(evil, pod, own, port)
            s.packet(pod, evil, port, own, reply=True, node=evil.node)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/evil", "shop/api", port) for port in ports]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied, closed=False) == []


def test_many_declared_sinks_are_no_search(tmp_path: Path) -> None:
    """An agent that takes metrics, logs and traces of all kinds, and answers none."""
    ports = (514, 5775, 6831, 6832, 8125, 9125, 12201)
    s = Scene()
    web, agent = s.pod("shop/web"), s.pod("shop/agent", ports=tuple((port, "UDP") for port in ports))
    s.dns(web, s.pod("kube-system/coredns", {"k8s-app": "kube-dns"}))
    for port in ports:
        s.talk(web, agent, port, "UDP", replies=False, times=5)
    out = s.run(tmp_path, inventory=True)
    assert out.wrong([("shop/web", "shop/agent", port, "UDP") for port in ports]) == []


@BOTH
def test_a_client_of_many_silent_sinks_keeps_what_was_answered(tmp_path: Path, inventory: bool) -> None:
    """Six sinks at one collector look like a search there; they say nothing about what the client does elsewhere."""
    s = Scene()
    app, api, dns = s.pod("shop/app"), s.pod("shop/api"), s.pod("kube-system/coredns", {"k8s-app": "kube-dns"})
    collector = s.pod("shop/collector")
    s.talk(app, api, 8080)
    s.dns(app, dns)
    for port in (514, 4739, 5775, 6831, 6832, 8125):
        s.talk(app, collector, port, "UDP", replies=False, times=5)
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/app", "shop/collector", 514, "UDP")]
    assert out.wrong([("shop/app", "shop/api", 8080)], denied, closed=False) == []
    assert out.ask("shop/app", "kube-system/coredns", 53, "UDP") == "allow"


@BOTH
def test_a_silent_search_is_held_where_it_was_answered_once(tmp_path: Path, inventory: bool) -> None:
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/evil")
    s.talk(web, api, 8080)
    for port in (67, 123, 161, 500, 1900, 53):
        s.talk(evil, api, port, "UDP", replies=port == 53, times=1 if port == 53 else 5)
    s.talk(web, evil, 5353, "UDP")
    out = s.run(tmp_path, inventory=inventory)
    denied = [("shop/evil", "shop/api", port, "UDP") for port in (67, 53)]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied, closed=False) == []


@BOTH
@pytest.mark.parametrize("tries", [1, 3])
def test_a_sweep_of_the_internet_opens_nothing(tmp_path: Path, inventory: bool, tries: int) -> None:
    """One port of 40 addresses outside, of which four answer; addresses outside share their evidence."""
    s = Scene()
    web, api, evil = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/evil")
    s.talk(web, api, 8080)
    swept = [f"198.51.{n}.{n + 7}" for n in range(40)]
    for number, address in enumerate(swept):
        s.talk(evil, s.world(address), 23, times=1 if number < 4 else tries, replies=number < 4)
    out = s.run(tmp_path, inventory=inventory)
    assert out.wrong([("shop/web", "shop/api", 8080)], [("shop/evil", address, 23) for address in swept]) == []
    assert len(out.review("scan")) == 1


@BOTH
def test_who_sweeps_the_internet_keeps_the_addresses_that_answer(tmp_path: Path, inventory: bool) -> None:
    """A compromised pod's own work at the same port goes on, and so does a crawler's whose addresses all answer."""
    s = Scene()
    web, crawler, own = s.pod("shop/web"), s.pod("shop/crawler"), s.world("203.0.113.9")
    s.talk(web, own, 443, times=40)
    swept = [f"198.51.{n}.{n + 7}" for n in range(20)]
    for address in swept:
        s.talk(web, s.world(address), 443, times=1, replies=False)
        s.talk(crawler, s.world(address), 443, times=1)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", own.ip, 443), *(("shop/crawler", address, 443) for address in swept)]
    assert out.wrong(wanted, [("shop/web", address, 443) for address in swept]) == []


@BOTH
def test_those_who_search_do_not_vouch_for_each_other(tmp_path: Path, inventory: bool) -> None:
    """Two scanners that both came back to the door that they found."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.talk(web, api, 8080)
    for evil in (s.pod("dev/evil"), s.pod("ci/evil")):
        for port in range(1000, 1040):
            s.talk(evil, api, port, times=1, replies=False)
        s.talk(evil, api, 5432, times=2)
    out = s.run(tmp_path, inventory=inventory)
    denied = [(f"{namespace}/evil", "shop/api", 5432) for namespace in ("dev", "ci")]
    assert out.wrong([("shop/web", "shop/api", 8080)], denied) == []


@BOTH
@pytest.mark.parametrize(("sources", "astray", "legitimate"), [(2, 0, True), (5, 0, True), (5, 1, False)])
def test_single_connections_vouch_for_each_other_unless_they_come_of_a_search(
    tmp_path: Path, inventory: bool, sources: int, astray: int, legitimate: bool
) -> None:
    """Those that knocked at another door in vain are no witnesses."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.talk(web, api, 8080)
    for number in range(sources):
        source = s.pod(f"dev/w{number}")
        s.talk(source, api, 6379, times=1)
        for port in range(astray):
            s.talk(source, api, 1000 + number + port, times=1, replies=False)
    out = s.run(tmp_path, inventory=inventory)
    asks = [(f"dev/w{number}", "shop/api", 6379) for number in range(sources)]
    wanted, denied = (asks, []) if legitimate else ([], asks)
    assert out.wrong([("shop/web", "shop/api", 8080), *wanted], denied) == []
