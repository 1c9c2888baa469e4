"""Istio AuthorizationPolicy (security.istio.io/v1), action ALLOW; never DENY from observation.

Invariant: every rule names ports, and a rule with methods or paths is never one for a TCP port.
"""

from __future__ import annotations

from typing import Any

from synthesizer.intent import Access, AccessIntent
from synthesizer.manifest import Manifest, checked
from synthesizer.render import Renderer

TEMPLATE = "security.istio.io/authorizationpolicy.yaml.j2"


def manifest(intent: AccessIntent, renderer: Renderer) -> Manifest:
    """Render one AuthorizationPolicy and read it back."""
    text = renderer.render(TEMPLATE, intent=intent)
    path = f"{intent.target.namespace}/authorizationpolicy-{intent.target.name}.yaml"
    return checked(path, text, document(intent), TEMPLATE)


def document(intent: AccessIntent) -> dict[str, Any]:
    """The object that an intent means."""
    spec: dict[str, Any] = {}
    if intent.target.selector or intent.target.service or intent.accesses:
        if intent.target.service:
            spec["targetRefs"] = [{"group": "", "kind": "Service", "name": intent.target.service}]
        elif intent.target.selector:
            spec["selector"] = {"matchLabels": dict(intent.target.selector)}
        spec["action"] = "ALLOW"
        spec["rules"] = [_rule(access) for access in intent.accesses]
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": intent.target.name, "namespace": intent.target.namespace},
        "spec": spec,
    }


def _rule(access: Access) -> dict[str, Any]:
    operation: dict[str, Any] = {"ports": [str(port) for port in access.ports]}
    if access.methods:
        operation["methods"] = list(access.methods)
    if access.paths:
        operation["paths"] = list(access.paths)
    rule: dict[str, Any] = {"to": [{"operation": operation}]}
    if access.principals:
        rule["from"] = [{"source": {"principals": list(access.principals)}}]
    elif access.blocks:
        rule["from"] = [{"source": {"ipBlocks": list(access.blocks)}}]
    return rule
