"""The policy shapes of cyclonus' generator (mattfenwick/cyclonus pkg/generator *cases.go), enumerated anew.

A case is named as cyclonus' test function and by what varies. World: namespaces x, y, z with pods a, b, c, each with
ports 80 and 81 in TCP, UDP and SCTP. One policy about x/a lets b and c of x and y in on TCP 80, and out to them;
`PeersTestCases` vary its peers, `PortProtocolTestCases` its ports, `TargetTestCases` whom it selects, `RulesTestCases`
its rules, and `ConflictTestCases` lay two policies over each other. cyclonus stores no expectation: ours is another
implementation's answer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from leastway.verify.reading import Document
from tests.verify.kit import expression, labels, namespace, pod, policy, within

NAMES = [f"{ns}/{name}" for ns in "xyz" for name in "abc"]
IPS = {ref: f"10.0.{i // 3}.{i % 3 + 1}" for i, ref in enumerate(NAMES)}
SIDES = {"ingress": "from", "egress": "to"}
Case = tuple[str, list[Document]]


def cluster() -> list[Document]:
    """The nine pods and their namespaces."""
    ports = [
        {"name": f"serve-{number}-{protocol.lower()}", "containerPort": number, "protocol": protocol}
        for number in (80, 81)
        for protocol in ("TCP", "UDP", "SCTP")
    ]
    spaces = [namespace(ns, ns=ns, **{"kubernetes.io/metadata.name": ns}) for ns in "xyz"]
    return spaces + [pod(ref, {"pod": ref[-1]}, IPS[ref], ports=ports) for ref in NAMES]


def base() -> Document:
    """The policy that cases vary."""
    peer = {"namespaceSelector": expression("ns", "In", "x", "y"), "podSelector": expression("pod", "In", "b", "c")}
    rule = {"ports": [{"port": 80, "protocol": "TCP"}]}
    sides = {direction: [rule | {side: [peer]}] for direction, side in SIDES.items()}
    return policy("x/base", podSelector=labels(pod="a"), policyTypes=["Ingress", "Egress"], **copy.deepcopy(sides))


def varied(direction: str, **fields: Any) -> Document:
    """The base policy with other fields in its one rule of a direction."""
    found = base()
    found["spec"][direction][0] |= copy.deepcopy(fields)
    return found


PEERS: dict[str, Document] = {
    f"{pods or 'any'} pods, {spaces or 'own'} namespace": {
        key: value
        for key, value in (("podSelector", chosen), ("namespaceSelector", where))
        if value is not None
    }
    for pods, chosen in (("", None), ("all", {}), ("labelled", labels(pod="c")))
    for spaces, where in (("", None), ("every", {}), ("labelled", within("x")))
    if chosen is not None or where is not None
} | {
    "block": {"ipBlock": {"cidr": "10.0.1.0/24"}},
    "block with exception": {"ipBlock": {"cidr": "10.0.1.0/24", "except": ["10.0.1.2/31"]}},
}  # fmt: skip
PORTS: dict[str, Document] = {
    f"{protocol or 'no'} protocol, {name} port": {
        key: value for key, value in (("protocol", protocol), ("port", number)) if value is not None
    }
    for protocol in (None, "TCP", "UDP", "SCTP")
    for name, number in (("no", None), ("numbered", 81), ("named", "serve-81-tcp"))
} | {"range": {"protocol": "UDP", "port": 80, "endPort": 81}}
TARGETS: dict[str, Document] = {
    "all pods": {},
    "pods by label": labels(pod="b"),
    "pods by expression": expression("pod", "In", "a", "b"),
    "pods by negation": expression("pod", "NotIn", "a"),
    "no pod": labels(pod="nobody"),
}
NOBODY: Document = {"namespaceSelector": labels(never="happens")}
ALL_PODS: Document = {"namespaceSelector": {}}
ALL_ADDRESSES: Document = {"ipBlock": {"cidr": "0.0.0.0/0"}}
NO_ADDRESS: Document = {"ipBlock": {"cidr": "0.0.0.0/31"}}


def cases() -> Iterator[Case]:
    """All shapes."""
    for direction, side in SIDES.items():
        yield f"PeersTestCases {direction}: empty list", [varied(direction, **{side: []})]
        for count in (1, 2):
            for names in combinations(PEERS, count):
                yield (
                    f"PeersTestCases {direction}: {' + '.join(names)}",
                    [varied(direction, **{side: [PEERS[name] for name in names]})],
                )
        yield f"PortProtocolTestCases {direction}: empty list", [varied(direction, ports=[])]
        for count in (1, 2):
            for names in combinations(PORTS, count):
                yield (
                    f"PortProtocolTestCases {direction}: {' + '.join(names)}",
                    [varied(direction, ports=[PORTS[name] for name in names])],
                )
        for name, rules in (
            ("none", []),
            ("one, empty", [{}]),
            ("two", [{"ports": [{"port": 81}]}, {side: [PEERS["block"]]}]),
        ):
            found = base()
            found["spec"][direction] = rules
            yield f"RulesTestCases {direction}: {name}", [found]
    for name, selector in TARGETS.items():
        for where in "xy":
            found = base()
            found["metadata"]["namespace"], found["spec"]["podSelector"] = where, selector
            yield f"TargetTestCases {where}: {name}", [found]
    yield from conflicts()


def conflicts() -> Iterator[Case]:
    """Two policies that say different things about the same pods, by direction; rules only ever add."""

    def about(where: str, who: str, direction: str, *rules: Document) -> Document:
        types = [direction.capitalize()]
        body = {direction: list(rules)}
        return policy(f"{where}/{direction}-{len(rules)}", podSelector=labels(pod=who), policyTypes=types, **body)

    source, destination = ("x", "b"), ("y", "c")
    yield "ConflictTestCases: AllowAllIngressDenyAllEgress", [
        about(*source, "egress"), about(*destination, "ingress", {}),
    ]  # fmt: skip
    yield "ConflictTestCases: AllowAllEgressDenyAllIngress", [
        about(*source, "egress", {}), about(*destination, "ingress"),
    ]  # fmt: skip
    for direction, side in SIDES.items():
        where = source if direction == "egress" else destination
        denials: dict[str, list[Document]] = {"": [], "ByIP": [{side: [NO_ADDRESS]}], "ByPod": [{side: [NOBODY]}]}
        grants: dict[str, list[Document]] = {"": [{}], "ByPod": [{side: [ALL_PODS]}], "ByIP": [{side: [ALL_ADDRESSES]}]}
        for denied, none in denials.items():
            first = about(*where, direction, *none)
            yield f"ConflictTestCases: DenyAll{direction.capitalize()}{denied}", [first]
            for granted, every in grants.items():
                second = about(*where, direction, *every)
                second["metadata"]["name"] += "-granted"
                title = direction.capitalize()
                yield f"ConflictTestCases: DenyAll{title}{denied}AllowAll{title}{granted}", [first, second]
