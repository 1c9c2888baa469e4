"""PeerAuthentication documents → immutable policies.

Invariant: every field that Istio's API has is read, every other is an error that names it.
Source: istio/api security/v1beta1/peer_authentication.proto, istio pkg/config/validation.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from leastway.verify.errors import PolicyError
from leastway.verify.istio_attachment import DRY_RUN, match_labels
from leastway.verify.reading import Document, identity, mapping, optional, text

_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
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
    meta = mapping(document.get("metadata"), where)
    created = meta.get("creationTimestamp")
    if DRY_RUN in optional(meta.get("annotations"), f"{where} annotations") and not existing:
        raise PolicyError(f"{DRY_RUN} belongs to AuthorizationPolicy", f"{where} annotations", "Istio rejects it")
    mode = _mode(spec.get("mtls"), f"{where} spec.mtls")
    return PeerAuthentication(namespace, name, selector, mode, tuple(sorted(ports)), str(created or ""), existing)


def optional_ports(value: object, where: str) -> list[tuple[int, object]]:
    """A mapping keyed by port number; YAML may have made numbers or text of the keys."""
    if value is None:
        return []
    if not isinstance(value, dict) or not value:
        raise PolicyError("expected a mapping with at least one port", where)
    found = []
    for key, item in value.items():
        digits = str(key)
        if isinstance(key, bool) or _PORT.fullmatch(digits) is None or int(digits) > 65535:
            raise PolicyError(f"{str(key)[:40]!r} is not a port number", where)
        found.append((int(key), item))
    return found


def _mode(value: object, where: str) -> str:
    mode = text(optional(value, where, ("mode",)).get("mode", "UNSET"), f"{where}.mode")
    if mode not in MODES:
        raise PolicyError(f"mode {mode[:40]!r} is not one of {', '.join(MODES)}", f"{where}.mode")
    return mode
