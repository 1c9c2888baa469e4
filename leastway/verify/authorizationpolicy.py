"""AuthorizationPolicy as a decision at one destination: CUSTOM, DENY, ALLOW, in the proxy that enforces each policy.

Invariant: every policy is compiled for the place that enforces it (`leastway.verify.compilation`). An ALLOW policy
whose rules are all removed there still counts, and denies.

Source: Istio, "Authorization Policy" (the order of actions, and what a policy attaches to).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy
from leastway.verify.compilation import Place, compiled, rule_matches
from leastway.verify.identity import Request
from leastway.verify.mesh import PROXY_PORTS, Mesh, Way
from leastway.verify.verdict import Tri, Verdict
from leastway.verify.world import Subject, address

LAYER = "authorizationpolicy"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


class AuthorizationPolicies:
    """A set of policies in a mesh."""

    def __init__(self, policies: Iterable[AuthorizationPolicy], mesh: Mesh) -> None:
        self.policies = sorted(set(policies), key=lambda p: (p.namespace, p.name, p.action, str(p)))
        self.mesh = mesh
        # By namespace and first selector pair (None: no selector), so that a workload is not matched with every policy.
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
        self._applying: dict[Subject, tuple[AuthorizationPolicy, ...]] = {}
        self._targeting: dict[tuple[str, str], tuple[AuthorizationPolicy, ...]] = {}

    def applying(self, subject: Subject) -> tuple[AuthorizationPolicy, ...]:
        """The policies that a destination's own proxy (in ambient mode its ztunnel) enforces."""
        known = self._applying.get(subject)
        if known is None:
            namespaces = sorted({subject.namespace, self.mesh.root_namespace})
            labels = set(subject.labels.items())
            near = [p for n in namespaces for pair in (None, *labels) for p in self._by_pair.get((n, pair), ())]
            found = [p for p in near if labels.issuperset(p.selector)]
            if self.mesh.mode == "sidecar":  # a gateway's pods, as its controller labels them
                own = "Gateway", subject.labels.get(GATEWAY_NAME, "")
                found += [p for p in self._by_target.get(subject.namespace, ()) if own in p.targets]
            known = self._applying[subject] = tuple(sorted(found, key=lambda p: (p.namespace, p.name)))
        return known

    def targeting(self, way: Way) -> tuple[AuthorizationPolicy, ...]:
        """The policies that the waypoint on a way enforces: those that target it, its class or the Service called."""
        key = way.waypoint, way.service
        known = self._targeting.get(key)
        if known is None:
            places = {text.partition("/")[0] for text in key} | {self.mesh.root_namespace}
            near = [policy for place in sorted(places) for policy in self._by_target.get(place, ())]
            known = tuple(policy for policy in near if way.waypoint and self._targets(policy, way))
            self._targeting[key] = known
        return known

    def _targets(self, policy: AuthorizationPolicy, way: Way) -> bool:
        for kind, name in policy.targets:
            if kind == "Gateway" and f"{policy.namespace}/{name}" == way.waypoint:
                return True
            if kind == "GatewayClass" and policy.namespace == self.mesh.root_namespace and name == "istio-waypoint":
                return True
            if kind == "Service" and f"{policy.namespace}/{name}" == way.service:
                return True
        return False

    def verdict(self, subject: Subject, request: Request, http: bool) -> Verdict:
        """May this request (`http`) or connection reach `subject`, which is in the mesh?

        With `http` and an unknown method or path, the answer is undefined where it depends on them.
        """
        mode = self.mesh.mode
        if mode == "sidecar" and request.port in PROXY_PORTS:
            return Verdict("allow", f"port {request.port} is the sidecar's own, which no Istio policy governs")
        strict = self._strict(subject, request)
        if strict is not None:
            return strict
        if mode != "ambient":
            return self.at_place(self.applying(subject), subject, request, "http" if http else "tcp")
        found = [self._by(way, subject, request, "http" if http else "tcp") for way in self.ways(subject, request)]
        other = next((verdict for verdict in found if verdict.outcome != found[0].outcome), None)
        if other is None:
            return found[0]
        both = "; ".join(f"{verdict.outcome} ({verdict.because})" for verdict in (found[0], other))
        because = f"it depends on which of the Services and their ports is called: {both}"
        return Verdict("undefined", because, LAYER, "ingress", found[0].policies or other.policies)

    def ways(self, subject: Subject, request: Request) -> tuple[Way, ...]:
        """The ways that a request to an ambient destination may take, given what is known of the Service called."""
        itself = self.mesh.itself(subject, request.port)
        service = self.mesh.world.services.get(request.service)
        known = self.mesh.ways(subject, request.port)
        if request.direct or (service is not None and service.headless):
            known = ()  # by the address of a pod ztunnel finds no Service, and so none's waypoint
        called = [w for w in known if request.service in ("", w.service) and request.service_port in (0, w.port)]
        ways = tuple(called) or known or (itself,)
        if request.proxied and not request.service:  # no ztunnel leads an Envoy to a waypoint
            past = itself._replace(waypoint="")
            ways = tuple(dict.fromkeys(way if way.ingress or not way.waypoint else past for way in ways))
        return ways

    def at_waypoint(self, way: Way, request: Request) -> Request | None:
        """A request as the waypoint on a way sees it; None if it passes no waypoint.

        Plaintext passes none: only a client's ztunnel leads to a waypoint, and the destination's ztunnel passes
        plaintext on (ztunnel src/proxy/inbound_passthrough.rs).
        """
        hop = self.mesh.hop(way)
        if not hop or request.principal in ("", hop):
            return None
        if not way.service:
            return request
        ips = [ip for text in way.addresses if (ip := address(text)) is not None]
        own = [ip for ip in ips if request.destination is None or ip.version == request.destination.version] or ips
        return request._replace(port=way.port, destination=own[0] if len(own) == 1 else None)

    def at_ztunnel(self, way: Way, request: Request) -> Request:
        """A request as the destination's ztunnel sees it: if there is a waypoint, it comes from that, not from the
        client."""
        if self.at_waypoint(way, request) is not None:
            request = request._replace(principal=self.mesh.hop(way), address=None)
        return request._replace(ztunnel=True)

    def _by(self, way: Way, subject: Subject, request: Request, place: Place) -> Verdict:
        seen = self.at_waypoint(way, request)
        if seen is not None:
            verdict = self.at_place(self.targeting(way), subject, seen, place)
            if verdict.outcome != "allow":
                led = f"by port {way.port} of the Service, which the waypoint sees and which leads to {request.port}"
                because = verdict.because if way.port == request.port else f"{verdict.because}, {led}"
                return verdict._replace(because=because)
        return self.at_place(self.applying(subject), subject, self.at_ztunnel(way, request), "ztunnel")

    def refusing(
        self, subject: Subject, request: Request, titles: tuple[str, ...]
    ) -> Iterator[tuple[AuthorizationPolicy, Request]]:
        """The ALLOW policies of a destination with these titles, each with the request as its proxy sees it."""
        ways = self.ways(subject, request) if self.mesh.mode == "ambient" else ()
        found = [(policy, self.at_waypoint(way, request)) for way in ways for policy in self.targeting(way)]
        own = dict.fromkeys(self.at_ztunnel(way, request) for way in ways) if ways else (request,)
        found += [(policy, seen) for policy in self.applying(subject) for seen in own]
        for policy, seen in found:
            if seen is not None and policy.action == "ALLOW" and policy.title in titles:
                yield policy, seen

    def place(self, policy: AuthorizationPolicy, http: bool) -> Place:
        """Where a policy is enforced: for a request (`http`), or for a connection."""
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

    def at_place(
        self, policies: tuple[AuthorizationPolicy, ...], subject: Subject, request: Request, place: Place
    ) -> Verdict:
        """The verdict of one proxy by its policies."""
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
