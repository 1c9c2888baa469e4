"""`difference` against the judge asked one by one, and the changes that sets cannot show: the outside, and requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leastway.verify import difference as module
from leastway.verify import request_difference, witnesses
from leastway.verify.difference import Difference, difference, unmanaged
from leastway.verify.judge import Judge, Question
from leastway.verify.networkpolicy import Cni
from leastway.verify.policies import load_policies
from leastway.verify.world import World
from tests.verify.kit import access, labels, peers, pod

Document = dict[str, Any]
PORTS = (80, 85, 443, 8080)
NAMES = {"a": ("web", "api"), "b": ("web", "db")}


def _deployment(namespace: str, name: str) -> Document:
    container = {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"serviceAccountName": name, "containers": [container]},
            }
        },
    }


OBJECTS: list[Document] = [
    {"kind": "Namespace", "metadata": {"name": name, "labels": {"istio-injection": "enabled"}}} for name in NAMES
] + [_deployment(namespace, name) for namespace, names in NAMES.items() for name in names]


def compare(old: list[Document], new: list[Document], mesh: Any = "none") -> Difference:
    """The difference in a fresh world."""
    world = World.from_manifests(OBJECTS)
    return difference(Judge(world, old, mesh=mesh), Judge(world, new, mesh=mesh))


def network_policy(name: str, namespace: str, spec: Document) -> Document:
    """A NetworkPolicy."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


_selectors = st.sampled_from([{}, {"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}])
_peers = st.fixed_dictionaries(
    {"podSelector": _selectors},
    optional={"namespaceSelector": st.sampled_from([{}, {"matchLabels": {"kubernetes.io/metadata.name": "a"}}])},
)
_ports = st.sampled_from([{"port": 8080}, {"port": "http"}, {"port": 80, "endPort": 90}, {"port": 443}, {}])
_sides: dict[str, str] = {"ingress": "from", "egress": "to"}


def _specs(side: str) -> st.SearchStrategy[Document]:
    rule = st.fixed_dictionaries(
        {},
        optional={
            _sides[side]: st.lists(_peers, min_size=1, max_size=2),
            "ports": st.lists(_ports, min_size=1, max_size=2),
        },
    )
    rules = st.fixed_dictionaries({"podSelector": _selectors, side: st.lists(rule, max_size=2)})
    return rules.map(lambda spec: {**spec, "policyTypes": [side.capitalize()]})


_specifications = st.one_of(_specs("ingress"), _specs("egress"))
_sets = st.lists(st.tuples(st.sampled_from(sorted(NAMES)), _specifications), max_size=4).map(
    lambda drawn: [network_policy(f"p{i}", namespace, spec) for i, (namespace, spec) in enumerate(drawn)]
)


@given(_sets, _sets)
def test_changes_between_pods_are_those_of_the_judge(old: list[Document], new: list[Document]) -> None:
    found = compare(old, new)
    world = World.from_manifests(OBJECTS)
    judges = Judge(world, old), Judge(world, new)
    refs = sorted(world.subjects)

    def verdicts(source: str, destination: str, port: int) -> tuple[bool, bool]:
        # A workload's change towards itself is about its replicas; `ask` says that one pod reaches itself.
        question = Question(source, destination, "TCP", port)
        before, after = (judge.decide(question, judge.end(source), judge.end(destination)).allowed for judge in judges)
        return before, after

    for changes, expected in ((found.allowed, (False, True)), (found.denied, (True, False))):
        listed = {c for c in changes.listed if c.protocol == "TCP" and c.source in refs and c.destination in refs}
        for change in listed:
            assert verdicts(change.source, change.destination, change.port) == expected, change
        for source in refs:
            for destination in refs:
                kinds = {(c.ports, c.port) for c in listed if (c.source, c.destination) == (source, destination)}
                for port in PORTS:
                    if verdicts(source, destination, port) == expected:
                        assert ("port", port) in kinds or any(kind != "port" for kind, _ in kinds)


@given(_sets, _sets)
def test_the_way_back_is_the_opposite(old: list[Document], new: list[Document]) -> None:
    there, back = compare(old, new), compare(new, old)
    assert there.allowed.listed == back.denied.listed
    assert there.denied.total == back.allowed.total
    assert compare(old, old).empty


def test_the_outside_is_compared_by_blocks() -> None:
    def opened(*blocks: str) -> list[Document]:
        rule = {"from": [{"ipBlock": {"cidr": block}} for block in blocks], "ports": [{"port": 8080}]}
        return [network_policy("p", "a", {"podSelector": {"matchLabels": {"app": "api"}}, "ingress": [rule]})]

    found = compare(opened("198.51.100.0/24"), opened("198.51.100.0/25", "203.0.113.7/32"))
    assert [(c.source, c.destination, c.port) for c in found.denied.listed] == [("198.51.100.128/25", "a/api", 8080)]
    assert [(c.source, c.destination, c.port) for c in found.allowed.listed] == [("203.0.113.7/32", "a/api", 8080)]
    halves = opened("198.51.100.0/25", "198.51.100.128/25")
    assert compare(opened("198.51.100.0/24"), halves).empty


def test_the_addresses_of_pods_are_no_outside() -> None:
    def opened(*excepted: str) -> list[Document]:
        rule = {"from": [{"ipBlock": {"cidr": "10.9.0.0/24", "except": list(excepted)}}]}
        return [network_policy("p", "a", {"podSelector": {"matchLabels": {"app": "api"}}, "ingress": [rule]})]

    world = World.from_manifests([pod("a/api", {"app": "api"}, "10.9.0.1"), pod("a/web", {"app": "web"}, "10.9.0.2")])

    def lost(cni: Cni, *excepted: str) -> set[str]:
        judges = [Judge(world, policies, cni=cni) for policies in (opened(), opened(*excepted))]
        return {change.source for change in difference(*judges).denied.listed}

    assert lost("generic", "10.9.0.2/32") == {"a/web"}
    assert lost("cilium", "10.9.0.2/32") == set()
    assert lost("cilium", "10.9.0.2/32", "10.9.0.3/32") == {"10.9.0.2/31"}


def _authorization(method: str, path: str, port: str = "8080") -> list[Document]:
    operation = {"ports": [port], "methods": [method], "paths": [path]}
    source = {"principals": ["cluster.local/ns/a/sa/web"]}
    rules = [{"from": [{"source": source}], "to": [{"operation": operation}]}]
    spec = {"selector": {"matchLabels": {"app": "api"}}, "rules": rules}
    metadata = {"name": "api", "namespace": "a"}
    return [{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}]


@pytest.mark.parametrize(
    ("old", "new"), [(("GET", "/items/{*}"), ("POST", "/items/{*}")), (("GET", "/items/{*}"), ("GET", "/items/new"))]
)
def test_requests_are_compared_where_both_let_connect(old: tuple[str, str], new: tuple[str, str]) -> None:
    found = compare(_authorization(*old), _authorization(*new), "sidecar")
    lost = [(c.source, c.destination, c.method, c.path) for c in found.denied.listed]
    assert lost == [("a/web", "a/api", *old)]
    gained = [(c.method, c.path) for c in found.allowed.listed]
    assert gained == ([new] if new[0] == "POST" else [])


def _operations(*operations: Document, action: str = "ALLOW") -> Document:
    rules = [{"to": [{"operation": operation} for operation in operations]}]
    spec = {"selector": {"matchLabels": {"app": "api"}}, "action": action, "rules": rules}
    metadata = {"name": action.lower(), "namespace": "a"}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


ITEMS = _operations({"ports": ["8080"], "methods": ["GET"], "paths": ["/items/{*}"]})


@pytest.mark.parametrize(
    ("old", "new", "gained", "lost"),
    [
        # A method that one policy names, a path that another one names
        ([ITEMS], [ITEMS, _operations({"paths": ["/items/0"]}, action="DENY")], set(), {("GET", "/items/0")}),
        (
            [_operations({"ports": ["8080"], "paths": ["/items/*"]})],
            [
                _operations({"ports": ["8080"], "paths": ["/items/*"]}),
                _operations({"methods": ["DELETE"]}, action="DENY"),
            ],
            set(),
            {("DELETE", "/items/*")},
        ),
        # A template and a prefix that match the same segment
        (
            [ITEMS],
            [_operations({"ports": ["8080"], "methods": ["GET"], "paths": ["/items/*"]})],
            {("GET", "/items/*")},
            set(),
        ),
        # A suffix below a prefix
        (
            [_operations({"ports": ["8080"], "paths": ["/static/*"]})],
            [
                _operations({"ports": ["8080"], "paths": ["/static/*"]}),
                _operations({"paths": ["*.php"]}, action="DENY"),
            ],
            set(),
            {("*", "*.php & /static/*")},
        ),
        # Hosts
        (
            [_operations({"ports": ["8080"], "hosts": ["one"]})],
            [_operations({"ports": ["8080"], "hosts": ["two"]})],
            {("*", "*")},
            {("*", "*")},
        ),
        # The same, in other words
        ([ITEMS], [_operations(*[{"ports": ["8080"], "methods": ["GET"], "paths": ["/items/{*}"]}] * 2)], set(), set()),
    ],
)
def test_requests_that_only_several_values_together_decide_are_compared(
    old: list[Document], new: list[Document], gained: set[tuple[str, str]], lost: set[tuple[str, str]]
) -> None:
    found = compare(old, new, "sidecar")
    for changes, expected in ((found.allowed, gained), (found.denied, lost)):
        assert {(c.method, c.path) for c in changes.listed if (c.source, c.port) == ("a/web", 8080)} == expected
        assert {c.source for c in changes.listed} <= {"a/web", "a/api", "b/web", "b/db"}


def test_where_more_requests_differ_than_are_tried_the_destination_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [{"ports": ["8080"], "methods": [f"M{i}"], "paths": [f"/{i}/{{*}}"]} for i in range(8)]
    sets = [_operations(*many)], [_operations(*many), _operations({"paths": ["/7/x"]}, action="DENY")]
    found = compare(*sets, "sidecar")
    assert ({(c.method, c.path) for c in found.denied.listed}, found.incomplete) == ({("M7", "/7/x")}, [])
    monkeypatch.setattr(witnesses, "PRODUCT", 12)
    request_difference._requests.cache_clear()
    assert compare(*sets, "sidecar").incomplete == ["a/api"]


def test_mutual_tls_changes_requests_where_no_rule_does() -> None:
    known = {"from": [{"source": {"principals": ["*"]}}], "to": [{"operation": {"paths": ["/in/*"]}}]}
    grant = access("a/p", selector=labels(app="api"), rules=[known, {"to": [{"operation": {"paths": ["/out/*"]}}]}])
    off, on = (peers("a/tls", mtls={"mode": mode}) for mode in ("DISABLE", "PERMISSIVE"))
    found = compare([grant, off], [grant, on], "sidecar")
    assert {(c.path, c.method) for c in found.allowed.listed} == {("/in/*", "*")}
    assert not found.denied.total


def test_a_port_that_only_istio_names_is_compared() -> None:
    found = compare(_authorization("GET", "/", "9000"), _authorization("GET", "/", "9001"), "sidecar")
    assert [(c.source, c.port) for c in found.denied.listed] == [("a/web", 9000)]
    assert [(c.source, c.port) for c in found.allowed.listed] == [("a/web", 9001)]


def test_all_changes_are_counted_and_only_some_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTED", 5)
    deny = [network_policy("p", name, {"podSelector": {}, "policyTypes": ["Ingress"]}) for name in NAMES]
    found = compare([], deny)
    assert len(found.denied.listed) == 5
    assert found.denied.total > 5
    assert not found.allowed.total


def test_standing_policies_that_a_set_manages_are_left_out() -> None:
    mine, other = (network_policy(name, "a", {"podSelector": {}}) for name in ("mine", "other"))
    assert unmanaged([mine, other], load_policies([mine])) == [other]
