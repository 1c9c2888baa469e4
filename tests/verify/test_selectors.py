"""Label selectors, row for row as apimachinery's Requirement.Matches."""

from __future__ import annotations

from typing import Any

import pytest

from leastway.verify.errors import PolicyError
from leastway.verify.selectors import read_selector
from tests.verify.kit import expression, labels

TIERS: dict[str, dict[str, str]] = {"absent": {}, "empty": {"tier": ""}, "one": {"tier": "1"}, "two": {"tier": "2"}}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, {"absent", "empty", "one", "two"}),
        (None, {"absent", "empty", "one", "two"}),
        ({"matchLabels": {}, "matchExpressions": []}, {"absent", "empty", "one", "two"}),
        (labels(tier="1"), {"one"}),
        (labels(tier=""), {"empty"}),
        (expression("tier", "In", "1"), {"one"}),
        (expression("tier", "In", "1", "2"), {"one", "two"}),
        (expression("tier", "In", ""), {"empty"}),
        (expression("tier", "NotIn", "1"), {"absent", "empty", "two"}),
        (expression("tier", "NotIn", ""), {"absent", "one", "two"}),
        (expression("tier", "Exists"), {"empty", "one", "two"}),
        (expression("tier", "DoesNotExist"), {"absent"}),
        (labels(tier="1") | expression("tier", "NotIn", "1"), set()),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}, {"key": "x", "operator": "Exists"}]}, set()),
    ],
)
def test_a_selector_selects_exactly_these_labels(selector: dict[str, Any] | None, selected: set[str]) -> None:
    found = read_selector(selector, "selector")
    assert {name for name, tier in TIERS.items() if found.matches(tier)} == selected


@pytest.mark.parametrize(
    "key", ["app", "a", "k8s-app", "App_1.x", "foo.com/managed-state", "x" * 63, "a.b/" + "x" * 63]
)
@pytest.mark.parametrize("value", ["", "a", "1", "A_b.c-1", "x" * 63])
def test_labels_that_the_api_server_takes(key: str, value: str) -> None:
    assert read_selector(labels(**{key: value}), "here").matches({key: value})
    assert read_selector(expression(key, "In", value), "here").matches({key: value})


@pytest.mark.parametrize(
    "key",
    ["", "app@b", "-app", "app.", "a b", "a/b/c", "/app", "a/", "Foo.com/app", "foo..com/app", "x" * 64, "é", "a\n"],
)
def test_a_key_that_the_api_server_refuses(key: str) -> None:
    for selector in (labels(**{key: "x"}), expression(key, "Exists")):
        with pytest.raises(PolicyError, match="is no label"):
            read_selector(selector, "here")


@pytest.mark.parametrize("value", ["$app", "-", "a b", "x" * 64, "a,b", "*", "a\n"])
def test_a_value_that_the_api_server_refuses(value: str) -> None:
    with pytest.raises(PolicyError, match="is no label"):
        read_selector(labels(app=value), "here")


def test_an_old_object_may_name_a_value_that_no_label_has() -> None:
    assert read_selector(expression("app", "NotIn", "$app"), "here").matches({"app": "x"})
