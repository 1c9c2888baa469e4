"""CiliumNetworkPolicy (cilium.io/v2), for Cilium's entities only: what a NetworkPolicy cannot name there.

Invariant: it adds to the workload's NetworkPolicy and isolates nothing more, for Cilium joins the rules of both kinds.
Source: Cilium, "Layer 3 Policies" and "Layer 4 Policies".
"""

from __future__ import annotations

from typing import Any

from synthesizer.intent import EntityIntent, EntityPeer, Port, Rule
from synthesizer.manifest import Manifest, checked
from synthesizer.render import Renderer

TEMPLATE = "cilium.io/ciliumnetworkpolicy.yaml.j2"
_ENDS = {"ingress": "fromEntities", "egress": "toEntities"}
MOST_PORTS = 40  # in one entry of toPorts (Cilium, pkg/policy/api)


def manifest(intent: EntityIntent, renderer: Renderer) -> Manifest:
    """Render one CiliumNetworkPolicy and read it back."""
    spec = document(intent)["spec"]
    causes = {direction: [rule.cause for rule in _of(intent, direction)] for direction in _ENDS}
    sections = [
        (direction, ends, list(zip(causes[direction], spec[direction], strict=True)))
        for direction, ends in _ENDS.items()
        if direction in spec
    ]
    text = renderer.render(TEMPLATE, intent=intent, sections=sections)
    path = f"{intent.target.namespace}/ciliumnetworkpolicy-{intent.target.name}.yaml"
    return checked(path, text, document(intent), TEMPLATE)


def document(intent: EntityIntent) -> dict[str, Any]:
    """The object that an intent means."""
    spec: dict[str, Any] = {"endpointSelector": {"matchLabels": dict(intent.target.selector)}}
    for direction, ends in _ENDS.items():
        if rules := _of(intent, direction):
            spec[direction] = [_rule(rule, ends) for rule in rules]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": intent.target.name, "namespace": intent.target.namespace},
        "spec": spec,
    }


def _of(intent: EntityIntent, direction: str) -> list[Rule]:
    return [rule for rule in intent.rules if rule.direction == direction]


def _rule(rule: Rule, ends: str) -> dict[str, Any]:
    listed = [rule.ports[start : start + MOST_PORTS] for start in range(0, len(rule.ports), MOST_PORTS)]
    return {
        ends: [peer.name for peer in rule.peers if isinstance(peer, EntityPeer)],
        "toPorts": [{"ports": [_port(port) for port in ports]} for ports in listed],
    }


def _port(port: Port) -> dict[str, str]:
    return {"port": str(port.number), "protocol": port.protocol}
