"""What was not turned into policy: one item each, with its evidence, why, and an id to accept it by.

Invariant: an id depends only on what the item is about, so the same observation next week has the same id.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from collector.evidence import Evidence


class ReviewItem(msgspec.Struct, frozen=True):
    """`kind` groups items; `subject` is who it is about; `what` and `why` are sentences for a person.

    `acceptable` items become rules with `--accept ID`. `evidence` holds plain values for JSON.
    """

    id: str
    kind: str
    subject: str
    what: str
    why: str
    acceptable: bool = False
    evidence: dict[str, object] = {}


def item_id(kind: str, *subject: str) -> str:
    """A short, stable name for an item."""
    return "lw-" + blake2b("\0".join((kind, *subject)).encode(), digest_size=5).hexdigest()


def listed(names: list[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def summary(evidence: Evidence) -> dict[str, object]:
    """Evidence in plain, order-independent values: counts, span (unix seconds), pods, a sample to find it again."""
    return {
        "connections": evidence.connections,
        "first_seen": evidence.first,
        "last_seen": evidence.last,
        "hours": len(evidence.hours),
        "records": sum(evidence.signals.values()),
        "signals": dict(sorted(evidence.signals.items())),
        "source_pods": evidence.sources.estimate(),
        "destination_pods": evidence.destinations.estimate(),
        "names": list(evidence.names),
        "samples": sorted(set(evidence.samples.values()))[:4],
    }
