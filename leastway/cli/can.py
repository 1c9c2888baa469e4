"""`leastway can`: questions to the judge, one or many.

Invariant: with --queries, one line out for each line in, in order, whatever the lines hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from collector.errors import SourceError
from leastway.cli.options import format_option, inventory_option, profile_options
from leastway.cli.output import say, tell, tell_json
from leastway.cli.policies import load, mesh_for
from leastway.verify.errors import PolicyError
from leastway.verify.judge import Judge, Question
from leastway.verify.verdict import Verdict
from leastway.verify.world import World

DENIED = 3
PORTED = ("TCP", "UDP", "SCTP")
LIMIT = 1 << 20  # bytes of one query


@click.command("can")
@click.argument("policies", metavar="POLICIES")
@inventory_option
@click.option("--from", "source", metavar="NS/POD", help="Workload or pod that opens the connection, or an IP address.")
@click.option("--to", "destination", metavar="NS/POD", help="Workload or pod that it goes to, or an IP address.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the pod, not of a Service.")
@click.option("--protocol", default="TCP", show_default=True, help="TCP, UDP or SCTP.")
@click.option("--principal", metavar="SPIFFE", help="Identity of the source; empty means plaintext.  [default: its own]")
@click.option("--method", default="", help="HTTP method, which makes it a request.")
@click.option("--path", default="", help="HTTP path, which makes it a request.")
@click.option("--queries", metavar="FILE.jsonl", help="Many questions, one JSON object a line; - for standard input.")
@profile_options
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    policies: str,
    inventories: tuple[str, ...],
    source: str | None,
    destination: str | None,
    port: int | None,
    protocol: str,
    principal: str | None,
    method: str,
    path: str,
    queries: str | None,
    cni: str | None,
    mesh: str | None,
    trust_domain: str | None,
    form: str,
) -> None:
    """Ask whether one connection is allowed, and by which rule.

    Exits with 0 for allow and 3 for deny or undefined; with --queries, with 0 whatever the verdicts.

    \b
    leastway can policies --inventory cluster.yaml --from shop/web --to shop/api --port 8080
    leastway can policies --inventory cluster.yaml --queries questions.jsonl
    """
    if not inventories:
        raise click.UsageError("Missing option '--inventory': the judge must know who exists.")
    single = {"--from": source, "--to": destination, "--port": port}
    given = [name for name, value in single.items() if value is not None]
    if queries is not None and given:
        raise click.UsageError(f"{given[0]} and --queries exclude each other.")
    missing = [name for name, value in single.items() if value is None]
    if queries is None and missing:
        raise click.UsageError(f"Missing option '{missing[0]}' (or '--queries' for many questions).")
    judged = load(policies)
    world = World.from_paths(inventories)
    mode = mesh_for(judged, world, mesh)
    judge = Judge(world, judged.found, judged.cni(cni), mode, judged.trust_domain(trust_domain))
    if queries is not None:
        ctx.exit(1 if _answer_all(judge, queries) else 0)
    question = Question(source or "", destination or "", protocol.upper(), port or 0, method, path, principal)
    verdict = judge.ask(question)
    if form == "json":
        tell_json({"verdict": verdict.outcome, "because": verdict.because, "layer": verdict.layer})
    else:
        tell(f"{verdict.outcome}: {verdict.because}")
    ctx.exit(0 if verdict.allowed else DENIED)


def _answer_all(judge: Judge, queries: str) -> int:
    """Answer every line of a file; returns how many lines were no questions."""
    unreadable = 0
    with _lines(queries) as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            answer, readable = _answer(judge, text)
            if not readable:
                unreadable += 1
                if unreadable <= 20:
                    say(f"{queries}:{number} {answer['because']}")
            click.echo(json.dumps(answer, ensure_ascii=True))
    if unreadable:
        say(f"{unreadable} lines of {queries} are no questions — answered as undefined")
    return unreadable


def _answer(judge: Judge, text: bytes) -> tuple[dict[str, Any], bool]:
    """The question with its verdict, and whether it was one at all."""
    asked: dict[str, Any] = {}
    try:
        found = json.loads(text) if len(text) <= LIMIT else None
        asked = found if isinstance(found, dict) else {}
        question = read_question(found)
    except (ValueError, RecursionError) as error:
        return {**asked, "verdict": "undefined", "because": f"no question: {error}"[:400], "layer": ""}, False
    try:
        verdict = judge.ask(question)
    except PolicyError as error:
        verdict = Verdict("undefined", str(error))
    return {**asked, "verdict": verdict.outcome, "because": verdict.because, "layer": verdict.layer}, True


def read_question(found: Any) -> Question:
    """One decoded line as a question; raises ValueError that names the field that is missing or wrong."""
    if not isinstance(found, dict):
        raise ValueError("a line must be one JSON object")
    texts: dict[str, str] = {}
    for name, default in (("from", None), ("to", None), ("protocol", "TCP"), ("method", ""), ("path", ""), ("host", "")):
        value = found.get(name)
        value = default if value is None else value
        if not isinstance(value, str) or (default is None and not value):
            raise ValueError(f"{name} must be text" if value is not None else f"{name} is missing")
        texts[name] = value
    principal = found.get("principal")
    if principal is not None and not isinstance(principal, str):
        raise ValueError("principal must be text")
    protocol = texts["protocol"].upper()
    port = found.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int) or not (protocol in PORTED) <= port <= 65535:
        raise ValueError("port must be a number from 1 to 65535")
    return Question(
        texts["from"], texts["to"], protocol, port, texts["method"], texts["path"], principal, host=texts["host"]
    )


@contextmanager
def _lines(name: str) -> Iterator[Iterable[bytes]]:
    if name == "-":
        yield click.get_binary_stream("stdin")
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115, PTH123  # closed below; only opening it may fail as "not found"
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=name, hint="check --queries") from error
    with stream:
        yield stream
