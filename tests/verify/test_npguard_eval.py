"""The verdict rows of np-guard/netpol-analyzer's pkg/netpol/eval/eval_test.go, re-authored.

A row is named as its Go function and its entry there, and asks for the whole list of a pair's connections, not only for
the entry's one port. Its other functions measure speed, or print the same world's list as
`test_npguard_connectivity`; those on AdminNetworkPolicy are about a kind that the judge does not read. No block holds a
pod's address, so all profiles agree. Their pods share one address with their node; ours have their own.
"""

from __future__ import annotations

import pytest

from leastway.verify.networkpolicy import CNIS, Cni
from leastway.verify.reading import Document
from tests.verify.connection_lists import ALL, NONE, boundaries, differences
from tests.verify.kit import judge, labels, namespace, pod, policy

PODS = {
    "default/b": {"app": "web", "role": "monitoring"},
    "default/c": {"app": "apiserver"},
    "default/e": {"app": "bookstore", "role": "search"},
    "default/f": {"app": "bookstore", "role": "api"},
    "default/g": {"app": "inventory", "role": "web"},
    "default/h": {"app": "bookstore", "role": "db"},
    "operations/d": {"type": "monitoring"},
    "operations/j": {"app": "bookstore1", "role": "db1"},
}
WORLD = [
    namespace("default", a="b"),
    namespace("operations", team="operations"),
    *(pod(ref, labels, f"10.244.0.{number}") for number, (ref, labels) in enumerate(PODS.items(), 10)),
]
WEB, OPERATIONS = labels(app="web"), {"namespaceSelector": labels(team="operations")}
DNS = [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]


def inward(*rules: Document, of: Document = WEB, name: str = "in") -> Document:
    return policy(f"default/{name}", podSelector=of, policyTypes=["Ingress"], ingress=list(rules))


def outward(*rules: Document, of: Document = WEB) -> Document:
    return policy("default/out", podSelector=of, policyTypes=["Egress"], egress=list(rules))


def pods(**pairs: str) -> Document:
    return {"podSelector": labels(**pairs)}


def block(cidr: str, *excepts: str) -> Document:
    return {"ipBlock": {"cidr": cidr, "except": list(excepts)}}


NOTHING = policy("default/nothing", podSelector=WEB, policyTypes=["Ingress"])
EVERYTHING = inward({})
POLICIES: dict[str, list[Document]] = {
    "AllowNothingTo": [NOTHING],
    "AllowAllTo": [EVERYTHING],
    "AllowNothingTo, AllowAllTo": [NOTHING, EVERYTHING],
    "AllowSpecificPortTo": [
        inward({"ports": [{"port": 5000}], "from": [pods(role="monitoring")]}, of=labels(app="apiserver"))
    ],
    "AllowAllTo_Version2": [inward({"from": [{"namespaceSelector": {}}]})],
    "AllowFromDifferentNamespaceWithLabelsTo": [inward({"from": [OPERATIONS | pods(type="monitoring")]})],
    "AllowAllWithinNamespace": [inward({"from": [pods()]}, of={})],
    "AllowAllTo_Version3": [inward({"from": None})],
    "AllowAllTo_Version4": [inward({"from": [{"podSelector": {}, "namespaceSelector": {}}]})],
    "AllowNothingToAnything": [inward(of={})],
    "AllowFromTo": [inward({"from": [pods(app="apiserver")]})],
    "AllowFromAnywhere": [inward({"from": []})],
    "AllowFromNamespaceTo": [inward({"from": [OPERATIONS]})],
    "AllowNoEgressFromLabels": [outward()],
    "AllowEgressOnPort": [outward({"ports": DNS})],
    "AllowNoEgressFromNamespace": [outward(of={})],
    "AllowEgressToAllNamespacesOnPort": [outward({"ports": DNS, "to": [{"namespaceSelector": {}}]})],
    "AllowNothingToEmptyIngress": [inward()],
    "AllowNoIngressNorEgress": [policy("default/closed", podSelector=WEB, policyTypes=["Ingress", "Egress"])],
    "AllowFromMultipleTo": [
        inward(
            {"from": [pods(app=app, role=role) for app, role in
                      (("bookstore", "search"), ("bookstore", "api"), ("inventory", "web"))]},
            of=labels(app="bookstore", role="db"),
        )
    ],
    "AccidentalAnd": [inward({"from": [OPERATIONS | pods(type="monitoring")]})],
    "AccidentalOr": [inward({"from": [OPERATIONS, pods(role="search")]})],
    "AllowFromMultipleIpBlockTo": [
        inward({"from": [block("172.17.0.0/16", "172.17.0.0/24"), block("10.0.0.0/16", "10.0.0.0/24")]})
    ],
    "TestBasic": [
        outward(
            {"ports": [{"port": 80, "protocol": "TCP"}],
             "to": [{"podSelector": {}}, {"ipBlock": {"cidr": "192.168.242.213/24"}}]},
            {"ports": [{"port": 53, "protocol": "UDP"}]},
        )
    ],
}  # fmt: skip
B, C, D, E, F, G, H = (f"default/{name}" if name != "d" else "operations/d" for name in "bcdefgh")
ROWS: list[tuple[str, str, str, str, str]] = [
    ("TestBasic t1", "TestBasic", B, "192.168.242.0", "TCP 80,UDP 53"),
    ("TestBasic t2", "TestBasic", B, "192.169.0.0", "UDP 53"),
    ("TestBasic t3, t4", "TestBasic", B, C, "TCP 80,UDP 53"),
    ("TestNew t1", "AllowNothingTo", C, B, NONE),
    ("TestNew t2", "AllowAllTo", C, B, ALL),
    ("TestNew t3", "AllowNothingTo, AllowAllTo", C, B, ALL),
    ("TestNew t4", "AllowSpecificPortTo", B, C, "TCP 5000"),
    ("TestNew t5", "AllowAllTo_Version2", C, B, ALL),
    ("TestNew t6", "AllowFromDifferentNamespaceWithLabelsTo", D, B, ALL),
    ("TestNew t7", "AllowFromDifferentNamespaceWithLabelsTo", C, B, NONE),
    ("TestNew t8", "AllowAllWithinNamespace", C, B, ALL),
    ("TestNew t9", "AllowAllWithinNamespace", B, C, ALL),
    ("TestNew t10", "AllowAllWithinNamespace", D, C, NONE),
    ("TestNew t11", "AllowAllTo_Version3", C, B, ALL),
    ("TestNew t12", "AllowAllTo_Version3", D, B, ALL),
    ("TestNew t13", "AllowAllTo_Version4", C, B, ALL),
    ("TestNew t14", "AllowAllTo_Version4", D, B, ALL),
    ("TestNew t15", "AllowNothingToAnything", C, B, NONE),
    ("TestNew t16", "AllowNothingToAnything", B, C, NONE),
    ("TestNew t17", "AllowNothingToAnything", D, C, NONE),
    ("TestNew t18", "AllowNothingToAnything", B, D, ALL),
    ("TestNew t19", "AllowFromTo", C, B, ALL),
    ("TestNew t20", "AllowFromTo", D, B, NONE),
    ("TestNew t21", "AllowFromAnywhere", C, B, ALL),
    ("TestNew t22", "AllowFromAnywhere", "192.168.242.0", B, ALL),
    ("TestNew t23", "AllowFromAnywhere", D, B, ALL),
    ("TestNew t24", "AllowFromNamespaceTo", D, B, ALL),
    ("TestNew t25", "AllowFromNamespaceTo", C, B, NONE),
    ("TestNew t26", "AllowNoEgressFromLabels", B, C, NONE),
    ("TestNew t27", "AllowNoEgressFromLabels", C, B, ALL),
    ("TestNew t28", "AllowEgressOnPort", B, C, "TCP 53,UDP 53"),
    ("TestNew t29", "AllowEgressOnPort", C, B, ALL),
    ("TestNew t30", "AllowNoEgressFromNamespace", C, B, NONE),
    ("TestNew t31", "AllowNoEgressFromNamespace", B, C, NONE),
    ("TestNew t32", "AllowNoEgressFromNamespace", D, C, ALL),
    ("TestNew t33", "AllowEgressToAllNamespacesOnPort", B, C, "TCP 53,UDP 53"),
    ("TestNew t34", "AllowEgressToAllNamespacesOnPort", B, D, "TCP 53,UDP 53"),
    ("TestNew t35", "AllowEgressToAllNamespacesOnPort", B, "192.168.242.0", NONE),
    ("TestNew t36", "AllowEgressToAllNamespacesOnPort", C, B, ALL),
    ("TestNew t37", "AllowNothingToEmptyIngress", C, B, NONE),
    ("TestNew t38", "AllowNothingToEmptyIngress", B, C, ALL),
    ("TestNew t39", "AllowNoIngressNorEgress", C, B, NONE),
    ("TestNew t40", "AllowNoIngressNorEgress", B, C, NONE),
    ("TestNew t41", "AllowNoIngressNorEgress", C, D, ALL),
    ("TestNew t42", "AllowNoIngressNorEgress", D, C, ALL),
    ("TestNew t43", "AllowFromMultipleTo", E, H, ALL),
    ("TestNew t44", "AllowFromMultipleTo", F, H, ALL),
    ("TestNew t45", "AllowFromMultipleTo", G, H, ALL),
    ("TestNew t46", "AllowFromMultipleTo", C, H, NONE),
    ("TestNew t47", "AllowFromMultipleTo", B, H, NONE),
    ("TestNew t48", "AccidentalAnd", D, B, ALL),
    ("TestNew t49", "AccidentalAnd", C, B, NONE),
    ("TestNew t50", "AccidentalOr", D, B, ALL),
    ("TestNew t51", "AccidentalOr", C, B, NONE),
    ("TestNew t52", "AccidentalOr", E, B, ALL),
    ("TestNew t53", "AllowFromMultipleIpBlockTo", "172.17.1.0", B, ALL),
    ("TestNew t54", "AllowFromMultipleIpBlockTo", "10.0.1.0", B, ALL),
    ("TestNew t55", "AllowFromMultipleIpBlockTo", "172.17.0.0", B, NONE),
    ("TestNew t56", "AllowFromMultipleIpBlockTo", "10.0.0.0", B, NONE),
    ("TestNew t57", "AllowFromMultipleIpBlockTo", "11.0.0.0", B, NONE),
    ("TestNew t58", "AllowFromMultipleIpBlockTo", C, B, NONE),
]


@pytest.mark.parametrize("cni", CNIS)
@pytest.mark.parametrize(
    ("used", "source", "destination", "text"), [row[1:] for row in ROWS], ids=[f"{row[0]} {row[1]}" for row in ROWS]
)
def test_verdict(used: str, source: str, destination: str, text: str, cni: Cni) -> None:
    ports = boundaries(row[-1] for row in ROWS)
    assert not differences(judge(WORLD, POLICIES[used], cni=cni), (source, destination), text, ports)
