"""`leastway explain`: the traffic behind the rules of generated policies.

Invariant: nothing is computed here; what is shown is what `generate` recorded beside the policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from collector.errors import LeastwayError
from leastway.cli.options import format_option, not_empty
from leastway.cli.output import counted, moment, tell, tell_json
from leastway.cli.record import Record, beside
from leastway.verify.errors import line

PEERS = 3  # in one entry
SAMPLES = 2  # in one entry
SILENT = "no traffic stands behind this file: it isolates, or demands mutual TLS, and opens nothing"


@click.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", callback=not_empty)
@format_option
def command(paths: tuple[str, ...], form: str) -> None:
    """Show why each rule is there: who spoke to whom, how often, from how many pods, when, and sample flows.

    PATH is a policy that `leastway generate` wrote, or a folder of them; give as many as you like.

    \b
    leastway explain policies/shop
    leastway explain policies/shop/networkpolicy-api.yaml policies/shop/authorizationpolicy-api.yaml
    """
    found: dict[tuple[Path, str], Sequence[Mapping[str, Any]]] = {}
    for path in paths:
        record = _record(path)
        for file in _files(record, Path(path)):
            found[record.folder.resolve(), file] = record.evidence.get(file, [])
    several = len({folder for folder, _ in found}) > 1
    named = {str(folder / file) if several else file: entries for (folder, file), entries in found.items()}
    if form == "json":
        tell_json(named)
        return
    for number, (file, entries) in enumerate(named.items()):
        if number:
            tell()
        _tell_file(file, entries)


def _record(path: str) -> Record:
    """What `generate` left beside a path."""
    if not Path(path).exists():
        raise LeastwayError(
            "no such file or folder", where=path, hint="give a policy that generate wrote, or its folder"
        )
    record = beside(Path(path))
    if record is None:
        raise LeastwayError(
            "no leastway.json of ours beside it", where=path, hint="only policies that generate wrote can be explained"
        )
    return record


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
    for (rule, details), peers in _rows(entries).items():
        more = f" and {len(peers) - PEERS} more" if len(peers) > PEERS else ""
        tell(line(rule.replace(PEER, ", ".join(peers[:PEERS]) + more)), 2)
        for detail in details:
            tell(detail, 6)


PEER = "\0"  # where the peers of an entry go


def _rows(entries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, tuple[str, ...]], list[str]]:
    """(rule, details) → peers. Addresses outside share one evidence, so they share an entry. Both ends are shown where
    a file stands for several workloads (the look-ups of a namespace)."""
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    shared = len({str(entry.get("to" if entry.get("direction") == "ingress" else "from", "")) for entry in entries}) > 1
    for entry in entries:
        inward = entry.get("direction") == "ingress"
        cause, because = str(entry.get("cause", "")), str(entry.get("because") or "")
        why = f"{cause}: {because}" if because else cause
        port = f"{entry.get('protocol', '')} {entry.get('port', '')}"
        peer = str(entry.get("from" if inward else "to", "")).replace(PEER, "")
        if shared:
            peer = f"{entry.get('from', '')} → {entry.get('to', '')}".replace(PEER, "")
        names = [str(name) for name in entry.get("names") or ()]
        key = f"{'from' if inward else 'to'} {PEER} {port} {why}", tuple(_details(entry))
        rows.setdefault(key, []).append(f"{peer} ({', '.join(names[:2])})" if names and not inward else peer)
    return rows


def _details(entry: Mapping[str, Any]) -> Iterator[str]:
    """How often, by whom and when."""
    number = entry.get("connections")
    if isinstance(number, int) and number:
        first, last = moment(entry.get("first_seen")), moment(entry.get("last_seen"))
        when = first if first == last else f"{first} – {last}"
        pods = f"pods {entry.get('source_pods', '')} → {entry.get('destination_pods', '')}"
        yield f"{counted(number, 'connection')}, {pods}, seen {when} UTC"
    for title, key in (("as", "principals"), ("samples", "samples")):
        listed = entry.get(key)
        found = [str(item) for item in listed[:SAMPLES]] if isinstance(listed, list) else []
        if found:
            yield f"{title} {' '.join(found)}"
