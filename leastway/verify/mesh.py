"""Who is in the mesh, under which identity, and where mutual TLS is demanded.

Invariant: a destination outside the mesh is governed by no Istio policy, and a source outside it has no principal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from leastway.verify.istio_attachment import TRUE
from leastway.verify.mesh_config import DEFAULT, MeshConfig
from leastway.verify.peerauthentication_schema import PeerAuthentication
from leastway.verify.world import Service, Subject, World

Mode = Literal["none", "sidecar", "ambient"]
MESHES: tuple[Mode, ...] = ("none", "sidecar", "ambient")
HBONE = 15008  # where tunnels arrive (Istio, "Application Requirements", "Ports used by Istio")
INGRESS = "istio.io/ingress-use-waypoint"
# The sidecar's own ports, which its iptables rules leave alone (Istio, chain ISTIO_INBOUND).
PROXY_PORTS = frozenset({HBONE, 15020, 15021, 15090})


class Way(NamedTuple):
    """One way to a port of a destination in an ambient mesh: through a Service's `port` and `addresses`, or to the pod
    itself (`service` ""). `waypoint` is the waypoint in between, "" if there is none. Both are `namespace/name`.
    `ingress`: gateways pass it too; otherwise they go straight to the pod."""

    service: str
    waypoint: str
    port: int
    addresses: tuple[str, ...]
    ingress: bool = False


class Mesh:
    """The mesh's settings and membership."""

    def __init__(
        self,
        world: World,
        mode: Mode = "none",
        config: MeshConfig = DEFAULT,
        peer_authentications: Iterable[PeerAuthentication] = (),
    ) -> None:
        self.world = world
        self.mode: Mode = mode
        self.trust_domain = config.trust_domain
        self.trust_domains = (config.trust_domain, *sorted(set(config.aliases) - {config.trust_domain}))
        self.root_namespace = config.root_namespace
        self.normalization = config.normalization
        self._peers = sorted(peer_authentications, key=lambda p: (p.created or "~", p.namespace, p.name))
        self._marked: bool | None = None
        self._known: dict[Subject, bool] = {}
        self._ways: dict[tuple[Subject, int], tuple[Way, ...]] = {}

    def meshed(self, subject: Subject | None) -> bool:
        """Is this subject captured by the mesh?

        Injection labels and annotations, proxy containers, or the caller decide. If nothing in the whole world says
        anything about membership, everything that did not opt out is taken to be in the mesh that the caller named.
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
        """What labels and annotations say about membership (Istio, "Installing the Sidecar" and, for ambient, "Add
        workloads to the mesh"); None if they say nothing."""
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

    def ways(self, subject: Subject, port: int) -> tuple[Way, ...]:
        """The ways to a port of an ambient destination through Services that have an address, sorted.

        A Service's own label names its waypoint, or else its namespace's label does. The waypoint compares its rules
        with the Service's port and address, and chooses a pod behind them (istio pilot/pkg/networking/core/
        listener_waypoint.go, `buildWaypointInternal`). If no Service of the pod is known at all, one is assumed, with
        the waypoint that the labels of the pod or its namespace name.
        """
        known = self._ways.get((subject, port))
        if known is None:
            known = self._ways[subject, port] = self._by_services(subject, port)
        return known

    def itself(self, subject: Subject, port: int) -> Way:
        """The way to the pod's own address: past any waypoint, except one whose Gateway says that it serves workloads
        (Istio, "Configure waypoint proxies", label `istio.io/waypoint-for`)."""
        waypoint = self._named(subject.namespace, (subject.labels, self._labels(subject.namespace)))
        return Way("", self._serving(waypoint, "workload"), port, subject.ips)

    def behind(self, subject: Subject) -> tuple[Way, ...]:
        """The ways to a destination that lead through a waypoint, at any port: one per Service, without a port."""
        if self.mode != "ambient":
            return ()
        services = [self._by(s, 0) for s in self.world.services_of(subject) if not s.headless] or self.ways(subject, 0)
        found = {way._replace(port=0, addresses=()) for way in (*services, self.itself(subject, 0)) if way.waypoint}
        return tuple(sorted(found))

    def _by_services(self, subject: Subject, port: int) -> tuple[Way, ...]:
        if self.mode != "ambient":
            return ()
        if not self.world.services_of(subject):
            waypoint = self._named(subject.namespace, (subject.labels, self._labels(subject.namespace)))
            waypoint = self._serving(waypoint, "service")
            return (Way("", waypoint, port, subject.ips),) if waypoint else ()
        leading = [(s, entry) for s, entry in self.world.leading(subject, port) if entry.protocol == "TCP"]
        return tuple(sorted({self._by(s, entry.number) for s, entry in leading if not s.headless}))

    def _by(self, service: Service, port: int) -> Way:
        places = service.labels, self._labels(service.namespace)
        waypoint = self._serving(self._named(service.namespace, places), "service")
        said = next((found[INGRESS] for found in places if INGRESS in found), "")
        return Way(service.ref, waypoint, port, service.addresses, said in TRUE)

    def _serving(self, waypoint: str, what: str) -> str:
        """The waypoint if it serves `what`, else ""; one whose Gateway is unknown or does not say serves Services."""
        return waypoint if self.world.gateways.get(waypoint, "service") in (what, "all") else ""

    def _labels(self, namespace: str) -> Mapping[str, str]:
        return self.world.namespaces.get(namespace, {})

    def _named(self, namespace: str, places: Iterable[Mapping[str, str]]) -> str:
        """The waypoint named by the first labels that name one; "" if they say `none`."""
        if self.mode != "ambient":
            return ""
        for found in places:
            name = found.get("istio.io/use-waypoint")
            if name is not None:
                owner = found.get("istio.io/use-waypoint-namespace", namespace)
                return "" if name in ("", "none") else f"{owner}/{name}"
        return ""

    def hop(self, way: Way) -> str:
        """The identity of the waypoint on a way, "" if there is none. The destination's ztunnel sees it instead of the
        client's, and calls with it do not pass the waypoint again."""
        if not way.waypoint:
            return ""
        namespace, name = way.waypoint.split("/", 1)
        return f"{self.trust_domain}/ns/{namespace}/sa/{name}"

    def mtls(self, subject: Subject, port: int) -> tuple[str, str]:
        """(mode, policy title) in force at a destination port: PERMISSIVE unless a PeerAuthentication says otherwise.

        The workload's policy beats its namespace's, and that beats the root namespace's. Of several, the oldest wins.
        UNSET inherits. A port's own mode beats all others, with one exception (`_own_mode`).
        """
        mode, title = "PERMISSIVE", ""
        for policy in (self._root(), self._namespace(subject.namespace), self._workload(subject)):
            if policy is None:
                continue
            found = self._own_mode(policy, port, mode)
            found = policy.mode if found == "UNSET" else found
            if found != "UNSET":
                mode, title = found, policy.title
        if mode == "DISABLE" and self.mode == "ambient":
            mode = "PERMISSIVE"  # ztunnel ignores DISABLE
        return mode, title

    def _own_mode(self, policy: PeerAuthentication, port: int, inherited: str) -> str:
        """The mode that a policy sets for a port. In ambient mode, where the workload inherits STRICT, Istio sends the
        ports' own modes to ztunnel only if one is PERMISSIVE (`convertedSelectorPeerAuthentications`)."""
        modes = dict(policy.ports)
        kept = policy.mode != "UNSET" or inherited != "STRICT" or "PERMISSIVE" in modes.values()
        return modes.get(port, "UNSET") if kept or self.mode != "ambient" else "UNSET"

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
