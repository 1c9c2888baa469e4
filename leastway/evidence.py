"""The two pages beside the policies: `leastway.json` for machines, `REVIEW.md` for people.

Invariant: both are sorted and hold no clock, file position or input name, so the same observation gives the same bytes
from any files, read in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from collector.quality import Quality
from leastway.continuity import moment
from leastway.findings import findings
from leastway.rule_evidence import rule_evidence
from synthesizer.review import ReviewItem

if TYPE_CHECKING:
    from leastway.pipeline import Run

SCHEMA = 1  # of leastway.json; increased when a field changes its meaning


class Told(NamedTuple):
    """What is written beside the policies and does not depend on the proof.

    `behind` is the `rule_evidence` as JSON text, which is less for another process to send.
    """

    behind: msgspec.Raw
    findings: list[str]
    review: str


def told(run: Run) -> Told:
    """What a run without its proof has to tell."""
    behind = msgspec.Raw(msgspec.json.encode(rule_evidence(run.synthesis), order="sorted"))
    found = findings(run)
    return Told(behind, found, review_page(found, run.synthesis.review))


def report(run: Run, behind: msgspec.Raw) -> str:
    """The text of `leastway.json`."""
    text = msgspec.json.format(msgspec.json.encode(_content(run, behind), order="sorted"), indent=1).decode()
    text += "\n"  # appended in place: the text is large
    return text


def _content(run: Run, behind: msgspec.Raw) -> dict[str, Any]:
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
        "evidence": behind,
        "quality": _quality(run.reading.patterns.quality, run.synthesis.mistaken),
        "findings": run.findings,
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
    "unknown-waypoint": "Waypoints that the inventory lacks",
    "unresolved": "Unresolved ends",
    "unselectable": "Workloads that no selector can pick",
}


def review_page(sentences: list[str], items: list[ReviewItem]) -> str:
    """The text of `REVIEW.md`: the findings, and what was held back."""
    lines = ["# Review", "", "What was observed and not turned into policy, why, and how to accept it.", ""]
    if sentences:
        lines += ["## The observation", "", *(f"- {_text(sentence)}" for sentence in sentences), ""]
    kinds: dict[str, list[ReviewItem]] = {}
    for item in items:
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
