"""The ambient story's bazaar under AuthorizationPolicies as people bring them over from sidecars: no waypoint where one
is needed, and the wrong caller where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.known.judging import Broken, Captured, Case, access, check, verified
from tests.goldens import SAMPLES

STORY = SAMPLES / "ambient"
BAZAAR = Captured(STORY / "inventory.yaml", [STORY / "ztunnel-node-1.log", STORY / "ztunnel-node-2.jsonl"])
FRONT, CART, CATALOG, WAYPOINT = (f"bazaar/{name}" for name in ("front", "cart", "catalog", "waypoint"))
PROMETHEUS = "monitoring/prometheus"
CASES = [
    Case(
        "an HTTP rule at ztunnel, which has no HTTP",
        access("bazaar/cart", """
            selector: {matchLabels: {app: cart}}
            rules:
              - from: [{source: {principals: [cluster.local/ns/bazaar/sa/front]}}]
                to: [{operation: {methods: [GET], paths: [/cart/*]}}]
              - to: [{operation: {methods: [GET], paths: [/metrics]}}]
        """),
        [
            Broken(FRONT, CART, 8080, "AuthorizationPolicy bazaar/cart", "methods, paths, which ztunnel does not have"),
            Broken(PROMETHEUS, CART, 8080, "AuthorizationPolicy bazaar/cart", "which ztunnel does not have"),
        ],
        "rule 0 fails on methods, paths, which ztunnel does not have, so that it never matches",
    ),
    Case(
        "the client named at the workload, where its ztunnel sees the waypoint",
        access("bazaar/catalog", """
            selector: {matchLabels: {app: catalog}}
            rules: [{from: [{source: {principals: [cluster.local/ns/bazaar/sa/front]}}]}]
        """),
        [
            Broken(source, CATALOG, 8080, "AuthorizationPolicy bazaar/catalog", "sa/front")
            for source in (FRONT, WAYPOINT)
        ],
        "no rule matches cluster.local/ns/bazaar/sa/waypoint",
    ),
    Case(
        "the waypoint named at the waypoint, which sees the client",
        access("bazaar/catalog", """
            targetRefs: [{kind: Service, group: "", name: catalog}]
            rules: [{from: [{source: {principals: [cluster.local/ns/bazaar/sa/waypoint]}}]}]
        """),
        [Broken(FRONT, CATALOG, 8080, "AuthorizationPolicy bazaar/catalog", "sa/waypoint")],
    ),
    Case(
        "the pod's port at the waypoint, which listens on the Service's",
        access("bazaar/catalog", """
            targetRefs: [{kind: Service, group: "", name: catalog}]
            rules:
              - from: [{source: {principals: [cluster.local/ns/bazaar/sa/front]}}]
                to: [{operation: {ports: ["8080"]}}]
        """),
        [Broken(FRONT, CATALOG, 8080, "AuthorizationPolicy bazaar/catalog", "ports 8080")],
        "by port 80 of the Service, which the waypoint sees and which leads to 8080",
    ),
    Case(
        "identities asked of those who have none",
        access("bazaar/all", """
            rules: [{from: [{source: {namespaces: [bazaar, ingress, monitoring]}}]}]
        """),
        [
            Broken(PROMETHEUS, target, 8080, "AuthorizationPolicy bazaar/all", "fails on namespaces bazaar")
            for target in (FRONT, CART)
        ],
        "no rule matches a plaintext peer",
    ),
    Case(
        "a deny for all in the mesh's root namespace",
        access("istio-system/deny", "{}"),
        [
            Broken(source, target, port, "AuthorizationPolicy istio-system/deny", "")
            for source, target, port in (
                ("ingress/gateway", FRONT, 8080), (FRONT, CART, 8080), (CART, "bazaar/store", 6379),
                (FRONT, CATALOG, 8080), (WAYPOINT, CATALOG, 8080), (PROMETHEUS, FRONT, 8080), (PROMETHEUS, CART, 8080),
            )
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bazaar(case: Case, tmp_path: Path) -> None:
    check(BAZAAR, case, tmp_path)


def test_a_policy_for_a_service_without_waypoint_neither_breaks_nor_protects(tmp_path: Path) -> None:
    nobody = access("bazaar/cart", 'targetRefs: [{kind: Service, group: "", name: cart}]')
    code, proof, _ = verified(BAZAAR, nobody, tmp_path, "--mesh", "ambient")
    _, without, _ = verified(BAZAAR, access("other/none", "{}"), tmp_path, "--mesh", "ambient")
    assert (code, proof["denied"]) == (0, [])
    assert proof["over_permission"]["total"] == without["over_permission"]["total"]


def test_a_deny_of_paths_at_ztunnel_has_no_effect(tmp_path: Path) -> None:
    deny = access("bazaar/cart", """
        selector: {matchLabels: {app: cart}}
        action: DENY
        rules: [{to: [{operation: {notPaths: [/cart]}}]}]
    """)  # fmt: skip
    code, proof, _ = verified(BAZAAR, deny, tmp_path)
    assert (code, proof["sound"]) == (0, True)


def test_the_services_port_at_its_waypoint_lets_the_client_through(tmp_path: Path) -> None:
    named = access(
        "bazaar/catalog",
        """
        targetRefs: [{kind: Service, group: "", name: catalog}]
        rules:
          - from: [{source: {principals: [cluster.local/ns/bazaar/sa/front]}}]
            to: [{operation: {ports: ["80"]}}]
    """,
    )
    code, proof, _ = verified(BAZAAR, named, tmp_path)
    assert (code, proof["sound"]) == (0, True)
