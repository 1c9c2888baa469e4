"""The traffic behind each policy file: the observed or declared lines that its rules stand for.

Invariant: every rule of every file has an entry with its direction, protocol and port; one that isolation or the mesh
needs, seen or not, has an entry that says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from synthesizer.decisions import Decision, Fate
from synthesizer.intent import Cause
from synthesizer.lines import Line, past_waypoint, via_waypoint
from synthesizer.manifest import Manifest
from synthesizer.resolver import DNS_PORTS
from synthesizer.review import summary
from synthesizer.rules import dns
from synthesizer.rules.entities import entities
from synthesizer.workload import Workload

if TYPE_CHECKING:
    from synthesizer import Synthesis

Entry = dict[str, Any]
_PART = re.compile(r"\.\d+\.yaml$")  # a further part of a policy that exceeds Istio's limit of rules
_LOOKUPS = "egress isolation cuts name look-ups off; no such question was seen from here"
_MESH = "the mesh's own connections need it, whether they were seen or not"


def rule_evidence(synthesis: Synthesis) -> dict[str, list[Entry]]:
    """Per policy file: one entry for each line behind its rules, in the order of the decisions."""
    parts: dict[str, list[str]] = {}
    for path in sorted(manifest.path for manifest in synthesis.manifests):
        parts.setdefault(_PART.sub(".yaml", path), []).append(path)
    found: dict[str, list[Entry]] = {}
    summaries: dict[int, dict[str, object]] = {}  # addresses outside share one evidence
    for decision in synthesis.decisions.decisions:
        if decision.fate is not Fate.POLICY:
            continue
        told = summaries.get(id(decision.line.evidence))
        if told is None:
            told = summaries[id(decision.line.evidence)] = summary(decision.line.evidence)
        for wanted, direction in _files(decision, parts):
            for path in parts[wanted]:
                found.setdefault(path, []).append(_entry(decision, direction, told))
    for manifest in synthesis.manifests:
        unseen = {"NetworkPolicy": _needed, "AuthorizationPolicy": _led}.get(manifest.kind)
        needed = list(unseen(manifest, found.get(manifest.path, []))) if unseen is not None else []
        if needed:
            found.setdefault(manifest.path, []).extend(needed)
    return dict(sorted(found.items()))


def _files(decision: Decision, known: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """The files whose rules let a line through, with its direction there."""
    line = decision.line
    source, destination = line.source, line.destination
    if isinstance(source, Workload) and not decision.review:
        lookup = decision.cause is Cause.DNS and dns.resolver_of(line) is not None
        shared = f"{source.namespace}/networkpolicy-allow-dns.yaml"
        own = f"{source.namespace}/networkpolicy-{source.policy_name}.yaml"
        path = shared if lookup and shared in known else own
        path = _of_entities(line, source, known) or path
        if path in known:
            yield path, "egress"
    if not isinstance(destination, Workload):
        return
    own = f"{destination.namespace}/networkpolicy-{destination.policy_name}.yaml"
    own = _of_entities(line, destination, known) or own
    if own in known and not decision.review:
        yield own, "ingress"
    own = f"{destination.namespace}/authorizationpolicy-{destination.policy_name}.yaml"
    through = [service.split("/") for service in line.via] if via_waypoint(line) else []
    gates = [f"{namespace}/authorizationpolicy-{name}-waypoint" for namespace, name in through]
    # A workload may be called `<Service>-waypoint`; the Service's policy then has a longer name.
    gates = [f"{gate}-service.yaml" if f"{gate}-service.yaml" in known else f"{gate}.yaml" for gate in gates]
    gates = [gate for gate in gates if gate in known]
    yield from ((gate, "ingress") for gate in gates)
    if own in known and (not gates or past_waypoint(line)):
        yield own, "ingress"


def _of_entities(line: Line, workload: Workload, known: dict[str, list[str]]) -> str:
    """The file that names the other end as one of Cilium's entities; "" if none does."""
    path = f"{workload.namespace}/ciliumnetworkpolicy-{workload.policy_name}.yaml"
    return path if path in known and entities(line, "cilium") else ""


def _entry(decision: Decision, direction: str, told: dict[str, object]) -> Entry:
    line = decision.line
    return {
        "direction": direction,
        "from": str(line.source),
        "to": str(line.destination),
        "protocol": str(line.protocol),
        "port": line.port,
        "cause": decision.cause.value,
        "standing": line.standing.value,
        "because": line.because,
        "via_service": ", ".join(line.via),
        "principals": list(line.principals),
        "requests": len(line.own.requests) + len(line.own.asked),
        **told,
    }


def _needed(manifest: Manifest, entries: list[Entry]) -> Iterator[Entry]:
    """Entries for rules without a line behind them: name look-ups that were not seen, and what the mesh needs."""
    seen = {(entry["direction"], entry["protocol"], entry["port"]) for entry in entries}
    lookups = {(direction, port) for direction, _, port in seen}
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in manifest.document["spec"].get(direction) or ():
            for port in rule.get("ports") or ():
                protocol, number = port.get("protocol", "TCP"), port.get("port")
                is_lookup = direction == "egress" and number in DNS_PORTS
                # Both protocols are opened for look-ups, so a question in one explains the other.
                if (direction, protocol, number) in seen or (is_lookup and (direction, number) in lookups):
                    continue
                seen.add((direction, protocol, number))
                cause, because = (Cause.DNS, _LOOKUPS) if is_lookup else (Cause.MESH, _MESH)
                peers = ", ".join(_peer(peer) for peer in rule.get(side) or ())
                own = f"{manifest.namespace}/{manifest.name}"
                yield _unseen(direction, (own, peers), str(protocol), number, cause, because)


def _led(manifest: Manifest, entries: list[Entry]) -> Iterator[Entry]:
    """Entries for what a waypoint needs of a workload behind it and was not seen doing there."""
    seen = {str(entry["port"]) for entry in entries}
    spec = manifest.document["spec"]
    for rule in spec.get("rules") or () if "targetRefs" not in spec else ():
        principals = [name for entry in rule.get("from") or () for name in entry["source"].get("principals") or ()]
        for port in (port for entry in rule.get("to") or () for port in entry["operation"]["ports"]):
            if port not in seen:
                ends = (f"{manifest.namespace}/{manifest.name}", ", ".join(principals))
                yield _unseen("ingress", ends, "TCP", int(port), Cause.MESH, _MESH)


def _unseen(direction: str, ends: tuple[str, str], protocol: str, number: object, cause: Cause, because: str) -> Entry:
    source, destination = ends if direction == "egress" else (ends[1], ends[0])
    return {
        "direction": direction,
        "from": source,
        "to": destination,
        "protocol": protocol,
        "port": number,
        "cause": cause.value,
        "standing": "needed",
        "because": because,
        "via_service": "",
        "principals": [],
        "requests": 0,
        "connections": 0,
        "first_seen": 0,
        "last_seen": 0,
        "hours": 0,
        "records": 0,
        "signals": {},
        "source_pods": 0,
        "destination_pods": 0,
        "names": [],
        "samples": [],
    }


def _peer(peer: dict[str, Any]) -> str:
    """A peer of a rule as text."""
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    namespaces = (peer.get("namespaceSelector") or {}).get("matchLabels") or {}
    pods = (peer.get("podSelector") or {}).get("matchLabels") or {}
    chosen = ",".join(f"{key}={value}" for key, value in sorted(pods.items())) or "all pods"
    return f"{namespaces.get('kubernetes.io/metadata.name', '')}/{chosen}"
