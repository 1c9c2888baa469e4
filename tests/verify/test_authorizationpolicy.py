"""AuthorizationPolicy: order, attachment, every field, and where each policy is enforced."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from leastway.verify.authorizationpolicy_schema import read_authorization_policy
from leastway.verify.errors import PolicyError
from leastway.verify.judge import Judge
from leastway.verify.reading import Document
from leastway.verify.soundness import Observed, replay
from tests.verify.kit import access, judge, labels, namespace, outcome, pod

THINGS: list[Document] = [
    namespace("a"),
    namespace("b"),
    namespace("plain", **{"istio-injection": "disabled", "istio.io/dataplane-mode": "none"}),
    pod("a/web", {"app": "web", "v": "1"}, "10.0.0.1", serviceAccountName="web"),
    pod("a/db", {"app": "db"}, "10.0.0.2", serviceAccountName="db"),
    pod("b/cron", {"app": "cron"}, "10.0.1.1"),
    pod("plain/old", {"app": "old"}, "10.0.2.1"),
]
GET: dict[str, Any] = {"method": "GET", "path": "/x"}


def mesh(*policies: Document, mode: str = "sidecar", things: list[Document] | None = None, **options: Any) -> Judge:
    return judge(things or THINGS, policies, mesh=mode, **options)


def rule(**parts: Any) -> dict[str, Any]:
    """`source` and `operation` fields, `when` conditions."""
    found: dict[str, Any] = {}
    if "source" in parts:
        found["from"] = [{"source": parts["source"]}]
    if "operation" in parts:
        found["to"] = [{"operation": parts["operation"]}]
    if "when" in parts:
        found["when"] = parts["when"]
    return found


def allow(*rules: dict[str, Any], **spec: Any) -> Document:
    return access("a/p", selector=labels(app="web"), rules=list(rules), **spec)


class TestDecision:
    def test_no_policy_allows(self) -> None:
        assert outcome(mesh(), "b/cron", "a/web", **GET) == "allow"

    def test_empty_spec_denies_and_empty_rule_allows(self) -> None:
        assert outcome(mesh(access("a/p")), "b/cron", "a/web", **GET) == "deny"
        assert outcome(mesh(access("a/p", rules=[{}])), "b/cron", "a/web", **GET) == "allow"

    def test_deny_goes_before_allow_and_custom_is_undefined_unless_denied(self) -> None:
        everything = allow({})
        deny = access("a/d", action="DENY", rules=[rule(operation={"paths": ["/x"]})])
        custom = access("a/c", action="CUSTOM", provider={"name": "ext"}, rules=[{}])
        assert outcome(mesh(everything, deny), "b/cron", "a/web", **GET) == "deny"
        assert outcome(mesh(everything, deny), "b/cron", "a/web", method="GET", path="/y") == "allow"
        assert outcome(mesh(everything, custom), "b/cron", "a/web", **GET) == "undefined"
        assert outcome(mesh(everything, custom, deny), "b/cron", "a/web", **GET) == "deny"

    def test_of_two_authorisers_at_one_workload_only_what_they_match_is_undefined(self) -> None:
        """Without a feature of 1.30 Istio refuses what either matches, with it each is asked; before 1.20 it refused
        everything, but such an Istio does not know path templates or targets either."""

        def custom(name: str, provider: str) -> Document:
            rules = [rule(operation={"paths": [f"/{name}"]})]
            return access(f"a/{name}", action="CUSTOM", provider={"name": provider}, rules=rules)

        of = mesh(custom("x", "opa"), custom("y", "login"))
        found = [outcome(of, "b/cron", "a/web", method="GET", path=path) for path in ("/x", "/y", "/z")]
        assert found == ["undefined", "undefined", "allow"]

    def test_audit_never_decides(self) -> None:
        assert outcome(mesh(access("a/p", action="AUDIT", rules=[{}])), "b/cron", "a/web", **GET) == "allow"

    @pytest.mark.parametrize(
        ("value", "expected"), [("true", "allow"), ("T", "allow"), ("yes", "deny"), ("false", "deny")]
    )
    def test_dry_run_is_not_enforced_and_an_unreadable_value_is_enforced(self, value: str, expected: str) -> None:
        dry = access("a/p", annotations={"istio.io/dry-run": value})
        assert outcome(mesh(things=[*THINGS, dry]), "b/cron", "a/web", **GET) == expected

    def test_a_dry_run_of_an_external_authoriser_may_be_enforced(self) -> None:
        dry = {"istio.io/dry-run": "true"}
        custom = access("a/c", action="CUSTOM", provider={"name": "ext"}, rules=[{}], annotations=dry)
        assert outcome(mesh(things=[*THINGS, custom]), "b/cron", "a/web", **GET) == "undefined"

    def test_the_allow_names_policy_and_rule(self) -> None:
        of = mesh(allow(rule(operation={"methods": ["PUT"]}), rule(operation={"methods": ["GET"]})))
        from leastway.verify.judge import Question

        verdict = of.ask(Question("b/cron", "a/web", port=80, method="GET", path="/x"))
        assert "AuthorizationPolicy a/p rule 1" in verdict.because


class TestAttachment:
    def test_selector_namespace_and_root_namespace(self) -> None:
        assert outcome(mesh(access("a/p", selector=labels(app="web"))), "a/web", "a/db", **GET) == "allow"
        assert outcome(mesh(access("a/p", selector=labels(app="web", v="2"))), "a/db", "a/web", **GET) == "allow"
        assert outcome(mesh(access("b/p")), "a/db", "a/web", **GET) == "allow"
        assert outcome(mesh(access("istio-system/p")), "a/db", "a/web", **GET) == "deny"
        assert outcome(mesh(access("istio-system/p"), root_namespace="root"), "a/db", "a/web", **GET) == "allow"
        assert outcome(mesh(access("root/p"), root_namespace="root"), "a/db", "a/web", **GET) == "deny"

    def test_sidecars_ignore_policies_with_targets(self) -> None:
        targeted = access("a/p", targetRefs=[{"group": "", "kind": "Service", "name": "web"}])
        assert outcome(mesh(targeted), "a/db", "a/web", **GET) == "allow"

    def test_a_destination_outside_the_mesh_is_not_governed(self) -> None:
        deny = access("plain/p")
        assert outcome(mesh(deny), "a/web", "plain/old", **GET) == "allow"
        assert outcome(mesh(deny, mode="none"), "a/web", "plain/old", **GET) == "allow"


class TestSources:
    @pytest.mark.parametrize(
        ("source", "web", "cron", "plain"),
        [
            ({"principals": ["cluster.local/ns/a/sa/db"]}, "allow", "deny", "deny"),
            ({"principals": ["cluster.local/ns/a/*"]}, "allow", "deny", "deny"),
            ({"principals": ["*/sa/default"]}, "deny", "allow", "deny"),
            ({"principals": ["*"]}, "allow", "allow", "deny"),
            ({"notPrincipals": ["*"]}, "deny", "deny", "allow"),
            ({"notPrincipals": ["cluster.local/ns/a/sa/db"]}, "deny", "allow", "allow"),
            ({"namespaces": ["a"]}, "allow", "deny", "deny"),
            ({"namespaces": ["A"]}, "deny", "deny", "deny"),
            ({"namespaces": ["*"]}, "allow", "allow", "deny"),
            ({"notNamespaces": ["b"]}, "allow", "deny", "allow"),
            ({"serviceAccounts": ["db"]}, "allow", "deny", "deny"),
            ({"serviceAccounts": ["b/default"]}, "deny", "allow", "deny"),
            ({"notServiceAccounts": ["b/default"]}, "allow", "deny", "allow"),
            ({"trustDomains": ["cluster.local"]}, "allow", "allow", "deny"),
            ({"ipBlocks": ["10.0.0.0/24"]}, "allow", "deny", "deny"),
            ({"ipBlocks": ["10.0.2.1"]}, "deny", "deny", "allow"),
            ({"notIpBlocks": ["10.0.0.0/24"]}, "deny", "allow", "allow"),
            ({"principals": ["*"], "ipBlocks": ["10.0.1.0/24"]}, "deny", "allow", "deny"),
            ({"requestPrincipals": ["*"]}, "undefined", "undefined", "undefined"),
        ],
    )
    def test_each_field(self, source: dict[str, Any], web: str, cron: str, plain: str) -> None:
        of = mesh(allow(rule(source=source)))
        found = [outcome(of, ref, "a/web", **GET) for ref in ("a/db", "b/cron", "plain/old")]
        assert found == [web, cron, plain]

    def test_a_given_principal_overrides_the_derived_one(self) -> None:
        of = mesh(allow(rule(source={"principals": ["cluster.local/ns/a/sa/db"]})))
        assert outcome(of, "b/cron", "a/web", principal="spiffe://cluster.local/ns/a/sa/db", **GET) == "allow"
        assert outcome(of, "a/db", "a/web", principal="", **GET) == "deny"

    def test_trust_domains_and_their_aliases_stand_for_each_other(self) -> None:
        known = allow(rule(source={"principals": ["cluster.local/ns/a/sa/db"]}))
        of = mesh(known, trust_domain="prod", aliases=["old"])
        assert outcome(of, "a/db", "a/web", **GET) == "allow"
        assert outcome(of, "a/db", "a/web", principal="old/ns/a/sa/db", **GET) == "allow"
        assert outcome(of, "a/db", "a/web", principal="foreign/ns/a/sa/db", **GET) == "deny"
        foreign = mesh(allow(rule(source={"principals": ["foreign/ns/a/sa/db"]})), trust_domain="prod")
        assert outcome(foreign, "a/db", "a/web", **GET) == "deny"

    def test_a_trust_domain_by_its_end_stands_for_the_others_as_well(self) -> None:
        of = mesh(allow(rule(source={"principals": ["*td/ns/a/sa/db"]})), trust_domain="prod", aliases=["old-td"])
        # The value itself is kept, so that it matches domains that are no alias, too.
        expected = {"old-td": "allow", "any-td": "allow", "prod": "allow", "cluster.local": "deny"}
        for domain, outcome_there in expected.items():
            assert outcome(of, "a/db", "a/web", principal=f"{domain}/ns/a/sa/db", **GET) == outcome_there, domain

    def test_a_trust_domain_by_its_beginning_is_replaced_by_the_meshs_own(self) -> None:
        of = mesh(allow(rule(source={"principals": ["pr*/ns/a/sa/db"]})), trust_domain="prod", aliases=["old"])
        # Of the value nothing is left, as it stands for no domain in full: `preview` is none of the mesh's.
        for domain, expected in {"prod": "allow", "old": "allow", "preview": "deny", "cluster.local": "deny"}.items():
            assert outcome(of, "a/db", "a/web", principal=f"{domain}/ns/a/sa/db", **GET) == expected, domain
        foreign = mesh(allow(rule(source={"principals": ["x*/ns/a/sa/db"]})), trust_domain="prod")
        for domain in ("prod", "xy"):
            assert outcome(foreign, "a/db", "a/web", principal=f"{domain}/ns/a/sa/db", **GET) == "deny"

    @pytest.mark.parametrize(
        ("value", "known"),
        [
            ("prod", {"prod", "old"}),
            ("old", {"prod", "old"}),
            ("cluster.local", {"cluster.local"}),
            ("o*", {"old", "other"}),
            ("*d", {"prod", "old"}),
            ("*", {"prod", "old", "other", "cluster.local"}),
        ],
    )
    def test_a_trust_domain_of_the_mesh_stands_for_its_aliases(self, value: str, known: set[str]) -> None:
        """istio pilot/pkg/security/trustdomain/bundle.go, `ExpandTrustDomainAliases`: whole values only."""
        condition = [{"key": "source.trustDomain", "values": [value]}]
        for part in (rule(source={"trustDomains": [value]}), rule(when=condition)):
            of = mesh(allow(part), trust_domain="prod", aliases=["old"])
            for domain in ("prod", "old", "other", "cluster.local"):
                expected = "allow" if domain in known else "deny"
                assert outcome(of, "a/db", "a/web", principal=f"{domain}/ns/a/sa/db", **GET) == expected, domain
        of = mesh(allow(rule(source={"trustDomains": [value]})), trust_domain="prod", aliases=["old"])
        found = replay(of, [Observed("a/db", "a/web", "TCP", 80, "GET", "/x")])
        assert found.sound is ("prod" in known)


class TestOperations:
    @pytest.mark.parametrize(
        ("operation", "expected"),
        [
            ({"ports": ["80"]}, "allow"),
            ({"ports": ["81"]}, "deny"),
            ({"notPorts": ["80"]}, "deny"),
            ({"methods": ["GET"]}, "allow"),
            ({"methods": ["get"]}, "deny"),
            ({"methods": ["G*"]}, "allow"),
            ({"notMethods": ["GET"]}, "deny"),
            ({"paths": ["/api/{*}/items"]}, "allow"),
            ({"paths": ["/api/*/items"]}, "deny"),
            ({"paths": ["/api/*"]}, "allow"),
            ({"paths": ["*/items"]}, "allow"),
            ({"notPaths": ["/api/*"]}, "deny"),
            ({"hosts": ["web.a"]}, "allow"),
            ({"hosts": ["WEB.A"]}, "allow"),
            ({"hosts": ["web.a:80"]}, "deny"),
            ({"notHosts": ["web.*"]}, "deny"),
            ({"methods": ["GET"], "paths": ["/other"]}, "deny"),
        ],
    )
    def test_each_field(self, operation: dict[str, Any], expected: str) -> None:
        of = mesh(allow(rule(operation=operation)))
        assert outcome(of, "a/db", "a/web", method="GET", path="/api/../api/7/items?x=1", host="web.a") == expected

    def test_alternatives_are_ored_and_fields_anded(self) -> None:
        both = {"to": [{"operation": {"methods": ["PUT"]}}, {"operation": {"paths": ["/x"]}}]}
        assert outcome(mesh(allow(both)), "a/db", "a/web", method="GET", path="/x") == "allow"
        assert outcome(mesh(allow(both)), "a/db", "a/web", method="GET", path="/y") == "deny"

    def test_an_unknown_host_is_undefined(self) -> None:
        assert outcome(mesh(allow(rule(operation={"hosts": ["x"]}))), "a/db", "a/web", **GET) == "undefined"

    def test_a_refused_path_is_denied(self) -> None:
        assert outcome(mesh(allow({})), "a/db", "a/web", method="GET", path="/%00") == "deny"


class TestConditions:
    @pytest.mark.parametrize(
        ("key", "values", "expected"),
        [
            ("source.ip", ["10.0.0.0/24"], "allow"),
            ("source.namespace", ["b"], "deny"),
            ("source.principal", ["cluster.local/ns/a/sa/db"], "allow"),
            ("source.serviceAccount", ["a/db"], "allow"),
            ("source.trustDomain", ["other"], "deny"),
            ("destination.ip", ["10.0.0.1"], "allow"),
            ("destination.port", ["81"], "deny"),
            ("request.headers[x-a]", ["1"], "undefined"),
            ("request.auth.claims[a][b]", ["1"], "undefined"),
            ("connection.sni", ["x"], "undefined"),
        ],
    )
    def test_each_key(self, key: str, values: list[str], expected: str) -> None:
        of = mesh(allow(rule(when=[{"key": key, "values": values}])))
        assert outcome(of, "a/db", "a/web", **GET) == expected
        negated = mesh(allow(rule(when=[{"key": key, "notValues": values}])))
        opposite = {"allow": "deny", "deny": "allow", "undefined": "undefined"}[expected]
        assert outcome(negated, "a/db", "a/web", **GET) == opposite


class TestTcp:
    HTTP = rule(operation={"methods": ["GET"]})
    L4 = rule(source={"namespaces": ["a"]}, operation={"ports": ["80"]})

    def test_an_http_field_removes_an_allow_rule(self) -> None:
        assert outcome(mesh(allow(self.HTTP)), "a/db", "a/web", http=False) == "deny"
        assert outcome(mesh(allow(self.HTTP, self.L4)), "a/db", "a/web", http=False) == "allow"

    def test_an_http_field_widens_a_deny_rule(self) -> None:
        deny = access("a/d", action="DENY", rules=[rule(operation={"methods": ["PUT"], "ports": ["80"]})])
        assert outcome(mesh(deny), "a/db", "a/web", http=False) == "deny"
        assert outcome(mesh(deny), "a/db", "a/web", port=81, http=False) == "allow"
        assert outcome(mesh(deny), "a/db", "a/web", **GET) == "allow"

    def test_a_connection_of_unknown_kind_is_undefined_only_where_it_matters(self) -> None:
        assert outcome(mesh(allow(self.HTTP)), "a/db", "a/web") == "undefined"
        assert outcome(mesh(allow(self.L4)), "a/db", "a/web") == "allow"
        assert outcome(mesh(access("a/p")), "a/db", "a/web") == "deny"

    def test_a_service_says_which_kind_a_port_is(self) -> None:
        def service(name: str) -> Document:
            ports = [{"name": name, "port": 8080, "targetPort": 80}]
            spec = {"selector": {"app": "web"}, "ports": ports}
            return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "a"}, "spec": spec}

        assert outcome(mesh(allow(self.HTTP), things=[*THINGS, service("tcp-x")]), "a/db", "a/web") == "deny"
        assert outcome(mesh(allow(self.HTTP), things=[*THINGS, service("http-x")]), "a/db", "a/web") == "undefined"

    @pytest.mark.parametrize("port", [15008, 15020, 15021, 15090])
    def test_the_sidecars_own_ports_are_not_governed(self, port: int) -> None:
        assert outcome(mesh(access("a/p")), "plain/old", "a/web", port=port) == "allow"


class TestZtunnel:
    def test_an_allow_rule_with_http_fields_is_removed_and_the_policy_still_counts(self) -> None:
        of = mesh(allow(rule(operation={"paths": ["/x"]})), mode="ambient")
        assert outcome(of, "a/db", "a/web", **GET) == "deny"

    def test_a_deny_rule_with_only_http_fields_has_no_effect(self) -> None:
        http = {"methods": ["GET"]}
        alone = access("a/d", action="DENY", rules=[rule(operation=http)])
        assert outcome(mesh(alone, mode="ambient"), "a/db", "a/web", **GET) == "allow"
        beside = access("a/d", action="DENY", rules=[rule(source={"namespaces": ["a"]}, operation=http)])
        assert outcome(mesh(beside, mode="ambient"), "a/db", "a/web", **GET) == "allow"

    def test_a_deny_rule_with_mixed_fields_is_stricter(self) -> None:
        mixed = access("a/d", action="DENY", rules=[rule(operation={"methods": ["PUT"], "ports": ["80"]})])
        assert outcome(mesh(mixed, mode="ambient"), "a/db", "a/web", **GET) == "deny"

    def test_service_account_as_a_condition_is_beyond_it(self) -> None:
        of = mesh(allow(rule(when=[{"key": "source.serviceAccount", "values": ["a/db"]}])), mode="ambient")
        assert outcome(of, "a/db", "a/web", **GET) == "deny"

    def test_a_trust_domain_is_passed_over(self) -> None:
        """istio pilot/pkg/serviceregistry/ambient/authorization.go, `handleRule`, knows no such field: what is beside
        it decides, and a source of nothing else matches nobody."""
        beside = {"trustDomains": ["other"], "namespaces": ["a"]}
        of = mesh(allow(rule(source=beside)), mode="ambient")
        assert [outcome(of, ref, "a/web", **GET) for ref in ("a/db", "b/cron")] == ["allow", "deny"]
        refused = mesh(access("a/d", action="DENY", rules=[rule(source=beside)]), mode="ambient")
        assert [outcome(refused, ref, "a/web", **GET) for ref in ("a/db", "b/cron")] == ["deny", "allow"]
        alone = {"trustDomains": ["cluster.local"]}
        assert outcome(mesh(allow(rule(source=alone)), mode="ambient"), "a/db", "a/web", **GET) == "deny"
        nobody = access("a/d", action="DENY", rules=[rule(source=alone)])
        assert outcome(mesh(nobody, mode="ambient"), "a/db", "a/web", **GET) == "allow"
        other = {"from": [{"source": alone}, {"source": {"namespaces": ["b"]}}]}
        of = mesh(allow(other), mode="ambient")
        assert [outcome(of, ref, "a/web", **GET) for ref in ("a/db", "b/cron")] == ["deny", "allow"]

    def test_a_condition_on_the_trust_domain_is_beyond_it(self) -> None:
        condition = [{"key": "source.trustDomain", "values": ["cluster.local"]}]
        assert outcome(mesh(allow(rule(when=condition)), mode="ambient"), "a/db", "a/web", **GET) == "deny"
        nobody = access("a/d", action="DENY", rules=[rule(when=condition)])
        assert outcome(mesh(nobody, mode="ambient"), "a/db", "a/web", **GET) == "allow"

    def test_custom_policies_are_not_sent_to_it(self) -> None:
        custom = access("a/c", action="CUSTOM", provider={"name": "ext"}, rules=[{}])
        assert outcome(mesh(custom, mode="ambient"), "a/db", "a/web", **GET) == "allow"

    def test_network_policy_sees_the_tunnel_and_ztunnel_the_port_inside(self) -> None:
        from tests.verify.kit import policy

        def ingress(port: int) -> Document:
            return policy("a/n", podSelector=labels(app="web"), ingress=[{"ports": [{"port": port}]}])

        assert outcome(mesh(ingress(80), mode="ambient"), "a/db", "a/web") == "deny"
        assert outcome(mesh(ingress(15008), mode="ambient"), "a/db", "a/web") == "allow"
        assert outcome(mesh(ingress(80), mode="ambient"), "plain/old", "a/web") == "allow"


class TestWaypoint:
    SERVICE: ClassVar[Document] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "a", "labels": {"istio.io/use-waypoint": "gate"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    TARGET: ClassVar[list[dict[str, str]]] = [{"group": "", "kind": "Service", "name": "web"}]

    def waypoint(self, *policies: Document) -> Judge:
        return mesh(*policies, mode="ambient", things=[*THINGS, self.SERVICE])

    def test_policies_that_target_the_service_see_the_client_and_requests(self) -> None:
        granting = rule(source={"principals": ["*/sa/db"]}, operation={"paths": ["/x"]})
        granted = access("a/t", targetRefs=self.TARGET, rules=[granting])
        assert outcome(self.waypoint(granted), "a/db", "a/web", **GET) == "allow"
        assert outcome(self.waypoint(granted), "a/db", "a/web", method="GET", path="/y") == "deny"
        assert outcome(self.waypoint(granted), "b/cron", "a/web", **GET) == "deny"

    def test_selector_policies_see_the_waypoint(self) -> None:
        client = allow(rule(source={"principals": ["cluster.local/ns/a/sa/db"]}))
        gate = allow(rule(source={"principals": ["cluster.local/ns/a/sa/gate"]}))
        assert outcome(self.waypoint(client), "a/db", "a/web", **GET) == "deny"
        assert outcome(self.waypoint(gate), "a/db", "a/web", **GET) == "allow"


class TestGateway:
    def test_policies_that_target_a_gateway_are_those_of_its_pods(self) -> None:
        """istio pilot/pkg/model/policyattachment.go, `ShouldAttachPolicy`: by the label that its controller sets."""
        gateway = pod("a/gw-istio", {"gateway.networking.k8s.io/gateway-name": "gw", "app": "gw"}, "10.0.0.9")

        def target(kind: str, name: str) -> list[dict[str, str]]:
            return [{"group": "gateway.networking.k8s.io", "kind": kind, "name": name}]

        def asked(*policies: Document, to: str = "a/gw-istio", path: str = "/y") -> str:
            return outcome(mesh(*policies, things=[*THINGS, gateway]), "203.0.113.1", to, method="GET", path=path)

        paths = [rule(operation={"paths": ["/x"]})]
        own = access("a/p", targetRefs=target("Gateway", "gw"), rules=paths)
        assert [asked(own, path=path) for path in ("/x", "/y")] == ["allow", "deny"]
        assert asked(own, to="a/web") == "allow"
        assert asked(access("a/p", targetRefs=target("Gateway", "other"), rules=paths)) == "allow"
        assert asked(access("b/p", targetRefs=target("Gateway", "gw"), rules=paths)) == "allow"
        classed = access("istio-system/p", targetRefs=target("GatewayClass", "istio-waypoint"), rules=paths)
        assert asked(classed) == "allow"
        selecting = access("a/q", selector=labels(app="gw"), rules=[rule(operation={"paths": ["/y"]})])
        assert [asked(own, selecting, path=path) for path in ("/x", "/y", "/z")] == ["allow", "allow", "deny"]
        found = replay(
            mesh(own, things=[*THINGS, gateway]),
            [Observed("a/db", "a/gw-istio", "TCP", 80, "GET", path) for path in ("/x", "/y")],
        )
        assert [entry["path"] for entry in found.denied] == ["/y"]


class TestMembership:
    def test_injection_labels_decide_once_anything_says_so(self) -> None:
        things = [
            namespace("in", **{"istio-injection": "enabled"}),
            pod("in/x", ip="10.0.3.1"),
            pod("in/y", {"sidecar.istio.io/inject": "false"}, "10.0.3.2"),
            pod("out/z", ip="10.0.4.1"),
        ]
        of = mesh(access("in/p"), access("out/p"), things=things)
        assert [outcome(of, "out/z", ref, **GET) for ref in ("in/x", "in/y")] == ["deny", "allow"]
        assert outcome(of, "in/x", "out/z", **GET) == "allow"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"rules": [{"from": [{"source": {"principal": ["x"]}}]}]}, r"unknown field 'principal'.*rules\[0\].from\[0\]"),
        ({"rules": [{"from": []}]}, "must not be an empty list"),
        ({"rules": [{"from": [{"source": {}}]}]}, "must not be empty"),
        ({"rules": [{"to": [{"operation": {"ports": [80]}}]}]}, "expected text, got a number"),
        ({"rules": [{"to": [{"operation": {"ports": ["http"]}}]}]}, "not a port number"),
        ({"rules": [{"to": [{"operation": {"paths": ["/a{*}"]}}]}]}, "neither literal nor operator"),
        ({"rules": [{"to": [{"operation": {"paths": ["/a/{id}"]}}]}]}, "braces"),
        ({"rules": [{"when": [{"key": "source.serviceaccount", "values": ["x"]}]}]}, "unknown condition key"),
        ({"rules": [{"when": [{"key": "source.ip"}]}]}, "needs values or notValues"),
        ({"rules": [{"from": [{"source": {"ipBlocks": ["x"]}}]}]}, "not an address or CIDR"),
        ({"rules": [{"from": [{"source": {"serviceAccounts": ["a/*"]}}]}]}, "NAMESPACE/ACCOUNT"),
        ({"rules": [{"from": [{"source": {"serviceAccounts": ["a/"]}}]}]}, "NAMESPACE/ACCOUNT"),
        ({"rules": [{"when": [{"key": "source.serviceAccount", "values": ["/a"]}]}]}, "NAMESPACE/ACCOUNT"),
        ({"rules": [{"when": [{"key": "experimental.envoy.filters.a.b", "values": ["x"]}]}]}, "unknown condition key"),
        ({"rules": [{"from": [{"source": {"serviceAccounts": ["a"], "namespaces": ["a"]}}]}]}, "cannot be combined"),
        ({"action": "DENY"}, "meaningless"),
        ({"action": "BLOCK"}, "is not one of"),
        ({"selector": {"matchExpressions": []}}, "unknown field 'matchExpressions'"),
        ({"selector": {"matchLabels": {}}, "targetRefs": [{"kind": "Service", "name": "x"}]}, "exclude each other"),
        ({"targetRefs": [{"kind": "Pod", "name": "x"}]}, "cannot target"),
        ({"provider": {"name": "x"}}, "belongs to action CUSTOM"),
    ],
)
def test_what_istio_rejects_is_an_error_that_names_the_field(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        read_authorization_policy(access("a/p", **spec))
