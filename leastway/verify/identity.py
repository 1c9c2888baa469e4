"""What Istio's source and operation fields match. One function decides one field for one request, in three values.

Invariant: a negated field is the negation of the OR over its values, so a peer without an identity never matches
`principals` and always matches `notPrincipals`. What the request does not say is unknown, never false.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from leastway.verify import httppath
from leastway.verify.authorizationpolicy_schema import Field
from leastway.verify.reading import network
from leastway.verify.verdict import Tri, any_of, negate
from leastway.verify.world import Address


class Request(NamedTuple):
    """A connection or request as the destination's proxy sees it; None means not known.

    `principal` is without a scheme, "" for plaintext. `namespace` is given for a source whose account is unknown.
    `path` is normalised. `ztunnel` restricts matching to what ztunnel implements. `direct`: it goes to the pod itself,
    past any waypoint of its Services. `service` (`namespace/name`) and `service_port` are what was called, "" and 0 if
    not known. `proxied`: the source has an Envoy of its own.
    """

    principal: str | None = ""
    namespace: str | None = None
    address: Address | None = None
    port: int = 0
    method: str | None = None
    path: str | None = None
    host: str | None = None
    destination: Address | None = None
    trust_domains: tuple[str, ...] = ("cluster.local",)
    ztunnel: bool = False
    direct: bool = False
    service: str = ""
    service_port: int = 0
    proxied: bool = False


def field_matches(field: Field, request: Request, policy_namespace: str) -> Tri:
    """Does one field of a policy in `policy_namespace` match?"""
    found = any_of(value_matches(field.name, value, request, policy_namespace) for value in field.values)
    return negate(found) if field.negated else found


def value_matches(name: str, value: str, request: Request, policy_namespace: str) -> Tri:
    """Does one value of a field (or `when` key) match?"""
    if name in ("ports", "destination.port"):
        return int(value) == request.port
    if name in ("principals", "source.principal"):
        return _principal(value, request)
    if name in ("namespaces", "source.namespace"):
        return _namespace(value, request)
    if name in ("serviceAccounts", "source.serviceAccount"):
        return _service_account(value, request, policy_namespace)
    if name in ("trustDomains", "source.trustDomain"):
        domains = request.trust_domains if value in request.trust_domains else (value,)
        own = request.principal
        return None if own is None else any(_present(domain, own.partition("/")[0]) for domain in domains)
    if name in ("ipBlocks", "source.ip", "destination.ip"):
        ip = request.destination if name == "destination.ip" else request.address
        return None if ip is None else ip in network(value)
    if name == "methods":
        return None if request.method is None else httppath.string_matches(value, request.method)
    if name == "paths":
        return None if request.path is None else httppath.path_matches(value, request.path)
    if name == "hosts":
        return None if request.host is None else httppath.string_matches(value.lower(), request.host.lower())
    return None  # headers, tokens, forwarded addresses, SNI, filter state: no question carries them


def _principal(value: str, request: Request) -> Tri:
    found = request.principal
    if found is None:
        if request.namespace is not None and "*" not in value and f"/ns/{request.namespace}/" not in value:
            return False
        return True if value == "*" else None
    if not found:
        return False
    if request.ztunnel:
        return _present(value, found)
    return any(_present(alias, found) for alias in _aliases(value, request.trust_domains))


@lru_cache(maxsize=1 << 14)
def _aliases(value: str, trust_domains: tuple[str, ...]) -> tuple[str, ...]:
    """A principal of one of the mesh's trust domains, or of `cluster.local`, stands for all of them.

    A trust domain `*x` is kept for the mesh's domains that end in x, and stands for the others as well; `x*` is
    replaced by all of them if one begins with x (istio pilot/pkg/security/trustdomain/bundle.go).
    """
    domain, slash, rest = value.partition("/")
    if rest.count("/") != 3 or domain == "*":
        return (value,)
    suffixed = {known for known in trust_domains if domain.startswith("*") and known.endswith(domain[1:])}
    begun = domain.endswith("*") and any(known.startswith(domain[:-1]) for known in trust_domains)
    if not suffixed and not begun and domain not in trust_domains and domain != "cluster.local":
        return (value,)
    return tuple(value if known in suffixed else f"{known}{slash}{rest}" for known in trust_domains)


def _present(value: str, found: str) -> bool:
    return bool(found) and httppath.string_matches(value, found)


def _namespace(value: str, request: Request) -> Tri:
    namespace = request.namespace
    if request.principal is not None:
        if not request.principal:
            return False
        parts = request.principal.split("/")
        namespace = parts[parts.index("ns") + 1] if "ns" in parts[:-1] else None
        if not request.ztunnel:
            return _pattern(value).fullmatch("/" + request.principal) is not None
    if namespace is None:
        return None
    if request.ztunnel:
        return _present(value, namespace)
    return _pattern(value).fullmatch(f"/td/ns/{namespace}/sa/x") is not None


@lru_cache(maxsize=1 << 14)
def _pattern(value: str) -> re.Pattern[str]:
    return re.compile(".*/ns/" + ".*".join(map(re.escape, value.split("*"))) + "/.*")


def _service_account(value: str, request: Request, policy_namespace: str) -> Tri:
    namespace, slash, account = value.partition("/")
    if not slash:
        namespace, account = policy_namespace, value
    if request.principal is None:
        return None if request.namespace in (None, namespace) else False
    return _account_pattern(namespace, account).fullmatch(request.principal) is not None


@lru_cache(maxsize=1 << 14)
def _account_pattern(namespace: str, account: str) -> re.Pattern[str]:
    return re.compile(f".+/ns/{re.escape(namespace)}/(.+/|)sa/{re.escape(account)}(/.+)?")
