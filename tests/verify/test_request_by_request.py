"""What is said of requests against the judge asked request by request: differences, and who may send any at all."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import product

import pytest
from msgspec.structs import replace

from leastway.verify import witnesses
from leastway.verify.difference import Changes, difference
from leastway.verify.httppath import is_pattern, path_matches, string_matches
from leastway.verify.judge import Judge, Question
from leastway.verify.languages import classes
from leastway.verify.mesh import Mode
from leastway.verify.overpermission import Measure, over_permission
from leastway.verify.ports import single
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed
from leastway.verify.world import World
from tests.verify.kit import access, labels, pod, service

CLIENTS = ("one", "two", "three")
METHODS = ("GET", "POST", "PUT", "DELETE")
HOSTS = ("db", "db.a", "other")
VALUES = {
    "methods": ("GET", "POST", "P*", "*T", "*"),
    "paths": ("/a", "/*", "/a/b", "/a/*", "*/b", "/a/{*}", "/{*}/b", "/a/{**}", "/{*}/b/{*}", "*.php", "/b*", "*"),
    "hosts": ("db", "db.*", "*.a", "other"),
}
SEGMENTS = ("a", "b", "c", "b.php", "a[")
PATHS = ["/" + "/".join(parts) for length in (1, 2) for parts in product(SEGMENTS, repeat=length)]
Asked = tuple[str, str, str]
Called = tuple[str, str]
THINGS: list[Document] = [
    *(pod(f"a/{name}", {"app": name}, f"10.0.0.{i + 1}", serviceAccountName=name) for i, name in enumerate(CLIENTS)),
    pod("a/db", {"app": "db", "istio.io/use-waypoint": "way"}, "10.0.0.9"),
]


SERVICES = ("front", "side", "back")


def things(draw: random.Random, mesh: Mode) -> list[Document]:
    """In ambient mode there may be Services in front of db, one at least with a waypoint, the others as well or not."""
    found = list(THINGS)
    if mesh == "ambient" and draw.random() < 0.6:
        for number, name in enumerate(draw.sample(SERVICES, draw.randint(1, 3))):
            waypoint = draw.choice(("way", "way", "other", "none")[: 4 if number else 3])
            port = {"port": draw.choice((80, 81)), "targetPort": 80}
            found.append(service(f"a/{name}", {"app": "db"}, port, **{"istio.io/use-waypoint": waypoint}))
    return found


def drawn(draw: random.Random, name: str) -> Document:
    """A policy about requests to db, which a waypoint enforces in ambient mode."""

    def fields(names: list[str]) -> Document:
        found: Document = {}
        for kind in draw.sample(names, draw.randint(1, 2)):
            key = f"not{kind.capitalize()}" if draw.random() < 0.25 else kind
            found[key] = draw.sample(VALUES[kind], draw.randint(1, 2))
        return found

    rules = []
    for _ in range(draw.randint(1, 2)):
        rule: Document = {"to": [{"operation": fields(sorted(VALUES))} for _ in range(draw.randint(1, 2))]}
        if draw.random() < 0.5:
            rule["from"] = [{"source": {"principals": [f"cluster.local/ns/a/sa/{draw.choice(CLIENTS)}"]}}]
        if draw.random() < 0.1:
            rule["when"] = [{"key": "request.headers[x]", "values": ["y"]}]
        rules.append(rule)
    action = draw.choice(("ALLOW", "ALLOW", "DENY"))
    return access(f"a/{name}", action=action, rules=rules)


def targeted(draw: random.Random, policies: list[Document], mesh: str) -> list[Document]:
    """The policies where requests are read."""
    gate = {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "way"}
    targets = [gate, gate, {**gate, "name": "other"}, *({"kind": "Service", "group": "", "name": s} for s in SERVICES)]
    found = []
    for policy in policies:
        own: Document = {"targetRefs": [draw.choice(targets)]} if mesh == "ambient" else {"selector": labels(app="db")}
        found.append({**policy, "spec": {**policy["spec"], **own}})
    return found


def placed(draw: random.Random, policies: list[Document], mesh: str) -> list[Document]:
    """`targeted`; in ambient mode the destination's own ztunnel may have a policy as well, about who calls it past the
    waypoint."""
    found = targeted(draw, policies, mesh)
    if mesh == "ambient" and draw.random() < 0.8:
        hops = ["way", "other"]
        accounts = draw.choice((hops, ["way"], [*hops, draw.choice(CLIENTS)], [draw.choice(CLIENTS)]))
        source = {"principals": [f"cluster.local/ns/a/sa/{account}" for account in accounts]}
        found.append(access("a/own", selector=labels(app="db"), rules=[{"from": [{"source": source}]}]))
    return found


def sent(judge: Judge, *others: Judge, was: Iterable[Called] = ()) -> list[Asked]:
    """Some of all kinds that any of the policies tells apart, those that there `was` one of and those beside them, and
    many others."""
    policies = [policy for one in (judge, *others) for policy in one.policies.authorization]
    literal = {"methods": {method for method, _ in was}, "paths": {path for _, path in was}, "hosts": set[str]()}
    kinds = [classes(witnesses.named(policies, kind) | literal[kind], kind).found for kind in witnesses.KINDS]
    found = {(one.witness, other.witness, last.witness) for one, other, last in product(*kinds)}
    return sorted(found | set(product(METHODS, PATHS, HOSTS)))


def allowed(judge: Judge, source: str, request: Asked) -> bool:
    return any(judge.ask(question).allowed for question in ways(judge, source, request))


def ways(judge: Judge, source: str, request: Asked) -> Iterator[Question]:
    """By each Service, and past all waypoints."""
    method, path, host = request
    asked = Question(f"a/{source}", "a/db", "TCP", 80, method, path, host=host)
    yield asked
    if judge.mesh.mode == "ambient":
        yield replace(asked, direct=True)
        yield from (replace(asked, service=name) for name in judge.world.services)


def called(method: str, path: str, request: Asked) -> bool:
    """Do the values that a change is called by match a request?"""
    return all(string_matches(value, request[0]) for value in method.split(" & ")) and all(
        path_matches(value, request[1]) for value in path.split(" & ")
    )


@pytest.mark.parametrize("mesh", ["sidecar", "ambient"])
def test_every_request_that_changes_is_in_a_change_and_every_change_has_one(mesh: Mode) -> None:
    gained = lost = 0
    for seed in range(25):
        draw = random.Random(seed)
        sets = [placed(draw, [drawn(draw, f"p{i}") for i in range(draw.randint(1, 2))], mesh) for _ in range(2)]
        world = World.from_manifests(things(draw, mesh))
        judges = [Judge(world, policies, mesh=mesh) for policies in sets]
        found = difference(judges[0], judges[1])
        assert not found.incomplete
        requests = sent(*judges)
        for source in CLIENTS:
            answers = {request: tuple(allowed(judge, source, request) for judge in judges) for request in requests}
            gained += _held(found.allowed, source, [r for r, a in answers.items() if a == (False, True)], seed)
            lost += _held(found.denied, source, [r for r, a in answers.items() if a == (True, False)], seed)
    assert min(gained, lost) > 100


def _held(changes: Changes, source: str, changed: list[Asked], seed: int) -> int:
    listed = [c for c in changes.listed if (c.source, c.destination) == (f"a/{source}", "a/db") and c.protocol == "TCP"]
    whole = any(not c.method for c in listed)
    named = [(c.method, c.path) for c in listed if c.method]
    for request in changed if not whole else ():
        assert any(called(*names, request) for names in named), (seed, source, request, named)
    for names in named:
        assert any(called(*names, request) for request in changed), (seed, source, names)
    return len(changed)


@pytest.mark.parametrize("mesh", ["sidecar", "ambient"])
def test_whoever_may_send_some_request_may_connect_and_nobody_else(mesh: Mode) -> None:
    refused = 0
    for seed in range(120):
        draw = random.Random(seed)
        policies = placed(draw, [drawn(draw, f"p{i}") for i in range(draw.randint(1, 3))], mesh)
        for policy in policies:  # whose headers would suit whom is not asked here
            for rule in policy["spec"]["rules"]:
                rule.pop("when", None)
        judge = Judge(World.from_manifests(things(draw, mesh)), policies, mesh=mesh)
        measure = Measure(judge, ())
        d = measure.universe.position["a/db"]
        found = measure.allowed(d, single("TCP", 80), measure.network.egress(d))
        requests = sent(judge)
        for source in CLIENTS:
            expected = any(allowed(judge, source, request) for request in requests)
            assert bool(found >> measure.universe.position[f"a/{source}"] & 1) == expected, (seed, source)
            refused += not expected
    assert refused > 20


@pytest.mark.parametrize("mesh", ["sidecar", "ambient"])
def test_whatever_is_admitted_and_was_not_sent_is_counted_and_nothing_else(
    mesh: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leastway.verify.overpermission.EXAMPLES", 10_000)
    counted = beyond = exact = 0
    for seed in range(120):
        draw = random.Random(seed)
        policies = placed(draw, [drawn(draw, f"p{i}") for i in range(draw.randint(0, 3))], mesh)
        for policy in policies:
            for rule in policy["spec"]["rules"]:
                if draw.random() < 0.15:
                    rule.pop("to", None)
        judge = Judge(World.from_manifests(things(draw, mesh)), policies, mesh=mesh)
        was = {(source, (draw.choice(METHODS), draw.choice(PATHS))) for source in CLIENTS for _ in range(3)}
        was |= {(source, pair) for source in CLIENTS for pair in _opened(judge) if draw.random() < 0.5}
        found = over_permission(judge, [Observed(f"a/{one}", "a/db", "TCP", 80, *what) for one, what in sorted(was)])
        shown = [text for examples in found.examples.values() for text in examples if " → a/db:80 " in text]
        named = {(source.removeprefix("a/"), what) for source, what in map(_read, shown)}
        assert len(named) == len(shown)
        for source in CLIENTS:
            own = {what for one, what in named if one == source}
            unsent = [r for r in sent(judge, was=[what for _, what in was]) if (source, r[:2]) not in was]
            for request in unsent:
                if allowed(judge, source, request):
                    assert any(called(*what, request) for what in own), (seed, source, request, own)
                    beyond += 1
            for what in own:
                assert any(called(*what, r) and _may(judge, source, r) for r in unsent), (seed, source, what)
            counted += len(own)
            exact += not own
    assert counted > 500
    assert beyond > 1000
    assert exact > 10


def _read(text: str) -> tuple[str, Called]:
    source, _, _, method, path = text.split(" ")
    return source, (method, path)


def _opened(judge: Judge) -> list[Called]:
    """Methods and paths that rules name, without their patterns."""
    methods, paths = (
        [value for value in witnesses.named(judge.policies.authorization, kind) if not is_pattern(value)]
        for kind in witnesses.KINDS[:2]
    )
    return sorted((method, path) for method in methods for path in paths)


def _may(judge: Judge, source: str, request: Asked) -> bool:
    return any(judge.ask(question).outcome != "deny" for question in ways(judge, source, request))
