"""AuthorizationPolicy's rules as they are enforced in one place: by a proxy on HTTP, a proxy on TCP, or ztunnel.

Invariant: on TCP, and in ztunnel, an HTTP field removes an ALLOW rule and is dropped from a DENY rule.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from leastway.verify.authorizationpolicy_schema import AuthorizationRule, Field, Fields
from leastway.verify.identity import Request, field_matches
from leastway.verify.verdict import Tri, all_of, any_of

Place = Literal["http", "tcp", "ztunnel"]
_HTTP = frozenset({"hosts", "methods", "paths", "requestPrincipals"})
_BEYOND_ZTUNNEL = frozenset(
    {
        *_HTTP,
        "remoteIpBlocks",
        "remote.ip",
        "source.serviceAccount",
        "source.trustDomain",
        "connection.sni",
    }
)
# Istio does not send these to ztunnel, which enforces the rule without them (`handleRule` in Istio's
# pilot/pkg/serviceregistry/ambient/authorization.go).
PASSED_OVER = frozenset({"trustDomains"})


@lru_cache(maxsize=1 << 16)
def compiled(rule: AuthorizationRule, action: str, place: Place) -> AuthorizationRule | None:
    """The rule as `place` enforces it; None if it can never match there."""
    if place == "http":
        return rule
    fields = [field for entry in (*(rule.sources or ()), *(rule.operations or ()), rule.conditions) for field in entry]
    foreign = any(_foreign(field, place) for field in fields)
    if not foreign and not any(_left_out(field, place) for field in fields):
        return rule
    if foreign and action == "ALLOW":
        return None
    if place == "ztunnel":
        # An entry left without fields is skipped by ztunnel: it matches nothing.
        if any(_foreign(field, place) for field in rule.conditions):
            return None
        sources, operations = _stripped(rule.sources, place), _stripped(rule.operations, place)
        kept = AuthorizationRule(
            None if sources is None else tuple(filter(None, sources)),
            None if operations is None else tuple(filter(None, operations)),
            rule.conditions,
        )
        return None if kept.sources == () or kept.operations == () else kept
    return AuthorizationRule(
        _stripped(rule.sources, place),
        _stripped(rule.operations, place),
        tuple(field for field in rule.conditions if not _foreign(field, place)),
    )


def unenforceable(rule: AuthorizationRule, place: Place) -> list[str]:
    """The names of a rule's fields that do not exist in `place`."""
    if place == "http":
        return []
    entries = [*(rule.sources or ()), *(rule.operations or ()), rule.conditions]
    names = {field.name for entry in entries for field in entry if _foreign(field, place)}
    if compiled(rule, "DENY", place) is None:
        names |= {field.name for entry in entries for field in entry if _left_out(field, place)}
    return sorted(names)


def _foreign(field: Field, place: Place) -> bool:
    if place == "ztunnel" and field.name in _BEYOND_ZTUNNEL:
        return True
    if place == "ztunnel" and field.name.startswith("experimental."):
        return True
    return field.name in _HTTP or field.name.startswith("request.")


def _left_out(field: Field, place: Place) -> bool:
    return _foreign(field, place) or (place == "ztunnel" and field.name in PASSED_OVER)


def _stripped(entries: tuple[Fields, ...] | None, place: Place) -> tuple[Fields, ...] | None:
    if entries is None:
        return None
    return tuple(tuple(field for field in entry if not _left_out(field, place)) for entry in entries)


def rule_matches(rule: AuthorizationRule, request: Request, namespace: str) -> Tri:
    """Does a compiled rule of a policy in `namespace` match?"""
    return all_of(
        (
            _entries_match(rule.operations, request, namespace),
            _entries_match(rule.sources, request, namespace),
            all_of(field_matches(field, request, namespace) for field in rule.conditions),
        )
    )


def _entries_match(entries: tuple[Fields, ...] | None, request: Request, namespace: str) -> Tri:
    if entries is None:
        return True
    return any_of(all_of(field_matches(field, request, namespace) for field in entry) for entry in entries)
