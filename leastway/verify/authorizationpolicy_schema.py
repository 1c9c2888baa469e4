"""AuthorizationPolicy documents → immutable policies.

Invariant: every field of Istio's API is read, and any other is an error that names it. An empty spec (matches nothing)
and an empty rule (matches everything) are never confused.
Source: istio/api security/v1beta1/authorization_policy.proto, istio pkg/config/validation.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from leastway.verify import httppath
from leastway.verify.errors import PolicyError
from leastway.verify.istio_attachment import match_labels, read_dry_run, read_targets
from leastway.verify.reading import Document, identity, mapping, network, optional, sequence, text, texts

GROUP = "security.istio.io"
SOURCE_FIELDS = (
    "principals",
    "requestPrincipals",
    "namespaces",
    "serviceAccounts",
    "ipBlocks",
    "remoteIpBlocks",
    "trustDomains",
)
OPERATION_FIELDS = ("hosts", "ports", "methods", "paths")
KEYS = frozenset(
    {
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    }
)
_KEY_FORMS = re.compile(
    r"request\.(experimental\.inline\.)?headers\[[^\[\]]+\]"
    r"|request\.auth\.claims(\[[^\[\]]+\])+"
    r"|experimental\.envoy\.filters\.[^\[\]]+\[[^\[\]]+\]",
    re.ASCII,
)
ACTIONS = ("ALLOW", "DENY", "CUSTOM", "AUDIT")
# Fields about the source that Istio refuses with action CUSTOM; keys that begin with `request.auth.` are refused too.
_NOT_CUSTOM = frozenset(
    {
        "principals",
        "requestPrincipals",
        "namespaces",
        "serviceAccounts",
        "trustDomains",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
    }
)
_ACCOUNT = ("serviceAccounts", "source.serviceAccount")
# Limits of the API: rules, and sources per rule; service accounts per field, and characters of each.
MANY, ACCOUNTS, ACCOUNT = 512, 16, 320


class Field(NamedTuple):
    """One field of a source, operation or condition: any of `values` must match, or none of them if `negated`."""

    name: str
    negated: bool
    values: tuple[str, ...]


Fields = tuple[Field, ...]


class AuthorizationRule(NamedTuple):
    """`sources` or `operations` None means any. Entries are alternatives; all fields of an entry must hold."""

    sources: tuple[Fields, ...] | None
    operations: tuple[Fields, ...] | None
    conditions: Fields


class AuthorizationPolicy(NamedTuple):
    """A policy. `selector` empty means the whole namespace (every namespace, if it is in the root namespace)."""

    namespace: str
    name: str
    action: str
    selector: tuple[tuple[str, str], ...]
    targets: tuple[tuple[str, str], ...]  # kind, name
    rules: tuple[AuthorizationRule, ...]
    dry_run: bool = False
    existing: bool = False

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"AuthorizationPolicy {self.namespace}/{self.name}"


def is_istio(document: Document, kind: str) -> bool:
    """True for an object of Istio's security group with this kind."""
    version = document.get("apiVersion", GROUP)
    return document.get("kind") == kind and isinstance(version, str) and version.partition("/")[0] == GROUP


def read_authorization_policy(document: Document, existing: bool = False) -> AuthorizationPolicy:
    """Parse one AuthorizationPolicy; raises `PolicyError`."""
    kind, namespace, name = identity(document)
    where = f"{kind} {namespace}/{name}"
    mapping(document, where, ("apiVersion", "kind", "metadata", "spec", "status"))
    known = ("selector", "targetRef", "targetRefs", "action", "rules", "provider")
    spec = optional(document.get("spec"), f"{where} spec", known)
    action = text(spec.get("action", "ALLOW"), f"{where} spec.action")
    if action not in ACTIONS:
        raise PolicyError(f"action {action[:40]!r} is not one of {', '.join(ACTIONS)}", f"{where} spec.action")
    items = _few(sequence(spec.get("rules"), f"{where} spec.rules"), MANY, f"{where} spec.rules")
    rules = tuple(_rule(item, f"{where} spec.rules[{i}]") for i, item in enumerate(items))
    if action in ("DENY", "CUSTOM") and not rules:
        raise PolicyError(f"action {action} without rules is meaningless", where, "Istio rejects it")
    if action == "CUSTOM":
        provider = mapping(spec.get("provider"), f"{where} spec.provider", ("name",))
        if not text(provider.get("name", ""), f"{where} spec.provider.name"):
            raise PolicyError("action CUSTOM needs a provider's name", f"{where} spec.provider", "Istio rejects it")
        if not existing:
            _check_custom(rules, f"{where} spec.rules")
    elif "provider" in spec:
        raise PolicyError("provider belongs to action CUSTOM", f"{where} spec.provider")
    selector = match_labels(spec.get("selector"), f"{where} spec.selector")
    targets = read_targets(spec, where)
    notes = optional(mapping(document.get("metadata"), where).get("annotations"), f"{where} annotations")
    dry = read_dry_run(notes, action, f"{where} annotations", existing)
    return AuthorizationPolicy(namespace, name, action, selector, targets, rules, dry, existing)


def _check_custom(rules: tuple[AuthorizationRule, ...], where: str) -> None:
    """Refuse what Istio's webhook refuses with action CUSTOM. (What got past the webhook is enforced nevertheless.)"""
    for i, rule in enumerate(rules):
        for entry in [*(rule.sources or ()), rule.conditions]:
            for field in entry:
                if field.name in _NOT_CUSTOM or field.name.startswith("request.auth."):
                    hint = "Istio rejects it; one that is in force all the same is read from the inventory"
                    raise PolicyError(f"{field.name} is not supported with action CUSTOM", f"{where}[{i}]", hint)


def _rule(value: object, where: str) -> AuthorizationRule:
    found = optional(value, where, ("from", "to", "when"))
    sources = _alternatives(found, "from", "source", SOURCE_FIELDS, where)
    operations = _alternatives(found, "to", "operation", OPERATION_FIELDS, where)
    conditions: list[Field] = []
    for i, item in enumerate(sequence(found.get("when"), f"{where}.when")):
        conditions += _condition(item, f"{where}.when[{i}]")
    return AuthorizationRule(sources, operations, tuple(conditions))


def _alternatives(
    rule: dict[str, Any], key: str, inner: str, names: tuple[str, ...], where: str
) -> tuple[Fields, ...] | None:
    if rule.get(key) is None:
        return None
    items = _few(sequence(rule[key], f"{where}.{key}"), MANY if key == "from" else None, f"{where}.{key}")
    if not items:
        raise PolicyError(f"{key} must not be an empty list", where, f"leave {key} out to match any")
    found = []
    for i, item in enumerate(items):
        at = f"{where}.{key}[{i}]"
        entry = mapping(mapping(item, at, (inner,)).get(inner), f"{at}.{inner}")
        fields = _fields(entry, names, f"{at}.{inner}")
        if not fields:
            raise PolicyError(f"{inner} must not be empty", at)
        used = {field.name for field in fields}
        if "serviceAccounts" in used and used & {"principals", "namespaces"}:
            raise PolicyError("serviceAccounts cannot be combined with principals or namespaces", f"{at}.{inner}")
        found.append(fields)
    return tuple(found)


def _fields(entry: dict[str, Any], names: tuple[str, ...], where: str) -> Fields:
    negated = {f"not{name[0].upper()}{name[1:]}": name for name in names}
    mapping(entry, where, (*names, *negated))
    found = []
    for key in sorted(entry):
        values = texts(entry[key], f"{where}.{key}")
        if not values:
            continue
        name = negated.get(key, key)
        _check_all(name, values, f"{where}.{key}")
        found.append(Field(name, key in negated, values))
    return tuple(found)


def _condition(value: object, where: str) -> Fields:
    found = mapping(value, where, ("key", "values", "notValues"))
    key = text(found.get("key"), f"{where}.key")
    if key not in KEYS and _KEY_FORMS.fullmatch(key) is None:
        raise PolicyError(f"unknown condition key {key[:80]!r}", f"{where}.key", "keys are case-sensitive")
    fields = []
    for side in ("values", "notValues"):
        values = texts(found.get(side), f"{where}.{side}")
        _check_all(key, values, f"{where}.{side}")
        if values:
            fields.append(Field(key, side == "notValues", values))
    if not fields:
        raise PolicyError("a condition needs values or notValues", where)
    return tuple(fields)


def _few(items: list[Any], most: int | None, where: str) -> list[Any]:
    if most is not None and len(items) > most:
        raise PolicyError(f"{len(items)} entries are more than {most}", where, "Istio rejects it")
    return items


def _check_all(name: str, values: tuple[str, ...], where: str) -> None:
    _few(list(values), ACCOUNTS if name in _ACCOUNT else None, where)
    for value in values:
        _check(name, value, where)


def _check(name: str, value: str, where: str) -> None:
    """Refuse a value that Istio's validation refuses."""
    if not value:
        raise PolicyError("empty value", where)
    if name in ("ipBlocks", "remoteIpBlocks", "source.ip", "remote.ip", "destination.ip"):
        try:
            network(value)
        except ValueError:
            raise PolicyError(f"{value[:60]!r} is not an address or CIDR", where) from None
    elif name in ("ports", "destination.port"):
        if not (value.isascii() and value.isdigit() and int(value[-9:]) < 65536 and not value[:-9].strip("0")):
            raise PolicyError(f"{value[:40]!r} is not a port number", where)
    elif name in ("trustDomains", "source.trustDomain"):
        wild = value.count("*")
        if wild > 1 or (wild and "*" not in (value[0], value[-1])) or (name == "trustDomains" and "/" in value):
            raise PolicyError(f"{value[:80]!r} is no trust domain", where, "one wildcard, at the start or the end")
    elif name in _ACCOUNT:
        if "*" in value or value.count("/") > 1 or not all(value.split("/")) or len(value) > ACCOUNT:
            raise PolicyError(f"{value[:80]!r} is not NAMESPACE/ACCOUNT", where, "no wildcards here")
    elif name == "paths" and ("{" in value or "}" in value):
        if not httppath.is_template(value):
            raise PolicyError(f"path {value[:80]!r} has braces outside {{*}} and {{**}}", where)
        try:
            httppath.template(value)
        except PolicyError as error:
            raise PolicyError(error.message, where) from None
