"""Label selectors, row for row as apimachinery's Requirement.Matches."""

from __future__ import annotations

from typing import Any

import pytest

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
