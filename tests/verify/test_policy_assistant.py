"""policy-assistant's NetworkPolicy v1 cases (kubernetes-sigs/network-policy-api, cmd/policy-assistant).

They are the two of `TestNetPolV1Connectivity` in test/integration/integration_test.go, named as there; its other
functions are about AdminNetworkPolicy, which the judge does not read. A case is a default and the flows that differ
from it.
"""

from __future__ import annotations

from itertools import product

import pytest

from leastway.verify.reading import Document
from tests.verify.kit import judge, labels, namespace, outcome, pod, policy

Flow = tuple[str, str, int, str]


def cluster(spaces: str) -> list[Document]:
    found = [namespace(space, ns=space) for space in spaces]
    refs = [f"{space}/{name}" for space in spaces for name in "ab"]
    return found + [pod(ref, {"pod": ref[-1]}, f"10.0.0.{number}") for number, ref in enumerate(refs, 1)]


CASES: list[tuple[str, str, Document, bool, set[Flow]]] = [
    ("deny all", "x", policy("x/base", podSelector={}, policyTypes=["Ingress"]), False, set()),
    (
        "ingress port allowed",
        "xy",
        policy(
            "x/base",
            podSelector=labels(pod="a"),
            policyTypes=["Ingress"],
            ingress=[{"ports": [{"protocol": "UDP", "port": 80}]}],
        ),
        True,
        {
            (source, "x/a", *port)
            for source in ("x/b", "y/a", "y/b")
            for port in ((80, "TCP"), (81, "TCP"), (81, "UDP"))
        },
    ),
]


@pytest.mark.parametrize(
    ("spaces", "used", "allowed", "others"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_connectivity(spaces: str, used: Document, allowed: bool, others: set[Flow]) -> None:
    """A pod always reaches itself, so loopback is not asked about here."""
    things = cluster(spaces)
    refs = [f"{space}/{name}" for space in spaces for name in "ab"]
    of = judge(things, [used])
    for source, destination, port, protocol in product(refs, refs, (80, 81), ("TCP", "UDP")):
        if source != destination:
            expected = allowed != ((source, destination, port, protocol) in others)
            found = outcome(of, source, destination, port, protocol)
            assert found == ("allow" if expected else "deny"), (source, destination, port, protocol)
