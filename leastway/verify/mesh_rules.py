"""Authorization rules over sets of sources: all that are admitted to one port of one destination, at once.

Invariant: an ALLOW rule counts where it certainly matches, a DENY or CUSTOM rule where it may match, so a source in the
answer is certainly admitted. `authorizationpolicy` decides the same questions one by one, and tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, AuthorizationRule, Field, Fields
from leastway.verify.compilation import Place, compiled
from leastway.verify.identity import Request, value_matches
from leastway.verify.networkpolicy_schema import Network
from leastway.verify.reading import network
from leastway.verify.world import Address

IDENTITY = frozenset(
    [
        "principals",
        "namespaces",
        "serviceAccounts",
        "trustDomains",
        "source.principal",
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
    ]
)
ADDRESS = frozenset({"ipBlocks", "source.ip"})
PORT = frozenset({"ports", "destination.port"})
REMOTE = frozenset({"remoteIpBlocks", "remote.ip"})
ASKED = frozenset({"methods", "paths", "hosts"})  # fields about the request


class Sources(Protocol):
    """Possible callers as bits of a set: everyone, those in the mesh, those with a principal, and those with an Envoy
    of their own."""

    all: int
    meshed: int
    by_principal: dict[str, int]
    proxied: int

    def identified(self, name: str, value: str, namespace: str, ztunnel: bool, lenient: bool) -> int:
        """Those whose identity a value of a policy in `namespace` matches; with `lenient`, or may match."""

    def within(self, block: Network, version: int, lenient: bool) -> int:
        """Those whose address of one family (0: any) is in a block; with `lenient`, or may be in it."""


class At(NamedTuple):
    """One port of a destination, at the proxy in `place`, over addresses of the family `version` (0: each end has only
    one). `plaintext`: nobody has an identity there.

    `request` is (method, path, host), None for a connection. With `best`, anything else about it (headers, tokens) is
    as the client would choose it; otherwise it is unknown.
    """

    port: int
    place: Place
    destination: tuple[Address, ...] = ()
    version: int = 0
    plaintext: bool = False
    request: tuple[str, str, str] | None = None
    best: bool = True


class RuleSets:
    """Rules over given sources. Answers are cached."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._known: dict[tuple[object, ...], int] = {}

    def admitted(self, policies: Iterable[AuthorizationPolicy], at: At) -> int:
        """Sources that the policies of a destination admit."""
        refused = granted = 0
        restricted = False
        for policy in policies:
            if policy.action == "ALLOW":
                restricted = True
                for rule in policy.rules:
                    granted |= self.matching(policy, rule, at, lenient=False)
            elif policy.action == "DENY" or at.place != "ztunnel":  # ztunnel knows no CUSTOM
                for rule in policy.rules:
                    refused |= self.matching(policy, rule, at, lenient=True)
        return (granted if restricted else self.sources.all) & ~refused

    def matching(self, policy: AuthorizationPolicy, rule: AuthorizationRule, at: At, lenient: bool) -> int:
        """Sources that a rule certainly matches; with `lenient`, or may match."""
        effective = compiled(rule, policy.action, at.place)
        if effective is None:
            return 0
        bits = self.sources.all
        if effective.operations is not None:
            bits = self._any(effective.operations, policy.namespace, at, lenient)
        if bits and effective.conditions:
            bits &= self._every(effective.conditions, policy.namespace, at, lenient)
        if bits and effective.sources is not None:
            key = (effective.sources, policy.namespace, at.place, at.version, at.plaintext, at.best, lenient)
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = self._any(effective.sources, policy.namespace, at, lenient)
            bits &= known
        return bits

    def _any(self, entries: Sequence[Fields], namespace: str, at: At, lenient: bool) -> int:
        bits = 0
        for entry in entries:
            bits |= self._every(entry, namespace, at, lenient)
        return bits

    def _every(self, fields: Fields, namespace: str, at: At, lenient: bool) -> int:
        bits = self.sources.all
        for field in fields:
            bits &= self._field(field, namespace, at, lenient)
            if not bits:
                break
        return bits

    def _field(self, field: Field, namespace: str, at: At, lenient: bool) -> int:
        name, everyone = field.name, self.sources.all
        inner = lenient != field.negated
        bits = 0
        if name in IDENTITY:
            if not at.plaintext:
                ztunnel = at.place == "ztunnel"
                for value in field.values:
                    bits |= self.sources.identified(name, value, namespace, ztunnel, inner)
        elif name in ADDRESS:
            for value in field.values:
                bits |= self.sources.within(network(value), at.version, inner)
        else:
            held = self._held(field, at, inner)
            if held is None:
                # Without HTTP there are no headers to choose, and a connection's remote address is not known.
                best = at.best and (at.place == "http" or name not in REMOTE)
                return everyone if lenient != best else 0
            bits = everyone if held else 0
        return everyone & ~bits if field.negated else bits

    @staticmethod
    def _held(field: Field, at: At, lenient: bool) -> bool | None:
        """Whether one of the values matches, whoever the caller is; None if the client can choose."""
        if field.name == "destination.ip":
            found = {any(ip in network(value) for value in field.values) for ip in at.destination}
            return lenient if len(found) != 1 else found.pop()
        if field.name in PORT:
            return str(at.port) in {str(int(value)) for value in field.values}
        if field.name not in ASKED or at.request is None:
            return None
        request = Request(method=at.request[0], path=at.request[1], host=at.request[2])
        return any(value_matches(field.name, value, request, "") for value in field.values)


def forbids_requests(policy: AuthorizationPolicy) -> bool:
    """May the method, path or host decide whether a request is refused?"""
    return any(
        field.name in ASKED and (field.negated or policy.action != "ALLOW")
        for rule in policy.rules
        for entry in rule.operations or ()
        for field in entry
    )


def named_ports(policy: AuthorizationPolicy) -> Iterator[int]:
    """The ports that a policy's rules name."""
    for rule in policy.rules:
        for entry in [*(rule.operations or ()), rule.conditions]:
            for field in entry:
                if field.name in PORT:
                    yield from (int(value) for value in field.values)


def entry_opens(entry: Fields, port: int) -> bool:
    """Can some request to this port match one operation?"""
    return all((str(port) in field.values) != field.negated for field in entry if field.name == "ports")


def is_wide(rule: AuthorizationRule) -> bool:
    """Does the rule name no single accounts as sources, but anyone, whole namespaces, or a pattern?"""
    if rule.sources is None:
        return True
    return any(
        field.name in ("namespaces", "trustDomains") or field.negated or any("*" in value for value in field.values)
        for entry in rule.sources
        for field in entry
    )
