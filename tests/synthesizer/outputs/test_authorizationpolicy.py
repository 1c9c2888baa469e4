"""AuthorizationPolicy as written: ALLOW only, ports always, HTTP fields never on a TCP port."""

from __future__ import annotations

from typing import Any

import pytest

from synthesizer.intent import Access, AccessIntent, Cause, Target
from synthesizer.outputs import manifest
from synthesizer.render import Renderer

API = Target("shop", "api", (("app", "api"),))


def spec(target: Target, *accesses: Access) -> dict[str, Any]:
    found: dict[str, Any] = manifest(AccessIntent(target, accesses), Renderer()).document["spec"]
    return found


@pytest.mark.parametrize(
    ("access", "rule"),
    [
        (
            Access(Cause.OBSERVED, ("td/ns/a/sa/b",), (80, 443), ("GET",), ("/x", "/{*}/y")),
            {
                "from": [{"source": {"principals": ["td/ns/a/sa/b"]}}],
                "to": [{"operation": {"ports": ["80", "443"], "methods": ["GET"], "paths": ["/x", "/{*}/y"]}}],
            },
        ),
        (
            Access(Cause.OBSERVED, ("td/ns/a/sa/b",), (5432,)),
            {"from": [{"source": {"principals": ["td/ns/a/sa/b"]}}], "to": [{"operation": {"ports": ["5432"]}}]},
        ),
        (
            Access(Cause.INTERNET, (), (8080,), ("GET",)),
            {"to": [{"operation": {"ports": ["8080"], "methods": ["GET"]}}]},
        ),
        (
            Access(Cause.CONTROL_PLANE, (), (9443,), blocks=("172.18.0.2/32", "fd00::2/128")),
            {
                "from": [{"source": {"ipBlocks": ["172.18.0.2/32", "fd00::2/128"]}}],
                "to": [{"operation": {"ports": ["9443"]}}],
            },
        ),
    ],
    ids=["http", "tcp", "anyone", "an address"],
)
def test_a_rule_says_who_where_and_how(access: Access, rule: dict[str, Any]) -> None:
    assert spec(API, access) == {
        "selector": {"matchLabels": {"app": "api"}},
        "action": "ALLOW",
        "rules": [rule],
    }


def test_ports_are_text_as_istio_wants_them() -> None:
    (rule,) = spec(API, Access(Cause.OBSERVED, ("p",), (80,)))["rules"]
    assert rule["to"][0]["operation"]["ports"] == ["80"]


def test_a_workload_whose_callers_may_do_nothing_has_an_empty_list_which_denies() -> None:
    """`rules: [{}]` would allow everyone; no rules at all allow nobody."""
    assert spec(API) == {"selector": {"matchLabels": {"app": "api"}}, "action": "ALLOW", "rules": []}


def test_the_default_deny_of_a_namespace_is_an_empty_spec() -> None:
    assert spec(Target("shop", "default-deny")) == {}


def test_a_policy_for_a_service_attaches_to_its_waypoint() -> None:
    made = spec(Target("shop", "api-waypoint", service="api"), Access(Cause.OBSERVED, ("p",), (80,)))
    assert made["targetRefs"] == [{"group": "", "kind": "Service", "name": "api"}]
    assert "selector" not in made
