"""CiliumNetworkPolicies that name entities: what they open, and that nothing else in them is half understood."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from leastway.verify.cilium_schema import ENTITIES
from leastway.verify.difference import difference
from leastway.verify.judge import Question
from leastway.verify.networkpolicy import Cni
from leastway.verify.overpermission import over_permission
from leastway.verify.proof import prove
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed
from tests.verify.kit import access, judge, labels, namespace, pod, policy

API, NODE = "172.18.0.2", "172.18.0.3"
DENY = policy("a/deny", podSelector={}, policyTypes=["Ingress", "Egress"])


def node(name: str, ip: str) -> Document:
    """A Node."""
    return {"kind": "Node", "metadata": {"name": name}, "status": {"addresses": [{"address": ip}]}}


def api_server(*addresses: str) -> Document:
    """The endpoints of the API server, which name them all."""
    listed = [{"addresses": [ip]} for ip in addresses]
    about = {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}}
    return {"kind": "EndpointSlice", "metadata": about, "endpoints": listed}


THINGS = [
    namespace("a"),
    pod("a/web", {"app": "web"}, "10.0.0.1", host="172.18.0.4"),
    pod("a/agent", {"app": "agent"}, NODE, host=NODE, hostNetwork=True),
    node("one", API),
    node("two", NODE),
]


def cilium(**spec: Any) -> Document:
    """A CiliumNetworkPolicy of `a/web`."""
    spec = {"endpointSelector": labels(app="web"), **spec}
    about = {"name": "entities", "namespace": "a"}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": about, "spec": spec}


def at(*ports: str, protocol: str = "TCP") -> list[dict[str, Any]]:
    """One entry of toPorts."""
    return [{"ports": [{"port": port, "protocol": protocol} for port in ports]}]


def to(*names: str, ports: list[dict[str, Any]] | None = None) -> Document:
    """The policy that lets `a/web` out to entities."""
    rule = {"toEntities": list(names)} | ({"toPorts": ports} if ports else {})
    return cilium(egress=[rule])


def ask(
    policies: list[Document], source: str, destination: str, port: int = 6443, cni: Cni = "cilium", *more: Document
) -> str:
    """The outcome for TCP."""
    asked = Question(source, destination, "TCP", port)
    return judge([*THINGS, *more], policies, cni=cni).ask(asked).outcome


BOTH = ("host", "remote-node")


@pytest.mark.parametrize(
    ("names", "end", "outcome"),
    [
        (("kube-apiserver",), "kube-apiserver", "allow"),
        (("kube-apiserver",), "remote-node", "undefined"),  # it may run there
        (("kube-apiserver",), "ingress", "deny"),
        (("kube-apiserver",), "10.0.0.1", "deny"),
        (("remote-node",), "remote-node", "allow"),
        (("remote-node",), "host", "deny"),
        (("remote-node",), "kube-apiserver", "undefined"),
        (BOTH, "host", "allow"),
        (BOTH, NODE, "allow"),  # one of the two it is
        (("host",), NODE, "undefined"),
        (("ingress",), NODE, "deny"),
        (BOTH, "203.0.113.9", "deny"),
        (("kube-apiserver",), "203.0.113.9", "undefined"),  # a managed API server is outside
        (("ingress",), "ingress", "allow"),
        (BOTH, "a/agent", "allow"),
    ],
)
def test_an_entity_is_known_by_its_name_and_what_it_may_be_is_said(
    names: tuple[str, ...], end: str, outcome: str
) -> None:
    things = [DENY, to(*names)]
    found = ask(things, "a/web", end) if end != "10.0.0.1" else ask(things, "a/web", "a/other", 6443, "cilium", OTHER)
    assert found == outcome


OTHER = pod("a/other", {"app": "other"}, "10.0.0.2", host="172.18.0.4")


def test_where_the_api_server_is_is_known_from_its_endpoints() -> None:
    things = [DENY, to("kube-apiserver")]
    known = api_server(API, "198.51.100.7")
    assert [ask(things, "a/web", end, 6443, "cilium", known) for end in (API, "198.51.100.7")] == ["allow"] * 2
    assert [ask(things, "a/web", end, 6443, "cilium", known) for end in (NODE, "203.0.113.9")] == ["deny"] * 2


def test_ports_are_those_of_the_rule_and_any_protocol_is_all_three() -> None:
    things = [DENY, to("kube-apiserver", ports=at("6443"))]
    assert [ask(things, "a/web", "kube-apiserver", port) for port in (6443, 443)] == ["allow", "deny"]
    spoken = judge(THINGS, [DENY, to("remote-node", ports=at("53", protocol="ANY"))], cni="cilium")
    verdicts = [spoken.ask(Question("a/web", "remote-node", p, 53)).outcome for p in ("TCP", "UDP", "SCTP")]
    assert verdicts == ["allow"] * 3
    span = [{"ports": [{"port": "100", "endPort": 200, "protocol": "TCP"}]}]
    things = [DENY, to("remote-node", ports=span)]
    assert [ask(things, "a/web", "remote-node", port) for port in (99, 100, 200, 201)] == [
        "deny",
        "allow",
        "allow",
        "deny",
    ]


def test_it_isolates_the_directions_that_have_rules_and_no_other() -> None:
    let_in = cilium(ingress=[{"fromEntities": ["remote-node"], "toPorts": at("8080")}])
    assert ask([let_in], "remote-node", "a/web", 8080) == "allow"
    assert ask([let_in], "203.0.113.9", "a/web", 8080) == "deny"
    assert ask([let_in], "a/web", "203.0.113.9", 443) == "allow"


def test_rules_of_both_kinds_are_one_set() -> None:
    out = policy("a/web", podSelector=labels(app="web"), egress=[{"to": [{"ipBlock": {"cidr": "203.0.113.9/32"}}]}])
    things = [DENY, out, to("kube-apiserver")]
    known = api_server(API)
    assert [ask(things, "a/web", end, 6443, "cilium", known) for end in (API, "203.0.113.9", "203.0.113.8")] == [
        "allow",
        "allow",
        "deny",
    ]


@pytest.mark.parametrize("cni", ["generic", "calico"])
def test_elsewhere_nobody_enforces_it_and_that_is_said(cni: Cni) -> None:
    things = [DENY, to("kube-apiserver")]
    assert ask(things, "a/web", "kube-apiserver", 6443, cni) == "deny"
    assert prove(judge(THINGS, things, cni=cni), [])["unjudged"] == ["CiliumNetworkPolicy a/entities"]
    assert prove(judge(THINGS, things, cni="cilium"), [])["unjudged"] == []


MORE: dict[str, dict[str, Any]] = {
    "another field": {"nodeSelector": {}},
    "a default of its own": {"enableDefaultDeny": {"egress": False}},
    "a denial": {"egressDeny": [{"toEntities": ["world"]}]},
    "the world": {"egress": [{"toEntities": ["world"]}]},
    "endpoints": {"egress": [{"toEndpoints": [{}]}]},
    "entities and endpoints": {"egress": [{"toEntities": ["host"], "toEndpoints": [{}]}]},
    "an empty rule": {"egress": [{}]},
    "no entity": {"egress": [{"toEntities": []}]},
    "layer 7": {
        "egress": [{"toEntities": ["host"], "toPorts": [{"ports": [{"port": "80"}], "rules": {"http": [{}]}}]}]
    },
    "a port's name": {"egress": [{"toEntities": ["host"], "toPorts": at("http")}]},
    "a port that is none": {"egress": [{"toEntities": ["host"], "toPorts": at("70000")}]},
    "a number for text": {"egress": [{"toEntities": ["host"], "toPorts": [{"ports": [{"port": 80}]}]}]},
    "another protocol": {"egress": [{"toEntities": ["host"], "toPorts": at("0", protocol="ICMP")}]},
    "no ports in ports": {"egress": [{"toEntities": ["host"], "toPorts": [{}]}]},
    "rules that are no list": {"egress": {"toEntities": ["host"]}},
    "Cilium's own label": {"endpointSelector": labels(**{"k8s:io.kubernetes.pod.namespace": "a"})},
    "a selector that is none": {"endpointSelector": {"matchLabels": {"app": 1}}},
    "no selector": {"endpointSelector": None},
}


@pytest.mark.parametrize("spec", MORE.values(), ids=MORE.keys())
def test_a_policy_with_anything_else_is_not_read_by_half(spec: dict[str, Any]) -> None:
    told = cilium(**{"egress": [{"toEntities": ["kube-apiserver"]}], **copy.deepcopy(spec)})
    judged = judge(THINGS, [DENY, told], cni="cilium")
    assert judged.policies.unjudged == ("CiliumNetworkPolicy a/entities",)
    assert judged.ask(Question("a/web", "kube-apiserver", "TCP", 6443)).outcome == "deny"


@pytest.mark.parametrize(
    "selector",
    [labels(app="web"), labels(**{"k8s:app": "web"}), {"matchExpressions": [{"key": "any:app", "operator": "Exists"}]}],
)
def test_pods_are_selected_by_their_labels_whatever_source_is_named(selector: dict[str, Any]) -> None:
    told = cilium(endpointSelector=selector, egress=[{"toEntities": ["kube-apiserver"]}])
    assert ask([DENY, told], "a/web", "kube-apiserver") == "allow"
    assert ask([told], "a/web", "203.0.113.9", 443, "cilium", api_server(API)) == "deny"


def test_what_nothing_needs_in_it_is_named_and_what_is_needed_is_not() -> None:
    rules = [{"toEntities": ["kube-apiserver"], "toPorts": at("6443", "443")}, {"toEntities": ["ingress"]}]
    proof = prove(
        judge(THINGS, [DENY, cilium(egress=rules)], cni="cilium"),
        [Observed("a/web", "kube-apiserver", "TCP", 6443)],
    )
    assert proof["sound"]
    assert [(part["rule"], part["part"]) for part in proof["redundant"]] == [
        ("egress rule 0", "port 443/TCP"),
        ("egress rule 1", "egress rule 1"),
    ]
    assert {part["policy"] for part in proof["redundant"]} == {"CiliumNetworkPolicy a/entities"}


def test_one_that_is_in_the_cluster_is_in_force_and_one_of_its_name_replaces_it() -> None:
    standing = to("kube-apiserver")
    assert ask([DENY], "a/web", "kube-apiserver", 6443, "cilium", standing) == "allow"
    assert ask([DENY, to("ingress")], "a/web", "kube-apiserver", 6443, "cilium", standing) == "deny"
    same_name = policy("a/entities", podSelector={}, policyTypes=["Ingress"])
    assert ask([DENY, same_name], "a/web", "kube-apiserver", 6443, "cilium", standing) == "allow"


def changed(old: list[Document], new: list[Document], cni: Cni = "cilium") -> tuple[set[str], set[str]]:
    """What `diff` says of ends that are entities: newly allowed, newly denied."""
    found = difference(judge(THINGS, old, cni=cni), judge(THINGS, new, cni=cni))
    kinds = ([c for c in kind.listed if ENTITIES & {c.source, c.destination}] for kind in (found.allowed, found.denied))
    one, other = ({f"{c.source} → {c.destination} {c.port}-{c.last}/{c.protocol}" for c in kind} for kind in kinds)
    return one, other


def test_a_difference_in_entities_is_one() -> None:
    old, new = to("kube-apiserver", ports=at("6443")), to("kube-apiserver", "ingress", ports=at("443"))
    assert changed([DENY, old], [DENY, new]) == (
        {"a/web → kube-apiserver 443-443/TCP", "a/web → ingress 443-443/TCP"},
        {"a/web → kube-apiserver 6443-6443/TCP"},
    )
    assert changed([DENY, old], [DENY, old]) == (set(), set())
    assert changed([DENY, old], [DENY, new], "generic") == (set(), set())


def test_isolation_takes_every_entity_away_but_the_own_node_that_calls() -> None:
    gained, lost = changed([DENY], [])
    everything = {f"{ends} 1-65535/{protocol}" for ends in EVERY for protocol in ("TCP", "UDP", "SCTP")}
    assert (gained, lost) == (everything, set())


EVERY = {f"a/web → {name}" for name in ENTITIES} | {f"{name} → a/web" for name in ENTITIES - {"host"}}


def test_what_comes_in_differs_by_entity_and_port() -> None:
    old = cilium(ingress=[{"fromEntities": ["remote-node"], "toPorts": at("8080")}])
    new = cilium(ingress=[{"fromEntities": ["remote-node", "host"], "toPorts": at("8080", "8081")}])
    assert changed([DENY, old], [DENY, new]) == ({"remote-node → a/web 8081-8081/TCP"}, set())


def beyond(policies: list[Document], *seen: Observed, cni: Cni = "cilium") -> dict[str, list[str]]:
    """What of entities is open beyond what was seen, by cause."""
    measured = over_permission(judge(THINGS, policies, cni=cni), seen)
    named = {
        cause: [text for text in texts if ENTITIES & set(text.split())] for cause, texts in measured.examples.items()
    }
    return {cause: texts for cause, texts in named.items() if texts}


def test_entities_that_rules_name_and_nobody_saw_are_counted_by_entity_and_port() -> None:
    out = to(*BOTH, ports=at("9100", "53"))
    seen = Observed("a/web", "remote-node", "TCP", 9100)
    assert beyond([DENY, out], seen) == {
        "entity": ["a/web → host 9100/TCP"],
        "DNS": ["a/web → host 53/TCP", "a/web → remote-node 53/TCP"],
    }
    into = cilium(ingress=[{"fromEntities": ["remote-node", "host"], "toPorts": at("8080")}])
    assert beyond([DENY, into]) == {"entity": ["remote-node → a/web 8080/TCP"]}
    assert beyond([DENY, into], Observed("remote-node", "a/web", "TCP", 8080)) == {}
    assert beyond([DENY, out], seen, cni="generic") == {}


def test_a_run_of_ports_counts_once_and_what_was_declared_or_is_in_force_has_that_cause() -> None:
    span = [{"ports": [{"port": "100", "endPort": 200, "protocol": "TCP"}]}]
    assert beyond([DENY, to("ingress", ports=span)]) == {"endPort span": ["a/web → ingress 100-200/TCP"]}
    out = to("ingress", ports=at("80"))
    assert beyond([DENY, out], Observed("a/web", "ingress", "TCP", 80, declared=True)) == {
        "declared intent": ["a/web → ingress 80/TCP"]
    }
    standing = judge([*THINGS, out], [DENY], cni="cilium")
    assert over_permission(standing, []).by_cause["pre-existing policy"] == 1


def test_in_a_mesh_who_has_no_identity_comes_in_only_where_anyone_may() -> None:
    into = cilium(ingress=[{"fromEntities": ["remote-node"], "toPorts": at("8080")}])
    injected = namespace("a", **{"istio-injection": "enabled"})
    named = access("a/web", rules=[{"from": [{"source": {"principals": ["cluster.local/ns/a/sa/x"]}}]}])
    anyone = access("a/web", rules=[{"to": [{"operation": {"ports": ["8080"]}}]}])
    things = [injected, *THINGS[1:]]
    for authorization, count in ((named, 0), (anyone, 1)):
        measured = over_permission(judge(things, [DENY, into, authorization], cni="cilium", mesh="sidecar"), [])
        assert measured.by_cause.get("entity", 0) == count
