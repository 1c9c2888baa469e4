"""The proof's contract and rendering, and the question stream of `can`."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leastway.verify.can import answer_line
from leastway.verify.judge import Judge
from leastway.verify.proof import prove, render
from leastway.verify.soundness import Observed
from leastway.verify.world import World
from tests.verify.clusters import SPACES, Clusters
from tests.verify.kit import judge, labels, namespace, pod, policy

THINGS = [namespace("a"), pod("a/web", {"app": "web"}, "10.0.0.1"), pod("a/db", {"app": "db"}, "10.0.0.2")]
POLICIES = [
    policy(
        "a/db",
        podSelector=labels(app="db"),
        ingress=[{"from": [{"podSelector": labels(app="web")}], "ports": [{"port": 80}]}],
    )
]


def test_the_proof_has_the_contracts_keys_and_is_json() -> None:
    proof = prove(judge(THINGS, POLICIES), [Observed("a/web", "a/db", port=81)], profiles=True)
    assert json.loads(json.dumps(proof)) == proof
    assert {"sound", "observed", "allowed", "denied", "over_permission", "redundant"} <= set(proof)
    assert (proof["sound"], proof["observed"], proof["allowed"]) == (False, 1, 0)
    assert {"from", "to", "protocol", "port", "layer", "because"} <= set(proof["denied"][0])
    assert {"total", "by_cause", "by_workload"} <= set(proof["over_permission"])
    assert set(proof["profiles"]) == {"cilium", "calico"}


def test_the_text_says_the_result_first_and_fits_the_terminal() -> None:
    long = Observed("a/web", "a/db", port=81, method="GET", path="/" + "x" * 500)
    for observed, first in (([long], "NOT SOUND"), ([Observed("a/web", "a/db", port=80)], "SOUND")):
        text = render(prove(judge(THINGS, POLICIES), observed), width=80)
        assert text.startswith(first)
        assert all(len(row) <= 80 for row in text.splitlines())


def test_hostile_names_do_not_reach_the_terminal_as_they_are() -> None:
    hostile = Observed("a/web", "a/db", port=81, method="GET", path="/\x1b[31m\u202e\nSOUND")
    text = render(prove(judge(THINGS, POLICIES), [hostile]))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not any(row.startswith("SOUND") for row in text.splitlines())


def test_the_proof_does_not_depend_on_order() -> None:
    drawn = Clusters(5)
    things, policies = drawn.things(), [Clusters(i).policy(i) for i in range(6)]
    observed = [
        Observed(f"{s}/p{i}", f"{d}/p{j}", port=80) for s in SPACES for d in SPACES for i in range(3) for j in range(3)
    ]
    expected = json.dumps(prove(judge(things, policies), observed))
    draw = random.Random(1)
    for _ in range(3):
        draw.shuffle(things)
        draw.shuffle(policies)
        draw.shuffle(observed)
        assert json.dumps(prove(judge(things, policies), observed)) == expected


def test_can_answers_each_line_and_says_what_is_wrong_with_bad_ones() -> None:
    lines = [
        '{"from": "a/web", "to": "a/db", "protocol": "TCP", "port": 80}',
        '{"from": "203.0.113.1", "to": "a/db", "port": "80"}',
        '{"from": "a/web", "to": "a/db", "protocol": "ICMP", "port": 0}',
        "{",
        "[]",
        '{"from": "a/gone", "to": "a/db", "port": 80}',
        '{"from": "a/web", "to": "a/db", "port": 70000}',
        '{"from": "a/web", "to": "a/db", "port": 80, "mine": [1]}',
    ]
    asked = judge(THINGS, POLICIES)
    found = [answer_line(asked, line) for line in lines]
    assert [answer["verdict"] for answer, _ in found] == ["allow", "deny", *["undefined"] * 5, "allow"]
    assert [readable for _, readable in found] == [True, True, True, False, False, True, False, True]
    because = [answer["because"] for answer, _ in found]
    assert all(because)
    assert "not JSON" in because[3]
    assert "a/gone" in because[5]
    assert "70000" in because[6]
    assert found[-1][0]["mine"] == [1]


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60)))
def test_can_survives_any_line(text: str | bytes) -> None:
    found, _ = answer_line(judge(THINGS, POLICIES), text)
    assert found["verdict"] in ("allow", "deny", "undefined")


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e400"])
def test_an_answer_is_json_whatever_numbers_the_question_holds(number: str) -> None:
    text = f'{{"from": "a/web", "to": "a/api", "port": 80, "mine": {number}}}'
    found, readable = answer_line(judge(THINGS, POLICIES), text)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (readable, found["verdict"]) == (False, "undefined")
    assert number in found["because"]


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_adding_a_rule_never_removes_a_permission(seed: int, more: int) -> None:
    drawn = Clusters(seed)
    things, policies = drawn.things(), drawn.policies()
    extended = json.loads(json.dumps(policies))
    side = "ingress" if "ingress" in extended[0]["spec"] else "egress"
    if side not in extended[0]["spec"]:
        return
    extended[0]["spec"][side].append(Clusters(more).rule("from" if side == "ingress" else "to"))
    if "policyTypes" not in extended[0]["spec"]:  # rules may not start to isolate a direction
        return
    world = World.from_manifests(things)
    before, after = Judge(world, policies), Judge(world, extended)
    from leastway.verify.judge import Question

    for source in ("alpha/p0", "beta/p1", "203.0.113.1"):
        for destination in ("alpha/p1", "gamma/p2", "beta/p0"):
            question = Question(source, destination, port=80)
            assert not before.ask(question).allowed or after.ask(question).allowed


@given(st.integers(0, 10**6))
def test_a_selector_equals_the_pods_it_selects(seed: int) -> None:
    """Replacing a policy by one per selected pod, each by a label of its own, changes no verdict."""
    from leastway.verify.judge import Question
    from leastway.verify.networkpolicy import read_network_policy

    drawn = Clusters(seed)
    things, policies = drawn.things(), drawn.policies()
    for thing in things:
        if thing["kind"] == "Pod":
            thing["metadata"]["labels"]["self"] = thing["metadata"]["name"]
    split = []
    for document in policies:
        parsed = read_network_policy(document)
        for thing in things:
            meta = thing["metadata"]
            if (
                thing["kind"] == "Pod"
                and meta["namespace"] == parsed.namespace
                and parsed.selector.matches(meta["labels"])
            ):
                spec = document["spec"] | {"podSelector": labels(self=meta["name"])}
                split.append(policy(f"{parsed.namespace}/{parsed.name}-{meta['name']}", **spec))
    whole, parts = judge(things, policies), judge(things, split)
    for source in ("alpha/p0", "beta/p1", "gamma/p2", "203.0.113.1"):
        for destination in ("alpha/p1", "gamma/p0", "beta/p2"):
            for port, protocol in ((80, "TCP"), (53, "UDP")):
                question = Question(source, destination, protocol, port)
                assert whole.ask(question).outcome == parts.ask(question).outcome
