"""Istio PeerAuthentication (security.istio.io/v1): STRICT for one namespace.

Invariant: written only where every observed inbound connection was mutual TLS, since STRICT cuts everyone else off.
"""

from __future__ import annotations

from synthesizer.intent import MutualTLSIntent
from synthesizer.manifest import Manifest, checked
from synthesizer.render import Renderer

TEMPLATE = "security.istio.io/peerauthentication.yaml.j2"


def manifest(intent: MutualTLSIntent, renderer: Renderer) -> Manifest:
    """Render one PeerAuthentication and read it back."""
    expected = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": intent.namespace},
        "spec": {"mtls": {"mode": "STRICT"}},
    }
    text = renderer.render(TEMPLATE, intent=intent)
    return checked(f"{intent.namespace}/peerauthentication-default.yaml", text, expected, TEMPLATE)
