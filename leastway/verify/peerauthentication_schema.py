"""PeerAuthentication documents → immutable policies.

Invariant: every field that Istio's API has is read, every other is an error that names it.
Source: istio/api security/v1beta1/peer_authentication.proto, istio pkg/config/validation.
"""

from __future__ import annotations

from typing import NamedTuple

from leastway.verify.authorizationpolicy_schema import match_labels
from leastway.verify.errors import PolicyError
from leastway.verify.reading import Document, identity, mapping, optional, text

MODES = ("UNSET", "DISABLE", "PERMISSIVE", "STRICT")


class PeerAuthentication(NamedTuple):
    """Which ports of which workloads insist on mutual TLS."""

    namespace: str
    name: str
    selector: tuple[tuple[str, str], ...]
    mode: str
    ports: tuple[tuple[int, str], ...]
    created: str = ""
    existing: bool = False

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"PeerAuthentication {self.namespace}/{self.name}"


def read_peer_authentication(document: Document, existing: bool = False) -> PeerAuthentication:
    """Parse one PeerAuthentication; raises `PolicyError`."""
    kind, namespace, name = identity(document)
    where = f"{kind} {namespace}/{name}"
    mapping(document, where, ("apiVersion", "kind", "metadata", "spec", "status"))
    spec = optional(document.get("spec"), f"{where} spec", ("selector", "mtls", "portLevelMtls"))
    selector = match_labels(spec.get("selector"), f"{where} spec.selector")
    ports = []
    for key, item in optional_ports(spec.get("portLevelMtls"), f"{where} spec.portLevelMtls"):
        ports.append((key, _mode(item, f"{where} spec.portLevelMtls[{key}]")))
    if ports and not selector:
        raise PolicyError("portLevelMtls needs a selector", where)
    created = mapping(document.get("metadata"), where).get("creationTimestamp")
    mode = _mode(spec.get("mtls"), f"{where} spec.mtls")
    return PeerAuthentication(namespace, name, selector, mode, tuple(sorted(ports)), str(created or ""), existing)


def optional_ports(value: object, where: str) -> list[tuple[int, object]]:
    """A mapping keyed by port number; YAML may have made numbers or text of the keys."""
    if value is None:
        return []
    if not isinstance(value, dict):
        raise PolicyError("expected a mapping", where)
    found = []
    for key, item in value.items():
        digits = str(key)
        if isinstance(key, bool) or not (digits.isascii() and digits.isdigit() and 0 < int(digits[:9]) < 65536):
            raise PolicyError(f"{str(key)[:40]!r} is not a port number", where)
        found.append((int(key), item))
    return found


def _mode(value: object, where: str) -> str:
    mode = text(optional(value, where, ("mode",)).get("mode", "UNSET"), f"{where}.mode")
    if mode not in MODES:
        raise PolicyError(f"mode {mode[:40]!r} is not one of {', '.join(MODES)}", f"{where}.mode")
    return mode
