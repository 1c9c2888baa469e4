"""Intents out: one dialect a module, each registered here.

Invariant: outputs do not know each other. A new one is a module with `manifest(intent, renderer)`, a template, an entry
below, and a reader in the judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from synthesizer.intent import AccessIntent, EntityIntent, MutualTLSIntent, NetworkIntent
from synthesizer.manifest import Manifest
from synthesizer.outputs import authorizationpolicy, ciliumnetworkpolicy, networkpolicy, peerauthentication
from synthesizer.render import Renderer

Intent = NetworkIntent | EntityIntent | AccessIntent | MutualTLSIntent

OUTPUTS: dict[type, Callable[[Any, Renderer], Manifest]] = {
    NetworkIntent: networkpolicy.manifest,
    EntityIntent: ciliumnetworkpolicy.manifest,
    AccessIntent: authorizationpolicy.manifest,
    MutualTLSIntent: peerauthentication.manifest,
}


def manifest(intent: Intent, renderer: Renderer) -> Manifest:
    """The manifest of an intent, in the dialect registered for its type."""
    return OUTPUTS[type(intent)](intent, renderer)
