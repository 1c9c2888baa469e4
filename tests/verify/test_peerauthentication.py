"""PeerAuthentication: which policy is in force at a port, and what each mode does to plaintext and to principals."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from leastway.verify.errors import PolicyError
from leastway.verify.peerauthentication_schema import read_peer_authentication
from tests.verify.kit import labels, namespace, outcome, peers, pod
from tests.verify.test_authorizationpolicy import GET, THINGS, allow, mesh, rule


class TestPeerAuthentication:
    STRICT: ClassVar[dict[str, str]] = {"mode": "STRICT"}

    def test_strict_refuses_plaintext_only(self) -> None:
        of = mesh(peers("a/default", mtls=self.STRICT))
        assert outcome(of, "plain/old", "a/web", **GET) == "deny"
        assert outcome(of, "203.0.113.1", "a/web", **GET) == "deny"
        assert outcome(of, "b/cron", "a/web", **GET) == "allow"
        assert outcome(of, "b/cron", "a/web", principal="", **GET) == "deny"
        assert outcome(of, "plain/old", "b/cron", **GET) == "allow"

    @pytest.mark.parametrize("mode", ["sidecar", "ambient"])
    def test_the_nearest_policy_wins_and_unset_inherits(self, mode: str) -> None:
        root = peers("istio-system/default", mtls=self.STRICT)
        own = peers("a/default", mtls={"mode": "PERMISSIVE"})
        unset = peers("a/default", mtls={"mode": "UNSET"})
        workload = peers("a/web", selector=labels(app="web"), mtls=self.STRICT)
        assert outcome(mesh(root, mode=mode), "plain/old", "a/web") == "deny"
        assert outcome(mesh(root, own, mode=mode), "plain/old", "a/web") == "allow"
        assert outcome(mesh(root, unset, mode=mode), "plain/old", "a/web") == "deny"
        assert outcome(mesh(root, own, workload, mode=mode), "plain/old", "a/web") == "deny"
        assert outcome(mesh(root, own, workload, mode=mode), "plain/old", "a/db") == "allow"

    @pytest.mark.parametrize("mode", ["sidecar", "ambient"])
    def test_a_selector_in_the_root_namespace_selects_nothing(self, mode: str) -> None:
        gateway = pod("istio-system/gateway", {"app": "web"}, "10.9.0.1")
        things = [namespace("istio-system", **{"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"})]
        strict = peers("istio-system/web", selector=labels(app="web"), mtls=self.STRICT)
        of = mesh(strict, mode=mode, things=[*THINGS, *things, gateway])
        assert outcome(of, "plain/old", "istio-system/gateway", **GET) == "allow"
        assert outcome(of, "plain/old", "a/web", **GET) == "allow"

    def test_a_port_goes_its_own_way(self) -> None:
        ports = {80: {"mode": "PERMISSIVE"}, "81": {"mode": "STRICT"}}
        of = mesh(peers("a/web", selector=labels(app="web"), mtls=self.STRICT, portLevelMtls=ports))
        assert [outcome(of, "plain/old", "a/web", port) for port in (80, 81, 82)] == ["allow", "deny", "deny"]

    @pytest.mark.parametrize(
        ("own", "ports", "sidecar", "ambient"),
        [
            ("UNSET", {80: "DISABLE"}, "allow", "deny"),
            ("UNSET", {80: "DISABLE", 81: "STRICT"}, "allow", "deny"),
            ("UNSET", {80: "DISABLE", 81: "PERMISSIVE"}, "allow", "allow"),
            ("UNSET", {80: "PERMISSIVE"}, "allow", "allow"),
            ("STRICT", {80: "DISABLE"}, "allow", "allow"),
            ("PERMISSIVE", {81: "DISABLE"}, "allow", "allow"),
        ],
    )
    def test_ambient_keeps_an_inherited_strict_at_a_port_that_disables_it(
        self, own: str, ports: dict[int, str], sidecar: str, ambient: str
    ) -> None:
        """istio pilot/pkg/serviceregistry/ambient/authorization.go, `convertedSelectorPeerAuthentications`: the
        exceptions of a workload that inherits STRICT are sent to ztunnel only if one of them is PERMISSIVE."""
        levels = {port: {"mode": mode} for port, mode in ports.items()}
        workload = peers("a/web", selector=labels(app="web"), mtls={"mode": own}, portLevelMtls=levels)
        for mode, expected in (("sidecar", sidecar), ("ambient", ambient)):
            of = mesh(peers("a/default", mtls=self.STRICT), workload, mode=mode)
            assert outcome(of, "plain/old", "a/web", 80) == expected

    def test_disabled_mutual_tls_leaves_no_principal(self) -> None:
        known = allow(rule(source={"principals": ["*"]}))
        of = mesh(known, peers("a/default", mtls={"mode": "DISABLE"}))
        assert outcome(of, "a/db", "a/web", **GET) == "deny"
        assert outcome(mesh(known, peers("a/d", mtls={"mode": "DISABLE"}), mode="ambient"), "a/db", "a/web") == "allow"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"mtls": {"mode": "strict"}}, "is not one of"),
        ({"portLevelMtls": {80: {"mode": "STRICT"}}}, "needs a selector"),
        ({"selector": labels(app="x"), "portLevelMtls": {"http": {"mode": "STRICT"}}}, "not a port number"),
        ({"selector": labels(app="x"), "portLevelMtls": {0: {"mode": "STRICT"}}}, "not a port number"),
        ({"mtlss": {}}, "unknown field"),
    ],
)
def test_peer_authentication_errors_name_the_field(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        read_peer_authentication(peers("a/p", **spec))
