"""The judge in ambient mode against ztunnel's own unit tests (src/rbac.rs `rbac_*` and `string_match`, src/state.rs
`assert_rbac_*`) and istiod's golden policies for it (`peer-authn-*`, `deny-groups`), re-authored under their names."""

from __future__ import annotations

from typing import Any

import pytest

from leastway.verify.httppath import string_matches
from leastway.verify.judge import Judge
from tests.verify.kit import access, judge, labels, namespace, outcome, peers, pod

THINGS = [
    namespace("namespace"),
    pod("namespace/one", {"app": "one"}, "127.0.0.2"),
    pod("namespace/alt", {"app": "alt"}, "127.0.0.4"),
]
ANSWERS = {True: "allow", False: "deny"}
PLAINTEXT: dict[str, Any] = {"source": "127.0.0.1", "destination": "namespace/one", "port": 8080, "principal": ""}
TLS: dict[str, Any] = PLAINTEXT | {"principal": "td/ns/namespace/sa/account"}
TLS_ALT: dict[str, Any] = {
    "source": "127.0.0.3",
    "destination": "namespace/alt",
    "port": 9090,
    "principal": "td-alt/ns/ns-alt/sa/sa=alt",
}


def ambient(*rules: dict[str, Any], **more: Any) -> Judge:
    return judge(THINGS, [access("namespace/p", rules=list(rules), **more)], mesh="ambient")


def source(**fields: list[str]) -> dict[str, Any]:
    return {"from": [{"source": fields}]}


def ports(**fields: list[str]) -> dict[str, Any]:
    return {"to": [{"operation": fields}]}


def destination(negated: bool, *values: str) -> dict[str, Any]:
    return {"when": [{"key": "destination.ip", "notValues" if negated else "values": list(values)}]}


ACCOUNT, PRINCIPAL, ADDRESS = ["namespace/account"], ["td/ns/namespace/sa/account"], ["127.0.0.1"]


@pytest.mark.parametrize(
    ("rule", "plaintext", "tls", "tls_alt"),
    [
        pytest.param(source(namespaces=["namespace"]), False, True, False, id="namespaces"),
        pytest.param(source(notNamespaces=["namespace"]), True, False, True, id="not_namespaces"),
        pytest.param(source(serviceAccounts=ACCOUNT), False, True, False, id="service_accounts"),
        pytest.param(source(notServiceAccounts=ACCOUNT), True, False, True, id="not_service_accounts"),
        pytest.param(source(principals=PRINCIPAL), False, True, False, id="principals"),
        pytest.param(source(notPrincipals=PRINCIPAL), True, False, True, id="not_principals"),
        pytest.param(source(ipBlocks=ADDRESS), True, True, False, id="source_ips"),
        pytest.param(source(notIpBlocks=ADDRESS), False, False, True, id="not_source_ips"),
        pytest.param(destination(False, "127.0.0.2"), True, True, False, id="destination_ips"),
        pytest.param(destination(True, "127.0.0.2"), False, False, True, id="not_destination_ips"),
        pytest.param(destination(False, "127.0.0.1/24"), True, True, True, id="cidr_range"),
        pytest.param(ports(ports=["8080"]), True, True, False, id="destination_ports"),
        pytest.param(ports(notPorts=["8080"]), False, False, True, id="not_destination_ports"),
    ],
)
def test_rbac(rule: dict[str, Any], plaintext: bool, tls: bool, tls_alt: bool) -> None:
    of = ambient(rule)
    assert outcome(of, **PLAINTEXT) == ANSWERS[plaintext]
    assert outcome(of, **TLS) == ANSWERS[tls]
    assert outcome(of, **TLS_ALT) == ANSWERS[tls_alt]


def test_rbac_empty_policy() -> None:
    assert outcome(ambient({}), **PLAINTEXT) == "allow"
    assert outcome(ambient(), **PLAINTEXT) == "deny"


@pytest.mark.parametrize(
    ("of", "port", "expected"), [("a", 80, "allow"), ("b", 80, "allow"), ("bad", 80, "deny"), ("b", 12345, "deny")]
)
def test_rbac_nesting(of: str, port: int, expected: str) -> None:
    either = [{"source": {"namespaces": ["a"]}}, {"source": {"namespaces": ["b"]}}]
    nested = ambient({"from": either, "to": [{"operation": {"ports": ["80"]}}]})
    assert outcome(nested, **TLS | {"principal": f"td/ns/{of}/sa/account", "port": port}) == expected


@pytest.mark.parametrize(("of", "expected"), [("a", "allow"), ("b", "allow"), ("bad", "deny")])
def test_rbac_multi_rule(of: str, expected: str) -> None:
    rules = ambient(source(namespaces=["a"]), source(namespaces=["b"]))
    assert outcome(rules, **TLS | {"principal": f"td/ns/{of}/sa/account"}) == expected


@pytest.mark.parametrize("account", ["defaultacct", "something-else"])
def test_assert_rbac_logic_deny_allow(account: str) -> None:
    asked = TLS | {"principal": f"cluster.local/ns/default/sa/{account}"}
    known = source(principals=["cluster.local/ns/default/sa/defaultacct"])
    mine = account == "defaultacct"
    assert outcome(ambient(known, action="DENY"), **asked) == ANSWERS[not mine]
    assert outcome(ambient(known), **asked) == ANSWERS[mine]
    assert outcome(ambient(known, annotations={"istio.io/dry-run": "true"}), **asked) == "allow"
    assert outcome(ambient(known, action="DENY", annotations={"istio.io/dry-run": "true"}), **asked) == "allow"


ROOT, NAMESPACE, WORKLOAD = "istio-system/default", "namespace/default", "namespace/workload"


def mtls(ref: str, mode: str | None, **port_modes: str) -> dict[str, Any]:
    """A PeerAuthentication; `p9090="STRICT"` is the mode of port 9090."""
    spec: dict[str, Any] = {} if mode is None else {"mtls": {"mode": mode}}
    if ref == WORKLOAD:
        spec["selector"] = labels(app="one")
    if port_modes:
        spec["portLevelMtls"] = {int(port[1:]): {"mode": found} for port, found in port_modes.items()}
    return peers(ref, **spec)


@pytest.mark.parametrize(
    ("policies", "refused"),
    [
        pytest.param([mtls(WORKLOAD, "STRICT")], {8080, 9090, 7070}, id="strict-workload"),
        pytest.param([mtls(WORKLOAD, "STRICT", p9090="STRICT")], {8080, 9090, 7070}, id="strict-and-strict-port-mtls"),
        pytest.param(
            [mtls(WORKLOAD, "STRICT", p9090="PERMISSIVE")], {8080, 7070}, id="strict-and-permissive-port-mtls"
        ),
        pytest.param([mtls(WORKLOAD, "STRICT", p9090="DISABLE")], {8080, 7070}, id="strict-and-disable-port-mtls"),
        pytest.param([mtls(WORKLOAD, "PERMISSIVE", p9090="STRICT")], {9090}, id="permissive-port-mtls-strict"),
        pytest.param(
            [mtls(WORKLOAD, "PERMISSIVE", p9090="STRICT", p8080="PERMISSIVE")],
            {9090},
            id="permissive-port-mtls-strict-and-permissive",
        ),
        pytest.param(
            [mtls(WORKLOAD, "STRICT", p9090="STRICT", p8080="PERMISSIVE")],
            {9090, 7070},
            id="strict-port-mtls-strict-and-permissive",
        ),
        pytest.param([mtls(WORKLOAD, "UNSET", p8080="STRICT")], {8080}, id="unset-port-mtls-strict"),
        pytest.param(
            [
                mtls(ROOT, "PERMISSIVE"),
                mtls(NAMESPACE, "UNSET"),
                mtls(WORKLOAD, None, p9090="STRICT", p8080="PERMISSIVE"),
            ],
            {9090},
            id="permissive-root-unset-namespace-mixed-workload-ports",
        ),
        pytest.param(
            [mtls(ROOT, "STRICT"), mtls(WORKLOAD, None, p9090="PERMISSIVE", p8080="STRICT")],
            {8080, 7070},
            id="strict-root-unset-workload-port-mtls-strict-and-permissive",
        ),
    ],
)
def test_peer_authn(policies: list[dict[str, Any]], refused: set[int]) -> None:
    """istio pilot/pkg/serviceregistry/ambient/testdata/peer-authn-*: which ports plaintext is refused on."""
    of = judge(THINGS, policies, mesh="ambient")
    for port in (8080, 9090, 7070):
        assert outcome(of, **PLAINTEXT | {"port": port}) == ANSWERS[port not in refused], port
        assert outcome(of, **TLS | {"port": port}) == "allow", port


@pytest.mark.parametrize(
    ("rule", "denied"),
    [
        pytest.param(
            source(namespaces=["namespace"], requestPrincipals=["x"]) | ports(ports=["8080"]),
            True,
            id="L4 and L7 in from",
        ),
        pytest.param(
            source(namespaces=["namespace"]) | ports(ports=["8080"], methods=["GET"]), True, id="L4 and L7 in to"
        ),
        pytest.param(source(namespaces=["namespace"]) | ports(ports=["8080"]), True, id="only L4"),
        pytest.param(source(requestPrincipals=["x"]) | ports(paths=["/x"], methods=["GET"]), False, id="only L7"),
        pytest.param({"when": [{"key": "source.ip", "values": ["127.0.0.1"]}]}, True, id="L4 only when"),
        pytest.param({"when": [{"key": "request.headers[x]", "values": ["x"]}]}, False, id="L7 only when"),
    ],
)
def test_deny_groups(rule: dict[str, Any], denied: bool) -> None:
    """istio pilot/pkg/serviceregistry/ambient/testdata/deny-groups: L7 parts go, and a rule without parts matches
    nothing."""
    assert outcome(ambient(rule, action="DENY"), **TLS) == ANSWERS[not denied]


@pytest.mark.parametrize(
    ("value", "found", "matches"),
    [
        pytest.param("foo", "foo", True, id="exact match"),
        pytest.param("foo", "not", False, id="exact mismatch"),
        pytest.param("foo", "", False, id="exact empty mismatch"),
        pytest.param("foo*", "foobar", True, id="prefix match"),
        pytest.param("foo*", "notfoo", False, id="prefix mismatch"),
        pytest.param("foo*", "", False, id="prefix empty mismatch"),
        pytest.param("*foo", "barfoo", True, id="suffix match"),
        pytest.param("*foo", "foonot", False, id="suffix mismatch"),
        pytest.param("*foo", "", False, id="suffix empty mismatch"),
        pytest.param("*", "foo", True, id="presence match"),
        pytest.param("*", "", False, id="presence mismatch"),
    ],
)
def test_string_match(value: str, found: str, matches: bool) -> None:
    assert string_matches(value, found) is matches
