"""`leastway explain`: the traffic behind the rules of a generated policy.

Invariant: nothing is computed here; what is shown is what `generate` recorded beside the policies.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collector.errors import LeastwayError
from leastway.cli.options import format_option
from leastway.cli.output import moment, tell, tell_json
from leastway.cli.record import Record, beside
from leastway.verify.errors import line

if TYPE_CHECKING:
    from rich.table import Table

PEERS = 3  # in one row
SAMPLES = 2  # in one row
PIPED_WIDTH = 200  # columns of a table that no terminal limits
SILENT = "no traffic stands behind this file: it isolates, or demands mutual TLS, and opens nothing"


@click.command("explain")
@click.argument("path", metavar="PATH")
@format_option
def command(path: str, form: str) -> None:
    """Show why each rule is there: who spoke to whom, how often, from how many pods, when, and sample flows.

    PATH is a policy that `leastway generate` wrote, or its folder.

    \b
    leastway explain policies/shop/networkpolicy-api.yaml
    """
    if not Path(path).exists():
        raise LeastwayError(
            "no such file or folder", where=path, hint="give a policy that generate wrote, or its folder"
        )
    record = beside(Path(path))
    if record is None:
        raise LeastwayError(
            "no leastway.json beside it", where=path, hint="only policies that generate wrote can be explained"
        )
    files = _files(record, Path(path))
    if form == "json":
        tell_json({file: record.evidence.get(file, []) for file in files})
        return
    for number, file in enumerate(files):
        if number:
            tell()
        _tell_file(file, record.evidence.get(file, []))


def _files(record: Record, path: Path) -> list[str]:
    """The recorded policies that `path` is or holds."""
    below = path.resolve().relative_to(record.folder.resolve()).as_posix()
    policies = [file for file in record.files if file.endswith(".yaml") and not file.endswith("kustomization.yaml")]
    found = [file for file in policies if below in (".", file) or file.startswith(f"{below}/")]
    if not found and below == ".":
        raise LeastwayError("it holds no policies", where=str(record.folder), hint="REVIEW.md says why")
    if not found:
        raise LeastwayError(f"{below} is not in leastway.json", where=str(record.folder), hint="was it renamed?")
    return found


def _tell_file(file: str, entries: Sequence[Mapping[str, Any]]) -> None:
    tell(file)
    if not entries:
        tell(SILENT, 2)
        return
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    console = Console(file=sys.stdout, highlight=False, markup=False, width=width)
    with console.capture() as captured:
        console.print(_table(entries))
    for text in captured.get().splitlines():
        if text.strip():
            click.echo(text.rstrip())


def _table(entries: Sequence[Mapping[str, Any]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("", "peer", "port", "cause", "connections", "pods", "first and last seen (UTC)", "samples"):
        table.add_column(title, overflow="fold", justify="right" if title in ("connections", "pods") else "left")
    for (direction, *rest), peers in _rows(entries).items():
        more = f" and {len(peers) - PEERS} more" if len(peers) > PEERS else ""
        table.add_row(direction, line(", ".join(peers[:PEERS]) + more), *(line(cell) for cell in rest))
    return table


def _rows(entries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[str]]:
    """Cells → peers. Addresses outside share one evidence, so they share a row; of a file that stands for several
    workloads (look-ups of a namespace) both ends are shown."""
    rows: dict[tuple[str, ...], list[str]] = {}
    shared = len({str(entry.get("to" if entry.get("direction") == "ingress" else "from", "")) for entry in entries}) > 1
    for entry in entries:
        inward = entry.get("direction") == "ingress"
        cause, because = str(entry.get("cause", "")), str(entry.get("because") or "")
        first, last = moment(entry.get("first_seen")), moment(entry.get("last_seen"))
        names = [str(name) for name in entry.get("names") or ()]
        cells = (
            "from" if inward else "to",
            f"{entry.get('protocol', '')} {entry.get('port', '')}",
            f"{cause}: {because}" if because else cause,
            str(entry.get("connections", "")),
            f"{entry.get('source_pods', '')} → {entry.get('destination_pods', '')}",
            first if first == last else f"{first} – {last}",
            " ".join(str(sample) for sample in (entry.get("samples") or [])[:SAMPLES]),
        )
        peer = str(entry.get("from" if inward else "to", ""))
        if shared:
            peer = f"{entry.get('from', '')} → {entry.get('to', '')}"
        rows.setdefault(cells, []).append(f"{peer} ({', '.join(names[:2])})" if names and not inward else peer)
    return rows
