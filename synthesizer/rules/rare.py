"""A single connection is intended only if something else vouches for it.

Invariant: rarity alone never holds a line back.
"""

from __future__ import annotations

from collector.direction import EPHEMERAL
from synthesizer.lines import Line
from synthesizer.party import Outside, Place
from synthesizer.rules.view import Held, View, answers, from_internet, single


def one_off(line: Line, view: View) -> Held | None:
    """Hold a single connection, unless its port is declared, used by others, or all that the destination serves."""
    if view.vouched(line) or not single(line):
        return None
    if isinstance(line.destination, Outside):
        if line.destination.place is not Place.EXTERNAL or line.evidence.names:
            return None
        return Held("one-off", "a single connection to an address outside; a longer window would settle it")
    if from_internet(line):
        return Held("one-off", "a single connection from outside, where a rule would let in the whole internet")
    if isinstance(line.source, Outside) and line.source.place in (Place.OWN_NODE, Place.PROBE):
        return None
    if line.port < EPHEMERAL and view.only_port(line) and (answers(line) or line.standing.value != "inferred"):
        return None
    return Held(
        "one-off",
        "a single connection to a port that is not declared and that nobody else uses; a longer window would settle it",
    )
