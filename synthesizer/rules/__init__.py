"""What observed traffic becomes: policy, or a question to a person. One idea a module, asked in the order of `RULES`.

Invariant: frequency alone never approves and rarity alone never condemns. A rule looks at one line in view of all others
and either holds it back, with the reason, or passes; a line that no rule holds back becomes policy.
"""

from __future__ import annotations

from collections.abc import Callable

from synthesizer.lines import Line
from synthesizer.rules import hostile, places, rare, standing
from synthesizer.rules.view import Held, View

RULES: tuple[Callable[[Line, View], Held | None], ...] = (
    standing.denied,
    standing.direction_open,
    hostile.cloud_metadata,
    places.unresolved,
    places.other_cluster,
    standing.unanswered,
    hostile.scanning,
    places.nodes,
    places.cilium_entities,
    places.unselectable,
    rare.one_off,
)


def judge(line: Line, view: View) -> Held | None:
    """The first objection to a line; None when it may become policy."""
    return next((held for rule in RULES if (held := rule(line, view)) is not None), None)
