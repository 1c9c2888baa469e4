"""The Kubernetes end-to-end network policy cases (test/e2e/network/netpol/network_policy.go), re-authored.

Each case is named after the original's `It`. World: namespaces x, y, z with pods a, b, c, label `pod` = name, ports 80
and 81 in TCP, UDP and SCTP, named serve-<port>-<protocol>. Cases about updates are two cases here: before and after.
The truth is one predicate over (source, destination, port, protocol); loopback is always true.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import pytest

from leastway.verify.reading import Document
from tests.verify.kit import NAME, expression, judge, labels, namespace, outcome, pod, policy, within

NAMES = [f"{ns}/{name}" for ns in "xyz" for name in "abc"]
IPS = {ref: f"10.0.{i // 3}.{i % 3 + 1}" for i, ref in enumerate(NAMES)}
Truth = Callable[[str, str, int, str], bool]


def ports() -> list[dict[str, Any]]:
    return [
        {"name": f"serve-{number}-{protocol.lower()}", "containerPort": number, "protocol": protocol}
        for number in (80, 81)
        for protocol in ("TCP", "UDP", "SCTP")
    ]


def cluster(extra: dict[str, dict[str, str]] | None = None) -> list[Document]:
    extra = extra or {}
    spaces = [namespace(ns, ns=ns, **extra.get(ns, {})) for ns in "xyz"]
    return spaces + [pod(r, {"pod": r[-1], **extra.get(r, {})}, IPS[r], ports=ports()) for r in NAMES]


class Case(NamedTuple):
    name: str
    policies: list[Document]
    truth: Truth
    extra: dict[str, dict[str, str]] | None = None


def to(target: str, admitted: Callable[[str], bool] = lambda _: False) -> Truth:
    """Only `admitted` sources reach `target`; everything else is open."""
    return lambda s, d, _port, _protocol: d != target or admitted(s)


def opens(target: str, port: int, protocol: str) -> Truth:
    """Everyone reaches `target` on one port only; everything else is open."""
    return lambda _s, d, p, pr: d != target or (p, pr) == (port, protocol)


def out(origin: str, admitted: Callable[[str], bool] = lambda _: False) -> Truth:
    """`origin` reaches only `admitted` destinations."""
    return lambda s, d, _port, _protocol: s != origin or admitted(d)


def xa(**spec: Any) -> Document:
    return policy("x/p", podSelector=labels(pod="a"), **spec)


def from_(*items: Any, **rule: Any) -> Document:
    return xa(policyTypes=["Ingress"], ingress=[{"from": list(items), **rule}])


TCP80, TCP81 = {"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}
ALLOW_ALL_IN = policy("x/allow-all", podSelector={}, ingress=[{}])
ALLOW_ALL_OUT = policy("x/allow-all-out", podSelector={}, policyTypes=["Egress"], egress=[{}])
Y_A = {"namespaceSelector": labels(ns="y"), "podSelector": labels(pod="a")}

CASES = [
    Case("default-deny-ingress", [policy("x/deny", podSelector={}, ingress=[])], lambda _, d, *_rest: d[0] != "x"),
    Case(
        "default-deny-all",
        [policy("x/deny", podSelector={}, policyTypes=["Ingress", "Egress"])],
        lambda s, d, *_: d[0] != "x" and s[0] != "x",
    ),
    Case(
        "allow traffic from pods within server namespace based on PodSelector",
        [from_({"podSelector": labels(pod="b")})],
        to("x/a", lambda s: s == "x/b"),
    ),
    Case(
        "allow ingress traffic for a target",
        [policy("x/deny", podSelector={}, ingress=[]), from_({"namespaceSelector": {}})],
        lambda _, d, *_rest: d[0] != "x" or d == "x/a",
    ),
    Case("allow ingress traffic from pods in all namespaces", [from_({"namespaceSelector": {}})], lambda *_: True),
    Case(
        "allow traffic only from a different namespace, based on NamespaceSelector",
        [from_({"namespaceSelector": labels(ns="y")})],
        to("x/a", lambda s: s[0] == "y"),
    ),
    Case(
        "PodSelector with MatchExpressions",
        [from_({"podSelector": expression("pod", "In", "b")})],
        to("x/a", lambda s: s == "x/b"),
    ),
    Case(
        "NamespaceSelector with MatchExpressions",
        [from_({"namespaceSelector": expression("ns", "In", "y")})],
        to("x/a", lambda s: s[0] == "y"),
    ),
    Case(
        "NamespaceSelector with MatchExpressions using default ns label",
        [from_({"namespaceSelector": expression(NAME, "NotIn", "x")})],
        to("x/a", lambda s: s[0] != "x"),
    ),
    Case(
        "traffic based on NamespaceSelector with MatchLabels using default ns label",
        [from_({"namespaceSelector": within("y")})],
        to("x/a", lambda s: s[0] == "y"),
    ),
    Case(
        "PodSelector or NamespaceSelector",
        [from_({"namespaceSelector": labels(ns="y")}, {"podSelector": labels(pod="b")})],
        to("x/a", lambda s: s[0] == "y" or s == "x/b"),
    ),
    Case(
        "PodSelector and NamespaceSelector",
        [from_({"namespaceSelector": labels(ns="y"), "podSelector": labels(pod="b")})],
        to("x/a", lambda s: s == "y/b"),
    ),
    Case(
        "Multiple PodSelectors and NamespaceSelectors",
        [
            from_(
                {"namespaceSelector": expression("ns", "NotIn", "x"), "podSelector": expression("pod", "In", "b", "c")}
            )
        ],
        to("x/a", lambda s: s[0] != "x" and s[-1] != "a"),
    ),
    Case(
        "any PodSelectors",
        [from_({"podSelector": labels(pod="b")}, {"podSelector": labels(pod="c")})],
        to("x/a", lambda s: s in ("x/b", "x/c")),
    ),
    Case(
        "only from a pod in a different namespace based on PodSelector and NamespaceSelector",
        [from_(Y_A)],
        to("x/a", lambda s: s == "y/a"),
    ),
    Case(
        "based on Ports",
        [from_({"namespaceSelector": labels(ns="y")}, ports=[TCP81])],
        lambda s, d, port, protocol: d != "x/a" or (s[0] == "y" and (port, protocol) == (81, "TCP")),
    ),
    Case(
        "multiple, stacked policies with overlapping podSelectors",
        [
            from_({"namespaceSelector": labels(ns="y")}, ports=[TCP81]),
            policy(
                "x/q",
                podSelector=labels(pod="a"),
                ingress=[{"from": [{"namespaceSelector": labels(ns="y")}], "ports": [TCP80]}],
            ),
        ],
        lambda s, d, _port, protocol: d != "x/a" or (s[0] == "y" and protocol == "TCP"),
    ),
    Case("allow-all policy", [ALLOW_ALL_IN], lambda *_: True),
    Case(
        "ingress access on one named port",
        [xa(ingress=[{"ports": [{"port": "serve-81-tcp"}]}])],
        opens("x/a", 81, "TCP"),
    ),
    Case(
        "ingress access from namespace on one named port",
        [from_({"namespaceSelector": labels(ns="y")}, ports=[{"port": "serve-80-tcp"}])],
        lambda s, d, port, protocol: d != "x/a" or (s[0] == "y" and (port, protocol) == (80, "TCP")),
    ),
    Case(
        "egress access on one named port",
        [xa(policyTypes=["Egress"], egress=[{"ports": [{"port": "serve-80-tcp"}]}])],
        lambda s, _d, port, protocol: s != "x/a" or (port, protocol) == (80, "TCP"),
    ),
    Case("updated policy, before", [ALLOW_ALL_IN], lambda *_: True),
    Case(
        "updated policy, after", [policy("x/allow-all", podSelector={}, ingress=[])], lambda _, d, *_rest: d[0] != "x"
    ),
    Case("updated namespace, before", [from_({"namespaceSelector": labels(ns2="updated")})], to("x/a")),
    Case(
        "updated namespace, after",
        [from_({"namespaceSelector": labels(ns2="updated")})],
        to("x/a", lambda s: s[0] == "y"),
        {"y": {"ns2": "updated"}},
    ),
    Case("updated pod, before", [from_({"podSelector": labels(pod="b", pod2="updated")})], to("x/a")),
    Case(
        "updated pod, after",
        [from_({"podSelector": labels(pod="b", pod2="updated")})],
        to("x/a", lambda s: s == "x/b"),
        {"x/b": {"pod2": "updated"}},
    ),
    Case(
        "deny ingress from pods on other namespaces",
        [policy("x/p", podSelector={}, ingress=[{"from": [{"podSelector": {}}]}])],
        lambda s, d, *_: d[0] != "x" or s[0] == "x",
    ),
    Case(
        "deny ingress access to updated pod, before",
        [policy("x/p", podSelector=labels(target="isolated"))],
        lambda *_: True,
    ),
    Case(
        "deny ingress access to updated pod, after",
        [policy("x/p", podSelector=labels(target="isolated"))],
        to("x/a"),
        {"x/a": {"target": "isolated"}},
    ),
    Case("deny egress from pods based on PodSelector", [xa(policyTypes=["Egress"])], out("x/a")),
    Case(
        "deny egress from all pods in a namespace",
        [policy("x/p", podSelector={}, policyTypes=["Egress"], egress=[])],
        lambda s, *_: s[0] != "x",
    ),
    Case(
        "Ingress, Egress specified together",
        [
            xa(
                policyTypes=["Ingress", "Egress"],
                ingress=[{"from": [{"podSelector": labels(pod="b")}]}],
                egress=[{"ports": [TCP80]}],
            )
        ],
        lambda s, d, port, protocol: (d != "x/a" or s == "x/b") and (s != "x/a" or (port, protocol) == (80, "TCP")),
    ),
    Case(
        "denying of egress traffic on the client side (even if the server explicitly allows this traffic)",
        [
            xa(
                policyTypes=["Egress"],
                egress=[{"to": [{"namespaceSelector": labels(ns="y"), "podSelector": labels(pod="a")}]}],
            ),
            policy(
                "y/a",
                podSelector=labels(pod="a"),
                ingress=[{"from": [{"namespaceSelector": labels(ns="x"), "podSelector": labels(pod="a")}]}],
            ),
            policy(
                "y/b",
                podSelector=labels(pod="b"),
                ingress=[{"from": [{"namespaceSelector": labels(ns="x"), "podSelector": labels(pod="a")}]}],
            ),
        ],
        lambda s, d, *_: (s != "x/a" or d == "y/a") and (d not in ("y/a", "y/b") or s == "x/a"),
    ),
    Case(
        "egress policy allowing traffic to a server in a different namespace based on both selectors",
        [xa(policyTypes=["Egress"], egress=[{"to": [Y_A]}])],
        out("x/a", lambda d: d == "y/a"),
    ),
    Case(
        "any port traffic to a server on a specific protocol",
        [xa(policyTypes=["Ingress"], ingress=[{"ports": [{"protocol": "TCP"}]}])],
        lambda _s, d, _port, protocol: d != "x/a" or protocol == "TCP",
    ),
    Case(
        "multiple ingress policies with ingress allow-all policy taking precedence",
        [policy("x/p", podSelector={}, ingress=[{"ports": [TCP80]}]), ALLOW_ALL_IN],
        lambda *_: True,
    ),
    Case(
        "multiple egress policies with egress allow-all policy taking precedence",
        [policy("x/p", podSelector={}, policyTypes=["Egress"], egress=[{"ports": [TCP80]}]), ALLOW_ALL_OUT],
        lambda *_: True,
    ),
    Case("stop enforcing policies after they are deleted", [], lambda *_: True),
    Case(
        "egress access to server in CIDR block",
        [xa(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": f"{IPS['y/b']}/32"}}]}])],
        out("x/a", lambda d: d == "y/b"),
    ),
    Case(
        "except clause while egress access to server in CIDR block",
        [
            xa(
                policyTypes=["Egress"],
                egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24"]}}]}],
            )
        ],
        out("x/a", lambda d: d[0] != "y"),
    ),
    Case(
        "an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed",
        [
            xa(
                policyTypes=["Egress"],
                egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24"]}}]}],
            ),
            policy(
                "x/q",
                podSelector=labels(pod="a"),
                policyTypes=["Egress"],
                egress=[{"to": [{"ipBlock": {"cidr": f"{IPS['y/b']}/32"}}]}],
            ),
        ],
        out("x/a", lambda d: d[0] != "y" or d == "y/b"),
    ),
    Case(
        "ingress and egress policies can be controlled independently based on PodSelector",
        [
            xa(policyTypes=["Egress"], egress=[{"to": [{"podSelector": labels(pod="b")}]}]),
            policy("x/q", podSelector=labels(pod="a"), ingress=[{"from": [{"podSelector": labels(pod="b")}]}]),
        ],
        lambda s, d, *_: (s != "x/a" or d == "x/b") and (d != "x/a" or s == "x/b"),
    ),
    Case(
        "not mistakenly treat 'protocol: SCTP' as 'protocol: TCP'",
        [xa(ingress=[{"ports": [{"port": 80, "protocol": "SCTP"}]}])],
        opens("x/a", 80, "SCTP"),
    ),
    Case(
        "isolate pods that are selected by a policy allowing SCTP",
        [policy("x/p", podSelector={}, ingress=[{"ports": [{"port": 81, "protocol": "SCTP"}]}])],
        lambda _s, d, port, protocol: d[0] != "x" or (port, protocol) == (81, "SCTP"),
    ),
    Case(
        "not allow access by TCP when a policy specifies only UDP",
        [xa(ingress=[{"ports": [{"port": 81, "protocol": "UDP"}]}])],
        opens("x/a", 81, "UDP"),
    ),
    Case(
        "not allow access by TCP when a policy specifies only SCTP",
        [xa(ingress=[{"ports": [{"port": 81, "protocol": "SCTP"}]}])],
        opens("x/a", 81, "SCTP"),
    ),
    Case(
        "EndPort covers its range and no more",
        [xa(policyTypes=["Egress"], egress=[{"ports": [{"port": 79, "endPort": 80, "protocol": "TCP"}]}])],
        lambda s, _d, port, protocol: s != "x/a" or (port, protocol) == (80, "TCP"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_reachability_is_the_truth_table(case: Case) -> None:
    of = judge(cluster(case.extra), case.policies)
    for source, destination in product(NAMES, NAMES):
        for port, protocol in product((80, 81), ("TCP", "UDP", "SCTP")):
            expected = source == destination or case.truth(source, destination, port, protocol)
            found = outcome(of, source, destination, port, protocol)
            assert found == ("allow" if expected else "deny"), (source, destination, port, protocol)


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
