"""Policy objects of every kind that is judged, from files, text or documents.

Invariant: a policy object is either read in full or listed as unjudged; none is skipped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, is_istio, read_authorization_policy
from leastway.verify.cilium_schema import is_cilium, read_cilium_policy
from leastway.verify.errors import PolicyError
from leastway.verify.inventory import POLICY_KINDS
from leastway.verify.networkpolicy_schema import NetworkPolicy, is_network_policy, read_network_policy
from leastway.verify.peerauthentication_schema import PeerAuthentication, read_peer_authentication
from leastway.verify.reading import Document, documents, identity, read_path


class PolicySet(msgspec.Struct, frozen=True):
    """Parsed policies. `unjudged` names policy objects that this judge does not model."""

    network: tuple[NetworkPolicy, ...] = ()
    authorization: tuple[AuthorizationPolicy, ...] = ()
    peer: tuple[PeerAuthentication, ...] = ()
    unjudged: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()


def load_policies(source: str | Path | Iterable[Document], existing: bool = False) -> PolicySet:
    """Policies from a folder, a file, YAML text (anything with a line break) or loaded documents; raises `PolicyError`.

    Objects of other kinds are kept in `documents`, so that a folder may hold its own Namespaces and workloads.
    """
    if isinstance(source, Path) or (isinstance(source, str) and "\n" not in source and Path(source).exists()):
        found: list[Document] = read_path(Path(source))
    elif isinstance(source, str):
        if "\n" not in source and not source.lstrip().startswith(("{", "[")):
            raise PolicyError("no such file or folder", source)
        found = documents(source, "policies")
    else:
        found = list(source)
    network: dict[tuple[str, ...], NetworkPolicy] = {}
    authorization: dict[tuple[str, ...], AuthorizationPolicy] = {}
    peer: dict[tuple[str, ...], PeerAuthentication] = {}
    unjudged: list[str] = []
    for document in found:
        kind = document.get("kind")
        if is_network_policy(document):
            key = identity(document)[1:]
            network[(str(kind), *key)] = read_network_policy(document, existing)
        elif is_istio(document, "AuthorizationPolicy"):
            authorization[identity(document)] = read_authorization_policy(document, existing)
        elif is_istio(document, "PeerAuthentication"):
            peer[identity(document)] = read_peer_authentication(document, existing)
        elif is_cilium(document) and (cilium := read_cilium_policy(document, existing)) is not None:
            network[identity(document)] = cilium
        elif kind in POLICY_KINDS:
            unjudged.append(" ".join((str(kind), "/".join(identity(document)[1:]))))
    return PolicySet(
        tuple(network.values()),
        tuple(authorization.values()),
        tuple(peer.values()),
        tuple(sorted(unjudged)),
        tuple(found),
    )


def united(given: PolicySet, standing: PolicySet) -> PolicySet:
    """Both sets; of two objects with the same kind and name, the given one."""

    def names(policies: Iterable[AuthorizationPolicy | PeerAuthentication]) -> set[tuple[str, str]]:
        return {(policy.namespace, policy.name) for policy in policies}

    network = {policy.title for policy in given.network}
    authorization, peer = names(given.authorization), names(given.peer)
    return PolicySet(
        given.network + tuple(p for p in standing.network if p.title not in network),
        given.authorization + tuple(p for p in standing.authorization if (p.namespace, p.name) not in authorization),
        given.peer + tuple(p for p in standing.peer if (p.namespace, p.name) not in peer),
        tuple(sorted({*given.unjudged, *standing.unjudged})),
        given.documents,
    )
