"""`leastway generate`: captures in, proven policies out.

Invariant: exit code 0 means that what was written allows all legitimate observed traffic.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click
import msgspec

from collector.errors import SourceError
from collector.reading import Engine, Reading
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
from leastway.cli.progress import Meter
from leastway.cli.proof import bad_lines, tell_bad_lines, tell_proof
from leastway.export.folder import REVIEW, Changes, write
from synthesizer import synthesize
from synthesizer.options import CNI, Mesh, Options

_ended: list[pipeline.Run] = []  # kept until the process ends: freeing a run takes as long as writing it


@click.command("generate")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", callback=not_empty)
@click.option(
    "-o", "--output", "folder", required=True, metavar="DIR", callback=not_empty, help="Folder for the policies."
)
@inventory_option
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NS",
    callback=not_empty,
    help="Write policies for this one only. Repeatable.",
)
@profile_options
@accept_option
@declared_option
@click.option(
    "--templates", metavar="DIR", callback=not_empty, help="Folder of templates to search before the built-in ones."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="Who reads the captures: this machine, or the workers of a Dask cluster, a file each.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Dask's scheduler, tcp://HOST:8786.  [default: workers on this machine]"
)
@bad_lines_option
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    folder: str,
    inventories: tuple[str, ...],
    mesh: Mesh | None,
    templates: str | None,
    engine: str,
    scheduler: str | None,
    max_bad_lines: float,
    form: str,
    **chosen: Any,
) -> None:
    """Write the smallest policies that let observed traffic through, and prove it.

    INPUT is a capture file, a folder of them, a pattern store, an fsspec URL, or - for standard input: Hubble flows,
    Envoy and ztunnel access logs, plain, .gz or .zst.

    \b
    leastway generate flows.jsonl --inventory cluster.yaml --cni cilium -o policies
    """
    options = _options(**chosen)
    ctx.with_resource(pipeline.collector_paused())  # until the end: it would go through all that a run made
    with Meter(inputs) as meter, _engine(engine, scheduler or "") as elsewhere:
        run = pipeline.generate(
            inputs, inventories, options, mesh=mesh, templates=templates, progress=meter, engine=elsewhere
        )
    _ended[:] = [run]
    seen = bool(run.reading.patterns.edges)
    too_bad = tell_bad_lines(run.reading, max_bad_lines if seen else 1.0)
    if not seen:
        raise nothing_seen(inputs, run.reading)
    _check_namespaces(run, options.namespaces)
    if mesh is None:
        say(f"mesh {run.options.mesh}, by the kinds of records in the input (--mesh to choose)")
    _tell_accepted(run)
    _finish(ctx, run, folder, form)
    ctx.exit(FAILED if too_bad else 0)


def _options(
    namespaces: tuple[str, ...],
    cni: str | None,
    trust_domain: str | None,
    accepted: tuple[str, ...],
    declared: str | None,
) -> Options:
    return Options(
        cni=cast(CNI, cni or "generic"),
        trust_domain=trust_domain or "",
        namespaces=namespaces,
        accepted=frozenset(accepted),
        declared=pipeline.declared(declared) if declared else (),
    )


def _engine(name: str, scheduler: str) -> contextlib.AbstractContextManager[Engine | None]:
    if name == "local":
        if scheduler:
            raise click.BadParameter("it needs --engine dask", param_hint="'--scheduler'")
        return contextlib.nullcontext()
    from collector.dask_engine import dask

    return dask(scheduler)


def _finish(ctx: click.Context, run: pipeline.Run, folder: str, form: str) -> None:
    """Write the files and report on them; exit if the proof failed."""
    changes = write(run.files, Path(folder))
    if form == "json":
        tell_json(_result(run, changes, folder))
    else:
        _tell(run, changes, folder)
    if not run.sound:
        because = "do not apply them — what is denied is listed above"
        say(f"the policies in {folder} would deny observed traffic — {because}")
        ctx.exit(DENIED)


def nothing_seen(inputs: Sequence[str], reading: Reading) -> SourceError:
    """The error for inputs without a single connection; it names what their records were, if there were any."""
    shown = ", ".join(inputs[:5]) + (" ..." if len(inputs) > 5 else "")
    skipped = ", ".join(f"{counted(n, 'record')}: {why}" for why, n in reading.patterns.quality.skipped.items()[:3])
    what = f"no connection was observed ({skipped})" if skipped else "no connection was observed"
    return SourceError(what, where=shown, hint="is this the right capture, with all of its fields? nothing was written")


def _check_namespaces(run: pipeline.Run, wanted: Sequence[str]) -> None:
    """Tell of namespaces without a known workload. If all are, it is an error: a slip must not empty a folder."""
    known = {workload.namespace for workload in run.synthesis.workloads.all}
    unknown = sorted(set(wanted) - known)
    hint = "check the name, or give an --inventory that holds it"
    if unknown and not known & set(wanted):
        where = " ".join(f"--namespace {name}" for name in unknown[:5])
        raise SourceError("no workload of this namespace is known", where=where, hint=f"{hint}; nothing was written")
    for name in unknown:
        say(f"--namespace {name}: no workload of this namespace is known — {hint}")


def _tell_accepted(run: pipeline.Run) -> None:
    """Say which --accept ids had no effect: a wrong id must not look like a decision."""
    if not run.options.accepted:
        return
    unaccepted = msgspec.structs.replace(run.options, accepted=frozenset())
    without = synthesize(run.reading.patterns, run.inventory, unaccepted)
    items = {item.id: item for item in (*without.review, *run.synthesis.review)}
    for name in sorted(run.options.accepted):
        item = items.get(name)
        if item is None:
            say(f"--accept {name} matches no review item — check the id in REVIEW.md")
        elif not item.acceptable:
            say(f"--accept {name} has no effect — {item.what}: this cannot become a policy")


def _result(run: pipeline.Run, changes: Changes, folder: str) -> dict[str, Any]:
    return {
        "folder": folder,
        "mesh": run.options.mesh,
        "proof": run.proof,
        "review": dict(sorted(_review(run).items())),
        "findings": run.findings,
        "bad_lines": bad_lines(run.reading),
        "formats": run.reading.formats,
        **changes._asdict(),
    }


def _review(run: pipeline.Run) -> Counter[str]:
    return Counter(item.kind for item in run.synthesis.review)


def _tell(run: pipeline.Run, changes: Changes, folder: str) -> None:
    policies = sum(manifest.kind != "Kustomization" for manifest in run.synthesis.manifests)
    tell_proof(run.proof)
    review = _review(run)
    if review:
        tell(f"{counted(review.total(), 'item')} held back for you to decide, in {Path(folder) / REVIEW}:")
        tell_some(f"{count:>8}  {kind}" for kind, count in sorted(review.items()))
    for sentence in run.findings:
        tell(f"note: {sentence}")
    told = [
        f"{counted(policies, 'policy')} in {folder}",
        f"{len(changes.written)} written",
        f"{len(changes.unchanged)} unchanged",
        f"{len(changes.removed)} removed",
    ]
    tell(", ".join(told))
    for path in changes.kept:
        say(f"{path} is no longer produced, but it was changed since — it was left alone")
