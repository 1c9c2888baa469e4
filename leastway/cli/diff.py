"""`leastway diff`: two policy sets compared by what they let through.

Invariant: exit code 3 means that the new set would deny something observed that the old one allows.
"""

from __future__ import annotations

from typing import Any

import click

from leastway.cli.exit_codes import DENIED, FAILED
from leastway.cli.options import bad_lines_option, format_option, inventory_option, not_empty, profile_options
from leastway.cli.output import SHOWN, counted, tell, tell_json
from leastway.cli.policies import Policies, load, mesh_for
from leastway.cli.proof import tell_bad_lines
from leastway.cli.replayed import read_observed
from leastway.pipeline import Observation
from leastway.verify.difference import Change, Changes, Difference, difference, unmanaged
from leastway.verify.judge import Judge
from leastway.verify.soundness import replay
from leastway.verify.world import World


@click.command("diff")
@click.argument("old", metavar="OLD", callback=not_empty)
@click.argument("new", metavar="NEW", callback=not_empty)
@click.argument("inputs", nargs=-1, metavar="[INPUT...]", callback=not_empty)
@inventory_option
@profile_options
@bad_lines_option
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    old: str,
    new: str,
    inputs: tuple[str, ...],
    inventories: tuple[str, ...],
    cni: str | None,
    mesh: str | None,
    trust_domain: str | None,
    max_bad_lines: float,
    form: str,
) -> None:
    """Show which connections two policy sets let through differently, among all who exist.

    OLD and NEW are files or folders of YAML. With INPUT, captures as in `leastway generate`, say which of the newly
    denied connections were observed; if any were, exit with 3.

    \b
    leastway diff policies-today policies --inventory cluster.yaml flows.jsonl
    """
    if not inventories:
        raise click.UsageError("Missing option '--inventory': the judge must know who exists.")
    before, after = load(old), load(new)
    too_bad, observation = False, None
    if inputs:
        observation = read_observed(after, inputs, inventories, cni, mesh, trust_domain)
        too_bad = tell_bad_lines(observation.reading, max_bad_lines)
    judges = _judges(before, after, observation, inventories, cni, mesh, trust_domain)
    found = difference(*judges)
    broken = _broken(*judges, observation) if observation is not None else []
    if form == "json":
        tell_json(_result(found, broken if observation is not None else None))
    else:
        _tell(found, broken, observation is not None)
    ctx.exit(DENIED if broken else FAILED if too_bad else 0)


def _judges(
    before: Policies,
    after: Policies,
    observation: Observation | None,
    inventories: tuple[str, ...],
    cni: str | None,
    mesh: str | None,
    trust_domain: str | None,
) -> tuple[Judge, Judge]:
    """The judges of both sets, in one world and in the profile of the new set.

    Policies of the inventory that are in neither set count for both.
    """
    if observation is not None:
        world, mode = observation.world, observation.options.mesh
    else:
        world = World.from_paths(inventories)
        mode = mesh_for(after if after.istio or after.record else before, world, mesh)
    world.policies = unmanaged(world.policies, before.found, after.found)
    settings = (after.cni(cni), mode, after.trust_domain(trust_domain))
    return Judge(world, before.found, *settings), Judge(world, after.found, *settings)


def _broken(before: Judge, after: Judge, observation: Observation) -> list[dict[str, Any]]:
    """Observed connections that only the new set denies."""
    keys = ("from", "to", "protocol", "port", "method", "path")
    already = {tuple(entry[key] for key in keys) for entry in replay(before, observation.observed).denied}
    return [e for e in replay(after, observation.observed).denied if tuple(e[key] for key in keys) not in already]


def _result(found: Difference, broken: list[dict[str, Any]] | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        kind: {"total": changes.total, "connections": [change.entry() for change in changes.listed]}
        for kind, changes in (("allowed", found.allowed), ("denied", found.denied))
    }
    if found.incomplete:
        result["incomplete"] = found.incomplete
    return result if broken is None else {**result, "observed": broken}


def _tell(found: Difference, broken: list[dict[str, Any]], observed: bool) -> None:
    if found.empty and not broken:
        compared = " (as far as compared)" if found.incomplete else ""
        tell(f"no difference: both let the same connections through{compared}")
    else:
        tell(f"{counted(found.allowed.total, 'connection')} newly allowed, {found.denied.total} newly denied")
    if observed:
        tell(f"{len(broken)} of the observed connections would be newly denied")
    for entry in broken[:SHOWN]:
        request = f" {entry['method']} {entry['path']}".rstrip()
        tell(f"! {entry['from']} → {entry['to']} {entry['port']}/{entry['protocol']}{request}: {entry['because']}", 2)
    if found.incomplete:
        shown = ", ".join(found.incomplete[:5])
        tell(f"more requests than can be tried, so that some changes may be missing: {shown}", 2)
    for sign, changes in (("+", found.allowed), ("-", found.denied)):
        _tell_changes(sign, changes)


def _tell_changes(sign: str, changes: Changes) -> None:
    for change in changes.listed[:SHOWN]:
        tell(f"{sign} {change.source} → {change.destination} {_port(change)}", 2)
    if changes.total > SHOWN:
        tell(f"{sign} and {changes.total - SHOWN} more (--format json lists the first {len(changes.listed)})", 2)


def _port(change: Change) -> str:
    shown = {
        "port": f"{change.port}/{change.protocol}",
        "range": f"{change.port}-{change.last}/{change.protocol}",
        "other": f"every other {change.protocol} port",
    }[change.ports]
    return f"{shown} {change.method} {change.path}".rstrip()
