"""Sock Shop and Robot Shop under NetworkPolicies that people have written, and what is wrong with each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.known.applications import CLIENT, RESOLVER, Application
from tests.e2e.known.conftest import Capture
from tests.e2e.known.judging import Broken, Case, check, network, verified
from tests.e2e.known.topologies import PAYPAL, robot_shop, sock_shop


def shop(name: str, source: str, destination: str, port: int, policy: str, nearest: str, protocol: str) -> Broken:
    """Names without a namespace are the shop's."""
    one, other = (end if "/" in end or end[0].isdigit() else f"{name}/{end}" for end in (source, destination))
    return Broken(one, other, port, f"NetworkPolicy {name}/{policy}", nearest, protocol)


def sock(source: str, destination: str, port: int, policy: str, nearest: str, protocol: str = "TCP") -> Broken:
    return shop("sock-shop", source, destination, port, policy, nearest, protocol)


def robot(source: str, destination: str, port: int, policy: str, nearest: str, protocol: str = "TCP") -> Broken:
    return shop("robot-shop", source, destination, port, policy, nearest, protocol)


ASKING = ("front-end", "orders", "catalogue", "carts", "user", "shipping", "queue-master")
SCRAPED = ("catalogue", "carts", "orders", "payment", "user")
SOCK_SHOP = [
    Case(
        "the Service's port instead of the pod's",
        network("sock-shop/front-end", """
            podSelector: {matchLabels: {name: front-end}}
            policyTypes: [Ingress]
            ingress: [{ports: [{port: 80}]}]
        """),
        [sock(CLIENT, "front-end", 8079, "front-end", "80/TCP")],
        "ingress rule 0 admits everyone, but only to 80/TCP",
    ),
    Case(
        "a label key of another shop",
        network("sock-shop/catalogue", """
            podSelector: {matchLabels: {name: catalogue}}
            policyTypes: [Ingress]
            ingress:
              - from: [{podSelector: {matchLabels: {app: front-end}}}]
                ports: [{port: 80}]
        """),
        [
            sock("front-end", "catalogue", 80, "catalogue", "opens 80/TCP, but only for"),
            sock("monitoring/prometheus", "catalogue", 80, "catalogue", "opens 80/TCP, but only for"),
        ],
    ),
    Case(
        "egress inside the namespace, and no DNS",
        network("sock-shop/inside", """
            podSelector: {}
            policyTypes: [Egress]
            egress: [{to: [{podSelector: {}}]}]
        """),
        [sock(asking, RESOLVER, 53, "inside", "opens 53/UDP, but only for", "UDP") for asking in ASKING],
    ),
    Case(
        "DNS to the Service's address, which policies never see",
        network("sock-shop/dns", """
            podSelector: {}
            policyTypes: [Egress]
            egress:
              - to: [{podSelector: {}}]
              - to: [{ipBlock: {cidr: 10.96.0.10/32}}]
                ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
        """),
        [sock(asking, RESOLVER, 53, "dns", "opens 53/UDP, but only for", "UDP") for asking in ASKING],
    ),
    Case(
        "DNS to the right pods, found in the wrong namespace",
        network("sock-shop/dns", """
            podSelector: {}
            policyTypes: [Egress]
            egress:
              - to: [{podSelector: {}}, {podSelector: {matchLabels: {k8s-app: kube-dns}}}]
                ports: [{port: 53, protocol: UDP}]
              - to: [{podSelector: {}}]
        """),
        [sock(asking, RESOLVER, 53, "dns", "opens 53/UDP, but only for", "UDP") for asking in ASKING],
    ),
    Case(
        "the consumer of the queue forgotten",
        network("sock-shop/rabbitmq", """
            podSelector: {matchLabels: {name: rabbitmq}}
            ingress:
              - from: [{podSelector: {matchLabels: {name: shipping}}}]
                ports: [{port: 5672}]
        """),
        [sock("queue-master", "rabbitmq", 5672, "rabbitmq", "ingress rule 0 opens 5672/TCP, but only for")],
    ),
    Case(
        "the allow applied to another namespace than the deny",
        network("default/user-db", """
            podSelector: {matchLabels: {name: user-db}}
            ingress: [{from: [{podSelector: {matchLabels: {name: user}}}]}]
        """)
        + network("sock-shop/deny", """
            podSelector: {matchLabels: {name: user-db}}
            policyTypes: [Ingress]
        """),
        [sock("user", "user-db", 27017, "deny", "")],
    ),
    Case(
        "a namespace label that nobody set, and nobody let in from outside",
        network("sock-shop/inside", """
            podSelector: {}
            policyTypes: [Ingress]
            ingress:
              - from:
                  - podSelector: {}
                  - namespaceSelector: {matchLabels: {name: monitoring}}
        """),
        [
            sock(CLIENT, "front-end", 8079, "inside", "opens 8079/TCP, but only for"),
            *(sock("monitoring/prometheus", to, 80, "inside", "opens 80/TCP, but only for") for to in SCRAPED),
        ],
    ),
    Case(
        "egress without policyTypes isolates ingress as well",
        network("sock-shop/catalogue", """
            podSelector: {matchLabels: {name: catalogue}}
            egress:
              - to: [{podSelector: {matchLabels: {name: catalogue-db}}}]
                ports: [{port: 3306}]
              - ports: [{port: 53, protocol: UDP}]
        """),
        [
            sock("front-end", "catalogue", 80, "catalogue", ""),
            sock("monitoring/prometheus", "catalogue", 80, "catalogue", ""),
        ],
        "sock-shop/catalogue is isolated for ingress by NetworkPolicy sock-shop/catalogue",
    ),
    Case(
        "let in at the database, not let out at the service",
        network("sock-shop/carts-db", """
            podSelector: {matchLabels: {name: carts-db}}
            policyTypes: [Ingress]
            ingress: [{from: [{podSelector: {matchLabels: {name: carts}}}], ports: [{port: 27017}]}]
        """)
        + network("sock-shop/carts", """
            podSelector: {matchLabels: {name: carts}}
            policyTypes: [Egress]
            egress:
              - to: [{podSelector: {matchLabels: {name: carts-db}}}]
                ports: [{port: 3306}]
              - ports: [{port: 53, protocol: UDP}]
        """),
        [sock("carts", "carts-db", 27017, "carts", "egress rule 0 names sock-shop/carts-db, but only 3306/TCP")],
    ),
]  # fmt: skip
DNS = "{ports: [{port: 53, protocol: UDP}]}"
ROBOT_SHOP = [
    Case(
        "AND where OR was meant",
        network("robot-shop/mongodb", """
            podSelector: {matchLabels: {service: mongodb}}
            policyTypes: [Ingress]
            ingress:
              - from:
                  - podSelector: {matchLabels: {service: catalogue}}
                  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: backup}}
                    podSelector: {matchLabels: {service: user}}
                ports: [{port: 27017}]
        """),
        [robot("user", "mongodb", 27017, "mongodb", "opens 27017/TCP, but only for")],
    ),
    Case(
        "a port name that the pods do not have",
        network("robot-shop/rabbitmq", """
            podSelector: {matchLabels: {service: rabbitmq}}
            policyTypes: [Ingress]
            ingress:
              - from: [{podSelector: {matchExpressions: [{key: service, operator: In, values: [payment, dispatch]}]}}]
                ports: [{port: amqp}]
        """),
        [robot(caller, "rabbitmq", 5672, "rabbitmq", "but only amqp/TCP") for caller in ("payment", "dispatch")],
        "ingress rule 0 names robot-shop/payment, but only amqp/TCP",
    ),
    Case(
        "a span of ports that ends too early",
        network("robot-shop/rabbitmq", """
            podSelector: {matchLabels: {service: rabbitmq}}
            policyTypes: [Ingress]
            ingress: [{from: [{podSelector: {}}], ports: [{port: 5000, endPort: 5671}]}]
        """),
        [robot(caller, "rabbitmq", 5672, "rabbitmq", "but only 5000-5671/TCP") for caller in ("payment", "dispatch")],
    ),
    Case(
        "UDP for a TCP port",
        network("robot-shop/redis", """
            podSelector: {matchLabels: {service: redis}}
            policyTypes: [Ingress]
            ingress: [{from: [{podSelector: {}}], ports: [{port: 6379, protocol: UDP}]}]
        """),
        [robot(caller, "redis", 6379, "redis", "but only 6379/UDP") for caller in ("user", "cart")],
    ),
    Case(
        "an exception that holds the provider",
        network("robot-shop/payment", f"""
            podSelector: {{matchLabels: {{service: payment}}}}
            policyTypes: [Egress]
            egress:
              - to: [{{podSelector: {{}}}}]
              - to: [{{ipBlock: {{cidr: 0.0.0.0/0, except: [10.0.0.0/8, 198.51.100.0/24]}}}}]
                ports: [{{port: 443}}]
              - {DNS}
        """),
        [robot("payment", PAYPAL, 443, "payment", "egress rule 1 opens 443/TCP, but only for ipBlock 0.0.0.0/0")],
    ),
    Case(
        "only the provider thought of",
        network("robot-shop/payment", f"""
            podSelector: {{matchLabels: {{service: payment}}}}
            policyTypes: [Egress]
            egress:
              - ports: [{{port: 443}}]
              - {DNS}
        """),
        [
            robot("payment", "cart", 8080, "payment", "admits everyone, but only to 443/TCP"),
            robot("payment", "user", 8080, "payment", "admits everyone, but only to 443/TCP"),
            robot("payment", "rabbitmq", 5672, "payment", "admits everyone, but only to 443/TCP"),
        ],
    ),
    Case(
        "NotIn that leaves out the callers",
        network("robot-shop/catalogue", """
            podSelector: {matchLabels: {service: catalogue}}
            policyTypes: [Ingress]
            ingress:
              - from: [{podSelector: {matchExpressions: [{key: service, operator: NotIn, values: [web, cart]}]}}]
                ports: [{port: 8080}]
        """),
        [robot(caller, "catalogue", 8080, "catalogue", "opens 8080/TCP, but only for") for caller in ("web", "cart")],
    ),
    Case(
        "an egress section without rules",
        network("robot-shop/dispatch", """
            podSelector: {matchLabels: {service: dispatch}}
            policyTypes: [Ingress, Egress]
            egress: []
        """),
        [robot("dispatch", "rabbitmq", 5672, "dispatch", ""), robot("dispatch", RESOLVER, 53, "dispatch", "", "UDP")],
    ),
]  # fmt: skip
BLOCK = network("robot-shop/mysql", """
    podSelector: {matchLabels: {service: mysql}}
    policyTypes: [Ingress]
    ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16}}], ports: [{port: 3306}]}]
""")  # fmt: skip


@pytest.mark.parametrize("case", SOCK_SHOP, ids=[case.name for case in SOCK_SHOP])
def test_sock_shop(capture: Capture, case: Case, tmp_path: Path) -> None:
    check(capture(sock_shop), case, tmp_path)


@pytest.mark.parametrize("case", ROBOT_SHOP, ids=[case.name for case in ROBOT_SHOP])
def test_robot_shop(capture: Capture, case: Case, tmp_path: Path) -> None:
    check(capture(robot_shop), case, tmp_path)


def test_a_block_for_pods_works_under_calico_and_breaks_under_cilium(capture: Capture, tmp_path: Path) -> None:
    code, proof, _ = verified(capture(robot_shop), BLOCK, tmp_path)
    assert (code, proof["sound"]) == (0, True)
    assert {cni: found["sound"] for cni, found in proof["profiles"].items()} == {"cilium": False, "calico": True}
    broken = [
        robot(caller, "mysql", 3306, "mysql", "opens 3306/TCP, but only for ipBlock 10.244.0.0/16")
        for caller in ("ratings", "shipping")
    ]
    check(capture(robot_shop), Case("a block for pods", BLOCK, broken), tmp_path, "--cni", "cilium")


@pytest.mark.parametrize("application", [sock_shop, robot_shop])
def test_nothing_is_broken_without_policies_or_with_all_that_is_needed(
    capture: Capture, application: Callable[[], Application], tmp_path: Path
) -> None:
    code, proof, _ = verified(capture(application), network("default/other", "podSelector: {}"), tmp_path)
    assert (code, proof["denied"]) == (0, [])
