"""Hubble's endpoints → `Endpoint`s, parsed once per distinct bytes.

Invariant: namespace and pod name are trusted before a reserved label (captures show pods labelled `reserved:world`),
and the labels of an endpoint are never read a second time for the same bytes and address.

Facts: Cilium, pkg/identity/numericidentity.go (reserved identities, scopes) and pkg/k8s/apis/cilium.io/const.go
(labels).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from collector.endpoints import (
    ADDRESS,
    ENTITIES,
    NODE_ENTITIES,
    RESERVED_IDENTITIES,
    Endpoint,
    Labels,
    entity,
    stable_labels,
    valid_namespace,
    valid_object_name,
    workload_of_pod,
)
from collector.memo import memo
from collector.patterns import Patterns

CACHE = 1 << 16
HELD = 1 << 26  # bytes
LABELLED = 1 << 12  # lists of labels remembered, each of at most
MOST_LABELS = 64
_SOURCES = {"k8s", "any", "container", "unspec", "reserved", "cidr", "cidrgroup", "fqdn", "gen"}
UNNAMED = entity("unmanaged")  # what is sighted at the addresses of pods that their records do not name
# Identities that Cilium allocates for the labels of workloads, in all clusters of a mesh (pkg/identity/
# numericidentity.go): below are the reserved ones, above those of CIDRs and of nodes.
_OF_LABELS = range(1 << 8, 1 << 24)
_NAMESPACE = "io.kubernetes.pod.namespace"
_CLUSTER = "io.cilium.k8s.policy.cluster"
_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
_NAMED_PORTS = "io.cilium.k8s.named-ports"
_NAMED_PORT = re.compile(r"([A-Za-z0-9-]{1,15})\.(TCP|UDP|SCTP)\.([0-9]{1,5})")  # names as Kubernetes has them


class Owner(msgspec.Struct):
    name: str | None = ""
    kind: str | None = ""


class HubbleEndpoint(msgspec.Struct):
    """The fields of flow.Endpoint that are read."""

    ID: int | None = 0
    identity: int | None = 0
    namespace: str | None = ""
    labels: list[str] | None = None
    pod_name: str | None = ""
    workloads: list[Owner] | None = None
    cluster_name: str | None = ""


Decode = Callable[[bytes], HubbleEndpoint | None]  # raises msgspec.MsgspecError

from_json: Decode = msgspec.json.Decoder(HubbleEndpoint | None).decode


class SeenEnd:
    """One end of a flow as it was seen: who it is (`endpoint`), and as which pod at which address. `unnamed`: a pod, of
    which the record tells only the address."""

    __slots__ = ("address", "endpoint", "local", "masked", "name", "owners", "pod", "ports", "unnamed")

    def __init__(
        self, endpoint: Endpoint, pod: str, address: str, local: bool, owners: tuple[str, ...], ports: tuple[str, ...]
    ) -> None:
        self.endpoint = endpoint
        self.pod = pod
        self.address = address
        self.name = pod or address  # by which evidence counts it
        self.local = local
        self.owners = owners
        self.ports = ports
        self.masked: tuple[str, ...] = ()
        self.unnamed = False


class SeenEnds(dict[tuple[bytes, str | None], tuple[SeenEnd, SeenEnd]]):
    """The ends met so far, by raw bytes and address, each as the responder and as the opener of a connection (these
    differ only for reserved entities).

    Looking up a new end parses it with `decode`, which raises msgspec.MsgspecError if its bytes are no endpoint.
    """

    def __init__(self, patterns: Patterns, decode: Decode = from_json) -> None:
        self.patterns = patterns
        self.decode = decode
        self.held = 0  # bytes of the keys: an end of a hostile flow may be as large as a message
        self.endpoints: dict[Endpoint, Endpoint] = {}  # one object for equal endpoints
        self.labels: dict[tuple[str, ...], Labelled] = {}  # the pods of a workload have the same

    def __missing__(self, met: tuple[bytes, str | None]) -> tuple[SeenEnd, SeenEnd]:
        raw, address = met
        self.held += len(raw)
        record = self.decode(raw) if raw else None
        unlabelled = record is None or not (record.labels or record.identity)
        roles = []
        for opener in (False, True):
            end = parse(record or HubbleEndpoint(), canonical_address(address or ""), opener, self._labelled)
            end.masked = ("labels",) * unlabelled + ("IP",) * (not address)
            end.endpoint = self.endpoints.setdefault(end.endpoint, end.endpoint)
            roles.append(end)
            if end.endpoint.kind == "pod":
                roles.append(end)
                break
        self[met] = (roles[0], roles[1])
        return self[met]

    def _labelled(self, labels: tuple[str, ...]) -> Labelled:
        known = self.labels.get(labels)
        if known is None:
            known = labelled(labels)
            if len(labels) <= MOST_LABELS:
                if len(self.labels) >= LABELLED:
                    self.labels.clear()
                self.labels[labels] = known
        return known

    def sight(self, end: SeenEnd, records: int) -> None:
        """Note what else these records say about the endpoint."""
        endpoint = UNNAMED if end.unnamed else end.endpoint
        for field in end.masked:
            self.patterns.quality.masked.add(field, records)
        if endpoint.kind == "address" or (endpoint.kind == "entity" and not end.address):
            return
        sighting = self.patterns.sighting(endpoint)
        sighting.pods.add(f"{end.pod}|{end.address}", records)
        if endpoint.kind == "pod":
            sighting.origins.add("hubble", records)
            for owner in end.owners:
                sighting.owners.add(owner, records)
            for port in end.ports:
                sighting.ports.add(port, records)

    def forget(self) -> None:
        """Keep the cache bounded; called when no count refers to its entries any more."""
        if len(self) > CACHE or self.held > HELD:
            self.clear()
            self.endpoints.clear()
            self.labels.clear()
            self.held = 0


@memo(1 << 16, longest=64)
def canonical_address(text: str) -> str:
    """The canonical form of an IP address; "" when it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if address.version == 6 and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


@memo(1 << 16, longest=512)
def _label(label: str) -> tuple[str, str, str]:
    """`k8s:app=web` → source, key, value; a label without a source is taken to be Kubernetes'."""
    prefix, colon, rest = label.partition(":")
    if not colon or prefix not in _SOURCES:
        prefix, rest = "k8s", label
    key, _, value = rest.partition("=")
    return prefix, key, value


class Labelled(NamedTuple):
    """What the labels of an endpoint say: `own`: any of them is the pod's own; `stable`: those of them that last."""

    own: bool
    stable: Labels
    meta: dict[str, str]
    reserved: frozenset[str]
    named_ports: tuple[str, ...]


def labelled(labels: Iterable[str]) -> Labelled:
    """Read the labels of an endpoint."""
    pairs: list[tuple[str, str]] = []
    meta: dict[str, str] = {}
    reserved: set[str] = set()
    named_ports: list[str] = []
    for label in labels:
        prefix, key, value = _label(label)
        if prefix == "reserved":
            reserved.add(key)
        elif key.startswith(_NAMED_PORTS):
            named_ports.extend(_named_ports(value))
        elif key in (_NAMESPACE, _CLUSTER, _ACCOUNT):
            meta[key] = value
        elif prefix not in ("cidr", "cidrgroup", "fqdn", "gen"):
            pairs.append((key, value))
    return Labelled(bool(pairs), stable_labels(pairs), meta, frozenset(reserved), tuple(named_ports))


def parse(
    record: HubbleEndpoint, address: str, opener: bool, read: Callable[[tuple[str, ...]], Labelled] = labelled
) -> SeenEnd:
    """Decide who an endpoint is.

    Order: a pod by namespace and labels or name; else a reserved entity; else just an address. Of several reserved
    labels `host` and `remote-node` win for the end that opened the connection (a probe from the control-plane node is a
    probe), `kube-apiserver` for the other. `read` may cache its answers.
    """
    own, labels, meta, reserved, named_ports = read(tuple(record.labels or ()))
    namespace = record.namespace or meta.get(_NAMESPACE, "")
    pod = record.pod_name or ""
    pod = pod if valid_object_name(pod) else ""
    if valid_namespace(namespace) and (pod or own):
        account = meta.get(_ACCOUNT, "")
        cluster = record.cluster_name or meta.get(_CLUSTER, "")
        endpoint = Endpoint(
            "pod",
            cluster=cluster if valid_object_name(cluster) else "",
            namespace=namespace,
            labels=labels,
            workload="" if labels else workload_of_pod(pod),
            service_account=account if valid_object_name(account) else "",
        )
        owners = tuple(
            f"{owner.kind}/{owner.name}"
            for owner in record.workloads or ()
            if (owner.kind or "").isalpha() and valid_object_name(owner.name or "")
        )
        # Without a pod name it is the L7 proxy speaking with the pod's identity from the node's address.
        return SeenEnd(endpoint, pod, address if pod else "", bool(record.ID), owners, named_ports)
    found = SeenEnd(_reserved(record.identity or 0, reserved, opener), "", address, bool(record.ID), (), ())
    labelled_only = not reserved and (own or (record.identity or 0) in _OF_LABELS)
    found.unnamed = found.endpoint is ADDRESS and bool(record.pod_name or record.workloads or labelled_only)
    return found


def _reserved(identity: int, names: frozenset[str], opener: bool) -> Endpoint:
    if identity in RESERVED_IDENTITIES:
        names = names | {RESERVED_IDENTITIES[identity]}
    elif identity >> 24 == 2:  # Cilium's node-local scope of remote-node identities
        names = names | {"remote-node"}
    if opener and names & NODE_ENTITIES:
        return entity("host" if "host" in names else "remote-node")
    for name in ENTITIES:
        if name in names:
            return entity(name)
    return ADDRESS


def _named_ports(value: str) -> list[str]:
    """`dns.UDP.53_metrics.TCP.9153` → `dns/UDP/53`, `metrics/TCP/9153`; what does not fit is left out."""
    matches = [_NAMED_PORT.fullmatch(item) for item in value.split("_")[:64]]
    return [f"{match[1]}/{match[2]}/{int(match[3])}" for match in matches if match and 0 < int(match[3]) < 65536]
