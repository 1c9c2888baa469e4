"""What observed traffic becomes: policy, or a question to a person. One idea per module, in the order of `RULES`.

Invariant: frequency alone never approves, and rarity alone never condemns. A rule looks at one line in view of all
others, and holds it back with a reason or lets it pass; a line that no rule holds back becomes policy.
"""

from __future__ import annotations

from collections.abc import Callable

from synthesizer.lines import Line
from synthesizer.rules import hostile, places, rare, standing
from synthesizer.rules.view import Held, View

_Rule = Callable[[Line, View], Held | None]

RULES: tuple[_Rule, ...] = (
    standing.denied,
    standing.direction_open,
    hostile.cloud_metadata,
    places.unresolved,
    standing.unanswered,
    hostile.scanning,
    rare.one_off,
)

# What is intended, but NetworkPolicy cannot express, on this CNI or on any; the identity layer may still name it.
NETWORK_RULES: tuple[_Rule, ...] = (
    places.other_cluster,
    places.through_waypoint,
    places.nodes,
    places.cilium_entities,
    places.unselectable,
)


def objection(line: Line, view: View, rules: tuple[_Rule, ...] = RULES) -> Held | None:
    """The first objection to a line; None when it may become policy."""
    for rule in rules:
        held = rule(line, view)
        if held is not None:
            return held
    return None
