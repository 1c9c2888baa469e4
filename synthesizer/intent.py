"""Policy before any dialect: what a workload may do, and why.

Invariant: everything here is immutable, ordered and comparable, so that two runs on the same patterns give equal
intents, and an output can be read back and compared with its intent.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

import msgspec

from collector.endpoints import Labels

Direction = Literal["ingress", "egress"]


class Cause(StrEnum):
    """Why a rule is there. Rules of different causes are never merged, so that a reviewer can strike one alone."""

    OBSERVED = "observed"
    DNS = "dns"
    CONTROL_PLANE = "control plane"
    MESH = "mesh infrastructure"
    INTERNET = "published to the internet"
    DECLARED = "declared"
    ACCEPTED = "accepted in review"


class Port(msgspec.Struct, frozen=True, order=True):
    """A port on the pod (never a Service's), 1 to 65535."""

    protocol: str
    number: int


class PodPeer(msgspec.Struct, frozen=True, order=True, tag="pods"):
    """The pods of one namespace that carry these labels; no labels = all of them."""

    namespace: str
    selector: Labels


class BlockPeer(msgspec.Struct, frozen=True, order=True, tag="block"):
    """Addresses outside the cluster, as a canonical CIDR."""

    cidr: str
    excepted: tuple[str, ...] = ()


class EntityPeer(msgspec.Struct, frozen=True, order=True, tag="entity"):
    """What Cilium knows by name although it is no pod: `host`, `remote-node`, `kube-apiserver`, `ingress`."""

    name: str


Peer = PodPeer | BlockPeer | EntityPeer


class Rule(msgspec.Struct, frozen=True):
    """Any of `peers` at any of `ports`, in one direction."""

    direction: Direction
    cause: Cause
    peers: tuple[Peer, ...]
    ports: tuple[Port, ...]


class Access(msgspec.Struct, frozen=True, order=True):
    """Who may call a mesh workload, and how: one AuthorizationPolicy rule.

    The API server has no principal and is named by `blocks`, its addresses. Both empty = any caller (other plaintext
    ones cannot be named). `methods` and `paths` empty = a TCP port.
    """

    cause: Cause
    principals: tuple[str, ...]
    ports: tuple[int, ...]
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()


class Target(msgspec.Struct, frozen=True, order=True):
    """What a policy attaches to: the pods of `selector` in `namespace` (no labels = all), or a Service by `service`."""

    namespace: str
    name: str
    selector: Labels = ()
    service: str = ""


class NetworkIntent(msgspec.Struct, frozen=True):
    """One NetworkPolicy: `directions` are isolated, `rules` let through."""

    target: Target
    directions: tuple[Direction, ...]
    rules: tuple[Rule, ...]


class EntityIntent(msgspec.Struct, frozen=True):
    """One CiliumNetworkPolicy: what a workload exchanges with Cilium's entities, beside its NetworkPolicy."""

    target: Target
    rules: tuple[Rule, ...]


class AccessIntent(msgspec.Struct, frozen=True):
    """One ALLOW AuthorizationPolicy; no accesses = nothing is allowed."""

    target: Target
    accesses: tuple[Access, ...]


class MutualTLSIntent(msgspec.Struct, frozen=True):
    """Only mutual TLS may enter this namespace (PeerAuthentication STRICT)."""

    namespace: str


def peer_key(peer: Peer) -> tuple[str, ...]:
    """A total order over all kinds of peer."""
    if isinstance(peer, PodPeer):
        return ("pods", peer.namespace, *(f"{key}={value}" for key, value in peer.selector))
    if isinstance(peer, EntityPeer):
        return ("entity", peer.name)
    return ("block", peer.cidr)


def fewest_rules(pairs: dict[tuple[Peer, Port], Cause], direction: Direction) -> tuple[Rule, ...]:
    """The fewest rules with exactly these (peer, port) permissions, causes kept apart.

    Either peers with the same ports share a rule, or ports with the same peers do: whichever needs fewer rules; the
    former on a tie.
    """
    rules: list[Rule] = []
    for cause in sorted(set(pairs.values())):
        mine = [pair for pair, why in pairs.items() if why == cause]
        by_peer: dict[Peer, set[Port]] = {}
        by_port: dict[Port, set[Peer]] = {}
        for peer, port in mine:
            by_peer.setdefault(peer, set()).add(port)
            by_port.setdefault(port, set()).add(peer)
        shared_ports: dict[frozenset[Port], set[Peer]] = {}
        for peer, ports in by_peer.items():
            shared_ports.setdefault(frozenset(ports), set()).add(peer)
        shared_peers: dict[frozenset[Peer], set[Port]] = {}
        for port, peers in by_port.items():
            shared_peers.setdefault(frozenset(peers), set()).add(port)
        if len(shared_ports) <= len(shared_peers):
            grouped = [(set(peers), set(ports)) for ports, peers in shared_ports.items()]
        else:
            grouped = [(set(peers), set(ports)) for peers, ports in shared_peers.items()]
        rules += [Rule(direction, cause, tuple(sorted(p, key=peer_key)), tuple(sorted(q))) for p, q in grouped]
    return tuple(sorted(rules, key=lambda rule: (rule.cause, [peer_key(p) for p in rule.peers], rule.ports)))


def fewest_accesses(accesses: Iterable[Access]) -> tuple[Access, ...]:
    """The same permissions in fewer accesses.

    Accesses that differ in one field only are joined: by paths, then methods, then callers, then ports.
    """
    current = sorted(set(accesses))
    for field in ("paths", "methods", "principals", "blocks", "ports"):
        groups: dict[tuple[object, ...], list[Access]] = {}
        for access in current:
            rest = tuple(getattr(access, name) for name in Access.__struct_fields__ if name != field)
            # An empty field means "any", so it must not be joined with a list.
            groups.setdefault((*rest, bool(getattr(access, field))), []).append(access)
        current = [
            msgspec.structs.replace(group[0], **{field: tuple(sorted({v for a in group for v in getattr(a, field)}))})
            for group in groups.values()
        ]
    return tuple(sorted(current, key=lambda a: (a.ports, a.principals, a.blocks, a.paths, a.methods, a.cause)))
