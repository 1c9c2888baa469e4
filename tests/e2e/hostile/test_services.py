"""Addresses of Services: rules name the pods behind them, or nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hostile.scene import End, Outcome, Scene

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])


def with_services_only(s: Scene, folder: Path) -> Outcome:
    """The run with an inventory of the Services alone, judged in the scene's whole world."""
    everything, s.documents = s.documents, lambda: s.extra  # type: ignore[method-assign]
    result = s.run(folder, inventory=True).result
    s.documents = everything  # type: ignore[method-assign]
    return Outcome(s, result)


def test_services_without_their_workloads(tmp_path: Path) -> None:
    """`kubectl get services` and no more: a selector tells which of the pods that flows show are behind an address."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/other")
    s.service(api, "10.50.7.7", 80, 8080)
    s.talk(web, s.world("10.50.7.7"), 80, times=5)
    s.talk(web, s.world("10.50.7.7"), 81, times=5)
    s.talk(api, other, 9090)
    out = with_services_only(s, tmp_path)
    wanted = [("shop/web", "shop/api", 8080), ("shop/api", "shop/other", 9090)]
    assert out.wrong(wanted, [("shop/web", "shop/api", 80), ("shop/web", "shop/api", 81)]) == []
    assert out.blocks() == []


def test_a_published_service_without_its_workload(tmp_path: Path) -> None:
    """The Service declares and publishes its target port, though nothing but flows shows whose port that is."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.service(api, "10.50.7.7", 80, 8080, type="NodePort")
    s.talk(s.place("172.18.0.9", "remote-node", identity=6), api, 8080, times=5)
    s.talk(web, api, 9090)
    out = with_services_only(s, tmp_path)
    assert out.result.sound
    asked = [("203.0.113.77", 8080), ("172.18.0.9", 8080), ("203.0.113.77", 9090)]
    assert [out.ask(source, "shop/api", port) for source, port in asked] == ["allow", "allow", "deny"]


@BOTH
def test_cluster_ip_labelled_world(tmp_path: Path, inventory: bool) -> None:
    """Before translation the Service's address and port are seen; rules name pods and target ports."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.service(api, "10.96.7.7", 80, 8080)
    s.talk(web, s.world("10.96.7.7"), 80, times=5)
    s.talk(s.pod("shop/other"), api, 8080)
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/other", "shop/api", 8080)] + ([("shop/web", "shop/api", 8080)] if inventory else [])
    assert out.wrong(wanted, [("shop/web", "shop/api", 80)]) == []
    assert out.blocks() == []
    if not inventory:
        assert any("10.96.7.7" in item for item in out.review("unresolved"))


@pytest.mark.parametrize("address", ["10.233.4.1", "10.152.183.9", "fd00:10:96::7c", "2001:cafe:43::1b"])
def test_cluster_ips_of_usual_ranges_without_an_inventory(tmp_path: Path, address: str) -> None:
    """Of either family: a ClusterIP in an ipBlock is wrong, and nobody here knows whose it is."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.talk(web, api, 8080)
    s.talk(web, s.world(address), 80, times=5)
    out = s.run(tmp_path)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    assert out.blocks() == []
    assert any(address in item for item in out.review("unresolved"))


def through_a_service(s: Scene, client: End, address: str, service: str) -> None:
    """Connections to a Service's address, as Hubble names it: the Service is the responder's on each record."""
    namespace, _, name = service.partition("/")
    for record in s.talk(client, s.world(address), 80, times=5):
        end = "source_service" if record["flow"]["is_reply"] else "destination_service"
        record["flow"][end] = {"name": name, "namespace": namespace}


@pytest.mark.parametrize("address", ["10.50.7.7", "fd12:3456::7"])
def test_a_service_that_hubble_names_is_never_outside(tmp_path: Path, address: str) -> None:
    """Whatever its range: nobody but Hubble says here that the address is a Service's."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.talk(web, api, 8080)
    through_a_service(s, web, address, "shop/front")
    out = s.run(tmp_path)
    assert out.wrong([("shop/web", "shop/api", 8080)]) == []
    assert out.blocks() == []
    (held,) = (item for item in out.result.synthesis.review if item.kind == "unresolved")
    assert address in held.what
    assert "the address of Service shop/front" in held.why


def test_a_service_that_hubble_names_is_found_in_manifests_without_addresses(tmp_path: Path) -> None:
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.service(api, "", 80, 8080)
    s.talk(s.pod("shop/other"), api, 8080)
    through_a_service(s, web, "10.50.7.7", "shop/api")
    out = s.run(tmp_path, inventory=True)
    wanted = [("shop/other", "shop/api", 8080), ("shop/web", "shop/api", 8080)]
    assert out.wrong(wanted, [("shop/web", "shop/api", 80)]) == []
    assert out.blocks() == []


@pytest.mark.parametrize(
    "service", [None, {}, {"name": "Not A Name", "namespace": "shop"}, {"name": "api"}, {"name": None}]
)
def test_a_service_without_a_proper_name_says_nothing(tmp_path: Path, service: object) -> None:
    s = Scene()
    web = s.pod("shop/web")
    s.talk(web, s.world("198.51.100.7"), 443, times=5, destination_service=service, replies=False)
    assert s.run(tmp_path).blocks() == ["198.51.100.7/32"]


@BOTH
def test_sock_records_are_no_edges(tmp_path: Path, inventory: bool) -> None:
    """TRACED and TRANSLATED twins of one connection: neither is an edge of its own."""
    s = Scene()
    web, api = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),))
    s.service(api, "10.96.7.7", 80, 8080)
    s.talk(web, api, 8080)
    for verdict, end, port in (
        ("TRACED", s.world("10.96.7.7"), 80),
        ("TRANSLATED", api, 8080),
        ("TRACED", api, 9999),
    ):
        s.packet(web, end, 0, port, verdict=verdict, Type="SOCK", event_type={"type": 7}, node=web.node)
    out = s.run(tmp_path, inventory=inventory)
    assert (
        out.wrong([("shop/web", "shop/api", 8080)], [("shop/web", "shop/api", 80), ("shop/web", "shop/api", 9999)])
        == []
    )
    assert out.blocks() == []
