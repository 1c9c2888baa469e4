"""`leastway verify`: observed traffic against policies, ours or anyone's.

Invariant: exit code 0 means that the policies are sound and within the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from leastway import pipeline
from leastway.cli.exit_codes import DENIED, FAILED
from leastway.cli.options import (
    accept_option,
    bad_lines_option,
    declared_option,
    format_option,
    inventory_option,
    not_empty,
    profile_options,
)
from leastway.cli.output import counted, say, tell, tell_json, tell_some
from leastway.cli.policies import load
from leastway.cli.proof import tell_bad_lines, tell_proof
from leastway.cli.replayed import read_observed


@click.command("verify")
@click.argument("policies", metavar="POLICIES", callback=not_empty)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", callback=not_empty)
@inventory_option
@profile_options
@accept_option
@declared_option
@click.option(
    "--max-over-permission",
    type=click.IntRange(min=0),
    metavar="N",
    help="Exit with 3 if more than N connections are allowed beyond what was observed.",
)
@bad_lines_option
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    policies: str,
    inputs: tuple[str, ...],
    inventories: tuple[str, ...],
    cni: str | None,
    mesh: str | None,
    trust_domain: str | None,
    accepted: tuple[str, ...],
    declared: str | None,
    max_over_permission: int | None,
    max_bad_lines: float,
    form: str,
) -> None:
    """Replay observed traffic against policies: what they would deny, and what they allow beyond it, by cause.

    POLICIES is a file or folder of YAML. If `leastway generate` wrote it, its options are the defaults here. INPUT is
    as in `leastway generate`.

    \b
    leastway verify policies flows.jsonl --inventory cluster.yaml --max-over-permission 20
    """
    judged = load(policies)
    observation = read_observed(judged, inputs, inventories, cni, mesh, trust_domain, accepted, declared)
    too_bad = tell_bad_lines(observation.reading, max_bad_lines)
    proof = pipeline.verify(judged.found, observation)
    if form == "json":
        tell_json(proof)
    else:
        tell_proof(proof)
        _tell_profiles(proof)
    total = proof["over_permission"]["total"]
    over = max_over_permission is not None and total > max_over_permission
    if over:
        beyond = f"{counted(total, 'connection')} beyond what was observed"
        say(f"the policies allow {beyond} — --max-over-permission is {max_over_permission}")
    ctx.exit(DENIED if over or not proof["sound"] else FAILED if too_bad else 0)


def _tell_profiles(proof: Mapping[str, Any]) -> None:
    """What the same policies do under the other CNIs, where that differs."""
    for cni, result in sorted(proof.get("profiles", {}).items()):
        if result["allowed"] != proof["allowed"]:
            tell(f"Under {cni}: {counted(len(result['denied']), 'observed connection')} would be denied")
            tell_some(f"{e['from']} → {e['to']} {e['port']}/{e['protocol']}: {e['because']}" for e in result["denied"])
