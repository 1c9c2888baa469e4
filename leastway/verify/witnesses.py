"""Requests that stand for the values of authorization rules: for each method, path and host that rules name, some that
match it and as few others as possible.

Invariant: a value that admits less or more than another, at its ends or one segment further down, has a witness that
shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy
from leastway.verify.httppath import is_template

NOBODY = "leastway-witness"  # a path segment and method that no rule is likely to name
ANY = "*"
PRODUCT = 4096  # pairs of values beyond which only those that rules name together are tried
CROSSED = 64  # prefixes or suffixes that are crossed with each other
HOSTS = 16


def named(policies: Iterable[AuthorizationPolicy], field: str) -> list[str]:
    """All values of one field of operations, and `*`."""
    values = {
        value
        for policy in policies
        for rule in policy.rules
        for entry in rule.operations or ()
        for found in entry
        if found.name == field
        for value in found.values
    }
    return sorted(values | {ANY})


def requests(policies: Iterable[AuthorizationPolicy]) -> list[tuple[str, str]]:
    """Every (method value, path value) that rules may decide about, the widest first."""
    given = list(policies)
    methods, paths = named(given, "methods"), named(given, "paths")
    found = set(product(methods, paths)) if len(methods) * len(paths) <= PRODUCT else _together(given)
    return sorted(found, key=lambda pair: (pair.count(ANY) * -1, pair))


def _together(policies: Iterable[AuthorizationPolicy]) -> set[tuple[str, str]]:
    found = {(ANY, ANY)}
    for policy in policies:
        for rule in policy.rules:
            for entry in rule.operations or ():
                values = {
                    name: {v for f in entry if f.name == name for v in f.values} or {ANY}
                    for name in ("methods", "paths")
                }
                found |= set(product(values["methods"], values["paths"]))
    return found


def hosts(policies: Iterable[AuthorizationPolicy]) -> list[str]:
    """Hosts to ask with; one that is not known ("") where no rule names any."""
    values = named(policies, "hosts")
    return [value.replace(ANY, NOBODY) for value in values[:HOSTS]] if len(values) > 1 else [""]


def method(value: str) -> str:
    """A method that a value matches."""
    return value.replace(ANY, NOBODY.upper())


def paths(value: str, others: Sequence[str]) -> list[str]:
    """Paths that a value matches, in view of the `others` that are named."""
    if value == ANY:
        return [f"/{NOBODY}"]
    if is_template(value):
        inner = (f"{NOBODY}/{NOBODY}", NOBODY, "") if "{**}" in value else ("",)
        return [value.replace("{**}", part).replace("{*}", NOBODY) for part in inner]
    if value.endswith(ANY):
        stem = value[:-1]
        ends = [other[1:] for other in others if other.startswith(ANY) and other != ANY][:CROSSED]
        return [_rooted(stem + end) for end in ("", NOBODY, f"{NOBODY}/{NOBODY}", *(NOBODY + end for end in ends))]
    if value.startswith(ANY):
        stems = [other[:-1] for other in others if other.endswith(ANY) and other != ANY][:CROSSED]
        return [_rooted(begin + value[1:]) for begin in (f"/{NOBODY}", "", *(stem + NOBODY for stem in stems))]
    return [_rooted(value)]


def _rooted(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
