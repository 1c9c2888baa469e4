"""Dual stack: a connection takes one address family that both ends have, and blocks are of one family each."""

from __future__ import annotations

from leastway.verify.judge import Question
from leastway.verify.reading import Document
from tests.verify.kit import judge, labels, outcome, pod, policy


def stacked(ref: str, *ips: str) -> Document:
    found = pod(ref, {"app": ref.partition("/")[2].partition("-")[0]}, ips[0])
    found["status"]["podIPs"] = [{"ip": ip} for ip in ips]
    return found


THINGS = [
    stacked("a/web", "10.0.0.1", "fd00::1"), stacked("a/db", "10.0.0.2", "fd00::2"), stacked("a/old", "10.0.0.3"),
]  # fmt: skip


def admitting(*cidrs: str) -> list[Document]:
    peers = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
    return [policy("a/p", podSelector=labels(app="db"), policyTypes=["Ingress"], ingress=[{"from": peers}])]


def test_blocks_of_both_families_let_every_connection_in() -> None:
    assert outcome(judge(THINGS, admitting("10.0.0.0/24", "fd00::/64")), "a/web", "a/db") == "allow"


def test_a_block_of_one_family_leaves_it_open_and_the_other_is_named() -> None:
    verdict = judge(THINGS, admitting("10.0.0.0/24")).ask(Question("a/web", "a/db", port=80))
    assert verdict.outcome == "undefined"
    assert "IPv4: allow" in verdict.because
    assert "IPv6: deny" in verdict.because
    assert verdict.policies == ("NetworkPolicy a/p",)


def test_an_end_with_one_family_decides_for_the_other() -> None:
    of = judge(THINGS, admitting("10.0.0.0/24"))
    assert outcome(of, "a/old", "a/db") == "allow"
    assert outcome(of, "a/web", "10.0.0.2") == "allow"
    assert outcome(of, "a/web", "fd00::2") == "deny"
    assert outcome(of, "fd00::1", "a/db") == "deny"


def test_blocks_that_together_name_all_pods_of_a_workload_let_it_in() -> None:
    set_of_two = [pod(f"a/web-{i}", {"app": "web"}, f"10.0.0.{i}") for i in (5, 6)]
    for member in set_of_two:
        member["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "webs", "controller": True}]
    things = [*set_of_two, stacked("a/db", "10.0.0.2")]
    assert outcome(judge(things, admitting("10.0.0.5/32", "10.0.0.6/32")), "a/webs", "a/db") == "allow"
    assert outcome(judge(things, admitting("10.0.0.5/32")), "a/webs", "a/db") == "undefined"
    assert outcome(judge(things, admitting("10.0.0.7/32")), "a/webs", "a/db") == "deny"
