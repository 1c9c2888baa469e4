"""Pods that some records show by their address alone, before Cilium's address cache knows them (cilium#22899)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hostile.scene import Record, Scene

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])


def unidentified(record: Record, side: str) -> None:
    """What Hubble says of such an end."""
    record["flow"][side] = {"identity": 2, "labels": ["reserved:world"]}


@BOTH
def test_a_record_without_its_pod_does_not_speak_for_the_others(tmp_path: Path, inventory: bool) -> None:
    """All attempts were refused; of one, the first packet's record shows no pod, and its reset does."""
    s = Scene()
    web, api, other = s.pod("shop/web"), s.pod("shop/api", ports=((8080, "TCP"),)), s.pod("shop/other")
    s.talk(other, api, 8080)
    s.talk(web, other, 8080)
    for number in range(5):
        first = s.packet(web, api, 44_000 + number, 9999, flags="SYN", reason="NEW")
        s.packet(api, web, 9999, 44_000 + number, flags="RST ACK", reply=True, reason="REPLY", node=web.node)
    first["flow"] |= {"event_type": {"type": 5}, "traffic_direction": "INGRESS"}
    unidentified(first, "source")
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/other", "shop/api", 8080), ("shop/web", "shop/other", 8080)]
    assert out.wrong(wanted, [("shop/web", "shop/api", 9999)]) == []
    assert out.review("unanswered")


@BOTH
def test_records_without_their_pods_are_no_further_connections(tmp_path: Path, inventory: bool) -> None:
    """A scan's only knock at an open door stays one, though others were shown by their addresses alone there too."""
    s = Scene()
    web, api, db, evil = s.pod("shop/web"), s.pod("shop/api"), s.pod("shop/db"), s.pod("shop/evil")
    for target in (web, api, db, *(s.pod(f"shop/t{n}") for n in range(5))):
        for port in (22, 443, 3306, 9200):
            s.talk(evil, target, port, times=1, replies=False)
    for client, times in ((web, 3), (api, 3), (evil, 1)):
        for record in s.talk(client, db, 6379, times=times)[1::2]:
            unidentified(record, "destination" if record["flow"]["is_reply"] else "source")
    out = s.run(tmp_path, inventory=inventory)
    wanted = [("shop/web", "shop/db", 6379), ("shop/api", "shop/db", 6379)]
    assert out.wrong(wanted, [("shop/evil", "shop/db", 6379)]) == []
