"""The 48 Kubernetes end-to-end network policy cases (test/e2e/network/netpol/network_policy.go), re-authored.

A case is named as the original's `It`, without its "should", under the original's suite: Netpol (TCP), UDP or SCTP.
World: namespaces x, y, z with pods a, b, c, label `pod` = name, ports 80 and 81 in TCP, UDP and SCTP, named
serve-<port>-<protocol>. A case that changes policies or labels has one step for each state. The truth is one predicate
over (source, destination, port, protocol), asked about all pods, ports and protocols; loopback is always true.
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
Labels = dict[str, dict[str, str]]


def ports() -> list[dict[str, Any]]:
    return [
        {"name": f"serve-{number}-{protocol.lower()}", "containerPort": number, "protocol": protocol}
        for number in (80, 81)
        for protocol in ("TCP", "UDP", "SCTP")
    ]


def cluster(extra: Labels) -> list[Document]:
    spaces = [namespace(ns, **extra.get(ns, {})) for ns in "xyz"]
    return spaces + [pod(r, {"pod": r[-1], **extra.get(r, {})}, IPS[r], ports=ports()) for r in NAMES]


class Step(NamedTuple):
    policies: list[Document]
    truth: Truth
    extra: Labels | None = None


class Case(NamedTuple):
    name: str
    steps: list[Step]
    suite: str = "Netpol"


def case(name: str, policies: list[Document], truth: Truth, suite: str = "Netpol") -> Case:
    """A case of one step."""
    return Case(name, [Step(policies, truth)], suite)


def everyone(*_: object) -> bool:
    return True


def to(target: str, admitted: Callable[[str], bool] = lambda _: False) -> Truth:
    """Only `admitted` sources reach `target`, a pod or a namespace; everything else is open."""
    return lambda s, d, _port, _protocol: target not in (d, d[0]) or admitted(s)


def out(origin: str, admitted: Callable[[str], bool] = lambda _: False) -> Truth:
    """`origin`, a pod or a namespace, reaches only `admitted` destinations; everything else is open."""
    return lambda s, d, _port, _protocol: origin not in (s, s[0]) or admitted(d)


def both(*truths: Truth) -> Truth:
    return lambda *asked: all(truth(*asked) for truth in truths)


def on(target: str, port: int, protocol: str, admitted: Callable[[str], bool] = lambda _: True) -> Truth:
    """`admitted` sources reach `target`, a pod or a namespace, on one port only; everything else is open."""
    return lambda s, d, p, pr: target not in (d, d[0]) or ((p, pr) == (port, protocol) and admitted(s))


def ingress(*rules: dict[str, Any], of: dict[str, Any] | None = None, name: str = "p") -> Document:
    """A policy in x about pod a, or what `of` selects."""
    selector = labels(pod="a") if of is None else of
    return policy(f"x/{name}", podSelector=selector, policyTypes=["Ingress"], ingress=list(rules))


def egress(*rules: dict[str, Any], of: dict[str, Any] | None = None, name: str = "e") -> Document:
    """A policy in x about pod a, or what `of` selects."""
    selector = labels(pod="a") if of is None else of
    return policy(f"x/{name}", podSelector=selector, policyTypes=["Egress"], egress=list(rules))


def peer(namespaces: dict[str, Any] | None = None, pods: dict[str, Any] | None = None) -> dict[str, Any]:
    found = {"namespaceSelector": namespaces, "podSelector": pods}
    return {key: value for key, value in found.items() if value is not None}


def port(number: int | str, protocol: str = "TCP") -> dict[str, Any]:
    return {"port": number, "protocol": protocol}


def block(cidr: str, *excepts: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr} | ({"except": list(excepts)} if excepts else {})}


ALL: dict[str, Any] = {}
B, NOT_X = labels(pod="b"), expression(NAME, "NotIn", "x")
X_B, Y_A = f"{IPS['x/b']}/32", peer(within("y"), labels(pod="a"))
FROM_X_A = {"from": [peer(within("x"), labels(pod="a"))]}
DENY_IN, DENY_OUT = ingress(of=ALL, name="deny"), egress(of=ALL, name="deny-out")
FROM_Y_ON_81 = ingress({"from": [peer(within("y"))], "ports": [port(81)]})
FROM_Y_ON_80 = ingress({"from": [peer(within("y"))], "ports": [port(80)]}, name="q")
ONLY_80_IN, ALL_IN = ingress({"ports": [{"port": 80}]}, of=ALL), ingress({}, of=ALL, name="all")
ONLY_80_OUT, ALL_OUT = egress({"ports": [{"port": 80}]}, of=ALL), egress({}, of=ALL, name="all-out")
ISOLATED = [ingress(of=labels(target="isolated"))]
UPDATED = [ingress({"from": [peer(labels(ns2="updated"))]})]
UPDATED_POD = [ingress({"from": [peer(pods=labels(pod="b", pod2="updated"))]})]
AROUND_X_B = [egress({"to": [block("10.0.0.0/16", X_B)]})]


def x(source: str) -> bool:
    return source[0] == "x"


def y(source: str) -> bool:
    return source[0] == "y"


CASES = [
    case("support a 'default-deny-ingress' policy", [DENY_IN], to("x")),
    case(
        "support a 'default-deny-all' policy",
        [policy("x/deny", podSelector={}, policyTypes=["Ingress", "Egress"], ingress=[], egress=[])],
        both(to("x"), out("x")),
    ),
    case(
        "enforce policy to allow traffic from pods within server namespace based on PodSelector",
        [ingress({"from": [peer(pods=B)]})],
        to("x/a", "x/b".__eq__),
    ),
    case(
        "enforce policy to allow ingress traffic for a target",
        [DENY_IN, ingress({"from": [peer(ALL, ALL)]})],
        both(to("x/b"), to("x/c")),
    ),
    case(
        "enforce policy to allow ingress traffic from pods in all namespaces",
        [ingress({"from": [peer({"matchLabels": {}})]})],
        everyone,
    ),
    case(
        "enforce policy to allow traffic only from a different namespace, based on NamespaceSelector",
        [ingress({"from": [peer(within("y"))]})],
        to("x/a", y),
    ),
    case(
        "enforce policy based on PodSelector with MatchExpressions",
        [ingress({"from": [peer(pods=expression("pod", "In", "b"))]})],
        to("x/a", "x/b".__eq__),
    ),
    case(
        "enforce policy based on NamespaceSelector with MatchExpressions",
        [ingress({"from": [peer(expression(NAME, "In", "y"))]})],
        to("x/a", y),
    ),
    case(
        "enforce policy based on PodSelector or NamespaceSelector",
        [ingress({"from": [peer(NOT_X), peer(pods=B)]})],
        to("x/a", lambda s: not x(s) or s == "x/b"),
    ),
    case(
        "enforce policy based on PodSelector and NamespaceSelector",
        [ingress({"from": [peer(NOT_X, B)]})],
        to("x/a", lambda s: s in ("y/b", "z/b")),
    ),
    case(
        "enforce policy based on Multiple PodSelectors and NamespaceSelectors",
        [ingress({"from": [peer(NOT_X, expression("pod", "In", "b", "c"))]})],
        to("x/a", lambda s: not x(s) and s[-1] != "a"),
    ),
    case(
        "enforce policy based on any PodSelectors",
        [ingress({"from": [peer(pods=B), peer(pods=labels(pod="c"))]})],
        to("x/a", lambda s: s in ("x/b", "x/c")),
    ),
    case(
        "enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and "
        "NamespaceSelector",
        [ingress({"from": [Y_A]})],
        to("x/a", "y/a".__eq__),
    ),
    case("enforce policy based on Ports", [FROM_Y_ON_81], on("x/a", 81, "TCP", y)),
    Case(
        "enforce multiple, stacked policies with overlapping podSelectors",
        [
            Step([FROM_Y_ON_81], on("x/a", 81, "TCP", y)),
            Step([FROM_Y_ON_81, FROM_Y_ON_80], lambda s, d, _p, pr: d != "x/a" or (y(s) and pr == "TCP")),
        ],
    ),
    case("support allow-all policy", [ALL_IN], everyone),
    case(
        "allow ingress access on one named port",
        [ingress({"ports": [{"port": "serve-81-tcp"}]}, of=ALL)],
        on("x", 81, "TCP"),
    ),
    case(
        "allow ingress access from namespace on one named port",
        [ingress({"from": [peer(within("y"))], "ports": [port("serve-80-tcp")]})],
        on("x/a", 80, "TCP", y),
    ),
    case(
        "allow egress access on one named port",
        [egress({"ports": [{"port": "serve-80-tcp"}]}, of=ALL)],
        lambda s, _d, p, pr: not x(s) or (p, pr) == (80, "TCP"),
    ),
    Case("enforce updated policy", [Step([ALL_IN], everyone), Step([ingress(of=ALL, name="all")], to("x"))]),
    Case(
        "allow ingress access from updated namespace",
        [Step(UPDATED, to("x/a")), Step(UPDATED, to("x/a", y), {"y": {"ns2": "updated"}})],
    ),
    Case(
        "allow ingress access from updated pod",
        [Step(UPDATED_POD, to("x/a")), Step(UPDATED_POD, to("x/a", "x/b".__eq__), {"x/b": {"pod2": "updated"}})],
    ),
    case(
        "deny ingress from pods on other namespaces",
        [ingress({"from": [peer(pods={"matchLabels": {}})]}, of=ALL)],
        to("x", x),
    ),
    Case(
        "deny ingress access to updated pod",
        [Step(ISOLATED, everyone), Step(ISOLATED, to("x/a"), {"x/a": {"target": "isolated"}})],
    ),
    case("deny egress from pods based on PodSelector", [egress()], out("x/a")),
    case("deny egress from all pods in a namespace", [DENY_OUT], out("x")),
    case(
        "work with Ingress, Egress specified together",
        [
            policy(
                "x/p",
                podSelector=labels(pod="a"),
                policyTypes=["Egress", "Ingress"],
                ingress=[{"from": [peer(pods=B)]}],
                egress=[{"ports": [{"port": 80}]}],
            )
        ],
        both(to("x/a", "x/b".__eq__), lambda s, _d, p, pr: s != "x/a" or (p, pr) == (80, "TCP")),
    ),
    case(
        "support denying of egress traffic on the client side (even if the server explicitly allows this traffic)",
        [
            egress({"to": [Y_A]}),
            policy("y/a", podSelector=labels(pod="a"), policyTypes=["Ingress"], ingress=[FROM_X_A]),
            policy("y/b", podSelector=labels(pod="b"), policyTypes=["Ingress"], ingress=[FROM_X_A]),
        ],
        both(out("x/a", "y/a".__eq__), to("y/a", "x/a".__eq__), to("y/b")),
    ),
    case(
        "enforce egress policy allowing traffic to a server in a different namespace based on PodSelector and "
        "NamespaceSelector",
        [egress({"to": [Y_A]})],
        out("x/a", "y/a".__eq__),
    ),
    case(
        "enforce ingress policy allowing any port traffic to a server on a specific protocol",
        [ingress({"ports": [{"protocol": "TCP"}]})],
        lambda _s, d, _p, pr: d != "x/a" or pr == "TCP",
    ),
    Case(
        "enforce multiple ingress policies with ingress allow-all policy taking precedence",
        [Step([ONLY_80_IN], on("x", 80, "TCP")), Step([ONLY_80_IN, ALL_IN], everyone)],
    ),
    Case(
        "enforce multiple egress policies with egress allow-all policy taking precedence",
        [
            Step([ONLY_80_OUT], lambda s, _d, p, pr: not x(s) or (p, pr) == (80, "TCP")),
            Step([ONLY_80_OUT, ALL_OUT], everyone),
        ],
    ),
    Case(
        "stop enforcing policies after they are deleted",
        [Step([DENY_IN, DENY_OUT], both(to("x"), out("x"))), Step([], everyone)],
    ),
    case(
        "allow egress access to server in CIDR block",
        [egress({"to": [block(f"{IPS['y/b']}/32")]})],
        out("x/a", "y/b".__eq__),
    ),
    case("enforce except clause while egress access to server in CIDR block", AROUND_X_B, out("x/a", "x/b".__ne__)),
    Case(
        "ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed",
        [
            Step(AROUND_X_B, out("x/a", "x/b".__ne__)),
            Step([egress({"to": [block(X_B)]})], out("x/a", "x/b".__eq__)),
            Step([*AROUND_X_B, egress({"to": [block(X_B)]}, name="added")], everyone),
        ],
    ),
    Case(
        "enforce policies to check ingress and egress policies can be controlled independently based on PodSelector",
        [Step([egress({})], everyone), Step([egress({}), ingress()], to("x/a"))],
    ),
    case(
        "not mistakenly treat 'protocol: SCTP' as 'protocol: TCP', even if the plugin doesn't support SCTP",
        [DENY_IN, ingress({"ports": [port(81, "SCTP")]})],
        lambda _s, d, p, pr: not x(d) or (d == "x/a" and (p, pr) == (81, "SCTP")),
    ),
    case(
        "properly isolate pods that are selected by a policy allowing SCTP, even if the plugin doesn't support SCTP",
        [ingress({"ports": [port(80, "SCTP")]})],
        on("x/a", 80, "SCTP"),
    ),
    case(
        "not allow access by TCP when a policy specifies only UDP",
        [ingress({"ports": [port(81, "UDP")]})],
        on("x/a", 81, "UDP"),
    ),
    case(
        "enforce policy to allow traffic based on NamespaceSelector with MatchLabels using default ns label",
        [ingress({"from": [peer(within("y"))]})],
        to("x/a", y),
    ),
    case(
        "enforce policy based on NamespaceSelector with MatchExpressions using default ns label",
        [egress({"to": [peer(expression(NAME, "NotIn", "y"))]})],
        out("x/a", lambda d: not y(d)),
    ),
]
for _suite in ("UDP", "SCTP"):
    CASES += [
        case("support a 'default-deny-ingress' policy", [DENY_IN], to("x"), _suite),
        case(
            "enforce policy based on Ports",
            [ingress({"from": [peer(within("y"))], "ports": [port(81, _suite)]})],
            on("x/a", 81, _suite, y),
            _suite,
        ),
        case(
            "enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and "
            "NamespaceSelector",
            [ingress({"from": [Y_A]})],
            to("x/a", "y/a".__eq__),
            _suite,
        ),
    ]

STEPS = {
    f"{c.suite} {c.name}" + (f" [{i}]" if len(c.steps) > 1 else ""): step
    for c in CASES
    for i, step in enumerate(c.steps)
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_reachability_is_the_truth_table(step: Step) -> None:
    of = judge(cluster(step.extra or {}), step.policies)
    for source, destination in product(NAMES, NAMES):
        for number, protocol in product((80, 81), ("TCP", "UDP", "SCTP")):
            expected = source == destination or step.truth(source, destination, number, protocol)
            found = outcome(of, source, destination, number, protocol)
            assert found == ("allow" if expected else "deny"), (source, destination, number, protocol)


def test_all_cases_are_there_once() -> None:
    names = [(c.suite, c.name) for c in CASES]
    assert len(set(names)) == len(names) == 48
    assert [sum(suite == wanted for suite, _ in names) for wanted in ("Netpol", "UDP", "SCTP")] == [42, 3, 3]
