"""`leastway can`: questions to the judge, one or many.

Invariant: with --queries, each line in gives one line out, in order, with a verdict, whatever the lines hold.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from collector.errors import SourceError
from leastway.cli.exit_codes import DENIED, FAILED
from leastway.cli.options import format_option, inventory_option, not_empty, profile_options
from leastway.cli.output import SHOWN, counted, say, tell, tell_json
from leastway.cli.policies import load, mesh_for
from leastway.verify.can import answer_line
from leastway.verify.judge import Judge, Question
from leastway.verify.world import World


@click.command("can")
@click.argument("policies", metavar="POLICIES", callback=not_empty)
@inventory_option
@click.option("--from", "source", metavar="NS/POD", help="Workload or pod that opens the connection, or an IP address.")
@click.option("--to", "destination", metavar="NS/POD", help="Workload or pod that it goes to, or an IP address.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the pod, not of a Service.")
@click.option("--protocol", default="TCP", show_default=True, help="TCP, UDP or SCTP.")
@click.option(
    "--principal", metavar="SPIFFE", help="Identity of the source; empty means plaintext.  [default: its own]"
)
@click.option("--method", default="", help="HTTP method; makes the connection a request.")
@click.option("--path", default="", help="HTTP path; makes the connection a request.")
@click.option("--direct", is_flag=True, help="To the pod itself, past the ambient waypoint of its Service.")
@click.option("--service", metavar="NS/NAME", default="", help="The Service called, where several lead to the port.")
@click.option(
    "--queries",
    metavar="FILE",
    callback=not_empty,
    help="Many questions, one JSON object a line; - for standard input.",
)
@profile_options
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    policies: str,
    inventories: tuple[str, ...],
    queries: str | None,
    cni: str | None,
    mesh: str | None,
    trust_domain: str | None,
    form: str,
    **asked: Any,
) -> None:
    """Ask whether one connection is allowed, and by which rule.

    Exits with 0 for allow and 3 for deny or undefined; with --queries, with 0 whatever the verdicts.

    \b
    leastway can policies --inventory cluster.yaml --from shop/web --to shop/api --port 8080
    leastway can policies --inventory cluster.yaml --queries questions.jsonl
    """
    if not inventories:
        raise click.UsageError("Missing option '--inventory': the judge must know who exists.")
    question = _question(asked, queries)
    judged = load(policies)
    world = World.from_paths(inventories)
    mode = mesh_for(judged, world, mesh)
    judge = Judge(world, judged.found, judged.cni(cni), mode, judged.trust_domain(trust_domain))
    if queries is not None:
        ctx.exit(FAILED if _answer_all(judge, queries) else 0)
    verdict = judge.ask(question)
    if form == "json":
        tell_json({"verdict": verdict.outcome, "because": verdict.because, "layer": verdict.layer})
    else:
        tell(f"{verdict.outcome}: {verdict.because}")
    ctx.exit(0 if verdict.allowed else DENIED)


def _question(asked: dict[str, Any], queries: str | None) -> Question:
    """The question that the options ask; with `queries` there must be none."""
    ends = {"--from": asked["source"], "--to": asked["destination"], "--port": asked["port"]}
    given = [name for name, value in ends.items() if value is not None]
    missing = [name for name in ends if name not in given]
    if queries is not None and given:
        raise click.UsageError(f"{given[0]} and --queries exclude each other.")
    if queries is None and missing:
        raise click.UsageError(f"Missing option '{missing[0]}' (or '--queries' for many questions).")
    known = {name: value for name, value in asked.items() if value is not None}
    return Question(**{"source": "", "destination": "", **known, "protocol": asked["protocol"].upper()})


def _answer_all(judge: Judge, queries: str) -> int:
    """Answer every line of a file; returns how many lines were no questions."""
    unreadable = 0
    with _lines(queries) as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            found, readable = answer_line(judge, text)
            click.echo(json.dumps(found, ensure_ascii=True))
            if not readable:
                unreadable += 1
                if unreadable <= SHOWN:
                    say(f"{queries}:{number} {found['because']}")
    if unreadable:
        say(f"{counted(unreadable, 'line')} of {queries} cannot be read as a question — the answer is undefined")
    return unreadable


@contextmanager
def _lines(name: str) -> Iterator[Iterable[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(name).open("rb")  # noqa: SIM115  # closed below; the except is for opening only
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=name, hint="check --queries") from error
    with stream:
        yield stream
