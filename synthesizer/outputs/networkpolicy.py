"""Kubernetes NetworkPolicy (networking.k8s.io/v1).

Invariant: `policyTypes` is always written, every rule names peers and ports, namespaces are named by the label that the
control plane sets itself (`kubernetes.io/metadata.name`).
"""

from __future__ import annotations

from typing import Any

from collector.errors import RenderError
from synthesizer.intent import BlockPeer, EntityPeer, NetworkIntent, Peer, Rule
from synthesizer.manifest import Manifest, checked
from synthesizer.render import Renderer

TEMPLATE = "networking.k8s.io/networkpolicy.yaml.j2"
_ENDS = {"ingress": "from", "egress": "to"}


def manifest(intent: NetworkIntent, renderer: Renderer) -> Manifest:
    """Render one NetworkPolicy and read it back."""
    meant = document(intent)
    sections = [
        (direction, _ENDS[direction], rules)
        for direction in intent.directions
        if (rules := [rule for rule in intent.rules if rule.direction == direction])
    ]
    types = [direction.capitalize() for direction in intent.directions]
    text = renderer.render(TEMPLATE, intent=intent, sections=sections, policy_types=types)
    path = f"{intent.target.namespace}/networkpolicy-{intent.target.name}.yaml"
    return checked(path, text, meant, TEMPLATE)


def document(intent: NetworkIntent) -> dict[str, Any]:
    """The object that an intent means."""
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": dict(intent.target.selector)} if intent.target.selector else {},
        "policyTypes": [direction.capitalize() for direction in intent.directions],
    }
    for direction in intent.directions:
        rules = [_rule(rule) for rule in intent.rules if rule.direction == direction]
        if rules:
            spec[direction] = rules
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": intent.target.name, "namespace": intent.target.namespace},
        "spec": spec,
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        _ENDS[rule.direction]: [_peer(peer) for peer in rule.peers],
        "ports": [{"protocol": str(port.protocol), "port": port.number} for port in rule.ports],
    }


def _peer(peer: Peer) -> dict[str, Any]:
    if isinstance(peer, BlockPeer):
        block: dict[str, Any] = {"cidr": peer.cidr}
        if peer.excepted:
            block["except"] = list(peer.excepted)
        return {"ipBlock": block}
    if isinstance(peer, EntityPeer):
        raise RenderError(f"no NetworkPolicy names {peer.name}", where=TEMPLATE, hint="report this as a bug")
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": peer.namespace}},
        "podSelector": {"matchLabels": dict(peer.selector)} if peer.selector else {},
    }
