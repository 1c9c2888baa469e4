"""What the quality of the observation means for the policies, in sentences.

Invariant: each sentence says what is missing or uncertain, and what would settle it. Nothing is said of what is fine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from collector.quality import Quality
from leastway import continuity, scope
from synthesizer.decisions import Fate
from synthesizer.intent import Cause
from synthesizer.review import listed
from synthesizer.rules.entities import entities
from synthesizer.rules.view import from_internet
from synthesizer.workload import Workload

if TYPE_CHECKING:
    from leastway.pipeline import Run

# Fields that a masked export may lack, and what that costs (Cilium, hubble export --field-mask).
_CONSEQUENCES = {
    "labels": "workloads can be told only by pod name; without --inventory nothing can be selected",
    "IP": "addresses outside the cluster and Service addresses cannot be told",
    "no verdict": "records without a verdict may be drops, so they were not used",
}
_MESH_ROOT = "istio-system"  # whose policies hold for the whole mesh
_QUIET_WINDOW = 24 * 3600  # seconds; a shorter window misses what runs daily


def findings(run: Run) -> list[str]:
    """All sentences, the most important first."""
    quality = run.reading.patterns.quality
    if not quality.total:
        return ["No connection was observed, so no policy was written. Is this the right capture?"]
    told = [*_window(quality), *_losses(quality), *continuity.sentences(quality)]
    told += filter(None, [scope.sentence(quality)])
    return [
        *told,
        *_blind_spots(quality),
        *_inputs(run),
        *_rejected_only(run),
        *_membership(run),
        *_published(run),
        *_other_policies(run),
        *_unreadable(quality),
    ]


def _window(quality: Quality) -> Iterator[str]:
    window = quality.last - quality.first
    if quality.first and window < _QUIET_WINDOW:
        yield (
            f"The window is short ({_duration(window)}): what runs hourly, nightly or monthly may be missing. "
            "A longer capture, or --declared for known jobs, settles it."
        )


def _losses(quality: Quality) -> Iterator[str]:
    lost = sum(count for _, count in quality.lost.items())
    if lost:
        where = ", ".join(f"{name}: {n}" for name, n in quality.lost.items()[:5])
        yield (
            f"At least {_counted(lost, 'event was', 'events were')} lost ({where}). "
            "Connections in them are missing here; do not enforce before a window without losses."
        )


def _blind_spots(quality: Quality) -> Iterator[str]:
    for state, count in quality.nodes.items():
        if not state.startswith("NODE_CONNECTED"):
            times = _counted(count, "time", "times")
            yield f"{state} was reported {times}: that node's traffic is missing for a while."
    for field, count in (*quality.masked.items(), *quality.skipped.items()):
        if field in _CONSEQUENCES:
            records = _counted(count, "record or endpoint", "records or endpoints")
            yield f"{field.removeprefix('no ')} missing in {records}: {_CONSEQUENCES[field]}."
    if icmp := quality.skipped.kept.get("ICMP", 0):
        yield (
            f"{_counted(icmp, 'record was', 'records were')} of ICMP, for which NetworkPolicy has no word; some "
            "networks (Cilium) stop it at isolated pods. Who pings pods needs a policy of the network's own kind."
        )


def _inputs(run: Run) -> Iterator[str]:
    if "hubble" not in run.reading.patterns.quality.records:
        yield (
            "No NetworkPolicy was written: access logs show neither UDP (DNS) nor traffic that bypasses the proxy, "
            "and isolating pods on their word alone would cut both off. Add Hubble flows to the input."
        )
    elif run.options.cni == "generic" and _named_by_address(run):
        yield (
            "The API server or nodes are named by their addresses, which Cilium does not match. If Cilium enforces "
            "policy in this cluster, give --cni cilium."
        )
    if not run.inventory.workloads:
        yield (
            "No inventory was given: selectors come from the labels in the traffic, workloads that never spoke are "
            "unknown, and a default deny would cut them off. Give --inventory to settle this."
        )


def _rejected_only(run: Run) -> Iterator[str]:
    """Access logs in which nothing ever succeeded: a filter (Istio, Telemetry `accessLogging.filter`) is likely."""
    edges = run.reading.patterns.edges.values()
    all_evidence = (evidence for edge in edges for _, evidence in (*edge.spoken.items(), *edge.knocked.items()))
    told = [evidence for evidence in all_evidence if evidence.rejected or evidence.requests]
    if told and not any(evidence.requests for evidence in told):
        yield (
            "No request succeeded: a filter may leave successes out of the log. What it leaves out would be denied; do "
            "not enforce this before a log of all requests."
        )


def _membership(run: Run) -> Iterator[str]:
    if run.synthesis.workloads.mesh_assumed:
        yield (
            "Nothing tells who is in the mesh (no proxy's log, no label in an inventory), so all that did not opt out "
            "are taken to be. Access logs, or Namespace objects in --inventory, settle this."
        )
    proxies = {w.mesh for w in run.synthesis.workloads.all if run.options.wants(w.namespace)} & {"sidecar", "ambient"}
    if run.options.mesh == "none" and proxies:
        yield (
            f"By the inventory, workloads are in a mesh ({', '.join(sorted(proxies))}). Their proxies keep what they "
            "need, but no AuthorizationPolicy was written: access logs in the input, or --mesh, ask for them."
        )


def _published(run: Run) -> Iterator[str]:
    """What the whole internet may reach because some of it did, unless the inventory shows that this is meant."""
    opened = {
        f"{d.line.destination} {d.line.protocol} {d.line.port}"
        for d in run.synthesis.decisions.decisions
        if (d.fate, d.cause, d.review) == (Fate.POLICY, Cause.INTERNET, "")
        and isinstance(d.line.destination, Workload)
        and from_internet(d.line)
        and (d.line.protocol, d.line.port) not in run.synthesis.workloads.published(d.line.destination)
    }
    if opened:
        known = (
            "no Service or host port publishes it" if run.inventory.workloads else "--inventory tells if it is meant"
        )
        yield (
            f"Open to the internet, as outsiders were seen there: {listed(sorted(opened), 5)} ({known}). If nobody "
            "should come in from there, strike the rule."
        )


def _named_by_address(run: Run) -> bool:
    """Whether a rule names by address what Cilium knows as an entity."""
    decisions = run.synthesis.decisions.decisions
    return any(d.fate is Fate.POLICY and not d.review and entities(d.line, "cilium") for d in decisions)


def _other_policies(run: Run) -> Iterator[str]:
    """Name other policies in force: policies add up, so ours cannot narrow what those allow."""
    namespaces = {manifest.namespace for manifest in run.synthesis.manifests}
    roots = {_MESH_ROOT} if run.options.mesh != "none" else set()
    others = run.inventory.policies_of_others(namespaces | roots)
    if others:
        yield (
            f"The inventory holds other policies ({listed(others, 5)}): what they stop was not observed, and what they "
            "allow stays allowed beside what is written here. The proof leaves them out."
        )


def _unreadable(quality: Quality) -> Iterator[str]:
    bad = sum(count for _, count in quality.bad.items())
    if bad:
        why = ", ".join(f"{reason} ({n})" for reason, n in quality.bad.items()[:5])
        least = "At least " if quality.bad.saturated else ""
        yield f"{least}{_counted(bad, 'record', 'records')} could not be read: {why}."


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _duration(span: int) -> str:
    hours, rest = divmod(max(0, span), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
