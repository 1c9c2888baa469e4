"""Traffic that an attacker would make: searching the network, asking the cloud for credentials."""

from __future__ import annotations

from synthesizer.lines import Line
from synthesizer.party import Outside, Place
from synthesizer.rules.view import SCAN_SILENT, Held, View, swept


def cloud_metadata(line: Line, _view: View) -> Held | None:
    """The instance metadata service hands out the node's credentials; never allowed by observation alone."""
    if any(isinstance(end, Outside) and end.place is Place.METADATA for end in (line.source, line.destination)):
        return Held("cloud-metadata", "this address hands out the node's cloud credentials; allow it only knowingly")
    return None


def scanning(line: Line, view: View) -> Held | None:
    """A source that searches: what else it reached is suspect, unless it came back and others vouch for the port.

    That a search hit a port in use is no intent: for a scanner, a single connection is never vouched for. Nor is it for
    who knocked in vain at several other ports of the same destination, and may be no scanner anywhere else.
    """
    if line.key[0] in view.scanners:
        why = "its source tried many destinations or ports and got few answers"
    elif view.searched(line):
        why = "its source sent to many ports there that never answer, in a capture that shows answers"
    elif (view.knocked_in_vain(line) >= SCAN_SILENT or view.strewn(line)) and swept(line):
        return Held("scan", "a single connection a pod, beside attempts at many other ports of the same workload")
    elif view.swept_outside(line):
        return Held("scan", "its source sent to many addresses outside at this port, and few answered")
    else:
        return None
    return None if view.vouched(line) and line.evidence.connections > 1 else Held("scan", why)
