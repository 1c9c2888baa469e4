"""Denied, open and unanswered lines: what was seen does not amount to a connection.

Invariant: only the standing of a line counts here, not how often it was seen; UDP sinks are the one exception.
"""

from __future__ import annotations

from collector.standing import REFUSED, Standing
from synthesizer.lines import Line
from synthesizer.rules.view import Held, View

SINK_RECORDS = 3  # datagrams after which a destination is a one-way sink (syslog, statsd, traces), not a probe


def denied(line: Line, _view: View) -> Held | None:
    """Hold what a policy stopped every time; frequency does not make it right."""
    if line.standing is not Standing.DENIED:
        return None
    reasons = sorted({name.partition(":")[2] for name in line.evidence.signals if name.startswith("denied")} - {""})
    return Held("denied", f"a policy stopped every attempt ({', '.join(reasons)[:80] or 'no reason given'})")


def direction_open(line: Line, _view: View) -> Held | None:
    """Hold a line if it is not known which end opened it, and so which pod would need the rule."""
    if line.standing is not Standing.OPEN:
        return None
    why = f"{line.because}; an --inventory in which the port is declared settles it, or --declared if you know"
    return Held("direction", why, acceptable=False)


def unanswered(line: Line, view: View) -> Held | None:
    """Hold what nothing answered in a capture that shows these parties' answers; UDP sinks never answer."""
    if line.standing is not Standing.UNANSWERED:
        return None
    one_way = line.protocol == "UDP" and (
        line.records >= SINK_RECORDS or view.declared(line) or view.used_by_others(line)
    )
    if one_way and line.key[0] not in view.scanners and not view.searched(line):
        return None
    if line.because == REFUSED:
        return Held("unanswered", f"{REFUSED}: the port was closed, or nobody listens there any more")
    return Held("unanswered", "nothing ever answered, in a capture that shows other answers of these parties")
