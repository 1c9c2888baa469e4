"""The two pages beside the policies: `leastway.json` for machines, `REVIEW.md` for people.

Invariant: both are sorted and hold no clock, file position or input name, so the same observation gives the same bytes
from any files, read in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collector.quality import Quality
from leastway.continuity import moment
from leastway.findings import findings
from synthesizer.review import ReviewItem

if TYPE_CHECKING:
    from leastway.pipeline import Run

SCHEMA = 1  # of leastway.json; increased when a field changes its meaning


def report(run: Run) -> dict[str, Any]:
    """The content of `leastway.json`."""
    return {
        "schema": SCHEMA,
        "options": {
            "cni": run.options.cni,
            "mesh": run.options.mesh,
            "trust_domain": run.options.trust_domain,
            "namespaces": list(run.options.namespaces),
            "accepted": sorted(run.options.accepted),
        },
        "proof": run.proof,
        "files": sorted(run.files),
        "evidence": run.evidence,
        "quality": _quality(run.reading.patterns.quality, run.synthesis.mistaken),
        "findings": findings(run),
        "review": [
            {
                "id": item.id,
                "kind": item.kind,
                "subject": item.subject,
                "what": item.what,
                "why": item.why,
                "acceptable": item.acceptable,
                "evidence": item.evidence,
            }
            for item in run.synthesis.review
        ],
    }


def _quality(quality: Quality, mistaken: int) -> dict[str, Any]:
    return {
        "records": dict(sorted(quality.records.items())),
        "skipped": dict(quality.skipped.items()),
        "mistaken_replies": mistaken,
        "bad": dict(quality.bad.items()),
        "lost": dict(quality.lost.items()),
        "nodes": dict(quality.nodes.items()),
        "masked": dict(quality.masked.items()),
        "first_seen": quality.first,
        "last_seen": quality.last,
    }


_TITLES = {
    "cloud-metadata": "Cloud metadata",
    "default-deny": "Default deny held back",
    "denied": "Denied by a policy",
    "direction": "Direction unknown",
    "internet-egress": "The internet at large",
    "one-off": "One-off connections",
    "rejected-requests": "Requests that were only ever rejected",
    "scan": "Scanning",
    "selector-bleed": "Workloads that share a selector",
    "template-sibling": "Paths that a template admits besides",
    "requests-together": "Callers whose requests cannot be told apart",
    "unanswered": "Unanswered",
    "unresolved": "Unresolved ends",
    "unselectable": "Workloads that no selector can pick",
}


def review_page(run: Run) -> str:
    """The text of `REVIEW.md`."""
    lines = ["# Review", "", "What was observed and not turned into policy, why, and how to accept it.", ""]
    told = findings(run)
    if told:
        lines += ["## The observation", "", *(f"- {_text(sentence)}" for sentence in told), ""]
    kinds: dict[str, list[ReviewItem]] = {}
    for item in run.synthesis.review:
        kinds.setdefault(item.kind, []).append(item)
    for kind in sorted(kinds):
        lines += [f"## {_TITLES.get(kind, kind.replace('-', ' ').capitalize())}", ""]
        for item in kinds[kind]:
            lines += [f"- **{item.id}** {_text(item.what)}", f"  {_text(item.why)}.{_seen(item)}"]
            if item.acceptable:
                lines.append(f"  Accept with `--accept {item.id}`.")
        lines.append("")
    if not kinds:
        lines += ["Nothing was held back.", ""]
    return "\n".join(lines)


def _seen(item: ReviewItem) -> str:
    connections, first, last = (item.evidence.get(key) for key in ("connections", "first_seen", "last_seen"))
    if not isinstance(connections, int) or not isinstance(first, int) or not isinstance(last, int):
        return ""
    when = f", {moment(first)} to {moment(last)}" if first else ""
    return f" Seen: {connections} connection{'s' if connections != 1 else ''}{when}."


def _text(text: str) -> str:
    """Text from traffic for Markdown: one line, in which nothing is markup, runs or changes the reading direction."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[:400]
    return "".join("\\" + c if c in "\\`*_[]<>#|!~" else c for c in plain)
