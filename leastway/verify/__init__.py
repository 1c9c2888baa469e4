"""The judge: reads rendered Kubernetes and Istio policy and decides, sharing no code with what writes policy.

    world = World.from_paths(["cluster.yaml"])
    judge = Judge(world, load_policies("policies"), cni="cilium")
    judge.ask(Question("shop/web", "shop/api", port=8080)).because
    prove(judge, [Observed("shop/web", "shop/api", "TCP", 8080)])["sound"]

Invariant: nothing here imports the synthesizer or the collector, so an error there cannot hide in the proof.
docs/judge.md shows each step. Names are imported when they are first used, so that a command pays for its own only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leastway.verify.errors import PolicyError
    from leastway.verify.judge import Judge, Question
    from leastway.verify.minimality import redundant_parts
    from leastway.verify.overpermission import OverPermission, over_permission
    from leastway.verify.policies import PolicySet, load_policies
    from leastway.verify.proof import prove
    from leastway.verify.soundness import Observed, Replay, replay
    from leastway.verify.verdict import Verdict
    from leastway.verify.world import World

_HOMES = {
    "Judge": "judge",
    "Observed": "soundness",
    "OverPermission": "overpermission",
    "PolicyError": "errors",
    "PolicySet": "policies",
    "Question": "judge",
    "Replay": "soundness",
    "Verdict": "verdict",
    "World": "world",
    "load_policies": "policies",
    "over_permission": "overpermission",
    "prove": "proof",
    "redundant_parts": "minimality",
    "replay": "soundness",
}

__all__ = [
    "Judge",
    "Observed",
    "OverPermission",
    "PolicyError",
    "PolicySet",
    "Question",
    "Replay",
    "Verdict",
    "World",
    "load_policies",
    "over_permission",
    "prove",
    "redundant_parts",
    "replay",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
