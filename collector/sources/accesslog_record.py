"""What one access log entry says, in whatever format Envoy wrote it: the common form that the access log sources fill.

Invariant: everything that leaves here is checked. Addresses are IP addresses, names are names that Kubernetes accepts,
principals are SPIFFE identities in Istio's form; anything else counts as unknown. What the entry *means* is decided
only in `collector.sources.accesslog`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

import msgspec

from collector.endpoints import (
    ADDRESS,
    Endpoint,
    Labels,
    Principal,
    parse_principal,
    valid_namespace,
    valid_object_name,
    workload_of_pod,
)
from collector.memo import memo

Address = tuple[str, int]  # (IP address or "", port or 0)
NOWHERE: Address = ("", 0)

# The keys under which users log identities: Istio's telemetry names, Envoy's command operators in lower case, and the
# labels of Istio's own OpenTelemetry sample. No default format has any of them; the same names come as attributes of
# OTLP log records. Key → what it says. Where several keys say the same, the first in this table with a value counts.
IDENTITY_KEYS: dict[str, str] = {
    # the caller's certificate as this proxy verified it; present but empty means that there was none
    "downstream_peer_uri_san": "source principal",
    "downstream_peer_uri_sans": "source principal",
    "source_principal": "source principal",
    "src_principal": "source principal",
    "peer_principal": "source principal",
    "downstream_principal": "source principal",
    # the callee's certificate
    "downstream_local_uri_san": "destination principal",
    "destination_principal": "destination principal",
    "upstream_peer_uri_san": "destination principal",
    # this proxy's own certificate towards the callee
    "upstream_local_uri_san": "reporter principal",
    "source_workload": "source workload",
    "source_app": "source workload",
    "source_workload_namespace": "source namespace",
    "source_namespace": "source namespace",
    "destination_workload": "destination workload",
    "destination_app": "destination workload",
    "destination_workload_namespace": "destination namespace",
    "destination_namespace": "destination namespace",
    "destination_service": "destination host",
    "destination_service_host": "destination host",
    # who logged it
    "reporter": "side",
    "connection_security_policy": "security",
    "pod": "reporter pod",
    "pod_name": "reporter pod",
    "namespace": "reporter namespace",
    "pod_namespace": "reporter namespace",
    "service_account": "reporter account",
    "node_id": "reporter node",
    "node_name": "reporter node",
}

_FLAGS = re.compile(r"[A-Z]{2,8}", re.ASCII)
_NODE = re.compile(r"(sidecar|router|waypoint)~([^~]*)~([^~]+)\.([^~.]+)~[^~]*")


class Peer(msgspec.Struct, frozen=True):
    """What an entry says of one end, or of the proxy that wrote it; "" or () if unknown.

    `role` is the proxy's: sidecar, router or waypoint.
    """

    namespace: str = ""
    workload: str = ""
    service_account: str = ""
    labels: Labels = ()
    pod: str = ""
    address: str = ""
    role: str = ""

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that these facts identify; `ADDRESS` when they are too few."""
        if not self.namespace or not (self.workload or self.service_account):
            return ADDRESS
        # Without the pod's name, labels could not be joined with those that another source saw of the same pod.
        labels = self.labels if self.pod else ()
        return Endpoint("pod", "", self.namespace, labels, self.workload, self.service_account)

    def filled(self, other: Peer) -> Peer:
        """This peer, with missing facts taken from `other`, unless the two differ in namespace or account."""
        if self is NOBODY:
            return other
        if other is NOBODY or _differ(self.namespace, other.namespace):
            return self
        if _differ(self.service_account, other.service_account):
            return self
        return Peer(*(getattr(self, name) or getattr(other, name) for name in self.__struct_fields__))


NOBODY = Peer()


def _differ(one: str, other: str) -> bool:
    return bool(one and other and one != other)


class AccessRecord(msgspec.Struct):
    """One access log entry.

    `flags` are Envoy's short response flags, `sent_bytes` the bytes sent to the client. `source` and `destination` hold
    what the entry says of them, `reporter` is the proxy's own pod, `side` is "source", "destination" or "" as stated by
    the entry. `mtls` is None when the format cannot tell. `unfinished` marks an entry written before the end.
    """

    time: str = ""
    method: str = ""
    path: str = ""
    status: int = 0
    flags: frozenset[str] = frozenset()
    details: str = ""
    termination: str = ""
    sent_bytes: int = 0
    upstream_cluster: str = ""
    upstream_host: Address = NOWHERE
    upstream_local: Address = NOWHERE
    downstream_local: Address = NOWHERE
    downstream_remote: Address = NOWHERE
    server_name: str = ""
    request_id: str = ""
    source: Peer = NOBODY
    destination: Peer = NOBODY
    reporter: Peer = NOBODY
    source_principal: Principal | None = None
    destination_host: str = ""
    side: str = ""
    mtls: bool | None = None
    unfinished: bool = False
    origin: str = ""


@memo(1 << 16, longest=45)
def ip_of(text: str) -> str:
    """An IP address in its canonical form (IPv4 in IPv6 as IPv4); "" when `text` is none, or one that names no peer."""
    if "%" in text or len(text) > 45:
        return ""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return "" if address.is_loopback or address.is_unspecified else str(address)


def address_of(text: str) -> Address:
    """Read `10.0.0.1:80`, `[fd00::1]:80` or `envoy://listener/10.0.0.1:80`; what cannot be read is "" or 0."""
    if "://" in text:
        text = text.rpartition("/")[2]
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or not host:
        return (ip_of(text.strip("[]")), 0)
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return (ip_of(host), number if number < 65536 else 0)


def checked_peer(
    namespace: str = "",
    workload: str = "",
    service_account: str = "",
    pod: str = "",
    address: str = "",
    labels: Labels = (),
    role: str = "",
) -> Peer:
    """A peer of checked parts; a workload that is not named is derived from the pod's name."""
    namespace = namespace if valid_namespace(namespace) else ""
    pod = pod if namespace and valid_object_name(pod) else ""
    workload = workload if namespace and valid_object_name(workload) else workload_of_pod(pod)
    service_account = service_account if namespace and valid_object_name(service_account) else ""
    return Peer(namespace, workload, service_account, labels, pod, address, role)


def peer_of_principal(principal: Principal | None) -> Peer:
    """What a SPIFFE identity says about its holder."""
    return NOBODY if principal is None else Peer(principal.namespace, service_account=principal.service_account)


@memo(1 << 14, longest=1024)
def peer_of_node(node: str) -> Peer:
    """Read Istio's proxy id, `sidecar~<IP>~<pod>.<namespace>~<domain>`."""
    match = _NODE.fullmatch(node)
    if match is None:
        return NOBODY
    return checked_peer(match[4], pod=match[3], address=ip_of(match[2]), role=match[1])


@memo(1 << 14, longest=1024)
def first_principal(text: str) -> Principal | None:
    """The first Istio identity in a comma-separated list of URIs."""
    found = (parse_principal(part) for part in text[:4096].split(","))
    return next((principal for principal in found if principal is not None), None)


def text_of(value: object) -> str:
    """A logged value as text; a missing one (null, "-") is ""."""
    if isinstance(value, str):
        return "" if value == "-" else value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 1 << 63 else ""
    return ""


def number_of(value: object) -> int:
    """A logged count; 0 if it is missing or not a number."""
    text = text_of(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else 0


@memo(4096, longest=256)
def flags_of(text: str) -> frozenset[str]:
    """Envoy's response flags, as in "UF,URX"."""
    return frozenset(_FLAGS.findall(text[:256]))


def record_of(fields: Mapping[str, object], origin: str) -> AccessRecord:
    """The entry with these fields, by the names of Istio's default JSON format and `IDENTITY_KEYS`."""
    get = fields.get
    status = number_of(get("response_code"))
    record = AccessRecord(
        time=text_of(get("start_time"))[:64],
        method=text_of(get("method")),
        path=text_of(get("path")),
        status=status if status < 1000 else 0,
        flags=flags_of(text_of(get("response_flags"))),
        details=text_of(get("response_code_details")),
        termination=text_of(get("connection_termination_details")),
        sent_bytes=number_of(get("bytes_sent")),
        upstream_cluster=text_of(get("upstream_cluster")),
        upstream_host=address_of(text_of(get("upstream_host"))),
        upstream_local=address_of(text_of(get("upstream_local_address"))),
        downstream_local=address_of(text_of(get("downstream_local_address"))),
        downstream_remote=address_of(text_of(get("downstream_remote_address"))),
        server_name=text_of(get("requested_server_name")),
        request_id=text_of(get("request_id")),
        origin=origin,
    )
    if not IDENTITY_KEYS.keys().isdisjoint(fields):
        _identify(record, fields)
    return record


def _identify(record: AccessRecord, fields: Mapping[str, object]) -> None:
    """Add what the identity keys say."""
    said: dict[str, str] = {}
    for key, what in IDENTITY_KEYS.items():
        if key in fields:
            said[what] = said.get(what) or text_of(fields[key])
    get = said.get
    principal = get("source principal")
    record.source_principal = first_principal(principal) if principal else None
    security = get("security")
    if security in ("mutual_tls", "none"):
        record.mtls = security == "mutual_tls"
    elif principal is not None:
        record.mtls = bool(principal)
    caller = peer_of_principal(record.source_principal)
    record.source = checked_peer(get("source namespace") or caller.namespace, get("source workload", ""))
    callee = peer_of_principal(first_principal(get("destination principal", "")))
    stated = checked_peer(get("destination namespace") or callee.namespace, get("destination workload", ""))
    record.destination = callee.filled(stated)
    own = checked_peer(
        get("reporter namespace", ""), service_account=get("reporter account", ""), pod=get("reporter pod", "")
    )
    node = peer_of_node(get("reporter node", ""))
    record.reporter = node.filled(peer_of_principal(first_principal(get("reporter principal", ""))).filled(own))
    record.destination_host = get("destination host", "")
    side = get("side", "")
    record.side = side if side in ("source", "destination") else ""
