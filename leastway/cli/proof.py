"""How a proof is told: the result first, then what would break, then what is allowed beyond what was seen.

Invariant: the first line is the result, and nothing in the text is missing from the JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from collector.reading import Reading
from leastway.cli.output import SHOWN, connection, counted, say, tell, tell_some
from leastway.verify.errors import line


def tell_proof(proof: Mapping[str, Any], subject: str) -> None:
    """Print a proof; `subject` is what was judged (`7 policies in out`)."""
    observed, allowed = proof["observed"], proof["allowed"]
    if proof["sound"]:
        tell(f"sound: {_all(observed)} allowed by {subject}")
    else:
        tell(f"NOT SOUND: {observed - allowed} of {counted(observed, 'observed connection')} would be denied by {subject}")
        tell_denied(proof["denied"])
    if proof.get("held"):
        tell(f"{counted(proof['held'], 'further connection')} held back for review, so not required")
    _tell_over_permission(proof.get("over_permission") or {})
    redundant = proof.get("redundant") or []
    if redundant:
        tell(f"{counted(len(redundant), 'rule part')} could go without denying anything observed:")
        tell_some((_shown(entry) for entry in redundant))


def tell_denied(denied: Sequence[Mapping[str, Any]]) -> None:
    """What would be denied, each with the policy that isolates and the rule that nearly matched."""
    for entry in denied[:SHOWN]:
        tell(connection(entry), 2)
        tell(f"because {entry['because']}", 6)
        if entry.get("nearest"):
            tell(f"nearest: {entry['nearest']}", 6)
    if len(denied) > SHOWN:
        tell(f"and {len(denied) - SHOWN} more (--format json lists all)", 2)


def tell_bad_lines(reading: Reading, limit: float) -> bool:
    """Say which lines could not be read; True if they are more than `limit`, a share, allows."""
    if not reading.bad_lines:
        return False
    say(f"{counted(reading.bad_lines, 'line')} could not be read ({reading.bad_share:.2%} of all)")
    for bad in reading.bad[:SHOWN]:
        say(f"  {bad.file}:{bad.line} {line(bad.reason)}" if bad.line else f"  {bad.file} {line(bad.reason)}")
    if reading.bad_lines > SHOWN:
        say(f"  and {reading.bad_lines - SHOWN} more")
    exceeded = reading.bad_share > limit
    if exceeded:
        say(f"that is more than --max-bad-lines {limit:.2%} — the result is here, but do not rely on it")
    return exceeded


def bad_lines(reading: Reading) -> dict[str, Any]:
    """The bad lines for JSON; `first` holds those whose position was kept."""
    first = [{"file": bad.file, "line": bad.line, "reason": bad.reason} for bad in sorted(reading.bad)]
    return {"count": reading.bad_lines, "share": reading.bad_share, "first": first}


def _all(observed: int) -> str:
    return "the 1 observed connection is" if observed == 1 else f"all {observed} observed connections are"


def _tell_over_permission(measured: Mapping[str, Any]) -> None:
    total = measured.get("total", 0)
    if not total:
        tell("nothing is allowed beyond what was observed")
        return
    tell(f"{counted(total, 'connection')} allowed beyond what was observed")
    for title, key in (("by cause", "by_cause"), ("by workload", "by_workload")):
        counts = measured.get(key)
        if isinstance(counts, Mapping) and counts:
            ordered = sorted(counts.items(), key=lambda item: (-_number(item[1]), item[0]))
            tell(f"{title}:", 2)
            tell_some((f"{_number(count):>8}  {name}" for name, count in ordered if _number(count)), 2)


def _number(count: Any) -> int:
    """A count, or the total of a nested breakdown."""
    if isinstance(count, Mapping):
        return int(count["total"]) if "total" in count else sum(_number(part) for part in count.values())
    return int(count)


def _shown(entry: Any) -> str:
    """A redundant rule part, whose fields the judge names."""
    return ", ".join(f"{key} {value}" for key, value in entry.items()) if isinstance(entry, Mapping) else str(entry)
