"""The judge against Istio's tables (istio_cases, istio_builder_cases), row for row, and of what Istio refuses.

TestCheckValidPathTemplate, TestIsValidLiteral, TestContainsPathTemplate and TestValidateCondition are those of istio
pkg/config/security/security_test.go; TestStringMatcherWithPrefix and TestPathMatcher those of
pilot/pkg/security/authz/matcher.
"""

from __future__ import annotations

from typing import Any

import pytest

from leastway.verify.authorizationpolicy_schema import read_authorization_policy
from leastway.verify.errors import PolicyError
from leastway.verify.httppath import is_template, path_matches, string_matches, template
from tests.verify.istio_builder_cases import CASES as BUILDER
from tests.verify.istio_cases import CASES as INTEGRATION
from tests.verify.istio_cases import HTTP, TCP, Case
from tests.verify.kit import access, judge, namespace, outcome, pod

CASES = [*INTEGRATION, *BUILDER]
THINGS = [
    *(namespace(name) for name in ("a", "b", "istio-system")),
    pod("a/client", {"app": "client"}, "10.0.1.1", serviceAccountName="client"),
    pod("b/client", {"app": "client"}, "10.0.2.1", serviceAccountName="client"),
    pod("a/server", {"app": "server", "version": "v1"}, "10.0.1.2", serviceAccountName="server"),
    pod("a/labelled", {"app": "server", "foo": "bla"}, "10.0.1.3", serviceAccountName="server"),
    pod("a/other", {"app": "other"}, "10.0.1.4", serviceAccountName="other"),
    pod("istio-system/gateway", {"app": "istio-ingressgateway"}, "10.0.3.1"),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_row_of_the_table(case: Case) -> None:
    of = judge(THINGS, case.policies, mesh="sidecar", **case.options)
    for row in case.rows:
        asked: dict[str, Any] = {"principal": row.principal, "host": row.host}
        asked |= {"method": row.method, "path": row.path} if row.path else {"http": False}
        assert outcome(of, row.source, row.to, row.port, **asked) == row.expected, row


def test_every_table_has_a_name_of_its_own_and_asks_about_both_filter_chains() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert {row.port for case in CASES for row in case.rows} >= {HTTP, TCP}
    assert sum(len(case.rows) for case in CASES) > 200


TEMPLATES = [
    ("matchOneTemplate", "/{*}/foo", True),
    ("matchOneTemplate with trailing slash", "/{*}/foo/", True),
    ("matchAnyTemplate", "/foo/{**}/bar", True),
    ("matchAnyTemplate at end", "/foo/bar/{**}", True),
    ("matchAnyTemplate with additional chars", "/foo/{**}buzz/bar", False),
    ("empty curly braces", "/{*}/foo/{}/bar", False),
    ("matchOneTemplate with `*`", "/foo/{*}/bar/*", False),
    ("matchOneTemplate with `**`", "/foo/{*}/bar/**/buzz", False),
    ("named var: {buzz}", "/foo/{buzz}/bar", False),
    ("only named var: {buzz}", "/{buzz}", False),
    ("matchAnyTemplate with named var: {buzz}", "/foo/{buzz}/bar/{**}", False),
    ("matchAnyTemplate with named var: {buzz=*}", "/foo/{buzz=*}/bar/{**}", False),
    ("matchAnyTemplate with named var: {buzz=**}", "/{*}/foo/{buzz=**}/bar", False),
    ("matchAnyTemplate with additional chars at end", "/{*}/foo/{**}bar", False),
    ("matchOneTemplate with file extension", "/{*}/foo/{*}.txt", False),
    ("matchOneTemplate with unmatched open curly brace", "/{*}/foo/{temp", False),
    ("matchOneTemplate with unmatched closed curly brace", "/{*}/foo/temp}/bar", False),
    ("matchOneTemplate with unmatched closed curly brace and `*`", "/{*}/foo/temp}/*", False),
    ("matchAnyTemplate is not the last operator in the template", "/{**}/foo/temp/{*}/bar", False),
    ("simple multiple matchAnyTemplates", "/{**}/{**}", False),
    ("multiple matchAnyTemplates", "/{**}/foo/temp/{**}/bar", False),
    ("invalid literal in path template", "/{*}/foo/?abc", False),
]


def accepted(**spec: Any) -> bool:
    """Does the judge read this AuthorizationPolicy?"""
    try:
        read_authorization_policy(access("a/p", **spec))
    except PolicyError:
        return False
    return True


@pytest.mark.parametrize(("path", "valid"), [row[1:] for row in TEMPLATES], ids=[row[0] for row in TEMPLATES])
def test_check_valid_path_template(path: str, valid: bool) -> None:
    assert accepted(rules=[{"to": [{"operation": {"paths": [path]}}]}]) is valid
    assert accepted(rules=[{"to": [{"operation": {"notPaths": [path]}}]}]) is valid


@pytest.mark.parametrize(
    ("literal", "valid"),
    [
        ("123abcABC", True),
        ("._~-", True),
        ("a=c", True),
        ("-._~%20!$&'()+,;:@", True),
        ("`~!@#$%^&()-_+;:,<.>'\"\\| ", False),
        ("ab*c", False),
        ("*", False),
        ("ab**c", False),
        ("**", False),
        ("?abc", False),
        ("?a=c", False),
        ("{abc", False),
        ("abc}", False),
        ("{abc}", False),
    ],
)
def test_is_valid_literal(literal: str, valid: bool) -> None:
    if valid:
        assert template(f"/{literal}/{{*}}").fullmatch(f"/{literal}/x")
    else:
        with pytest.raises(PolicyError):
            template(f"/{literal}/{{*}}")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("foo/bar/{*}", True),
        ("foo/{**}/bar", True),
        ("{*}/bar/{**}", True),
        ("foo/bar/*", False),
        ("foo/bar/{buzz}", False),
    ],
)
def test_contains_path_template(path: str, found: bool) -> None:
    assert is_template(path) is found


@pytest.mark.parametrize(
    ("key", "values", "valid"),
    [
        ("request.headers[:authority]", ["productpage", ""], False),
        ("request.experimental.inline.headers[:authority]", ["productpage", ""], False),
        ("request.headers[:authority]", ["productpage"], True),
        ("request.experimental.inline.headers[:authority]", ["productpage"], True),
        ("request.headers[]", ["productpage"], False),
        ("request.experimental.inline.headers[]", ["productpage"], False),
        ("source.ip", ["1.2.3.4", "5.6.7.0/24"], True),
        ("source.ip", ["a.b.c.d"], False),
        ("remote.ip", ["1.2.3.4", "5.6.7.0/24"], True),
        ("remote.ip", ["a.b.c.d"], False),
        ("source.namespace", ["value"], True),
        ("source.user", ["value"], False),
        ("source.principal", ["value"], True),
        ("source.serviceAccount", ["too/many/slashes"], False),
        ("source.serviceAccount", ["/emptyns"], False),
        ("source.serviceAccount", ["emptysa/"], False),
        ("source.serviceAccount", ["ns/sa"], True),
        ("source.serviceAccount", ["sa"], True),
        ("request.auth.principal", ["value"], True),
        ("request.auth.audiences", ["value"], True),
        ("request.auth.presenter", ["value"], True),
        ("request.auth.claims[id]", ["123"], True),
        ("request.auth.claims[]", ["value"], False),
        ("destination.ip", ["1.2.3.4", "5.6.7.0/24"], True),
        ("destination.ip", ["a.b.c.d"], False),
        ("destination.port", ["80", "90"], True),
        ("destination.port", ["80", "x"], False),
        ("destination.labels[app]", ["value"], False),
        ("destination.name", ["value"], False),
        ("destination.namespace", ["value"], False),
        ("destination.user", ["value"], False),
        ("connection.sni", ["value"], True),
        ("experimental.envoy.filters.a.b[c]", ["value"], True),
        ("experimental.envoy.filters.a.b.x", ["value"], False),
    ],
)
def test_validate_condition(key: str, values: list[str], valid: bool) -> None:
    assert accepted(rules=[{"when": [{"key": key, "values": values}]}]) is valid


@pytest.mark.parametrize(
    ("value", "path", "matches"),
    [
        ("/productpage", "/productpage", True),
        ("/productpage", "/productpage/", False),
        ("/prefix*", "/prefix", True),
        ("/prefix*", "/prefixed/x", True),
        ("/prefix*", "/a/prefix", False),
        ("*suffix", "/a/suffix", True),
        ("*suffix", "/a/suffix/", False),
        ("*/productpage*", "/a/productpage*", True),
        ("*/productpage*", "/a/productpage/b", False),
        ("*", "/anything", True),
    ],
)
def test_path_matcher(value: str, path: str, matches: bool) -> None:
    assert path_matches(value, path) is matches


@pytest.mark.parametrize(
    ("value", "principal", "expected"),
    [
        ("*", "abc", "allow"),
        ("*", "", "deny"),
        ("prefix-*", "prefix-x", "allow"),
        ("prefix-*", "x-prefix-", "deny"),
        ("*-suffix", "x-suffix", "allow"),
        ("*-suffix", "x-suffix-", "deny"),
        ("exact", "exact", "allow"),
        ("exact", "spiffe://exact", "allow"),
        ("exact", "exactly", "deny"),
        (".+", "abc", "deny"),
    ],
)
def test_string_matcher_with_prefix(value: str, principal: str, expected: str) -> None:
    of = judge(THINGS, [access("a/p", rules=[{"from": [{"source": {"principals": [value]}}]}])], mesh="sidecar")
    assert outcome(of, "a/client", "a/server", HTTP, principal=principal, method="GET", path="/") == expected
    assert string_matches("*", "") is False
