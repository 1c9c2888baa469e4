"""Which waypoint a connection passes is decided by what is called: a Service's own, or none before the pod itself.

Istio, "Configure waypoint proxies"; ztunnel src/proxy/outbound.rs, `build_request`."""

from __future__ import annotations

from typing import Any

import pytest

from leastway.verify.errors import PolicyError
from leastway.verify.judge import Judge, Question
from leastway.verify.overpermission import over_permission
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed, replay
from tests.verify.kit import access, gateway, judge, labels, namespace, outcome, pod, service

GET = {"method": "GET", "path": "/x"}
PORT = {"port": 80, "targetPort": 8080}
SHOP, ADMIN, PLAIN = "10.96.0.1", "10.96.0.2", "10.96.0.3"
MEMBER = {"istio.io/dataplane-mode": "ambient"}
USES = "istio.io/use-waypoint"


def things(*more: Document, pod_labels: dict[str, str] | None = None, **space: str) -> list[Document]:
    """One pod behind two Services with a waypoint each, and a third without."""
    return [
        namespace("a", **MEMBER, **space),
        pod("a/web", {"app": "web", **(pod_labels or {})}, "10.0.0.1"),
        *(pod(f"a/{name}", {}, f"10.0.0.{i}", serviceAccountName=name) for i, name in enumerate(("db", "ops"), 2)),
        service("a/shop", {"app": "web"}, PORT, ip=SHOP, **{USES: "front"}),
        service("a/admin", {"app": "web"}, PORT, ip=ADMIN, **{USES: "back"}),
        service("a/plain", {"app": "web"}, PORT, ip=PLAIN, **{USES: "none"}),
        *more,
    ]


def gated(name: str, *accounts: str) -> Document:
    """A policy of the Gateway: GET, by some accounts, or nobody."""
    rule = {
        "from": [{"source": {"principals": [f"cluster.local/ns/a/sa/{account}" for account in accounts]}}],
        "to": [{"operation": {"methods": ["GET"]}}],
    }
    target = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name}]
    return access(f"a/{name}", targetRefs=target, rules=[rule] if accounts else [])


def behind(*accounts: str) -> Document:
    """The pod's own ztunnel admits these accounts alone."""
    principals = [f"cluster.local/ns/a/sa/{account}" for account in accounts]
    return access("a/own", selector=labels(app="web"), rules=[{"from": [{"source": {"principals": principals}}]}])


def of(*policies: Document, within: list[Document] | None = None) -> Judge:
    return judge(within or things(), policies, mesh="ambient")


def test_the_policies_of_the_service_that_is_called_decide() -> None:
    found = of(gated("front", "db"), gated("back", "ops"), behind("front", "back"))
    for source, ip, expected in (
        ("a/db", SHOP, "allow"),
        ("a/ops", SHOP, "deny"),
        ("a/db", ADMIN, "deny"),
        ("a/ops", ADMIN, "allow"),
        ("a/db", PLAIN, "deny"),
    ):
        assert outcome(found, source, ip, 80, **GET) == expected, (source, ip)


def test_who_asks_about_the_pod_without_a_service_is_told_that_it_depends() -> None:
    found = of(gated("front", "db"), gated("back", "ops"), behind("front", "back"))
    verdict = found.ask(Question("a/db", "a/web", "TCP", 8080, "GET", "/x"))
    assert verdict.outcome == "undefined"
    assert "depends on which of the Services" in verdict.because
    assert outcome(found, "a/db", "a/web", 8080, **GET, service="a/shop") == "allow"
    assert outcome(found, "a/db", "a/web", 8080, **GET, service="a/admin") == "deny"
    everywhere = of(gated("front", "db"), gated("back", "db"), behind("front", "back", "db"))
    assert outcome(everywhere, "a/db", "a/web", 8080, **GET) == "allow"


def test_a_service_without_a_waypoint_leads_to_the_pods_own_ztunnel() -> None:
    found = of(gated("front"), gated("back"), behind("ops"))
    assert outcome(found, "a/ops", PLAIN, 80, method="DELETE", path="/") == "allow"
    assert outcome(found, "a/db", PLAIN, 80, **GET) == "deny"


def test_a_port_that_no_service_leads_to_is_called_at_the_pod_itself() -> None:
    found = of(gated("front"), gated("back"), behind("ops"))
    assert outcome(found, "a/ops", "a/web", 9090) == "allow"
    assert outcome(found, "a/db", "a/web", 9090) == "deny"


def test_the_label_of_a_service_goes_before_its_namespaces() -> None:
    """And of the pod neither counts for who calls a Service."""
    within = things(pod_labels={USES: "other"}, **{USES: "other"})
    found = of(gated("other"), gated("front", "db"), behind("front", "other", "ops"), within=within)
    assert outcome(found, "a/db", SHOP, 80, **GET) == "allow"
    assert outcome(found, "a/ops", PLAIN, 80, **GET) == "allow"
    unlabelled = [*within, service("a/bare", {"app": "web"}, PORT, ip="10.96.0.4")]
    assert outcome(of(gated("other"), within=unlabelled), "a/db", "10.96.0.4", 80, **GET) == "deny"


@pytest.mark.parametrize(
    ("serves", "by_service", "to_the_pod"),
    [
        ("", "deny", "allow"),
        ("service", "deny", "allow"),
        ("workload", "allow", "deny"),
        ("all", "deny", "deny"),
        ("none", "allow", "allow"),
    ],
)
def test_a_waypoint_serves_what_its_gateway_says(serves: str, by_service: str, to_the_pod: str) -> None:
    """The label `istio.io/waypoint-for`; without it, Services."""
    for more in ({}, {USES: "gate"}):
        within = [
            namespace("a", **MEMBER, **({} if more else {USES: "gate"})),
            pod("a/web", {"app": "web", **more}, "10.0.0.1"),
            pod("a/db", {}, "10.0.0.2"),
            service("a/shop", {"app": "web"}, PORT, ip=SHOP, **more),
            gateway("a/gate", serves),
        ]
        found = of(gated("gate"), within=within)
        assert outcome(found, "a/db", SHOP, 80, **GET) == by_service
        assert outcome(found, "a/db", "a/web", 8080, **GET, direct=True) == to_the_pod


def test_istios_older_gateway_is_no_waypoint() -> None:
    older = {**gateway("a/front", "none"), "apiVersion": "networking.istio.io/v1"}
    found = of(gated("front"), within=things(older))
    assert outcome(found, "a/db", SHOP, 80, **GET) == "deny"


def test_replay_asks_about_the_service_that_was_called() -> None:
    found = of(gated("front", "db"), gated("back", "ops"), behind("front", "back"))
    for name, sound in (("a/shop", True), ("a/admin", False), ("", False)):
        assert replay(found, [Observed("a/db", "a/web", "TCP", 8080, "GET", "/x", service=name)]).sound is sound
    both = [Observed("a/db", "a/web", "TCP", 8080, "GET", "/x", service=name) for name in ("a/shop", "a/admin")]
    assert not replay(found, both).sound


def test_what_one_of_the_services_opens_is_open() -> None:
    found = over_permission(of(gated("front", "db"), gated("back", "ops"), behind("front", "back")), [])
    opened = {text for examples in found.examples.values() for text in examples if "→ a/web" in text and "TCP" in text}
    assert {"a/db → a/web 8080/TCP", "a/ops → a/web 8080/TCP"} <= opened
    assert not any(text.startswith("a/web") for text in opened)


def test_a_refusal_names_the_rule_at_the_waypoint_that_was_passed() -> None:
    found = replay(
        of(gated("front", "db"), gated("back", "ops"), behind("front", "back")),
        [Observed("a/db", "a/web", "TCP", 8080, "GET", "/x", service="a/admin")],
    )
    assert found.denied[0]["policies"] == ["AuthorizationPolicy a/back"]
    assert (
        found.denied[0]["nearest"] == "AuthorizationPolicy a/back rule 0 fails on principals cluster.local/ns/a/sa/ops"
    )


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"service": "a/shpo"}, "no Service 'a/shpo'.*a/shop"),
        ({"service": "a/shop", "service_port": 81}, "a/shop leads to no port 8080/TCP of a/web from its port 81"),
        ({"service": "a/other"}, "a/other leads to no port 8080/TCP of a/web"),
        ({"service": "a/shop", "direct": True}, "direct"),
    ],
)
def test_a_question_about_a_way_that_does_not_exist_is_an_error(more: dict[str, Any], problem: str) -> None:
    found = of(within=things(service("a/other", {"app": "web"}, {"port": 81}, ip="10.96.0.5")))
    with pytest.raises(PolicyError, match=problem):
        found.ask(Question("a/db", "a/web", "TCP", 8080, **more))


def test_the_address_of_a_service_is_not_the_pod_itself() -> None:
    with pytest.raises(PolicyError, match="direct"):
        of().ask(Question("a/db", SHOP, "TCP", 80, direct=True))


def test_an_external_name_leads_to_no_pod() -> None:
    """Its selector is ignored (Kubernetes API, ServiceSpec)."""
    external = service("a/away", {"app": "web"}, PORT, **{USES: "front"})
    external["spec"] |= {"type": "ExternalName", "externalName": "example.org"}
    within = [namespace("a", **MEMBER), pod("a/web", {"app": "web"}, "10.0.0.1"), pod("a/db", {}, "10.0.0.2"), external]
    assert outcome(of(gated("front"), within=within), "a/db", "a/web", 8080, **GET) == "allow"


def test_a_named_port_is_that_of_the_services_protocol() -> None:
    """Kubernetes pkg/api/v1/pod/util.go, `FindPort`."""
    ports = [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "dns", "containerPort": 5353}]
    within = [
        namespace("a", **MEMBER),
        pod("a/web", {"app": "web"}, "10.0.0.1", ports=ports),
        pod("a/db", {}, "10.0.0.2", serviceAccountName="db"),
        service("a/shop", {"app": "web"}, {"port": 53, "targetPort": "dns"}, ip=SHOP, **{USES: "front"}),
    ]
    found = of(gated("front"), within=within)
    assert outcome(found, "a/db", "a/web", 53) == "allow"
    assert outcome(found, "a/db", "a/web", 5353) == "deny"
    assert outcome(found, "a/db", SHOP, 53) == "deny"


def test_the_service_that_is_called_says_whether_it_is_http() -> None:
    """Not another with a port of the same number, and not a port of UDP (HTTP/3 beside HTTP)."""
    datagrams = {"name": "https-quic", "protocol": "UDP", **PORT}
    within = [
        *things()[:4],
        service("a/shop", {"app": "web"}, {"name": "http", **PORT}, datagrams, ip=SHOP, **{USES: "front"}),
    ]
    both = [*within, service("a/raw", {"app": "web"}, {"name": "tcp", **PORT}, ip=ADMIN, **{USES: "front"})]
    for found, called in ((of(within=within), ""), (of(within=both), "a/shop")):
        subject = found.world.subjects["a/web"]
        assert found.speaks_http(subject, 8080, called) is True
    assert outcome(of(gated("front", "db"), within=both), "a/db", ADMIN, 80) == "deny"
    assert outcome(of(gated("front", "db"), within=both), "a/db", SHOP, 80) == "undefined"


def test_a_service_of_one_family_is_called_by_its_address_whatever_families_its_pods_have() -> None:
    within = things()
    for number, thing in enumerate(thing for thing in within if thing["kind"] == "Pod"):
        thing["status"]["podIPs"].append({"ip": f"fd00::{number + 1}"})
    target = [{"group": "", "kind": "Service", "name": "shop"}]
    for block, expected in (("10.96.0.0/16", "allow"), ("10.0.0.0/16", "deny")):
        rule = {"when": [{"key": "destination.ip", "values": [block]}]}
        found = of(access("a/shop", targetRefs=target, rules=[rule]), within=within)
        assert outcome(found, "a/db", SHOP, 80, **GET) == expected


def test_a_waypoint_that_serves_no_services_is_passed_by_none_that_is_taken_for_granted() -> None:
    for serves, expected in (("none", "allow"), ("workload", "deny"), ("service", "deny")):
        within = [
            namespace("a", **MEMBER, **{USES: "gate"}),
            *(pod(f"a/{name}", {}, f"10.0.0.{i}") for i, name in enumerate(("web", "db"), 1)),
            gateway("a/gate", serves),
        ]
        assert outcome(of(gated("gate"), within=within), "a/db", "a/web", 8080, **GET) == expected


def test_no_gateway_passes_the_waypoint_of_a_pod() -> None:
    entry = pod("a/entry", {}, "10.0.0.7")
    entry["spec"]["containers"][0]["name"] = "istio-proxy"
    found = of(gated("gate"), within=things(gateway("a/gate", "all"), entry, pod_labels={USES: "gate"}))
    assert outcome(found, "a/entry", "a/web", 8080, **GET, direct=True) == "allow"
    assert outcome(found, "a/db", "a/web", 8080, **GET, direct=True) == "deny"


def test_a_refusal_behind_a_waypoint_is_compared_with_what_is_seen_there() -> None:
    """Of several Services in front, with the one that was passed."""
    found = replay(of(behind("back")), [Observed("a/db", "a/web", "TCP", 8080, "GET", "/x")]).denied[0]
    assert found["nearest"] == "AuthorizationPolicy a/own rule 0 fails on principals cluster.local/ns/a/sa/back"


def test_each_way_is_http_or_not_as_its_service_says() -> None:
    """An ALLOW rule with methods opens nothing at a Service's port that is TCP, whatever another Service says."""
    named = {name: {**PORT, "name": name} for name in ("http-x", "tcp-x")}
    within = [
        *things()[:4],
        service("a/web", {"app": "web"}, named["http-x"], ip=SHOP, **{USES: "front"}),
        service("a/raw", {"app": "web"}, named["tcp-x"], ip=ADMIN, **{USES: "back"}),
    ]

    def opened(*policies: Document) -> tuple[bool, list[str]]:
        found = of(*policies, behind("front", "back"), within=within)
        asked = [Question("a/db", "a/web", "TCP", 8080, service=name) for name in ("a/web", "a/raw")]
        shown = [text for examples in over_permission(found, []).examples.values() for text in examples]
        return "a/db → a/web 8080/TCP" in shown, [found.ask(question).outcome for question in asked]

    assert opened(gated("front", "ops"), gated("back", "db")) == (False, ["deny", "deny"])
    assert opened(gated("front", "db"), gated("back", "ops")) == (True, ["undefined", "deny"])
