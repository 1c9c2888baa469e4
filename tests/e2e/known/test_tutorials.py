"""The guestbook, WordPress and Podinfo under NetworkPolicies that people have written, and what is wrong with each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.known.applications import CLIENT, RESOLVER
from tests.e2e.known.conftest import Capture
from tests.e2e.known.judging import Broken, Case, check, network, verified
from tests.e2e.known.topologies import guestbook, podinfo, wordpress

LEADER, FOLLOWER, FRONTEND = "default/redis-leader", "default/redis-follower", "default/frontend"
GUESTBOOK = [
    Case(
        "the followers' replication forgotten",
        network("default/redis", """
            podSelector: {matchLabels: {app: redis}}
            policyTypes: [Ingress]
            ingress:
              - from: [{podSelector: {matchLabels: {tier: frontend}}}]
                ports: [{port: 6379}]
        """),
        [Broken(FOLLOWER, LEADER, 6379, "NetworkPolicy default/redis", "opens 6379/TCP, but only for")],
    ),
    Case(
        "labels of the tutorial's older edition",
        network("default/leader", """
            podSelector: {matchLabels: {role: leader}}
            policyTypes: [Ingress]
            ingress:
              - from:
                  - podSelector: {matchLabels: {role: slave}}
                  - podSelector: {matchLabels: {app: guestbook}}
                ports: [{port: 6379}]
        """),
        [Broken(FOLLOWER, LEADER, 6379, "NetworkPolicy default/leader", "role=slave")],
    ),
    Case(
        "allows that select nobody, above a deny for all",
        network("default/deny", """
            podSelector: {}
            policyTypes: [Ingress]
        """)
        + network("default/frontend", """
            podSelector: {matchLabels: {app: guestbook, tier: backend}}
            ingress: [{}]
        """)
        + network("default/redis", """
            podSelector: {matchLabels: {app: redis-leader}}
            ingress: [{from: [{podSelector: {}}]}]
        """),
        [
            Broken(CLIENT, FRONTEND, 80, "NetworkPolicy default/deny", ""),
            Broken(FRONTEND, LEADER, 6379, "NetworkPolicy default/deny", ""),
            Broken(FRONTEND, FOLLOWER, 6379, "NetworkPolicy default/deny", ""),
            Broken(FOLLOWER, LEADER, 6379, "NetworkPolicy default/deny", ""),
        ],
    ),
    Case(
        "cluster-internal addresses only, for what is published",
        network("default/frontend", """
            podSelector: {matchLabels: {app: guestbook}}
            policyTypes: [Ingress]
            ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 80}]}]
        """),
        [Broken(CLIENT, FRONTEND, 80, "NetworkPolicy default/frontend", "opens 80/TCP, but only for")],
    ),
]  # fmt: skip
BLOG, DATABASE, GATEWAY = "blog/wordpress", "blog/wordpress-mysql", "ingress/nginx"
WORDPRESS = [
    Case(
        "the gateway looked for in the application's own namespace",
        network("blog/wordpress", """
            podSelector: {matchLabels: {app: wordpress, tier: frontend}}
            policyTypes: [Ingress]
            ingress:
              - from: [{podSelector: {matchLabels: {app.kubernetes.io/name: ingress-nginx}}}]
                ports: [{port: 80}]
        """),
        [Broken(GATEWAY, BLOG, 80, "NetworkPolicy blog/wordpress", "in own namespace")],
        "pods {app.kubernetes.io/name=ingress-nginx} in own namespace",
    ),
    Case(
        "the nodes' addresses, where the gateway is a pod",
        network("blog/wordpress", """
            podSelector: {matchLabels: {app: wordpress, tier: frontend}}
            policyTypes: [Ingress]
            ingress: [{from: [{ipBlock: {cidr: 172.18.0.0/16}}], ports: [{port: 80}]}]
        """),
        [Broken(GATEWAY, BLOG, 80, "NetworkPolicy blog/wordpress", "but only for ipBlock 172.18.0.0/16")],
    ),
    Case(
        "AND with a namespace of another team",
        network("blog/mysql", """
            podSelector: {matchLabels: {app: wordpress, tier: mysql}}
            policyTypes: [Ingress]
            ingress:
              - from:
                  - namespaceSelector: {matchLabels: {team: data}}
                    podSelector: {matchLabels: {tier: frontend}}
                ports: [{port: mysql}]
        """),
        [Broken(BLOG, DATABASE, 3306, "NetworkPolicy blog/mysql", "in namespaces {team=data}")],
    ),
    Case(
        "the way out, and nothing else",
        network("blog/wordpress", """
            podSelector: {matchLabels: {app: wordpress, tier: frontend}}
            policyTypes: [Egress]
            egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}], ports: [{port: 443}]}]
        """),
        [
            Broken(BLOG, DATABASE, 3306, "NetworkPolicy blog/wordpress", ""),
            Broken(BLOG, RESOLVER, 53, "NetworkPolicy blog/wordpress", "", "UDP"),
        ],
    ),
]  # fmt: skip
SCRAPER = "monitoring/prometheus"
PODINFO = [
    Case(
        "metrics at the port of the application",
        network("test/all", """
            podSelector: {}
            policyTypes: [Ingress]
            ingress:
              - from: [{podSelector: {}}, {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}]
              - from: [{namespaceSelector: {matchLabels: {purpose: metrics}}}]
                ports: [{port: 9898}]
        """),
        [
            Broken(SCRAPER, f"test/{app}", 9797, "NetworkPolicy test/all", "but only 9898/TCP")
            for app in ("frontend", "backend")
        ],
        "ingress rule 1 names monitoring/prometheus, but only 9898/TCP",
    ),
    Case(
        "a port's name that the other end does not have",
        network("test/backend", """
            podSelector: {matchLabels: {app.kubernetes.io/name: backend}}
            policyTypes: [Egress]
            egress:
              - to: [{podSelector: {}}]
                ports: [{port: http}]
              - ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
        """),
        [Broken("test/backend", "test/redis", 6379, "NetworkPolicy test/backend", "test/redis, but only http/TCP")],
    ),
    Case(
        "DNS over UDP only",
        network("test/backend", """
            podSelector: {matchLabels: {app.kubernetes.io/name: backend}}
            policyTypes: [Egress]
            egress:
              - to: [{podSelector: {}}]
              - to: [{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]
                ports: [{port: 53, protocol: UDP}]
        """),
        [Broken("test/backend", RESOLVER, 53, "NetworkPolicy test/backend", "but only 53/UDP")],
        "egress rule 1 names kube-system/coredns, but only 53/UDP",
    ),
    Case(
        "gRPC thought of, HTTP forgotten",
        network("test/backend", """
            podSelector: {matchLabels: {app.kubernetes.io/name: backend}}
            policyTypes: [Ingress]
            ingress:
              - from: [{podSelector: {matchLabels: {app.kubernetes.io/name: frontend}}}]
                ports: [{port: grpc}]
              - from: [{namespaceSelector: {matchLabels: {purpose: metrics}}}]
                ports: [{port: http-metrics}]
        """),
        [Broken("test/frontend", "test/backend", 9898, "NetworkPolicy test/backend", "but only grpc/TCP")],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", GUESTBOOK, ids=[case.name for case in GUESTBOOK])
def test_guestbook(capture: Capture, case: Case, tmp_path: Path) -> None:
    check(capture(guestbook), case, tmp_path)


@pytest.mark.parametrize("case", WORDPRESS, ids=[case.name for case in WORDPRESS])
def test_wordpress(capture: Capture, case: Case, tmp_path: Path) -> None:
    check(capture(wordpress), case, tmp_path)


@pytest.mark.parametrize("case", PODINFO, ids=[case.name for case in PODINFO])
def test_podinfo(capture: Capture, case: Case, tmp_path: Path) -> None:
    check(capture(podinfo), case, tmp_path)


def test_probes_pass_whatever_is_denied(capture: Capture, tmp_path: Path) -> None:
    """The kubelet's traffic from a pod's own node is beyond any policy; it is in the capture, and never broken."""
    deny = network("default/deny", "podSelector: {}\npolicyTypes: [Ingress, Egress]")
    _, proof, _ = verified(capture(guestbook), deny, tmp_path)
    between = {(entry["from"], entry["to"]) for entry in proof["denied"]}
    assert between == {
        (CLIENT, FRONTEND), (FRONTEND, LEADER), (FRONTEND, FOLLOWER), (FOLLOWER, LEADER),
        (FRONTEND, RESOLVER), (FOLLOWER, RESOLVER),
    }  # fmt: skip
    assert proof["allowed"] > 0
