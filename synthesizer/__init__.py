"""Patterns in, manifests out. Pure: no network, no clock, no cluster, no randomness.

Invariant: the same patterns, inventory and options give the same bytes. `synthesize` is the whole algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from collector.errors import RenderError
from collector.patterns import Patterns
from synthesizer import outputs
from synthesizer.access import access_intents
from synthesizer.decisions import Decisions, decide
from synthesizer.inventory import Inventory
from synthesizer.lines import conclude, lines
from synthesizer.manifest import Manifest
from synthesizer.network import NetworkLayer, network_intents
from synthesizer.options import Options
from synthesizer.outputs import kustomization
from synthesizer.render import Renderer
from synthesizer.review import ReviewItem
from synthesizer.workloads import Workloads

__all__ = ["Options", "Synthesis", "synthesize"]


class Synthesis(msgspec.Struct):
    """The result: what to write, what to ask, and the decisions behind both. `mistaken` is as in `Settled`."""

    manifests: list[Manifest]
    review: list[ReviewItem]
    decisions: Decisions
    workloads: Workloads
    mistaken: int


Each = Callable[[Callable[[outputs.Intent], Manifest], Sequence[outputs.Intent]], list[Manifest]]


def _in_turn(write: Callable[[outputs.Intent], Manifest], intents: Sequence[outputs.Intent]) -> list[Manifest]:
    return [write(intent) for intent in intents]


def synthesize(
    patterns: Patterns,
    inventory: Inventory,
    options: Options,
    renderer: Renderer | None = None,
    each: Each = _in_turn,
) -> Synthesis:
    """Turn an observation into policy.

    The steps: who is who, who talks to whom, what of that is intended, what it means for each workload, and how it is
    written. `each` renders the intents; callers may spread that over processors. Raises RenderError if a template does
    not say what was decided.
    """
    renderer = renderer or Renderer()
    workloads = Workloads(patterns, inventory, options.mesh)
    # An access log shows neither UDP nor what bypasses the proxy: isolating pods on its word alone would cut both off.
    flows = "hubble" in patterns.quality.records
    settled = conclude(patterns, workloads)
    found = lines(settled, patterns.sightings, workloads, inventory)
    decided = decide(found, workloads, options, network=flows)
    network = network_intents(decided, workloads, inventory, options) if flows else NetworkLayer([], [])
    access = access_intents(decided, workloads, inventory, options)
    intents: list[outputs.Intent] = [*network.intents, *access.intents, *access.mutual_tls]
    manifests = each(partial(outputs.manifest, renderer=renderer), intents)
    manifests += [
        kustomization.manifest(namespace, manifests, renderer) for namespace in sorted({m.namespace for m in manifests})
    ]
    if len({manifest.path for manifest in manifests}) < len(manifests):
        raise RenderError("two policies would be written to one file", where="synthesis", hint="report this as a bug")
    review = {item.id: item for item in (*decided.review, *network.review, *access.review)}
    return Synthesis(
        sorted(manifests, key=lambda m: m.path),
        sorted(review.values(), key=lambda item: (item.kind, item.subject, item.what, item.id)),
        decided,
        workloads,
        settled.mistaken,
    )
