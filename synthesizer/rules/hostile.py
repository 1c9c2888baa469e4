"""Traffic that an attacker would make: searching the network, asking the cloud for credentials.

Invariant: frequency alone never makes policy of a scan, or of calls to the metadata service.
"""

from __future__ import annotations

from synthesizer.lines import Line
from synthesizer.party import Outside, Place
from synthesizer.rules.view import SCAN_SILENT, Held, View, swept


def cloud_metadata(line: Line, _view: View) -> Held | None:
    """Hold traffic of the instance metadata service, which hands out the node's credentials."""
    if any(isinstance(end, Outside) and end.place is Place.METADATA for end in (line.source, line.destination)):
        return Held("cloud-metadata", "this address hands out the node's cloud credentials; allow it only knowingly")
    return None


def scanning(line: Line, view: View) -> Held | None:
    """Hold the lines of a source that scans, unless it came back and the port is declared or used by others.

    A search that hits a port in use shows no intent, so a scanner's single connection is always held. The same goes for
    a source that tried several other ports of the same destination in vain, even if it scans nowhere else.
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
