"""What `verify` and `diff` replay: the inputs, read and settled with the options that the policies were made with.

Invariant: policies that leastway wrote are judged by what `generate` would conclude from the same inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from leastway import pipeline
from leastway.cli.generate import nothing_seen
from leastway.cli.output import say
from leastway.cli.policies import Policies, detected
from leastway.cli.progress import Meter
from synthesizer.options import Options


def read_observed(
    policies: Policies,
    inputs: Sequence[str],
    inventories: Sequence[str],
    cni: str | None,
    mesh: str | None,
    trust_domain: str | None,
    accepted: Sequence[str] = (),
    declared: str | None = None,
) -> pipeline.Observation:
    """Read the inputs, and tell the user which mesh they are judged in. Raises SourceError if nothing was observed."""
    record = policies.record
    options = Options(
        cni=policies.cni(cni),
        trust_domain=policies.trust_domain(trust_domain),
        namespaces=record.options_list("namespaces") if record else (),
        accepted=frozenset(accepted) | frozenset(record.options_list("accepted") if record else ()),
        declared=pipeline.declared(declared) if declared else (),
    )
    chosen = policies.mesh(mesh)
    with Meter(inputs) as meter:
        found = pipeline.observe(inputs, inventories, options, mesh=chosen, everywhere=record is None, progress=meter)
        if chosen is None and found.options.mesh == "none" and (needed := detected(policies, found.world)) != "none":
            found = pipeline.observation_of(found.reading, found.inventory, options, needed, record is None)
    if not found.reading.patterns.edges:
        raise nothing_seen(inputs, found.reading)
    if mesh is None:
        why = "as when the policies were generated" if chosen else "by what the input and the policies hold"
        say(f"mesh {found.options.mesh}, {why} (--mesh to choose)")
    return found
