"""The judge: one question about one connection or request, answered from rendered policies alone.

Invariant: NetworkPolicy at both ends and, at a destination in the mesh, PeerAuthentication and AuthorizationPolicy must
all allow. No code that writes policies is used here, so an error in one cannot hide in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from leastway.verify.authorizationpolicy import AuthorizationPolicies
from leastway.verify.errors import PolicyError
from leastway.verify.families import in_every_family
from leastway.verify.httppath import Normalization, normalise
from leastway.verify.identity import Request
from leastway.verify.mesh import HBONE, MESHES, Mesh, Mode
from leastway.verify.mesh_config import MeshConfig
from leastway.verify.networkpolicy import CNIS, Cni, NetworkPolicies
from leastway.verify.policies import PolicySet, load_policies, united
from leastway.verify.reading import Document
from leastway.verify.rule_index import known_addresses
from leastway.verify.services import check_called, through
from leastway.verify.variants import Variants
from leastway.verify.verdict import End, Verdict
from leastway.verify.world import Address, Service, Subject, World, address

ENTITIES = frozenset(
    [
        "host",
        "remote-node",
        "kube-apiserver",
        "ingress",
        "world",
        "health",
        "init",
        "unmanaged",
        "unknown",
        "cluster",
        "encrypted-overlay",
    ]
)
# The source that kubelet's probes of ambient pods seem to have, by family (istio, cni/README.md); ztunnel passes them.
AMBIENT_PROBES = frozenset({"169.254.7.127", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"})
# What a Service's port says it is: HTTP or not (Istio, "Protocol Selection").
APPLICATIONS = {
    True: frozenset({"http", "http2", "grpc", "kubernetes.io/h2c"}),
    False: frozenset({"tcp", "tls", "https", "mongo", "mysql", "redis"}),
}
ENDS = 1 << 16  # resolved ends that are remembered


class Question(msgspec.Struct, frozen=True):
    """May `source` reach `destination`?

    Each end is `namespace/name` of a workload or pod, an IP address, or an entity (`host`, `kube-apiserver`, ...), with
    its address if known. `port` is the pod's port. `method` and `path` make it an HTTP request. `principal` None means
    the identity of the source's service account, "" means plaintext. `http` says of a connection without method and
    path whether the port speaks HTTP; None means not known. `direct`: to the pod itself, not through a Service.
    `service` (`namespace/name`) and `service_port` are those that were called, "" and 0 if not known.
    """

    source: str
    destination: str
    protocol: str = "TCP"
    port: int = 0
    method: str = ""
    path: str = ""
    principal: str | None = None
    source_address: str = ""
    destination_address: str = ""
    host: str = ""
    http: bool | None = None
    direct: bool = False
    service: str = ""
    service_port: int = 0


class Judge:
    """Policies over a world, under one CNI's and one mesh's reading.

    `manifests` are policies as `load_policies` takes or returns them. Policies of the world itself are in force as
    well, unless one of the same kind and name is among the manifests. Where a setting of the mesh is None, the world's
    counts. Raises `PolicyError` for what cannot be read.
    """

    def __init__(
        self,
        world: World,
        manifests: PolicySet | str | Path | Iterable[Document],
        cni: Cni = "generic",
        mesh: Mode = "none",
        trust_domain: str | None = None,
        aliases: Sequence[str] | None = None,
        root_namespace: str | None = None,
        normalization: Normalization | None = None,
    ) -> None:
        if cni not in CNIS or mesh not in MESHES:
            raise PolicyError(f"no such profile: cni {cni!r}, mesh {mesh!r}", "judge")
        given = manifests if isinstance(manifests, PolicySet) else load_policies(manifests)
        standing = load_policies(world.policies, existing=True)
        self.world = world
        self.policies = united(given, standing)
        self.network = NetworkPolicies(self.policies.network, world, cni)
        said = world.mesh_config
        self._settings = MeshConfig(
            trust_domain or said.trust_domain,
            said.aliases if aliases is None else tuple(aliases),
            root_namespace or said.root_namespace,
            normalization or said.normalization,
        )
        self.mesh = Mesh(world, mesh, self._settings, self.policies.peer)
        self.authorization = AuthorizationPolicies(self.policies.authorization, self.mesh)
        self._http: dict[tuple[Subject, int, str, int], bool | None] = {}
        self._lone: dict[Subject, Subject] = {}
        self._end = lru_cache(maxsize=ENDS)(self._resolved)
        self.variants = Variants(world, self.policies, meshes=[self.mesh])

    @property
    def cni(self) -> Cni:
        """The CNI whose reading is used."""
        return self.network.cni

    def under(self, cni: Cni) -> Judge:
        """The same judge under another CNI."""
        return Judge(self.world, self.policies, cni, self.mesh.mode, *self._settings)

    def ask(self, question: Question) -> Verdict:
        """The verdict. Raises `PolicyError` for an end or Service that does not exist, or a Service that leads
        elsewhere."""
        source = self.end(question.source, question.source_address)
        found = self._service(question.destination)
        if question.direct and (found is not None or question.service):
            raise PolicyError("direct means to the pod itself, and not by a Service", "question")
        if found is not None:
            return through(self, question, source, found)
        destination = self.end(question.destination, question.destination_address)
        if question.service and destination.subject is not None:
            check_called(self.world, question, destination.subject)
        verdict = self.decide(question, source, destination)
        return verdict if verdict.outcome == "allow" else self._within(question, verdict, source, destination)

    def _within(self, question: Question, verdict: Verdict, source: End, destination: End) -> Verdict:
        """The verdict for a workload asked about itself: each pod reaches itself, whatever its replicas may do."""
        one, other = source.subject, destination.subject
        if one is None or other is None or (one.single and other.single):
            return verdict
        own = self.world.workload(one)
        if own is not self.world.workload(other):
            return verdict
        lone = self._lone.get(own)
        if lone is None:
            lone = self._lone[own] = msgspec.structs.replace(own, single=True)
        alone = self.decide(question, End(lone, source.address), End(lone, source.address))
        if own.replicas == 1 or alone.outcome == verdict.outcome:
            return alone if own.replicas == 1 else verdict
        because = f"a pod of {own.ref} reaches itself, but whether it reaches another replica: {verdict.outcome}"
        return verdict._replace(outcome="undefined", because=f"{because} ({verdict.because})")

    def decide(self, question: Question, source: End, destination: End) -> Verdict:
        """`ask` with both ends resolved. A workload whose pods policies distinguish has a certain answer only if all of
        its pods have the same."""
        pairs = self.variants.pairs(source, destination)
        if not pairs:
            return self._whole(question, source, destination)
        found: list[tuple[str, Verdict]] = []
        for shown, one, other in pairs:
            found.append((shown, self._whole(question, one, other)))
            if found[-1][1].outcome != found[0][1].outcome:
                both = sorted((found[-1], found[0]), key=lambda pair: pair[1].outcome == "allow")
                because = "; ".join(f"{shown}: {verdict.outcome} ({verdict.because})" for shown, verdict in both)
                return both[0][1]._replace(outcome="undefined", because=f"it depends on the pods: {because}")
        return found[0][1]

    def _whole(self, question: Question, source: End, destination: End) -> Verdict:
        """The verdict for two whole ends. Several rules may name a workload's addresses in blocks; if every address
        gets the same answer, it is certain."""
        whole = self._decide(question, source, destination)
        if whole.outcome != "undefined":
            return whole
        found = [self._decide(question, one, other) for one, other in self.variants.by_address(source, destination)]
        return found[0] if len({verdict.outcome for verdict in found}) == 1 else whole

    def _decide(self, question: Question, source: End, destination: End) -> Verdict:
        protocol = question.protocol.upper()
        meshed = protocol == "TCP" and self.mesh.meshed(destination.subject)
        network = self.network.verdict(source, destination, protocol, self.network_port(question, source, destination))
        if network.outcome == "deny" or not meshed or destination.subject is None:
            return network
        if self.bypasses(question, source):
            return network
        subject = destination.subject
        mesh = in_every_family(
            source, destination, lambda one, other: self._mesh_verdict(question, one, other, subject)
        )
        if mesh.outcome == "deny" or network.outcome != "undefined":
            if mesh.outcome == "allow":
                return Verdict("allow", f"{network.because}; {mesh.because}", mesh.layer or network.layer)
            return mesh
        return network

    def network_port(self, question: Question, source: End, destination: End) -> int:
        """The port that NetworkPolicy sees: the tunnel's between members of an ambient mesh."""
        inside, known = self.mesh.mode == "ambient" and question.protocol.upper() == "TCP", question.principal
        inside = inside and (self.mesh.meshed(source.subject) if known is None else known != "")
        return HBONE if inside and self.mesh.meshed(destination.subject) else question.port

    def bypasses(self, question: Question, source: End) -> bool:
        """Does a connection reach a member of the mesh without any of the mesh's policies being applied?"""
        if self.mesh.mode == "ambient" and question.port == HBONE:
            return True  # the tunnel itself; ztunnel judges the connections inside it
        # Kubelet's probes bypass the proxy or are rewritten to its own port.
        return source.entity == "host" or (self.mesh.mode == "ambient" and str(source.address) in AMBIENT_PROBES)

    def _mesh_verdict(self, question: Question, source: End, destination: End, subject: Subject) -> Verdict:
        request = self.request(question, source, destination, subject)
        if question.path and request.path is None:
            return Verdict(
                "deny", f"the proxy refuses the path {question.path[:200]!r}", "authorizationpolicy", "ingress"
            )
        if question.method or question.path:
            return self.authorization.verdict(subject, request, http=True)
        known = self.speaks_http(subject, question.port, question.service, question.service_port)
        http = known if question.http is None else question.http
        if http is None:
            plain = self.authorization.verdict(subject, request, http=False)
            asked = self.authorization.verdict(subject, request, http=True)
            if plain.outcome == asked.outcome:
                return plain
            because = f"{asked.because}; as plain TCP: {plain.outcome} ({plain.because}); ask with method and path"
            return asked._replace(outcome="undefined", because=because, policies=asked.policies or plain.policies)
        return self.authorization.verdict(subject, request, http=http)

    def request(self, question: Question, source: End, destination: End, subject: Subject) -> Request:
        """The question as the destination's proxy sees it."""
        known = question.principal
        principal = self.mesh.principal(source.subject) if known is None else known.removeprefix("spiffe://")
        if principal and self.mesh.mode == "sidecar" and self.mesh.mtls(subject, question.port)[0] == "DISABLE":
            principal = ""
        namespace = source.subject.namespace if source.subject is not None and principal is None else None
        return Request(
            principal=principal,
            direct=question.direct,
            namespace=namespace,
            address=source.address or _only(source),
            port=question.port,
            service=question.service,
            service_port=question.service_port,
            proxied=source.subject is not None and source.subject.proxied,
            method=question.method or None,
            path=normalise(question.path, self.mesh.normalization) if question.path else None,
            host=question.host or None,
            destination=destination.address or _only(destination),
            trust_domains=self.mesh.trust_domains,
        )

    def speaks_http(self, subject: Subject, port: int, service: str = "", service_port: int = 0) -> bool | None:
        """Whether a port is HTTP, by the Services in front of it (appProtocol, port name), or by just the Service and
        port that was called; None if none says, or they disagree."""
        key = subject, port, service, service_port
        if key not in self._http:
            self._http[key] = self._declared_http(*key)
        return self._http[key]

    def _declared_http(self, subject: Subject, port: int, service: str, service_port: int) -> bool | None:
        found: set[bool] = set()
        for front, entry in self.world.leading(subject, port):
            said = (entry.application or entry.name).partition("-")[0].lower()
            if entry.protocol == "TCP" and service in ("", front.ref) and service_port in (0, entry.number):
                found.update(http for http, names in APPLICATIONS.items() if said in names)
        return found.pop() if len(found) == 1 else None

    def end(self, text: str, known_address: str = "") -> End:
        """Resolve one end of a question; raises `PolicyError` if it does not exist."""
        return self._end(text, known_address)

    def _resolved(self, text: str, known_address: str) -> End:
        ip = address(known_address) if known_address else None
        if text in ENTITIES:
            return End(None, ip, text)
        direct = address(text)
        if direct is None:
            subject = self.world.find(text)
            return End(subject, ip)
        subject_there = self.world.at(text)
        if subject_there is not None:
            return End(subject_there, direct)
        return End(None, direct, "node" if str(direct) in self.world.node_ips else "")

    def _service(self, text: str) -> Service | None:
        return self.world.service_at(text) if address(text) is not None else None


def _only(end: End) -> Address | None:
    """The address that an end has, if there is just one."""
    found = known_addresses(end)
    return found[0] if len(found) == 1 else None
