"""Calico's corpus, as far as it is about Kubernetes NetworkPolicy, against the judge; each case once more as the
StagedKubernetesNetworkPolicy that stages it, for that is read as what it would become.

`staged_policy.go` of Calico's e2e tests (StagedKubernetesNetworkPolicy, "should enforce a deny policy") is
`test_what_is_staged_is_read_as_enforced`; its two others are about Calico's own kinds.
"""

from __future__ import annotations

import pytest

from leastway.verify.errors import PolicyError
from leastway.verify.networkpolicy import CNIS, Cni
from leastway.verify.reading import Document
from tests.verify.calico_cases import CASES, REFUSED
from tests.verify.connection_lists import wrong_rows
from tests.verify.kit import judge, labels, namespace, outcome, pod, policy
from tests.verify.npguard_cases import Case


def staged(document: Document) -> Document:
    """A policy as Calico stages it."""
    spec = {**document["spec"], "stagedAction": "Set"}
    return {
        **document,
        "apiVersion": "projectcalico.org/v3",
        "kind": "StagedKubernetesNetworkPolicy",
        "spec": spec,
    }


@pytest.mark.parametrize("cni", CNIS)
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_connections(case: Case, cni: Cni) -> None:
    assert not wrong_rows(case, judge(case.things(), case.policies, cni=cni))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_connections_as_staged(case: Case) -> None:
    assert not wrong_rows(case, judge(case.things(), [staged(p) for p in case.policies], cni="calico"))


def test_what_is_staged_is_read_as_enforced() -> None:
    things = [namespace("a"), pod("a/server", {"pod-name": "server"}, "10.0.0.1"), pod("a/client", {}, "10.0.0.2")]
    deny = policy("a/service-deny-in", podSelector=labels(**{"pod-name": "server"}), policyTypes=["Ingress"])
    assert outcome(judge(things, [], cni="calico"), "a/client", "a/server") == "allow"
    for document in (deny, staged(deny)):
        of = judge(things, [document], cni="calico")
        assert outcome(of, "a/client", "a/server") == "deny"
        assert outcome(of, "a/server", "a/client") == "allow"


@pytest.mark.parametrize("kind", ["NetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"])
def test_calicos_own_kinds_are_named_and_not_judged(kind: str) -> None:
    own = {
        "apiVersion": "projectcalico.org/v3",
        "kind": kind,
        "metadata": {"name": "p", "namespace": "a"},
        "spec": {"selector": "all()", "types": ["Ingress"], "ingress": [{"action": "Deny"}]},
    }
    of = judge([pod("a/server", {}, "10.0.0.1"), pod("a/client", {}, "10.0.0.2")], [own], cni="calico")
    assert of.policies.unjudged == (f"{kind} a/p",)
    assert outcome(of, "a/client", "a/server") == "allow"


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_api_server_refuses_before_calico_sees_it(name: str) -> None:
    for document in (REFUSED[name], staged(REFUSED[name])):
        with pytest.raises(PolicyError):
            judge([namespace("default")], [document])
