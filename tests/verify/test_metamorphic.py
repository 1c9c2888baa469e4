"""Changes of a policy set whose effect on every verdict is known without knowing the verdict."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leastway.verify.judge import Judge, Question
from leastway.verify.overpermission import over_permission
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed
from leastway.verify.world import Subject, World
from tests.verify.clusters import Clusters
from tests.verify.kit import labels
from tests.verify.mesh_policies import CLIENTS, PATHS, MeshPolicies

SEEDS = st.integers(0, 10**6)
ENDS = ("alpha/p0", "beta/p1", "gamma/p2", "203.0.113.1", "198.51.100.7")
CONNECTIONS = [
    Question(source, destination, protocol, port)
    for source, destination in product(ENDS, ("alpha/p1", "beta/p0", "gamma/p2"))
    for protocol, port in (("TCP", 80), ("TCP", 8080), ("UDP", 53), ("SCTP", 81))
]


def requests(seed: int) -> list[Question]:
    """Requests and connections to one server of the mesh."""
    draw = random.Random(seed)
    found = [
        Question("127.0.0.1", "a/server", "TCP", port, "GET", path, principal, "127.0.0.1", "127.0.0.1", "s1.test")
        for principal in ("", *CLIENTS)
        for port, path in product((80, 1), draw.sample(PATHS, 4))
    ]
    return found + [
        Question("127.0.0.1", "a/server", "TCP", 80, "", "", principal, "127.0.0.1", "127.0.0.1", http=False)
        for principal in ("", *CLIENTS)
    ]


def cluster(seed: int) -> tuple[World, list[Document]]:
    drawn = Clusters(seed)
    return World.from_manifests(drawn.things()), drawn.policies()


def mesh(seed: int) -> tuple[World, list[Document]]:
    world = World()
    world.add_subject(Subject("a", "server", {"app": "server"}, ips=("127.0.0.1",), meshed=True))
    return world, MeshPolicies(seed, (80, 81), ("127.0.0.1", "10.0.0.0/8")).policies()


def same(world: World, one: list[Document], two: list[Document], questions: list[Question], **options: Any) -> None:
    """Both sets give the same outcomes."""
    first, second = Judge(world, one, **options), Judge(world, two, **options)
    for question in questions:
        assert first.ask(question).outcome == second.ask(question).outcome, question


def shuffled(value: Any, draw: random.Random) -> Any:
    """All lists and mappings below `value` in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw.sample(sorted(value), len(value))}
    if isinstance(value, list):
        return draw.sample([shuffled(item, draw) for item in value], len(value))
    return value


def split(document: Document, keys: set[str]) -> list[Document]:
    """One policy for each rule of the given lists; a policy without rules stays as it is."""
    spec: Document = document["spec"]
    found: list[Document] = []
    for key in sorted(keys):
        for rule in spec.get(key) or ():
            part = copy.deepcopy(document)
            part["metadata"]["name"] += f"-{len(found)}"
            part["spec"] |= {other: [] for other in keys if other in spec} | {key: [rule]}
            found.append(part)
    return found or [document]


@given(SEEDS, SEEDS)
def test_the_order_of_policies_rules_peers_ports_and_values_is_irrelevant(seed: int, order: int) -> None:
    draw = random.Random(order)
    world, policies = cluster(seed)
    same(world, policies, shuffled(policies, draw), CONNECTIONS)
    world, policies = mesh(seed)
    same(world, policies, shuffled(policies, draw), requests(seed), mesh="sidecar")


@given(SEEDS)
def test_a_policy_may_be_split_by_its_rules(seed: int) -> None:
    world, policies = cluster(seed)
    for document in policies:  # what decides the default of policyTypes would be split as well
        types = ("Ingress", "Egress") if document["spec"].get("egress") else ("Ingress",)
        document["spec"].setdefault("policyTypes", list(types))
    same(world, policies, [part for d in policies for part in split(d, {"ingress", "egress"})], CONNECTIONS)
    world, policies = mesh(seed)
    same(world, policies, [part for d in policies for part in split(d, {"rules"})], requests(seed), mesh="sidecar")


@given(SEEDS)
def test_a_policy_twice_is_the_policy_once(seed: int) -> None:
    world, policies = cluster(seed)
    again = copy.deepcopy(policies)
    for document in again:
        document["metadata"]["name"] += "-again"
    same(world, policies, policies + again, CONNECTIONS)


def changed(policies: list[Document], change: Callable[[Document], None], action: str) -> list[Document] | None:
    """The set with its first policy of `action` changed; None if there is none."""
    found = copy.deepcopy(policies)
    for document in found:
        if document["spec"].get("action", "ALLOW") == action:
            change(document)
            return found
    return None


@given(SEEDS, SEEDS)
def test_a_further_allow_rule_never_removes_and_a_further_deny_rule_never_adds_a_permission(
    seed: int, more: int
) -> None:
    world, policies = mesh(seed)
    rule = MeshPolicies(more, (80, 81), ("127.0.0.1", "10.0.0.0/8")).rule()
    for action in ("ALLOW", "DENY"):
        extended = changed(policies, lambda document: document["spec"]["rules"].append(rule), action)
        if extended is None:
            continue
        before, after = Judge(world, policies, mesh="sidecar"), Judge(world, extended, mesh="sidecar")
        for question in requests(seed):
            narrow, wide = (before, after) if action == "ALLOW" else (after, before)
            assert not narrow.ask(question).allowed or wide.ask(question).allowed, (action, question)


@given(SEEDS)
def test_without_a_policy_more_is_allowed_and_with_an_empty_one_less(seed: int) -> None:
    world, policies = cluster(seed)
    judge, fewer = Judge(world, policies), Judge(world, [])
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    deny = [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "deny", "namespace": n},
            "spec": closed,
        }
        for n in ("alpha", "beta", "gamma")
    ]
    more = Judge(world, policies + deny)
    for question in CONNECTIONS:
        assert fewer.ask(question).allowed
        assert not more.ask(question).allowed or judge.ask(question).allowed


@given(SEEDS)
def test_a_peers_selector_equals_the_pods_that_it_selects(seed: int) -> None:
    """Every peer by label, replaced by one peer for each pod that it selects, changes no verdict between pods."""
    from leastway.verify.networkpolicy_schema import Pods, read_network_policy

    drawn = Clusters(seed)
    things, policies = drawn.things(), drawn.policies()
    for thing in things:
        if thing["kind"] == "Pod":
            thing["metadata"]["labels"]["self"] = f"{thing['metadata']['namespace']}.{thing['metadata']['name']}"
    world = World.from_manifests(things)
    listed = copy.deepcopy(policies)
    for document, parsed in zip(listed, map(read_network_policy, policies), strict=True):
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for raw, rule in zip(document["spec"].get(direction) or (), parsed.rules(direction) or (), strict=False):
                if rule.peers is None:
                    continue
                raw[side] = []
                for peer, item in zip(rule.peers, _peers(policies, document, direction, side, raw), strict=True):
                    if not isinstance(peer, Pods):
                        raw[side].append(item)
                        continue
                    for subject in world.subjects.values():
                        space = world.namespaces[subject.namespace]
                        here = (
                            subject.namespace == parsed.namespace
                            if peer.namespaces is None
                            else peer.namespaces.matches(space)
                        )
                        if here and peer.pods.matches(subject.labels):
                            raw[side].append(
                                {"namespaceSelector": {}, "podSelector": labels(self=subject.labels["self"])}
                            )
                # A peer that selects nobody is one that names nobody, never an empty list, which admits everyone.
                raw[side] = raw[side] or [{"podSelector": labels(self="nobody")}]
    same(world, policies, listed, CONNECTIONS)


def _peers(policies: list[Document], document: Document, direction: str, side: str, raw: Document) -> list[Document]:
    """The peers that a rule had before its list was emptied."""
    original = next(d for d in policies if d["metadata"] == document["metadata"])
    number = next(i for i, rule in enumerate(document["spec"][direction]) if rule is raw)
    found: list[Document] = original["spec"][direction][number][side]
    return found


@given(SEEDS)
def test_what_is_observed_is_never_listed_as_beyond_what_was_observed(seed: int) -> None:
    world, policies = cluster(seed)
    judge = Judge(world, policies)
    observed = [
        Observed(question.source, question.destination, question.protocol, question.port)
        for question in CONNECTIONS
        if question.source in world.subjects and judge.ask(question).allowed
    ]
    listed = {text for texts in over_permission(judge, observed).examples.values() for text in texts}
    assert not listed & {f"{item.source} → {item.destination} {item.port}/{item.protocol}" for item in observed}
