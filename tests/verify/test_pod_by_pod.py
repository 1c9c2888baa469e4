"""Over-permission and difference against the judge asked pod by pod, in worlds whose pods policies tell apart."""

from __future__ import annotations

import copy
import random
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leastway.verify.difference import Change, Changes, difference
from leastway.verify.judge import Judge, Question
from leastway.verify.mesh import Mode
from leastway.verify.overpermission import over_permission
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed
from leastway.verify.world import Subject, World
from tests.verify.kit import access, labels, namespace, pod, policy
from tests.verify.small_worlds import IN_MESH, PORTS, Asked, SmallWorld, total

WORLDS = 60


@pytest.mark.parametrize(
    ("cni", "mesh", "seeds"),
    [
        ("generic", "none", range(20)),
        ("cilium", "none", range(20, 30)),
        ("generic", "sidecar", range(20)),
        ("generic", "ambient", range(20)),
    ],
)
def test_over_permission_is_what_asking_about_everything_finds(cni: str, mesh: Mode, seeds: range) -> None:
    apart = 0
    for seed in seeds:
        drawn = SmallWorld(seed, mesh)
        judge, observed = drawn.judge(cni=cni), drawn.observed()
        found = over_permission(judge, observed)
        assert found.total == total(drawn, judge, observed), seed
        assert found.total == sum(found.by_cause.values()) == sum(found.by_workload.values())
        assert set(found.left_out) == {
            ref for ref in drawn.hosts if judge.world.workload(judge.world.find(ref)).ref == ref
        }
        apart += any(judge.variants.classes(s) for s in judge.world.universe())
    assert apart > len(seeds) / 4


def test_a_workload_has_the_answer_that_all_of_its_pods_have() -> None:
    apart = 0
    for seed in range(WORLDS):
        drawn = SmallWorld(seed)
        judge = drawn.judge()
        ends = [*drawn.pods.items(), *((pod, [pod]) for pods in drawn.pods.values() for pod in pods if len(pods) > 1)]
        for (source, ones), (to, others) in product(ends, repeat=2):
            pairs = [(one, other) for one, other in product(ones, others) if one != other]
            for protocol, port in (("TCP", 2), ("TCP", 5), ("TCP", 8), ("UDP", 3)) if pairs else ():
                asked = Question(source, to, protocol, port)
                found = judge.decide(asked, judge.end(source), judge.end(to))
                expected = {judge.ask(Question(*pair, protocol, port)).outcome for pair in pairs}
                assert found.outcome == (min(expected) if len(expected) == 1 else "undefined"), (seed, asked, found)
                apart += len(expected) > 1
    assert apart > 100


def test_pods_in_the_mesh_and_outside_it_are_told_apart() -> None:
    left_out = {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}
    things: list[Document] = [
        namespace("a", **IN_MESH),
        *(pod(f"a/web-{i}", {"app": "web", **more}, f"10.0.0.{i}") for i, more in enumerate((left_out, {}))),
        pod("a/db", {"app": "db"}, "10.0.0.9"),
    ]
    for thing in things[1:3]:
        thing["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "web", "controller": True}]
    closed = [access("a/nobody", selector=labels(app="web"))]
    for mesh in ("sidecar", "ambient"):
        judges = [Judge(World.from_manifests(things), policies, mesh=mesh) for policies in ([], closed)]
        lost = {(c.source, c.destination) for c in difference(*judges).denied.listed if c.source.startswith("a/")}
        assert lost == {("a/db", "a/web-1"), ("a/web-0", "a/web")}  # of itself a pod is no caller
        one_pod, both = (over_permission(judge, []).by_workload["a/web"] for judge in judges)
        assert one_pod == both  # a connection is from workload to workload, if some pod may open it to some pod
        assert judges[1].ask(Question("a/db", "a/web", port=80)).outcome == "undefined"


def expanded(drawn: SmallWorld, changes: Changes) -> list[tuple[str, str, str, int]]:
    """Every pod pair and port that changes between pods stand for."""
    assert changes.total == len(changes.listed)
    found = []
    for change in changes.listed:
        ends = [drawn.pods.get(end, [end]) for end in (change.source, change.destination)]
        if not all(map(_is_pod, (change.source, change.destination))):
            continue
        whole = change.source == change.destination
        for one in ends[0]:
            for other in ends[1]:
                if one != other or (whole and len(ends[0]) == 1):
                    found += [(one, other, change.protocol, port) for port in _ports(drawn, change)]
    return found


def _is_pod(end: str) -> bool:
    return end[:2] in ("a/", "b/")


def _ports(drawn: SmallWorld, change: Change) -> list[int]:
    if change.ports == "port":
        return [change.port] if change.port in PORTS else []  # the sidecar's own ports are not asked about
    owner = next(ref for ref, pods in drawn.pods.items() if change.destination in (ref, *pods))
    known = {port for protocol, port in drawn.known[owner] if protocol == change.protocol}
    return [port for port in PORTS if change.port <= port <= change.last and port not in known]


@pytest.mark.parametrize(("mesh", "worlds"), [("none", 40), ("sidecar", 20), ("ambient", 20)])
def test_difference_is_what_asking_about_every_pod_finds(mesh: Mode, worlds: int) -> None:
    by_pod = 0
    for seed in range(worlds):
        drawn = SmallWorld(seed, mesh)
        other = [drawn.policy(f"q{i}") for i in range(3)]
        if mesh != "none":
            other += [drawn.grant(f"h{i}") for i in range(2)]
        new = drawn.policies[1:] + other
        judges = drawn.judge(), drawn.judge(new)
        found = difference(*judges)
        asked = [Asked(drawn, judge) for judge in judges]
        for changes, expected in ((found.allowed, (False, True)), (found.denied, (True, False))):
            listed = expanded(drawn, changes)
            assert len(listed) == len(set(listed)), seed
            brute = {
                (one, other, protocol, port)
                for source, ones in drawn.pods.items()
                for to, others in drawn.pods.items()
                for one in ones
                for other in others
                for protocol in ("TCP", "UDP", "SCTP")
                for port in PORTS
                if (one != other or (source == to != one))
                and _answers(asked, source, to, one, other, protocol, port) == expected
            }
            assert set(listed) == brute, seed
            by_pod += sum(change.source not in drawn.pods for change in changes.listed)
    assert by_pod > 10


def _answers(
    asked: list[Asked], source: str, to: str, one: str, other: str, protocol: str, port: int
) -> tuple[bool, ...]:
    if one == other:  # what replicas may do is asked where there is one
        if len(asked[0].world.pods[source]) > 1:
            return ()
        return tuple(a.workloads(source, to, protocol, port) for a in asked)
    return tuple(a.allows(one, other, protocol, port) for a in asked)


def _narrowed(rule: Document, part: int) -> Document:
    """A rule that allows some of what a rule allows."""
    found: dict[str, Any] = copy.deepcopy(rule)
    if part % 3 == 0:
        found["ports"] = found.get("ports") or [{"port": 4, "protocol": "TCP"}]
        first = found["ports"][0]
        if "endPort" in first:
            first["endPort"] = first["port"]
        elif "port" not in first:
            found["ports"] = [{"port": 3, "endPort": 6, "protocol": first.get("protocol", "TCP")}]
        found["ports"] = found["ports"][:1]
    for key in ("from", "to"):
        if key in found and part % 2:
            found[key] = found[key][-1:]
            selector = found[key][0].get("podSelector")
            if selector is not None:
                selector.setdefault("matchExpressions", []).append(
                    {"key": "pod", "operator": "NotIn", "values": ["w1-0"]}
                )
            block = found[key][0].get("ipBlock")
            if block is not None and block["cidr"] == "0.0.0.0/0":
                found[key][0]["ipBlock"] = {"cidr": "198.51.100.12/32"}
        elif key not in found and part % 5 == 1:
            found["to" if key == "to" else "from"] = [{"ipBlock": {"cidr": "198.51.100.9/32"}}]
            break
    return found


@given(st.integers(0, 100_000), st.lists(st.integers(0, 59), min_size=1, max_size=4))
def test_a_policy_that_changes_no_verdict_changes_no_total(seed: int, parts: list[int]) -> None:
    drawn = SmallWorld(seed)
    observed = drawn.observed()
    before = over_permission(drawn.judge(), observed)
    added = []
    for number, part in enumerate(parts):
        if drawn.policies:
            more = copy.deepcopy(drawn.policies[part % len(drawn.policies)])
            for side, key in (("ingress", "from"), ("egress", "to")):
                rules = [_narrowed(rule, part) for rule in more["spec"].get(side, ())]
                if side in more["spec"]:
                    other = "to" if key == "from" else "from"
                    more["spec"][side] = [{k: v for k, v in rule.items() if k != other} for rule in rules]
        else:
            more = drawn.policy("none")
            more["spec"]["podSelector"] = {"matchLabels": {"nobody": "has"}}
        more["metadata"]["name"] = f"more{number}"
        added.append(more)
    judge = drawn.judge([*drawn.policies, *added])
    after = over_permission(judge, observed)
    assert (after.total, after.by_workload, after.addresses) == (before.total, before.by_workload, before.addresses)
    assert difference(drawn.judge(), judge).empty


@pytest.mark.parametrize("mesh", ["none", "sidecar", "ambient"])
def test_addresses_of_a_workload_that_only_traffic_knows_are_told_apart_as_pods_are(mesh: Mode) -> None:
    apart = changed = 0
    for seed in range(60):
        draw = random.Random(seed)
        pods, blank = World.from_manifests(things := [namespace("a", **IN_MESH)]), World.from_manifests(things)
        for number in range(3):
            families = draw.choice(("4", "4", "6", "46"))  # which of several belong to one pod would not be known
            ips = [_addresses(number, i, families) for i in range(1 if families == "46" else draw.randint(2, 3))]
            owner = Subject(
                "a", f"w{number}", {"app": f"w{number}"}, "default", _joined(ips), kind="Deployment", inventoried=False
            )
            blank.add_subject(owner)
            pods.add_subject(owner)
            for i, own in enumerate(ips):
                replaced = {"name": f"w{number}-{i}", "ips": own, "single": True, "member_of": owner.ref, "kind": "Pod"}
                pods.add_subject(msgspec.structs.replace(owner, **replaced))
        sets = [[_blocked(draw, f"p{i}", mesh) for i in range(draw.randint(2, 4))] for _ in range(2)]
        for policies in sets:
            judges = [Judge(world, policies, mesh=mesh) for world in (pods, blank)]
            observed = [Observed("a/w0", "a/w1", "TCP", 80)]
            one, other = (over_permission(judge, observed) for judge in judges)
            assert (one.total, one.by_cause, one.addresses) == (other.total, other.by_cause, other.addresses), seed
            apart += any(judges[0].variants.classes(s) for s in pods.universe())
            for source, to in product(("a/w0", "a/w1", "a/w2"), repeat=2):
                asked = Question(source, to, "TCP", 80, http=False)
                answers = [judge.decide(asked, judge.end(source), judge.end(to)).outcome for judge in judges]
                assert answers[0] == answers[1] or source == to, (seed, asked, answers)
        found = [difference(*(Judge(world, policies, mesh=mesh) for policies in sets)) for world in (pods, blank)]
        assert found[0].allowed.total == found[1].allowed.total
        assert found[0].denied.total == found[1].denied.total
        changed += found[0].denied.total > 0
    assert apart > 30
    assert changed > 10


def _addresses(number: int, i: int, families: str) -> tuple[str, ...]:
    both = {"4": f"10.0.{number}.{i}", "6": f"fd00::{number}:{i}"}
    return tuple(both[family] for family in families)


def _joined(ips: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(ip for own in ips for ip in own))


def _blocked(draw: random.Random, name: str, mesh: Mode) -> Document:
    """A policy that names addresses of pods."""
    number, low = draw.randrange(3), draw.choice((0, 0, 1, 2))
    cidr = draw.choice(
        (f"10.0.{number}.{low}/32", f"10.0.{number}.0/31", f"fd00::{number}:{low}/128", "fd00::/64", "10.0.0.0/16")
    )
    selector = draw.choice(({}, labels(app=f"w{draw.randrange(3)}")))
    if mesh != "none" and draw.random() < 0.5:
        rules = [{"from": [{"source": {draw.choice(("ipBlocks", "notIpBlocks")): [cidr]}}]}]
        chosen = {"selector": selector} if selector else {}
        return access(f"a/{name}", action=draw.choice(("ALLOW", "DENY")), rules=rules, **chosen)
    side, key = draw.choice((("ingress", "from"), ("egress", "to")))
    spec: Document = {side: [{key: [{"ipBlock": {"cidr": cidr}}]}]}
    return policy(f"a/{name}", podSelector=selector, policyTypes=[side.capitalize()], **spec)


def test_of_several_addresses_of_both_families_no_pairs_are_made_up() -> None:
    found = World.from_manifests([namespace("a")])
    for name, ips in (("web", ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2")), ("db", ("10.0.0.9", "fd00::9"))):
        found.add_subject(Subject("a", name, {"app": name}, ips=ips, kind="Deployment", inventoried=False))

    def reaching(*cidrs: str) -> tuple[str, int]:
        rules = [{"from": [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]}]
        judge = Judge(found, [policy("a/db", podSelector=labels(app="db"), policyTypes=["Ingress"], ingress=rules)])
        counted = over_permission(judge, []).examples.get("CIDR widening", [])
        return judge.ask(Question("a/web", "a/db", port=80)).outcome, sum("a/web → a/db" in text for text in counted)

    assert reaching("10.0.0.0/24") == ("undefined", 0)  # by IPv4, not by IPv6
    # Each pod's IPv6 address is let in, so the one with the IPv4 address that is, too.
    assert reaching("10.0.0.1/32", "fd00::/64") == ("undefined", 3)
    # One pod may have both of these, or neither of two: nothing is certain.
    assert reaching("10.0.0.1/32", "fd00::1/128") == ("undefined", 0)
    # Whichever block lets an address in, all are let in.
    assert reaching("10.0.0.1/32", "10.0.0.2/32", "fd00::1/128", "fd00::2/128")[0] == "allow"
