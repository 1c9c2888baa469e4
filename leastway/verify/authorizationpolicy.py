"""AuthorizationPolicy as a decision at one destination: CUSTOM, DENY, ALLOW, in the proxy that enforces each policy.

Invariant: every policy is compiled for the place that enforces it. On TCP, and in ztunnel, an HTTP field removes an
ALLOW rule and is dropped from a DENY rule; a policy whose rules are all removed still counts as an ALLOW policy, and
denies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from leastway.verify.authorizationpolicy_schema import (
    AuthorizationPolicy,
    AuthorizationRule,
    Field,
    Fields,
)
from leastway.verify.identity import Request, field_matches
from leastway.verify.mesh import PROXY_PORTS, Mesh
from leastway.verify.verdict import Tri, Verdict, all_of, any_of
from leastway.verify.world import Subject, address

Place = Literal["http", "tcp", "ztunnel"]
LAYER = "authorizationpolicy"
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
# Istio leaves them out of what it sends to ztunnel, and the rule is enforced without them (`handleRule` in its
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
    """The fields of a rule that `place` does not have, by name."""
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


class AuthorizationPolicies:
    """A set of policies over a mesh."""

    def __init__(self, policies: Iterable[AuthorizationPolicy], mesh: Mesh) -> None:
        self.policies = sorted(set(policies), key=lambda p: (p.namespace, p.name, p.action, str(p)))
        self.mesh = mesh
        # By namespace and first selector pair (None: no selector), so that a workload is not compared with every
        # policy.
        self._by_pair: dict[tuple[str, tuple[str, str] | None], list[AuthorizationPolicy]] = defaultdict(list)
        self._by_target: dict[str, list[AuthorizationPolicy]] = defaultdict(list)
        for policy in self.policies:
            # Dry run is for ALLOW and DENY; with CUSTOM it depends on Istio's version whether the authoriser is asked.
            if (policy.dry_run and policy.action != "CUSTOM") or policy.action == "AUDIT":
                continue
            if policy.targets:
                self._by_target[policy.namespace].append(policy)
            else:
                self._by_pair[policy.namespace, next(iter(policy.selector), None)].append(policy)
        self._applying: dict[tuple[Subject, bool], tuple[AuthorizationPolicy, ...]] = {}

    def applying(self, subject: Subject, waypoint: bool = False) -> tuple[AuthorizationPolicy, ...]:
        """The enforced policies of a destination: by selector, or those that target its waypoint."""
        known = self._applying.get((subject, waypoint))
        if known is None:
            namespaces = sorted({subject.namespace, self.mesh.root_namespace})
            if waypoint:
                gateway = self.mesh.waypoint(subject).partition("/")[0]
                namespaces = sorted({*namespaces, gateway} - {""})
                known = tuple(p for n in namespaces for p in self._by_target.get(n, ()) if self._targeted(p, subject))
            else:
                labels = set(subject.labels.items())
                near = [p for n in namespaces for pair in (None, *labels) for p in self._by_pair.get((n, pair), ())]
                found = [p for p in near if labels.issuperset(p.selector)]
                known = tuple(sorted(found, key=lambda p: (p.namespace, p.name)))
            self._applying[subject, waypoint] = known
        return known

    def _targeted(self, policy: AuthorizationPolicy, subject: Subject) -> bool:
        waypoint = self.mesh.waypoint(subject)
        for kind, name in policy.targets:
            if kind == "Gateway" and f"{policy.namespace}/{name}" == waypoint:
                return True
            if kind == "GatewayClass" and policy.namespace == self.mesh.root_namespace and name == "istio-waypoint":
                return True
            service = self.mesh.world.services.get(f"{policy.namespace}/{name}") if kind == "Service" else None
            if service is not None and service in self.mesh.world.services_of(subject):
                return True
        return False

    def verdict(self, subject: Subject, request: Request, http: bool) -> Verdict:
        """May this request (`http`) or connection reach `subject`, which is in the mesh?

        The answer of `http` with unknown method and path is undefined where it depends on them.
        """
        mode = self.mesh.mode
        if mode == "sidecar" and request.port in PROXY_PORTS:
            return Verdict("allow", f"port {request.port} is the sidecar's own, which no Istio policy governs")
        strict = self._strict(subject, request)
        if strict is not None:
            return strict
        if mode != "ambient":
            return self._decide(self.applying(subject), subject, request, "http" if http else "tcp")
        hop = self.mesh.hop(subject)
        if hop and request.principal != hop and not request.direct:
            targeted = self._at_waypoint(subject, request, "http" if http else "tcp")
            if targeted.outcome != "allow":
                return targeted
            # From here on the destination's ztunnel sees the waypoint, not the client.
            request = request._replace(principal=hop, address=None)
        return self.verdict_at_ztunnel(subject, request)

    def fronted(self, subject: Subject, request: Request) -> list[Request]:
        """A request as the waypoint in front of a destination sees it, for each Service's port that may be meant."""
        found = []
        for front in self.mesh.fronts(subject, request.port):
            if request.service_port in (0, front.port):
                ips = [ip for text in front.addresses if (ip := address(text)) is not None]
                own = [ip for ip in ips if request.destination is None or ip.version == request.destination.version]
                found.append(request._replace(port=front.port, destination=own[0] if len(own) == 1 else None))
        return found or [request]

    def _at_waypoint(self, subject: Subject, request: Request, place: Place) -> Verdict:
        """What the waypoint says, if it says the same whichever Service's port was called."""
        found: list[Verdict] = []
        for seen in self.fronted(subject, request):
            verdict = self._decide(self.applying(subject, waypoint=True), subject, seen, place)
            if seen.port != request.port:
                shown = f"by port {seen.port} of the Service, which the waypoint sees and which leads to {request.port}"
                verdict = verdict._replace(because=f"{verdict.because}, {shown}")
            found.append(verdict)
        other = next((verdict for verdict in found if verdict.outcome != found[0].outcome), None)
        if other is None:
            return found[0]
        both = "; ".join(f"{verdict.outcome} ({verdict.because})" for verdict in (found[0], other))
        policies = found[0].policies or other.policies
        return Verdict(
            "undefined", f"it depends on which of the Services' ports is called: {both}", LAYER, "ingress", policies
        )

    def verdict_at_ztunnel(self, subject: Subject, request: Request) -> Verdict:
        """What the destination's ztunnel alone says."""
        return self._decide(self.applying(subject), subject, request._replace(ztunnel=True), "ztunnel")

    def refusing(self, subject: Subject, titles: tuple[str, ...]) -> list[AuthorizationPolicy]:
        """The ALLOW policies of a destination that are called so, at its waypoint and at itself."""
        both = (*self.applying(subject, waypoint=True), *self.applying(subject))
        return [policy for policy in both if policy.action == "ALLOW" and policy.title in titles]

    def place(self, policy: AuthorizationPolicy, http: bool) -> Place:
        """Where a policy is enforced, for a request (`http`) or a connection."""
        if self.mesh.mode == "ambient" and not policy.targets:
            return "ztunnel"
        return "http" if http else "tcp"

    def _strict(self, subject: Subject, request: Request) -> Verdict | None:
        if request.principal != "":
            return None
        mode, title = self.mesh.mtls(subject, request.port)
        if mode != "STRICT":
            return None
        because = f"{title} demands mutual TLS on port {request.port} of {subject.ref}, and the source sends plaintext"
        return Verdict("deny", because, LAYER, "ingress", (title,))

    def _decide(
        self, policies: tuple[AuthorizationPolicy, ...], subject: Subject, request: Request, place: Place
    ) -> Verdict:
        unknown: Verdict | None = None
        for action in ("CUSTOM", "DENY"):
            for policy in policies:
                if policy.action != action or (action == "CUSTOM" and place == "ztunnel"):
                    continue
                matched, i = self._first(policy, request, place)
                shown = f"{policy.title} rule {i} ({action})"
                if matched and action == "DENY":
                    return Verdict("deny", shown, LAYER, "ingress", (policy.title,))
                if matched is not False and unknown is None:
                    why = "an external authoriser decides" if action == "CUSTOM" else "depends on what is not known"
                    unknown = Verdict("undefined", f"{shown}: {why}", LAYER, "ingress", (policy.title,))
        allowing = [policy for policy in policies if policy.action == "ALLOW"]
        allowed = self._allow(allowing, subject, request, place)
        return unknown if unknown is not None and allowed.outcome != "deny" else allowed

    def _allow(self, allowing: list[AuthorizationPolicy], subject: Subject, request: Request, place: Place) -> Verdict:
        if not allowing:
            return Verdict("allow", f"no AuthorizationPolicy restricts {subject.ref}")
        names = tuple(policy.title for policy in allowing)
        unknown: Verdict | None = None
        for policy in allowing:
            matched, i = self._first(policy, request, place)
            if matched:
                return Verdict("allow", f"{policy.title} rule {i}", LAYER)
            if matched is None and unknown is None:
                why = "whether it matches depends on what is not known of the request"
                unknown = Verdict("undefined", f"{policy.title} rule {i}: {why}", LAYER, "ingress", names)
        if unknown is not None:
            return unknown
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        because = f"{subject.ref} admits only what {shown} allow{'s' if len(names) == 1 else ''}, and no rule matches "
        return Verdict("deny", because + self._shown(request, place), LAYER, "ingress", names)

    def _first(self, policy: AuthorizationPolicy, request: Request, place: Place) -> tuple[Tri, int]:
        """The first rule that matches for certain, else the first that may: (outcome, index)."""
        found: tuple[Tri, int] = (False, -1)
        for i, rule in enumerate(policy.rules):
            effective = compiled(rule, policy.action, place)
            if effective is None:
                continue
            matched = rule_matches(effective, request, policy.namespace)
            if matched:
                return True, i
            if matched is None and found[0] is False:
                found = (None, i)
        return found

    def _shown(self, request: Request, place: Place) -> str:
        who = "a plaintext peer" if request.principal == "" else request.principal or "a source of unknown identity"
        what = f"{request.method or 'any method'} {request.path or 'any path'} on " if place == "http" else ""
        return f"{who}, {what}port {request.port}" + ("" if place == "http" else f" ({place})")
