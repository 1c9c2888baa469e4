"""The two pages beside the policies: `leastway.json` for machines, `REVIEW.md` for people.

Invariant: sorted, without a clock, a file position or the name of an input, so that the same observation gives the same
bytes from whatever files and in whatever order it was read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from collector.quality import Quality
from leastway import continuity, scope
from synthesizer.decisions import Fate
from synthesizer.review import ReviewItem
from synthesizer.rules.entities import entities

if TYPE_CHECKING:
    from leastway.pipeline import Run

SCHEMA = 1  # of leastway.json; rises when a field changes its meaning

# Fields that a masked export may lack, and what that costs (Cilium, hubble export --field-mask).
_CONSEQUENCES = {
    "labels": "workloads can be told only by pod name; without --inventory nothing can be selected",
    "IP": "addresses outside the cluster and Service addresses cannot be told",
    "no verdict": "records without a verdict may be drops, so they were not used",
}
_QUIET_WINDOW = 24 * 3600  # seconds; a shorter window misses what runs daily


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


def findings(run: Run) -> list[str]:
    """What the quality of the observation means for the policies, a sentence each."""
    quality = run.reading.patterns.quality
    told: list[str] = []
    if not quality.total:
        told.append("No connection was observed, so no policy was written. Is this the right capture?")
        return told
    window = quality.last - quality.first
    if quality.first and window < _QUIET_WINDOW:
        told.append(
            f"The window is short ({_duration(window)}): what runs hourly, nightly or monthly may be missing. "
            "A longer capture, or --declared for known jobs, settles it."
        )
    lost = sum(count for _, count in quality.lost.items())
    if lost:
        told.append(
            f"At least {lost} events were lost ({', '.join(f'{name}: {n}' for name, n in quality.lost.items()[:5])}). "
            "Connections in them are missing here; do not enforce before a window without losses."
        )
    told += continuity.sentences(quality)
    told += filter(None, [scope.sentence(quality)])
    for state, count in quality.nodes.items():
        if not state.startswith("NODE_CONNECTED"):
            told.append(f"{state} was reported {count} times: that node's traffic is missing for a while.")
    for field, count in (*quality.masked.items(), *quality.skipped.items()):
        if field in _CONSEQUENCES:
            told.append(f"{field} missing in {count} records or endpoints: {_CONSEQUENCES[field]}.")
    if "hubble" not in quality.records:
        told.append(
            "No NetworkPolicy was written: access logs show neither UDP (DNS) nor traffic that bypasses the proxy, "
            "and isolating pods on their word alone would cut both off. Add Hubble flows to the input."
        )
    if run.options.cni == "generic" and "hubble" in quality.records and _named_by_address(run):
        told.append(
            "The API server or nodes are named by their addresses, which Cilium does not match. If Cilium enforces "
            "policy in this cluster, give --cni cilium."
        )
    if not run.inventory.workloads:
        told.append(
            "No inventory was given: selectors come from the labels in the traffic, workloads that never spoke are "
            "unknown, and a default deny would cut them off. Give --inventory to settle this."
        )
    bad = sum(count for _, count in quality.bad.items())
    if bad:
        told.append(f"{bad} records could not be read: {', '.join(f'{r} ({n})' for r, n in quality.bad.items()[:5])}.")
    return told


def _named_by_address(run: Run) -> bool:
    """Whether a rule stands for what Cilium knows as an entity."""
    decisions = run.synthesis.decisions.decisions
    return any(d.fate is Fate.POLICY and not d.review and entities(d.line, "cilium") for d in decisions)


def _duration(span: int) -> str:
    hours, rest = divmod(max(0, span), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


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
    when = f", {_moment(first)} to {_moment(last)}" if first else ""
    return f" Seen: {connections} connection{'s' if connections != 1 else ''}{when}."


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _text(text: str) -> str:
    """Text from traffic for Markdown: one line, nothing that renders, runs or reorders."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[:400]
    return "".join("\\" + c if c in "\\`*_[]<>#|!~" else c for c in plain)
