"""The proof: soundness, over-permission and minimality in one JSON object, and the same for a terminal.

Invariant: same policies, same traffic, same bytes. The keys of `prove` are a stable contract (docs/cli.md): keys may be
added, but never removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

from leastway.verify.errors import line, wrapped
from leastway.verify.judge import Judge
from leastway.verify.networkpolicy import CNIS
from leastway.verify.overpermission import OverPermission, over_permission
from leastway.verify.soundness import Observed, Replay, replay

MANY = 2000  # connections and requests beyond which a second process pays
LONGEST = 2000  # characters of one piece of text
SHOWN = 20  # denied connections and redundant parts that the text rendering lists
Proof = dict[str, Any]
T = TypeVar("T")


class Beside(Protocol):
    """Starts work beside other work, if that is `worth` it; the function returned waits for the result."""

    def __call__(self, work: Callable[[], T], *, worth: bool) -> Callable[[], T]:
        """Start it."""


def _afterwards(work: Callable[[], T], *, worth: bool) -> Callable[[], T]:  # noqa: ARG001  # the signature is `Beside`
    return work


def prove(
    judge: Judge,
    observed: Iterable[Observed],
    *,
    minimality: bool = True,
    profiles: bool = False,
    beside: Beside = _afterwards,
) -> Proof:
    """Replay, measure and, unless told not to, look for rule parts that nothing needs.

    Keys: `sound`, `observed`, `allowed`, `held`, `denied`, `over_permission` (`total`, `by_cause`, `by_workload`,
    `addresses`, `examples`, `left_out`, and `incomplete` if anything is), `redundant`, `unjudged` (policies that the
    judge does not model or the CNI does not enforce), `cni`, `mesh`; with `profiles` also `profiles`: per other CNI its
    `sound`, `allowed` and `denied` connections.
    `beside` may spread the measures over processors; it is passed in because the judge shares no code with others.
    """
    items = list(observed)
    worth = len(items) > MANY
    beyond = beside(partial(over_permission, judge, items), worth=worth)
    redundant = beside(partial(_redundant, judge, items), worth=worth) if minimality else list
    result = replay(judge, items)
    others = [cni for cni in CNIS if cni != judge.cni] if profiles else []
    profiled = {cni: _profile(judge.under(cni), items) for cni in others}
    proof = _proof(judge, result, beyond(), redundant())
    return {**proof, "profiles": profiled} if profiles else proof


def _proof(judge: Judge, result: Replay, beyond: OverPermission, redundant: list[dict[str, str]]) -> Proof:
    return {
        "sound": result.sound,
        "observed": result.observed,
        "allowed": result.allowed,
        "held": result.held,
        "denied": list(result.denied),
        "over_permission": {
            "total": beyond.total,
            "by_cause": beyond.by_cause,
            "by_workload": beyond.by_workload,
            "addresses": beyond.addresses,
            "examples": beyond.examples,
            "left_out": beyond.left_out,
            **({"incomplete": beyond.incomplete} if beyond.incomplete else {}),
        },
        "redundant": redundant,
        "unjudged": sorted({*judge.policies.unjudged, *judge.network.unenforced}),
        "cni": judge.cni,
        "mesh": judge.mesh.mode,
    }


def _redundant(judge: Judge, items: list[Observed]) -> list[dict[str, str]]:
    from leastway.verify.minimality import redundant_parts

    return redundant_parts(judge, items)


def _profile(judge: Judge, items: list[Observed]) -> dict[str, Any]:
    result = replay(judge, items)
    keys = ("from", "to", "protocol", "port", "outcome", "because")
    return {
        "sound": result.sound,
        "allowed": result.allowed,
        "denied": [{key: entry[key] for key in keys} for entry in result.denied],
    }


def render(proof: Proof, width: int = 100) -> str:
    """The proof for a terminal of `width` columns; the first line begins with the result."""
    text = _Text(width)
    text.add(headline(proof))
    for entry in proof["denied"][:SHOWN]:
        request = f" {entry['method']} {entry['path']}".rstrip()
        text.add(f"{entry['outcome']} {entry['from']} → {entry['to']} {entry['port']}/{entry['protocol']}{request}", 2)
        text.add(f"because {entry['because']}", 6)
        if entry["nearest"]:
            text.add(f"nearest {entry['nearest']}", 6)
    if len(proof["denied"]) > SHOWN:
        text.add(f"and {len(proof['denied']) - SHOWN} more (--format json lists them all)", 2)
    beyond = proof["over_permission"]
    text.add(f"Allowed beyond what was seen: {beyond['total']}")
    text.lines += [f"  {number:>8} {cause}" for cause, number in beyond["by_cause"].items()]
    worst = sorted(beyond["by_workload"].items(), key=lambda item: (-item[1], item[0]))[:5]
    if worst:
        text.add("most at " + ", ".join(f"{ref} ({number})" for ref, number in worst), 2)
    if proof["redundant"]:
        text.add(f"Parts that no observed traffic needs: {len(proof['redundant'])}")
        for part in proof["redundant"][:SHOWN]:
            text.add(f"{part['policy']}: {part['part']}", 2)
    if beyond.get("incomplete"):
        text.add(f"More requests than can be tried, so that less is counted: {', '.join(beyond['incomplete'][:5])}")
    if proof["unjudged"]:
        text.add(f"Not judged, and not counted on: {', '.join(proof['unjudged'][:5])}")
    return "\n".join(text.lines) + "\n"


class _Text:
    """Lines of at most so many columns."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[str] = []

    def add(self, text: str, indent: int = 0) -> None:
        self.lines.append(wrapped(line(text, LONGEST), self.width, indent, 2))


def headline(proof: Proof) -> str:
    """The result in one line."""
    held = f", {proof['held']} held for review" if proof["held"] else ""
    beyond = f"{proof['over_permission']['total']} allowed beyond them"
    count = f"{proof['allowed']} of {proof['observed']} observed connections allowed{held}"
    if proof["sound"]:
        return f"SOUND: {count}; {beyond}"
    denied = len(proof["denied"])
    return f"NOT SOUND: {denied} observed connection{'' if denied == 1 else 's'} would be denied ({count}); {beyond}"
