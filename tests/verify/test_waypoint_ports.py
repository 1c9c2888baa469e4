"""A waypoint listens where its Services do: rules there are compared with the Service's port and address, and only
behind it the connection goes to the pod's (istio pilot/pkg/networking/core/listener_waypoint.go)."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from leastway.verify.judge import Judge, Question
from leastway.verify.minimality import redundant_parts
from leastway.verify.overpermission import over_permission
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed, replay
from tests.verify import kit
from tests.verify.kit import access, judge, namespace, outcome, peers, pod

GET = {"method": "GET", "path": "/x"}
GATEWAY = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gate"}]
PORTS = [{"name": "web", "containerPort": 8080}]


def service(name: str, *ports: dict[str, Any], ip: str = "10.96.0.1", **labels: str) -> Document:
    """A Service of namespace `a` in front of the pod `web`, behind the waypoint `gate`."""
    return kit.service(f"a/{name}", {"app": "web"}, *ports, ip=ip, **{"istio.io/use-waypoint": "gate", **labels})


def things(*services: Document, **more: str) -> list[Document]:
    mesh = {"istio.io/dataplane-mode": "ambient"}
    return [
        namespace("a", **mesh, **more),
        namespace("infra", **mesh),
        pod("a/web", {"app": "web"}, "10.0.0.1", ports=PORTS),
        pod("a/db", {"app": "db"}, "10.0.0.2", serviceAccountName="db"),
        pod("infra/gate", {"app": "gate"}, "10.0.0.3", serviceAccountName="gate"),
        *services,
    ]


def at_service(name: str = "web", *, ports: list[str] | None = None, **rule: Any) -> Document:
    """A policy of the Service, for everyone at `ports`, or by one rule."""
    found = rule or {"to": [{"operation": {"ports": ports}}]}
    target = [{"group": "", "kind": "Service", "name": name}]
    return access(f"a/{name}", targetRefs=target, rules=[found])


def of(*policies: Document, services: list[Document] | None = None) -> Judge:
    shown = [service("web", {"port": 80, "targetPort": 8080})] if services is None else services
    return judge(things(*shown), policies, mesh="ambient")


class TestPorts:
    NAMED: ClassVar[dict[str, Any]] = {"port": 80, "targetPort": "web"}

    @pytest.mark.parametrize("entry", [{"port": 80, "targetPort": 8080}, NAMED])
    def test_a_rule_names_the_port_of_the_service_and_not_of_the_pod(self, entry: dict[str, Any]) -> None:
        services = [service("web", entry)]
        for port, expected in (("80", "allow"), ("8080", "deny")):
            ruled = of(at_service(ports=[port]), services=services)
            for http in (GET, {}):
                assert outcome(ruled, "a/db", "a/web", 8080, **http) == expected
                assert outcome(ruled, "a/db", "10.96.0.1", 80, **http) == expected

    def test_a_condition_on_the_port_means_the_same(self) -> None:
        ruled = of(at_service(when=[{"key": "destination.port", "values": ["8080"]}]))
        assert outcome(ruled, "a/db", "a/web", 8080, **GET) == "deny"

    def test_what_is_said_names_both_ports(self) -> None:
        said = of(at_service(ports=["8080"])).ask(Question("a/db", "a/web", port=8080)).because
        assert "port 80 of the Service" in said
        assert "8080" in said

    def test_behind_the_waypoint_and_past_it_the_port_is_the_pods(self) -> None:
        own = access(
            "a/own", selector={"matchLabels": {"app": "web"}}, rules=[{"to": [{"operation": {"ports": ["80"]}}]}]
        )
        assert outcome(of(own), "a/db", "a/web", 8080) == "deny"
        assert outcome(of(at_service(ports=["80"])), "a/db", "a/web", 8080, direct=True) == "allow"

    def test_several_ports_that_lead_to_the_pod_must_agree(self) -> None:
        services = [service("web", {"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": 8080})]
        both, one = (of(at_service(ports=p), services=services) for p in (["80", "81"], ["80"]))
        assert outcome(both, "a/db", "a/web", 8080, **GET) == "allow"
        assert outcome(one, "a/db", "a/web", 8080, **GET) == "undefined"
        assert outcome(one, "a/db", "10.96.0.1", 80, **GET) == "allow"
        assert outcome(one, "a/db", "10.96.0.1", 81, **GET) == "deny"

    def test_each_port_of_a_service_says_for_itself_whether_it_is_http(self) -> None:
        """A waypoint has a filter chain for each Service's port; only what is not known of the port is undefined."""
        kinds = [{"name": name, "port": port, "targetPort": 8080} for name, port in (("http", 80), ("tcp", 81))]
        services = [service("web", *kinds)]
        ruled = of(at_service(to=[{"operation": {"methods": ["GET"]}}]), services=services)
        assert outcome(ruled, "a/db", "10.96.0.1", 81) == "deny"
        assert outcome(ruled, "a/db", "10.96.0.1", 80) == "undefined"
        assert outcome(ruled, "a/db", "a/web", 8080) == "undefined"
        assert outcome(ruled, "a/db", "a/web", 8080, **GET) == "allow"
        turned = of(at_service(to=[{"operation": {"methods": ["GET"]}}]), services=[service("web", *kinds[::-1])])
        assert outcome(turned, "a/db", "a/web", 8080) == "undefined"

    def test_ports_of_another_protocol_or_to_another_port_lead_elsewhere(self) -> None:
        udp, other = {"port": 81, "targetPort": 8080, "protocol": "UDP"}, {"port": 82, "targetPort": 9090}
        services = [service("web", {"port": 80, "targetPort": 8080}, udp, other)]
        assert outcome(of(at_service(ports=["80"]), services=services), "a/db", "a/web", 8080, **GET) == "allow"

    def test_a_port_to_which_no_service_leads_is_its_own(self) -> None:
        assert outcome(of(at_service(ports=["9090"])), "a/db", "a/web", 9090, **GET) == "allow"

    def test_a_sidecar_sees_the_port_of_the_pod(self) -> None:
        ruled = access("a/own", rules=[{"to": [{"operation": {"ports": ["8080"]}}]}])
        meshed = judge(things(service("web", {"port": 80, "targetPort": 8080})), [ruled], mesh="sidecar")
        assert outcome(meshed, "a/db", "a/web", 8080, **GET) == "allow"
        assert outcome(meshed, "a/db", "10.96.0.1", 80, **GET) == "allow"


class TestPlaintext:
    """Who is not in the mesh has no ztunnel that would lead to a waypoint, and the destination's hands plaintext to the
    pod (ztunnel src/proxy/inbound_passthrough.rs)."""

    SERVICES: ClassVar[list[Document]] = [
        service("web", {"port": 80, "targetPort": 8080}),
        namespace("plain"),
        pod("plain/old", {"app": "old"}, "10.0.7.1"),
    ]
    OUTSIDE = "203.0.113.1"

    def test_it_does_not_pass_the_waypoint(self) -> None:
        ruled = of(at_service(ports=["81"]), services=self.SERVICES)
        for source in ("plain/old", self.OUTSIDE):
            assert outcome(ruled, source, "a/web", 8080, **GET) == "allow"
            assert outcome(ruled, source, "10.96.0.1", 80, **GET) == "allow"
        assert outcome(ruled, "a/db", "a/web", 8080, principal="", **GET) == "allow"
        assert outcome(ruled, "a/db", "a/web", 8080, **GET) == "deny"

    def test_the_ztunnel_of_the_destination_judges_it(self) -> None:
        blocks = {"from": [{"source": {"ipBlocks": ["10.0.7.1"]}}]}
        own = access("a/own", selector={"matchLabels": {"app": "web"}}, rules=[blocks])
        ruled = of(at_service(ports=["80"]), own, services=self.SERVICES)
        assert outcome(ruled, "plain/old", "a/web", 8080, **GET) == "allow"
        assert outcome(ruled, self.OUTSIDE, "a/web", 8080, **GET) == "deny"
        strict = peers("a/strict", mtls={"mode": "STRICT"})
        assert outcome(of(strict, services=self.SERVICES), "plain/old", "a/web", 8080, **GET) == "deny"

    def test_the_numbers_say_so_too(self) -> None:
        ruled = of(at_service(ports=["81"]), services=self.SERVICES)
        assert replay(ruled, [Observed("plain/old", "a/web", "TCP", 8080, "GET", "/x")]).sound
        gate = {"from": [{"source": {"principals": ["cluster.local/ns/a/sa/gate"]}}]}
        own = access("a/own", selector={"matchLabels": {"app": "web"}}, rules=[gate])
        found = over_permission(of(at_service(ports=["80"]), own, services=self.SERVICES), [])
        shown = {line for lines in found.examples.values() for line in lines}
        assert "a/db → a/web 8080/TCP" in shown
        assert "plain/old → a/web 8080/TCP" not in shown


class TestGateways:
    """A gateway is no client of a ztunnel: it calls pods itself, unless the label `istio.io/ingress-use-waypoint` says
    otherwise (istio pilot/pkg/xds/endpoints/endpoint_builder.go, `findServiceWaypoint`)."""

    ENTRY: ClassVar[Document] = pod("a/entry", {"app": "entry"}, "10.0.0.7", serviceAccountName="entry")
    ENTRY["spec"]["containers"][0]["name"] = "istio-proxy"
    NOBODY: ClassVar[Document] = at_service(ports=["81"])

    def front(self, **labels: str) -> list[Document]:
        return [service("web", {"port": 80, "targetPort": 8080}, **labels), self.ENTRY]

    def test_it_goes_past_the_waypoint(self) -> None:
        ruled = of(self.NOBODY, services=self.front())
        assert outcome(ruled, "a/entry", "a/web", 8080, **GET) == "allow"
        assert outcome(ruled, "a/db", "a/web", 8080, **GET) == "deny"
        for account, expected in (("entry", "allow"), ("gate", "deny")):
            rule = {"from": [{"source": {"principals": [f"cluster.local/ns/a/sa/{account}"]}}]}
            own = access("a/own", selector={"matchLabels": {"app": "web"}}, rules=[rule])
            ruled = of(own, services=self.front())
            assert outcome(ruled, "a/entry", "a/web", 8080, **GET) == expected
            found = {line for lines in over_permission(ruled, []).examples.values() for line in lines}
            assert ("a/entry → a/web 8080/TCP" in found) is (expected == "allow")

    @pytest.mark.parametrize(
        ("value", "expected"), [("true", "deny"), ("1", "deny"), ("false", "allow"), ("x", "allow")]
    )
    def test_unless_the_service_says_so(self, value: str, expected: str) -> None:
        ruled = of(self.NOBODY, services=self.front(**{"istio.io/ingress-use-waypoint": value}))
        assert outcome(ruled, "a/entry", "a/web", 8080, **GET) == expected

    def test_or_its_namespace_and_the_service_goes_before_it(self) -> None:
        says = {"istio.io/ingress-use-waypoint": "true"}
        for front, expected in ((self.front(), "deny"), (self.front(**{**says, **dict.fromkeys(says, "no")}), "allow")):
            ruled = judge(things(*front, **says), [self.NOBODY], mesh="ambient")
            assert outcome(ruled, "a/entry", "a/web", 8080, **GET) == expected

    def test_what_was_seen_at_the_waypoint_went_through_it(self) -> None:
        seen = Observed("a/entry", "a/web", "TCP", 8080, "GET", "/x", service="a/web")
        assert not replay(of(self.NOBODY, services=self.front()), [seen]).sound
        assert replay(of(at_service(ports=["80"]), services=self.front()), [seen]).sound


class TestHeadless:
    def test_a_service_without_an_address_leads_to_the_pod_itself(self) -> None:
        """Clients resolve it to the pods' addresses, by which ztunnel finds no Service and so no waypoint."""
        services = [service("web", {"port": 8080}, ip="None")]
        assert outcome(of(at_service(ports=["81"]), services=services), "a/db", "a/web", 8080, **GET) == "allow"
        for account, expected in (("db", "allow"), ("gate", "deny")):
            rule = {"from": [{"source": {"principals": [f"cluster.local/ns/a/sa/{account}"]}}]}
            own = access("a/own", selector={"matchLabels": {"app": "web"}}, rules=[rule])
            ruled = of(own, services=services)
            assert outcome(ruled, "a/db", "a/web", 8080, **GET) == expected
            assert replay(ruled, [Observed("a/db", "a/web", "TCP", 8080)]).sound is (expected == "allow")

    def test_beside_one_with_an_address_it_is_a_way_of_its_own(self) -> None:
        services = [service("web", {"port": 8080}), service("pods", {"port": 8080}, ip="None")]
        ruled = of(access("a/g", targetRefs=GATEWAY), services=services)
        assert outcome(ruled, "a/db", "a/web", 8080, **GET) == "deny"
        assert outcome(ruled, "a/db", "10.96.0.1", 8080, **GET) == "deny"
        for more in ({"service": "a/pods"}, {"direct": True}):
            assert outcome(ruled, "a/db", "a/web", 8080, **GET, **more) == "allow"


class TestAddress:
    def test_the_destination_of_a_condition_is_the_service(self) -> None:
        for block, expected in (("10.96.0.1", "allow"), ("10.0.0.1", "deny")):
            ruled = of(at_service(when=[{"key": "destination.ip", "values": [block]}]))
            assert outcome(ruled, "a/db", "a/web", 8080, **GET) == expected
            seen = [Observed("a/db", "a/web", "TCP", 8080, "GET", "/x")]
            assert replay(ruled, seen).sound is (expected == "allow")


class TestNumbers:
    SEEN: ClassVar[list[Observed]] = [Observed("a/db", "a/web", "TCP", 8080, "GET", "/x")]

    @pytest.mark.parametrize(("port", "sound"), [("80", True), ("8080", False)])
    def test_replay(self, port: str, sound: bool) -> None:
        assert replay(of(at_service(ports=[port])), self.SEEN).sound is sound

    def test_over_permission_counts_what_the_services_port_opens(self) -> None:
        closed = {"from": [{"source": {"principals": ["cluster.local/ns/a/sa/gate"]}}]}
        own = access("a/own", selector={"matchLabels": {"app": "web"}}, rules=[closed])

        def opened(port: str) -> set[str]:
            found = over_permission(of(at_service(ports=[port]), own), [])
            return {
                shown for examples in found.examples.values() for shown in examples if shown == "a/db → a/web 8080/TCP"
            }

        assert opened("80")
        assert not opened("8080")

    def test_a_value_of_the_services_port_is_needed_and_one_of_the_pods_is_not(self) -> None:
        found = redundant_parts(of(at_service(ports=["80", "8080"])), self.SEEN)
        assert [part["part"] for part in found] == ["port 8080"]


class TestWaypointElsewhere:
    WITH: ClassVar[dict[str, str]] = {"istio.io/use-waypoint-namespace": "infra"}

    def gated(self, *policies: Document) -> Judge:
        return of(*policies, services=[service("web", {"port": 80, "targetPort": 8080}, **self.WITH)])

    def test_a_policy_of_the_gateway_is_in_the_namespace_of_the_gateway(self) -> None:
        assert outcome(self.gated(access("infra/g", targetRefs=GATEWAY)), "a/db", "a/web", 8080, **GET) == "deny"
        assert outcome(self.gated(access("a/g", targetRefs=GATEWAY)), "a/db", "a/web", 8080, **GET) == "allow"

    def test_a_policy_of_the_service_stays_in_the_services(self) -> None:
        assert outcome(self.gated(at_service(ports=["81"])), "a/db", "a/web", 8080, **GET) == "deny"
        target = [{"group": "", "kind": "Service", "name": "web"}]
        assert outcome(self.gated(access("infra/w", targetRefs=target)), "a/db", "a/web", 8080, **GET) == "allow"

    def test_the_destination_sees_the_account_of_that_waypoint(self) -> None:
        for account, expected in (("infra/sa/gate", "allow"), ("a/sa/gate", "deny")):
            rule = {"from": [{"source": {"principals": [f"cluster.local/ns/{account}"]}}]}
            own = access("a/own", selector={"matchLabels": {"app": "web"}}, rules=[rule])
            assert outcome(self.gated(own), "a/db", "a/web", 8080, **GET) == expected

    def test_the_labels_of_a_service_go_before_those_of_its_namespace(self) -> None:
        denied = at_service(when=[{"key": "source.namespace", "values": ["nobody"]}])
        for own, expected in (("none", "allow"), ("gate", "deny")):
            front = service("web", {"port": 80, "targetPort": 8080}, **{"istio.io/use-waypoint": own})
            within = things(front, **{"istio.io/use-waypoint": "other"})
            assert outcome(judge(within, [denied], mesh="ambient"), "a/db", "a/web", 8080, **GET) == expected

    def test_the_namespace_of_a_waypoint_is_read_from_the_labels_that_name_it(self) -> None:
        front = service("web", {"port": 80, "targetPort": 8080})
        within = things(front, **{"istio.io/use-waypoint": "other", **self.WITH})
        rule = {"from": [{"source": {"principals": ["cluster.local/ns/a/sa/gate"]}}]}
        own = access("a/own", selector={"matchLabels": {"app": "web"}}, rules=[rule])
        assert outcome(judge(within, [own], mesh="ambient"), "a/db", "a/web", 8080, **GET) == "allow"
