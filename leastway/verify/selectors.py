"""Kubernetes label selectors.

Invariant: `matches` agrees with apimachinery's `Requirement.Matches` in every case. The case that others get wrong:
NotIn is true if the key is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from leastway.verify.errors import PolicyError
from leastway.verify.reading import labels, mapping, optional, sequence, text, texts

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
NAME = r"(?=.{1,63}\Z)[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
PREFIX = r"(?=.{1,253}/)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*/"
KEY, VALUE = re.compile(f"(?:{PREFIX})?{NAME}"), re.compile(f"(?:{NAME})?")


class Requirement(NamedTuple):
    """One matchExpressions entry."""

    key: str
    operator: str
    values: frozenset[str]

    def matches(self, found: Mapping[str, str]) -> bool:
        """True if labels `found` meet this requirement."""
        if self.operator == "In":
            return self.key in found and found[self.key] in self.values
        if self.operator == "NotIn":
            return self.key not in found or found[self.key] not in self.values
        return (self.key in found) == (self.operator == "Exists")


class Selector(NamedTuple):
    """A label selector: every pair and every requirement must hold; an empty one selects everything."""

    pairs: tuple[tuple[str, str], ...] = ()
    requirements: tuple[Requirement, ...] = ()

    def matches(self, found: Mapping[str, str]) -> bool:
        """True if labels `found` are selected."""
        for key, value in self.pairs:
            if found.get(key) != value:
                return False
        return not self.requirements or all(requirement.matches(found) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """True if it selects everything."""
        return not self.pairs and not self.requirements

    def __str__(self) -> str:
        parts = [f"{key}={value}" for key, value in self.pairs]
        for key, operator, values in self.requirements:
            parts.append(f"{key} {operator}" + (f" ({','.join(sorted(values))})" if values else ""))
        return "{" + ", ".join(parts) + "}"


EVERYTHING = Selector()
REFUSED = "the API server refuses such a selector"


@lru_cache(maxsize=1 << 12)
def _is_key(key: str) -> bool:
    return KEY.fullmatch(key) is not None


def read_selector(value: object, where: str) -> Selector:
    """Parse a `LabelSelector`; null is the empty selector (callers handle an absent one themselves).

    Raises `PolicyError` for what the API server refuses. Values of matchExpressions need not have the form of label
    values: the API server keeps old objects with others, which no label matches.
    """
    found = optional(value, where, ("matchLabels", "matchExpressions"))
    for key, item in labels(found.get("matchLabels"), f"{where}.matchLabels").items():
        if not _is_key(key) or VALUE.fullmatch(item) is None:
            raise PolicyError(f"{f'{key}={item}'[:80]!r} is no label", f"{where}.matchLabels", REFUSED)
    pairs = tuple(sorted(labels(found.get("matchLabels"), f"{where}.matchLabels").items()))
    expressions = found.get("matchExpressions")
    if expressions is None:
        return Selector(pairs)
    at = f"{where}.matchExpressions"
    return Selector(pairs, tuple(_requirement(e, f"{at}[{i}]") for i, e in enumerate(sequence(expressions, at))))


def _requirement(value: object, where: str) -> Requirement:
    found = mapping(value, where, ("key", "operator", "values"))
    key = text(found.get("key"), f"{where}.key")
    if not _is_key(key):
        raise PolicyError(f"{key[:80]!r} is no label's key", f"{where}.key", REFUSED)
    operator = text(found.get("operator"), f"{where}.operator")
    if operator not in OPERATORS:
        raise PolicyError(f"operator {operator[:40]!r} is not one of {', '.join(OPERATORS)}", where)
    values = texts(found.get("values"), f"{where}.values")
    if bool(values) != (operator in ("In", "NotIn")):
        raise PolicyError(f"operator {operator} {'forbids' if values else 'needs'} values", f"{where}.values")
    return Requirement(key, operator, frozenset(values))
