"""Minimality against removal: parts are taken out of the manifests, and all that was observed is asked about again."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from leastway.verify.gates import Part
from leastway.verify.judge import Judge
from leastway.verify.mesh import Mode
from leastway.verify.minimality import all_parts, removable
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed, replay
from leastway.verify.world import World
from tests.verify.small_worlds import SmallWorld
from tests.verify.test_request_by_request import CLIENTS, METHODS, PATHS, THINGS, drawn, targeted


def without(policies: list[Document], parts: Iterable[Part]) -> list[Document]:
    """The manifests less some parts of them."""
    by_rule: dict[tuple[str, str, int], list[Part]] = defaultdict(list)
    for part in parts:
        by_rule[part[:3]].append(part)
    found = copy.deepcopy(policies)
    for policy in found:
        title = "{} {}/{}".format(policy["kind"], policy["metadata"]["namespace"], policy["metadata"]["name"])
        for side, key in (("ingress", "ingress"), ("egress", "egress"), ("allow", "rules")):
            rules = policy["spec"].get(key)
            if rules:
                kept = [_less(rule, side, by_rule[title, side, i]) for i, rule in enumerate(rules)]
                policy["spec"][key] = [rule for rule in kept if rule is not None]
    return found


def _less(rule: Document, side: str, parts: list[Part]) -> Document | None:
    """A rule less some of its parts; None if it is gone itself, or can match nothing any more."""
    if any(not part.kind for part in parts):
        return None
    if side == "allow":
        return _less_granted(rule, parts)
    for kind, key in (("peer", "from" if side == "ingress" else "to"), ("port", "ports")):
        gone = {part.position for part in parts if part.kind == kind}
        if gone:
            rule[key] = [value for at, value in enumerate(rule[key]) if at not in gone]
            if not rule[key]:
                return None
    return rule


def _less_granted(rule: Document, parts: list[Part]) -> Document | None:
    for key, inner in (("from", "source"), ("to", "operation")):
        kept = []
        for e, entry in enumerate(rule.get(key, ())):
            fields: dict[str, Any] = entry[inner]
            for name in list(fields):
                gone = {part.position for part in parts if part.entry == e and part.kind == name.removesuffix("s")}
                fields[name] = [value for at, value in enumerate(fields[name]) if at not in gone]
            if all(fields.values()):
                kept.append(entry)
        if key in rule:
            rule[key] = kept
            if not kept:
                return None
    return rule


def compared(things: list[Document], policies: list[Document], observed: list[Observed], mesh: Mode) -> tuple[int, int]:
    """How many parts may go, and how many stay, each of the right kind."""
    world = World.from_manifests(things)
    judge = Judge(world, policies, mesh=mesh)
    parts = all_parts(judge)
    gone = removable(judge, observed, parts)
    left = without(policies, gone)
    assert replay(Judge(world, left, mesh=mesh), observed).sound, sorted(gone)
    kept = sorted(part for part in parts.keys() - gone if Part(*part[:3]) not in gone)
    for part in kept:
        fewer = without(policies, {*gone, part})
        if fewer != left:
            assert not replay(Judge(world, fewer, mesh=mesh), observed).sound, part
    return len(gone), len(kept)


@pytest.mark.parametrize("mesh", ["none", "sidecar", "ambient"])
def test_what_may_go_may_go_together_and_nothing_more(mesh: Mode) -> None:
    gone = kept = 0
    for seed in range(60):
        world = SmallWorld(seed, mesh)
        draw = random.Random(seed)
        judge = world.judge()
        ends = [*world.pods, *(pod for pods in world.pods.values() for pod in pods), *sorted(world.hosts)]
        ends += ["198.51.100.9", "10.0.0.200", "192.0.2.1"]
        observed = [
            Observed(
                draw.choice(ends),
                draw.choice(ends[: len(ends) - 3 * (i % 2)]),
                draw.choice(("TCP", "UDP")),
                draw.randint(1, 9),
            )
            for i in range(60 if world.pods else 0)
        ]
        allowed = [item for item in observed if replay(judge, [item]).sound][:6]
        counts = compared(world.things, world.policies, allowed, mesh)
        gone, kept = gone + counts[0], kept + counts[1]
    assert min(gone, kept) > 20


@pytest.mark.parametrize("mesh", ["sidecar", "ambient"])
def test_of_request_rules_what_may_go_may_go_together_and_nothing_more(mesh: Mode) -> None:
    gone = kept = 0
    way = {"from": [{"source": {"principals": ["cluster.local/ns/a/sa/way", "cluster.local/ns/a/sa/other"]}}]}
    for seed in range(40):
        draw = random.Random(seed)
        policies = targeted(draw, [drawn(draw, f"p{i}") for i in range(draw.randint(1, 4))], mesh)
        if mesh == "ambient":
            policies.append(copy.deepcopy({**policies[0], "metadata": {"name": "way", "namespace": "a"}}))
            policies[-1]["spec"] = {"selector": {"matchLabels": {"app": "db"}}, "rules": [way]}
        judge = Judge(World.from_manifests(THINGS), policies, mesh=mesh)
        observed = [
            Observed(f"a/{draw.choice(CLIENTS)}", "a/db", "TCP", 80, draw.choice(METHODS), draw.choice(PATHS))
            for _ in range(60)
        ]
        allowed = [item for item in observed if replay(judge, [item]).sound][:6]
        counts = compared(THINGS, policies, allowed, mesh)
        gone, kept = gone + counts[0], kept + counts[1]
    assert min(gone, kept) > 20
