"""What Istio's webhook refuses, as the judge reads it: TestValidateAuthorizationPolicy of istio
pkg/config/validation/validation_test.go, re-authored under its names."""

from __future__ import annotations

from typing import Any

import pytest

from leastway.verify.authorizationpolicy_schema import read_authorization_policy
from leastway.verify.errors import PolicyError
from leastway.verify.peerauthentication_schema import read_peer_authentication
from tests.verify.kit import access, labels, peers

Spec = dict[str, Any]
EXT = {"name": "my-custom-authz"}
SERVICE = {"group": "", "kind": "Service", "name": "a"}


def source(**fields: Any) -> Spec:
    return {"rules": [{"from": [{"source": fields}]}]}


def operation(**fields: Any) -> Spec:
    return {"rules": [{"to": [{"operation": fields}]}]}


def when(**condition: Any) -> Spec:
    return {"selector": labels(app="httpbin"), "rules": [{"when": [condition]}]}


GOOD: Spec = {
    "selector": labels(app="httpbin", version="v1"),
    "rules": [
        {
            "from": [{"source": {"principals": ["sa1"]}}, {"source": {"principals": ["sa2"]}}],
            "to": [{"operation": {"methods": ["GET"]}}, {"operation": {"methods": ["POST"]}}],
            "when": [
                {"key": "source.ip", "values": ["1.2.3.4", "5.6.7.0/24"]},
                {"key": "request.headers[:authority]", "values": ["v1", "v2"]},
            ],
        }
    ],
}
VALID: dict[str, Spec] = {
    "good": GOOD,
    "custom-good": {"action": "CUSTOM", "provider": EXT, "rules": [{}]},
    "allow-rules-nil": {"action": "ALLOW"},
    "dry-run-valid-allow": {"action": "ALLOW", "annotations": {"istio.io/dry-run": "true"}},
    "dry-run-valid-deny": {"action": "DENY", "rules": [{}], "annotations": {"istio.io/dry-run": "false"}},
    "targets": {
        "targetRefs": [
            SERVICE,
            {"kind": "Service", "name": "a", "namespace": ""},
            {**SERVICE, "group": "core"},
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "a"},
            {"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint"},
            {"group": "networking.istio.io", "kind": "ServiceEntry", "name": "a"},
        ]
    },
    "trust domains": source(trustDomains=["*", "a*", "*a", "a"]),
    "a trust domain with a slash in a condition": when(key="source.trustDomain", values=["a/b"]),
    "as many as there may be": source(serviceAccounts=["a" * 320] * 16),
    "selector-empty-value": {"selector": labels(app="", version="v1")},
}
CUSTOM: Spec = {"action": "CUSTOM", "provider": EXT}
INVALID: dict[str, Spec] = {
    "custom-empty-provider": {"action": "CUSTOM", "provider": {"name": ""}, "rules": [{}]},
    "custom-nil-provider": {"action": "CUSTOM", "rules": [{}]},
    "provider-wrong-action": {"action": "ALLOW", "provider": {"name": ""}, "rules": [{}]},
    "dry-run-invalid-action-custom": {"action": "CUSTOM", "annotations": {"istio.io/dry-run": "true"}},
    "deny-rules-nil": {"action": "DENY"},
    "selector-empty-key": {"selector": {"matchLabels": {"app": "httpbin", "": "v1"}}},
    "selector-wildcard-value": {"selector": labels(app="httpbin-*")},
    "selector-wildcard-key": {"selector": {"matchLabels": {"app-*": "httpbin"}}},
    "from-empty": {"rules": [{"from": []}]},
    "source-nil": {"rules": [{"from": [{}]}]},
    "source-empty": {"rules": [{"from": [{"source": {}}]}]},
    "to-empty": {"rules": [{"to": []}]},
    "operation-nil": {"rules": [{"to": [{}]}]},
    "operation-empty": {"rules": [{"to": [{"operation": {}}]}]},
    "Principals-empty": source(principals=["p1", ""]),
    "NotPrincipals-empty": source(notPrincipals=["p1", ""]),
    "RequestPrincipals-empty": source(requestPrincipals=["p1", ""]),
    "NotRequestPrincipals-empty": source(notRequestPrincipals=["p1", ""]),
    "Namespaces-empty": source(namespaces=["ns", ""]),
    "NotNamespaces-empty": source(notNamespaces=["ns", ""]),
    "IpBlocks-empty": source(ipBlocks=["1.2.3.4", ""]),
    "NotIpBlocks-empty": source(notIpBlocks=["1.2.3.4", ""]),
    "RemoteIpBlocks-empty": source(remoteIpBlocks=["1.2.3.4", ""]),
    "NotRemoteIpBlocks-empty": source(notRemoteIpBlocks=["1.2.3.4", ""]),
    "Hosts-empty": operation(hosts=["host", ""]),
    "NotHosts-empty": operation(notHosts=["host", ""]),
    "Ports-empty": operation(ports=["80", ""]),
    "NotPorts-empty": operation(notPorts=["80", ""]),
    "Methods-empty": operation(methods=["GET", ""]),
    "NotMethods-empty": operation(notMethods=["GET", ""]),
    "Paths-empty": operation(paths=["/path", ""]),
    "NotPaths-empty": operation(notPaths=["/path", ""]),
    "value-empty": when(key="request.headers[:authority]", values=["v1", ""]),
    "invalid ip in ipBlocks": source(ipBlocks=["1.2.3.4", "ip1"], notIpBlocks=["5.6.7.8"]),
    "invalid ip in notIpBlocks": source(ipBlocks=["1.2.3.4"], notIpBlocks=["5.6.7.8", "ip2"]),
    "invalid ip in remoteIpBlocks": source(remoteIpBlocks=["1.2.3.4", "ip1"]),
    "invalid ip in notRemoteIpBlocks": source(notRemoteIpBlocks=["5.6.7.8", "ip2"]),
    **{
        f"no address or CIDR in {field}: {value}": source(**{field: [value]})
        for field in ("ipBlocks", "notIpBlocks", "remoteIpBlocks")
        for value in ("10.0.0.0/255.0.0.0", "10.0.0.0/0.255.255.255", "10.0.0.0/08", "fe80::1%eth0/64", "fe80::1%eth0")
    },
    **{
        f"no address or CIDR in {key}": when(key=key, values=["10.0.0.0/255.0.0.0"])
        for key in ("source.ip", "remote.ip", "destination.ip")
    },
    "invalid port in ports": operation(ports=["80", "port1"]),
    "invalid port in notPorts": operation(notPorts=["90", "port2"]),
    **{
        f"{name}: {value!r}": source(**{name: [value]})
        for name in ("trustDomains", "notTrustDomains")
        for value in (
            "a/b",
            "a/*",
            "**",
            "*a*",
            "a*b",
        )
    },
    **{f"source.trustDomain: {value!r}": when(key="source.trustDomain", values=[value]) for value in ("**", "a*b")},
    "too many service accounts": source(serviceAccounts=["a"] * 17),
    "too many service accounts in a condition": when(key="source.serviceAccount", notValues=["a"] * 17),
    "a service account that is too long": source(notServiceAccounts=["a" * 321]),
    "port of many digits": operation(ports=["00000000099999"]),
    "too many rules": {"rules": [{}] * 513},
    "too many sources": {"rules": [{"from": [{"source": {"namespaces": ["a"]}}] * 513}]},
    "too long a label": {"selector": labels(app="a" * 64)},
    "target without a group": {"targetRefs": [{"kind": "Gateway", "name": "a"}]},
    "target of the wrong group": {"targetRefs": [{**SERVICE, "group": "gateway.networking.k8s.io"}]},
    "target of an unknown group": {"targetRef": {**SERVICE, "group": "apps"}},
    "target without a name": {"targetRefs": [{**SERVICE, "name": ""}]},
    "target in another namespace": {"targetRefs": [{**SERVICE, "namespace": "b"}]},
    "one target and several": {"targetRef": SERVICE, "targetRefs": [SERVICE]},
    "one target and a selector": {"targetRef": SERVICE, "selector": labels(app="a")},
    "dry-run-invalid-value": {"annotations": {"istio.io/dry-run": "foo"}},
    "dry-run-invalid-action-audit": {"action": "AUDIT", "annotations": {"istio.io/dry-run": "true"}},
    "dry-run-invalid-action-custom with rules": {**CUSTOM, "rules": [{}], "annotations": {"istio.io/dry-run": "false"}},
    "condition-key-missing": when(values=["v1", "v2"]),
    "condition-key-empty": when(key="", values=["v1", "v2"]),
    "condition-value-missing": when(key="source.principal"),
    "condition-value-invalid": when(key="source.ip", values=["a.b.c.d"]),
    "condition-notValue-invalid": when(key="source.ip", notValues=["a.b.c.d"]),
    "condition-unknown": when(key="key1", values=["v1"]),
}


NOT_CUSTOM: dict[str, Spec] = {
    **{f"From.{name}": {**CUSTOM, **source(**{name: ["a"]})} for name in (
        "principals", "notPrincipals", "requestPrincipals", "notRequestPrincipals",
        "namespaces", "notNamespaces", "serviceAccounts", "notServiceAccounts", "trustDomains", "notTrustDomains",
    )},
    **{key: {**CUSTOM, **when(key=key, values=["a"])} for key in (
        "source.namespace", "source.principal", "request.auth.audiences", "request.auth.claims[iss]",
        "source.serviceAccount", "source.trustDomain",
    )},
}  # fmt: skip


@pytest.mark.parametrize("spec", NOT_CUSTOM.values(), ids=NOT_CUSTOM)
def test_custom_by_identity_is_refused_and_read_where_it_is_in_force(spec: Spec) -> None:
    with pytest.raises(PolicyError, match="not supported with action CUSTOM"):
        read_authorization_policy(access("a/p", **spec))
    assert read_authorization_policy(access("a/p", **spec), existing=True).action == "CUSTOM"


def test_custom_by_address_host_and_key_is_read() -> None:
    for part in (source(ipBlocks=["10.0.0.0/8"]), source(remoteIpBlocks=["10.0.0.0/8"]), operation(hosts=["a"])):
        assert read_authorization_policy(access("a/p", **CUSTOM, **part)).action == "CUSTOM"
    assert read_authorization_policy(access("a/p", **CUSTOM, **when(key="source.ip", values=["10.0.0.1"]))).rules


@pytest.mark.parametrize("spec", VALID.values(), ids=VALID)
def test_valid_policies_are_read(spec: Spec) -> None:
    assert read_authorization_policy(access("a/p", **spec)).namespace == "a"


@pytest.mark.parametrize("spec", INVALID.values(), ids=INVALID)
def test_invalid_policies_are_errors_that_name_the_policy(spec: Spec) -> None:
    with pytest.raises(PolicyError) as error:
        read_authorization_policy(access("a/p", **spec))
    assert "AuthorizationPolicy a/p" in str(error.value)


def test_a_dry_run_that_the_webhook_refuses_is_enforced_where_it_got_past_it() -> None:
    """dry-run-invalid-value: the proxy's compiler reads what it cannot parse as false, and so does the judge."""
    found = read_authorization_policy(access("a/p", annotations={"istio.io/dry-run": "foo"}), existing=True)
    assert not found.dry_run


@pytest.mark.parametrize(
    "spec",
    [
        {"selector": labels(app="web"), "portLevelMtls": {}},
        {"selector": labels(app="web"), "portLevelMtls": {"080": {"mode": "STRICT"}}},
        {"selector": labels(app="web" * 22)},
        {"annotations": {"istio.io/dry-run": "true"}},
    ],
)
def test_peer_authentications_that_the_api_server_refuses(spec: Spec) -> None:
    document = peers("a/p", **{key: value for key, value in spec.items() if key != "annotations"})
    document["metadata"]["annotations"] = spec.get("annotations", {})
    with pytest.raises(PolicyError, match="PeerAuthentication a/p"):
        read_peer_authentication(document)
