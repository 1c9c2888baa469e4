"""Who is in the mesh, under which identity, and where mutual TLS is demanded.

Invariant: a destination outside the mesh is governed by no Istio policy, and a source outside it has no principal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from leastway.verify.httppath import Normalization
from leastway.verify.peerauthentication_schema import PeerAuthentication
from leastway.verify.world import Subject, World

Mode = Literal["none", "sidecar", "ambient"]
MESHES: tuple[Mode, ...] = ("none", "sidecar", "ambient")
HBONE = 15008
# The sidecar's own ports, which its iptables rules leave alone (Istio, chain ISTIO_INBOUND).
PROXY_PORTS = frozenset({HBONE, 15020, 15021, 15090})


class Front(NamedTuple):
    """A Service's port, and the Service's addresses."""

    port: int
    addresses: tuple[str, ...]


class Mesh:
    """The mesh's options and membership. `aliases` are further trust domains; `root_namespace` holds mesh-wide
    policies."""

    def __init__(
        self,
        world: World,
        mode: Mode = "none",
        trust_domain: str = "cluster.local",
        aliases: Iterable[str] = (),
        root_namespace: str = "istio-system",
        normalization: Normalization = "BASE",
        peer_authentications: Iterable[PeerAuthentication] = (),
    ) -> None:
        self.world = world
        self.mode: Mode = mode
        self.trust_domain = trust_domain
        self.trust_domains = (trust_domain, *sorted(set(aliases) - {trust_domain}))
        self.root_namespace = root_namespace
        self.normalization: Normalization = normalization
        self._peers = sorted(peer_authentications, key=lambda p: (p.created or "~", p.namespace, p.name))
        self._marked: bool | None = None
        self._known: dict[Subject, bool] = {}

    def meshed(self, subject: Subject | None) -> bool:
        """Is this subject captured by the mesh?

        By injection labels and annotations, proxy containers or what the caller said. If nothing in the whole world
        says anything about membership, all that did not opt out is taken to be in the mesh that the caller named.
        """
        if self.mode == "none" or subject is None or subject.host_network:
            return False
        known = self._known.get(subject)
        if known is None:
            said = self._says(subject)
            known = self._known[subject] = (not self.marked) if said is None else said
        return known

    @property
    def marked(self) -> bool:
        """True if anything in the world is known to be in the mesh."""
        if self._marked is None:
            self._marked = any(self._says(s) for s in self.world.subjects.values() if not s.host_network)
        return self._marked

    def _says(self, subject: Subject) -> bool | None:
        if subject.meshed is not None:
            return subject.meshed
        namespace = self.world.namespaces.get(subject.namespace, {})
        if self.mode == "ambient":
            for found in (subject.labels, namespace):
                if "istio.io/dataplane-mode" in found:
                    return found["istio.io/dataplane-mode"] == "ambient"
            return None
        for pod in (subject.labels, subject.annotations):
            if "sidecar.istio.io/inject" in pod:
                return pod["sidecar.istio.io/inject"].lower() in ("true", "y", "yes", "on")
        if "istio-injection" in namespace:
            return namespace["istio-injection"] == "enabled"
        return True if "istio.io/rev" in namespace or "istio.io/rev" in subject.labels else None

    def principal(self, subject: Subject | None) -> str | None:
        """The identity a source presents: "" outside the mesh, None if its service account is not known."""
        if subject is None or not self.meshed(subject):
            return ""
        if not subject.service_account:
            return None
        return f"{self.trust_domain}/ns/{subject.namespace}/sa/{subject.service_account}"

    def waypoint(self, subject: Subject) -> str:
        """The `namespace/name` of the waypoint in front of an ambient destination, "" if there is none."""
        if self.mode != "ambient":
            return ""
        services = [service.labels for service in self.world.services_of(subject)]
        for found in (subject.labels, *services, self.world.namespaces.get(subject.namespace, {})):
            name = found.get("istio.io/use-waypoint")
            if name is not None:
                owner = found.get("istio.io/use-waypoint-namespace", subject.namespace)
                return "" if name in ("", "none") else f"{owner}/{name}"
        return ""

    def hop(self, subject: Subject) -> str:
        """The identity of the waypoint in front of an ambient destination, "" if there is none: what the destination's
        ztunnel sees instead of the client, and whose own calls do not pass the waypoint again."""
        waypoint = self.waypoint(subject)
        if not waypoint:
            return ""
        namespace, name = waypoint.split("/", 1)
        return f"{self.trust_domain}/ns/{namespace}/sa/{name}"

    def fronts(self, subject: Subject, port: int) -> tuple[Front, ...]:
        """Where the waypoint in front of an ambient destination listens for what it sends on to a port of the pod.

        Nowhere if no Service is known to lead there. Its rules are compared with these ports and addresses, the pod's
        it chooses behind them (istio pilot/pkg/networking/core/listener_waypoint.go, `buildWaypointInternal`).
        """
        if not self.waypoint(subject):
            return ()
        leading = self.world.leading(subject, port)
        return tuple(sorted({Front(e.number, service.addresses) for service, e in leading if e.protocol == "TCP"}))

    def mtls(self, subject: Subject, port: int) -> tuple[str, str]:
        """(mode, policy title) in force at a destination port: PERMISSIVE unless a PeerAuthentication says otherwise.

        The workload's policy goes before its namespace's, that before the root namespace's; the oldest of several wins;
        UNSET inherits; a port's own mode goes before all.
        """
        mode, title = "PERMISSIVE", ""
        for policy in (self._root(), self._namespace(subject.namespace), self._workload(subject)):
            if policy is None:
                continue
            found = dict(policy.ports).get(port, "UNSET")
            found = policy.mode if found == "UNSET" else found
            if found != "UNSET":
                mode, title = found, policy.title
        if mode == "DISABLE" and self.mode == "ambient":
            mode = "PERMISSIVE"  # ztunnel ignores DISABLE
        return mode, title

    def _root(self) -> PeerAuthentication | None:
        return self._first(self.root_namespace, None)

    def _namespace(self, namespace: str) -> PeerAuthentication | None:
        return None if namespace == self.root_namespace else self._first(namespace, None)

    def _workload(self, subject: Subject) -> PeerAuthentication | None:
        # Istio ignores a policy of the root namespace that has a selector (`ComposePeerAuthentication`).
        return None if subject.namespace == self.root_namespace else self._first(subject.namespace, subject.labels)

    def _first(self, namespace: str, labels: Mapping[str, str] | None) -> PeerAuthentication | None:
        for policy in self._peers:
            if policy.namespace != namespace or bool(policy.selector) != (labels is not None):
                continue
            if labels is None or set(policy.selector) <= set(labels.items()):
                return policy
        return None
