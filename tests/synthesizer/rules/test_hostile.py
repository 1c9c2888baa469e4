"""What an attacker would do: ask the cloud for credentials, search the network."""

from __future__ import annotations

import pytest

from synthesizer.rules import hostile
from synthesizer.rules.view import SCAN_DOORS, SCAN_PORTS, SCAN_TARGETS
from tests.synthesizer.traffic import Traffic, at, drawn, made, view


def scan(targets: int, ports: int, *, answered: bool = False, known: bool = False) -> list[str]:
    """The destinations at which a searching pod is held back."""
    traffic = Traffic()
    scanner, web = traffic.pod("shop/scanner"), traffic.pod("shop/web")
    for number in range(targets):
        door = traffic.pod(f"shop/w{number:02}")
        for port in range(ports):
            if answered:
                traffic.talk(scanner, door, 1000 + port)
            else:
                traffic.add(scanner, door, 1000 + port, records=1)
            if known:
                traffic.talk(web, door, 1000 + port)
    asked = view(traffic)
    found = [line for line in drawn(traffic) if str(line.source) == "shop/scanner"]
    return [str(line.destination) for line in found if hostile.scanning(line, asked)]


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fd00:ec2::254", "169.254.170.2", "100.100.100.200", "fd20:ce::254"]
)
def test_the_clouds_metadata_is_held_however_often_it_is_asked(address: str) -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), at(address), 80, times=10_000)
    (line,) = drawn(traffic)
    held = hostile.cloud_metadata(line, view(traffic))
    assert held is not None
    assert held.acceptable


def test_what_claims_to_come_from_there_is_held_too() -> None:
    traffic = Traffic()
    traffic.talk(at("169.254.169.254"), traffic.pod("shop/web"), 8080)
    (line,) = drawn(traffic)
    assert hostile.cloud_metadata(line, view(traffic)) is not None


def test_other_link_local_addresses_are_not_taken_for_metadata() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), at("169.254.20.10"), 53, "UDP")
    (line,) = drawn(traffic)
    assert hostile.cloud_metadata(line, view(traffic)) is None


def test_many_destinations_or_ports_without_answers_are_a_scan() -> None:
    assert len(scan(SCAN_TARGETS, 1)) == SCAN_TARGETS
    assert len(scan(1, SCAN_PORTS)) == SCAN_PORTS
    assert scan(SCAN_TARGETS - 1, 1) == []
    assert scan(1, SCAN_PORTS - 1) == []


def test_a_few_ports_of_each_of_a_few_destinations_are_a_scan_too() -> None:
    """In a small cluster there are not many destinations, and who knows the usual ports does not try many of them."""
    assert len(scan(SCAN_DOORS // 5, 5)) == SCAN_DOORS
    assert scan(5, SCAN_DOORS // 5 - 1) == []


def test_many_destinations_that_answer_are_a_crawler_of_metrics_not_a_scan() -> None:
    assert scan(SCAN_TARGETS, 1, answered=True) == []


def test_what_others_use_too_is_no_part_of_a_scan() -> None:
    assert scan(SCAN_TARGETS, 1, answered=True, known=True) == []


def test_a_scan_is_one_question_however_much_was_tried() -> None:
    traffic = Traffic()
    scanner = traffic.pod("shop/scanner")
    for number in range(40):
        traffic.add(scanner, traffic.pod(f"shop/w{number:02}"), 1000 + number, records=1)
    result = made(traffic)
    assert [item.kind for item in result.review if "scanner" in item.subject].count("scan") == 1
    assert not any(m.document["spec"].get("ingress") for m in result.manifests if m.kind == "NetworkPolicy"), (
        "a scan opened something"
    )
