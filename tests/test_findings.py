"""What the observation lacks is said, with what it means."""

from __future__ import annotations

from typing import Any

import pytest

from collector.reading import Reading
from leastway.findings import findings
from leastway.pipeline import Run
from synthesizer import Options, synthesize
from synthesizer.inventory import parse
from synthesizer.options import CNI, Mesh
from tests.synthesizer.objects import deployment, meta, namespace
from tests.synthesizer.traffic import Traffic, place


def found(traffic: Traffic, *objects: dict[str, Any], mesh: Mesh = "none", cni: CNI = "generic") -> str:
    """The findings as one text."""
    inventory, options = parse(objects), Options(mesh=mesh, cni=cni)
    result = synthesize(traffic.patterns, inventory, options)
    return "\n".join(findings(Run(Reading(traffic.patterns), inventory, options, result)))


def test_a_short_window_lost_events_and_masked_fields_are_findings() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432)
    traffic.patterns.quality.lost.add("node-1 ring buffer", 7)
    traffic.patterns.quality.masked.add("labels", 5)
    traffic.patterns.quality.bad.add("no JSON", 2)
    told = found(traffic)
    for words in (
        "window is short",
        "At least 7 events were lost",
        "labels missing in 5",
        "2 records could not be read",
    ):
        assert words in told
    assert "No inventory was given" in told


def test_what_no_network_policy_can_say_is_told() -> None:
    traffic = talking()
    traffic.patterns.quality.skipped.add("ICMP", 9)
    traffic.patterns.quality.skipped.add("no verdict", 4)
    told = found(traffic)
    assert "9 records were of ICMP, for which NetworkPolicy has no word" in told
    assert "\nverdict missing in 4 records" in told
    assert "ICMP" not in found(talking())


def test_the_number_of_bad_records_is_a_bound_where_not_every_reason_is_kept() -> None:
    traffic = talking()
    for number in range(500):
        traffic.patterns.quality.bad.add(f"reason {number}", 1)
    assert "At least " in found(traffic)


def test_a_long_window_without_losses_has_no_such_finding() -> None:
    traffic = Traffic()
    web, db = traffic.pod("shop/web"), traffic.pod("shop/db")
    for day in ("01", "09"):
        traffic.talk(web, db, 5432, time=f"2026-03-{day}T00:00:00Z")
    assert "short" not in found(traffic)
    assert "lost" not in found(traffic)


def test_access_logs_alone_explain_why_there_is_no_network_policy() -> None:
    traffic = Traffic()
    traffic.call(traffic.proxied("shop/web", "web"), traffic.pod("shop/api"), 80, "GET /")
    assert "No NetworkPolicy was written" in found(traffic)
    traffic.talk(place("host"), traffic.pod("shop/api"), 80)
    assert "No NetworkPolicy was written" not in found(traffic)


@pytest.mark.parametrize(("cni", "told"), [("generic", True), ("cilium", False), ("calico", False)])
def test_that_addresses_are_no_names_on_cilium_is_told_where_it_may_enforce(cni: CNI, told: bool) -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), place("kube-apiserver", "172.18.0.2"), 6443)
    assert ("--cni cilium" in found(traffic, cni=cni)) is told
    quiet = Traffic()
    quiet.talk(quiet.pod("shop/web"), quiet.pod("shop/db"), 5432)
    assert "--cni cilium" not in found(quiet, cni=cni)


def policy(kind: str, namespace: str, group: str = "networking.k8s.io", **labels: str) -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": meta("other", namespace, labels=labels), "spec": {}}


def talking() -> Traffic:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("shop/db"), 5432)
    return traffic


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (policy("NetworkPolicy", "shop"), "NetworkPolicy shop/other"),
        (policy("CiliumNetworkPolicy", "shop", "cilium.io"), "CiliumNetworkPolicy shop/other"),
        (policy("CiliumClusterwideNetworkPolicy", "", "cilium.io"), "CiliumClusterwideNetworkPolicy other"),
        (policy("AuthorizationPolicy", "istio-system", "security.istio.io"), "AuthorizationPolicy istio-system/other"),
    ],
)
def test_policies_that_are_there_already_are_named(other: dict[str, Any], named: str) -> None:
    """What they stopped was not observed, and policies add up."""
    assert f"other policies ({named}): " in found(talking(), deployment("web", {"app": "web"}), other, mesh="sidecar")


@pytest.mark.parametrize(
    "harmless",
    [
        policy("NetworkPolicy", "elsewhere"),
        policy("NetworkPolicy", "shop", **{"app.kubernetes.io/managed-by": "leastway"}),
        policy("AuthorizationPolicy", "istio-system", "security.istio.io"),
    ],
    ids=["another-namespace", "our-own", "no-mesh"],
)
def test_policies_that_change_nothing_here_are_not(harmless: dict[str, Any]) -> None:
    assert "other policies" not in found(talking(), deployment("web", {"app": "web"}), harmless)


def test_one_of_a_thing_is_told_in_the_singular() -> None:
    traffic = talking()
    traffic.patterns.quality.lost.add("node-1 ring buffer", 1)
    traffic.patterns.quality.bad.add("no JSON", 1)
    traffic.patterns.quality.nodes.add("NODE_GONE node-1", 1)
    told = found(traffic)
    for words in ("At least 1 event was lost", "1 record could not be read", "reported 1 time:"):
        assert words in told


def test_a_mesh_that_only_the_inventory_knows_of_is_told() -> None:
    injected = namespace("shop", {"istio-injection": "enabled"})
    told = "workloads are in a mesh (sidecar)"
    assert told in found(talking(), deployment("web", {"app": "web"}), injected)
    assert told not in found(talking(), deployment("web", {"app": "web"}), injected, mesh="sidecar")
    assert told not in found(talking(), deployment("web", {"app": "web"}), namespace("shop", {}))
