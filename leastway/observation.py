"""What the judge is asked to replay: the observation in the judge's terms, and the world in which it took place.

Invariant: every line that was decided on is handed over, held ones with their review item; the judge sees what
happened, not what the synthesizer made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from collector.paths import Request, normalise
from collector.standing import Standing
from leastway.verify.soundness import Observed
from leastway.verify.world import NamedPort, Subject, World
from synthesizer.callers import callers, in_mesh, legitimate_requests, reads_http
from synthesizer.decisions import Decision, Decisions, Fate
from synthesizer.inventory import Inventory
from synthesizer.lines import past_waypoint, via_waypoint
from synthesizer.options import Options
from synthesizer.party import Outside, Party, Place
from synthesizer.workload import Workload
from synthesizer.workloads import ACCOUNT, Workloads

_ENTITIES = {
    Place.OWN_NODE: "host",
    Place.NODE: "remote-node",
    Place.API_SERVER: "kube-apiserver",
    Place.HEALTH: "health",
    Place.INGRESS: "ingress",
}


def world(inventory: Inventory, workloads: Workloads, decisions: Decisions, options: Options) -> World:
    """The closed world: the inventory's objects, and workloads known from traffic alone.

    A workload whose proxy wrote an access log is in the mesh, whatever the inventory's labels say.
    """
    found = World.from_manifests(inventory.documents)
    addresses: dict[Workload, list[str]] = {}
    for address, owner in workloads.by_address.items():
        if owner is not None:
            addresses.setdefault(owner, []).append(address)
    pods: dict[str, list[Subject]] = {}
    for subject in found.subjects.values():
        if subject.member_of:
            pods.setdefault(subject.member_of, []).append(subject)
    for workload in workloads.all:
        found.add_namespace(workload.namespace)
        known = found.subjects.get(str(workload))
        if known is None or not workload.known:  # two kinds of one name: the inventory's world knows one of them
            found.add_subject(_subject(workload, addresses.get(workload, ()), options))
        elif known.meshed is None and options.mesh != "none" and in_mesh(workload, options):
            for subject in (known, *pods.get(known.ref, ())):  # what one pod's proxy logs, the others' would
                if subject.meshed is None:
                    found.add_subject(msgspec.structs.replace(subject, meshed=True))
    for account in {str(party): party for party in _accounts(decisions)}.values():
        if str(account) not in found.subjects:
            found.add_subject(_subject(account, addresses.get(account, ()), options))
    return found


def _accounts(decisions: Decisions) -> Iterator[Workload]:
    """Parties known only by a shared service account: pods that are gone, of one of the workloads that share it."""
    for decision in decisions.decisions:
        for party in (decision.line.source, decision.line.destination):
            if isinstance(party, Workload) and party.kind == ACCOUNT:
                yield party


def _subject(workload: Workload, addresses: Iterable[str], options: Options) -> Subject:
    return Subject(
        namespace=workload.namespace,
        name=workload.name,
        labels=dict(workload.labels),
        service_account=workload.service_account,
        ips=tuple(sorted(addresses)),
        ports=tuple(NamedPort("", protocol, number) for protocol, number in sorted(workload.ports)),
        meshed=in_mesh(workload, options),
        kind=workload.kind or "Workload",
        inventoried=False,
    )


def observed(decisions: Decisions, inventory: Inventory, options: Options) -> list[Observed]:
    """Every connection and request that was let through when it was observed, and what the user declared.

    A node without an address in the records may be any of the inventory's, so it counts as each of them (on Cilium
    nodes need no addresses).
    """
    nodes = sorted(inventory.node_addresses) if options.cni != "cilium" else []
    found: list[Observed] = []
    for decision in decisions.decisions:
        for item in _observed(decision, options):
            if nodes and (item.source, item.source_address, item.held) == ("remote-node", "", ""):
                found += (msgspec.structs.replace(item, source_address=address) for address in nodes)
            else:
                found.append(item)
    return found


def _observed(decision: Decision, options: Options) -> Iterator[Observed]:
    line = decision.line
    if line.standing in (Standing.DENIED, Standing.OPEN) or decision.fate is Fate.NOT_ASKED:
        return
    if isinstance(line.source, Outside) and line.source.place is Place.HEALTH:
        return  # Cilium's own health checks are outside of any policy (Cilium, "Endpoint health")
    source, source_address = _end(line.source)
    destination, destination_address = _end(line.destination)
    if not source or not destination:
        return
    principals = callers(line, options) if isinstance(line.destination, Workload) else ()
    requests = sorted(legitimate_requests(line.own)) if reads_http(line, options) else []
    services = line.via if options.mesh == "ambient" and line.via else ("",)
    asked = [(r.method, r.path) for r in requests if _told_apart(r, decision)]
    if len(asked) < max(1, len(requests)):
        asked.append(("", ""))
    ways = [(False, service, method, path) for service in services for method, path in asked]
    if options.mesh == "ambient" and past_waypoint(line):
        ways = [(True, "", "", ""), *(ways if via_waypoint(line) else ())]
    for principal in principals or ("",):
        for past, service, method, path in ways:
            yield Observed(
                source=source,
                destination=destination,
                source_address=source_address,
                destination_address=destination_address,
                protocol=line.protocol,
                port=line.port,
                method=method,
                path=path,
                principal=principal,
                mtls=bool(line.evidence.mtls) if line.evidence.mtls or line.evidence.plaintext else None,
                held=decision.review or decision.access_review or decision.held_requests.get(Request(method, path), ""),
                declared=not line.records,
                direct=past,
                service=service,
                weight=max(1, line.records),
            )


def _told_apart(request: Request, decision: Decision) -> bool:
    """Whether a request counts by itself, not just as a connection.

    It does not if Envoy would refuse its path: since it passed, no Envoy read it. Where policies name requests, such a
    request is held instead.
    """
    return not request.path or normalise(request.path) is not None or request in decision.held_requests


def _end(party: Party) -> tuple[str, str]:
    """The judge's name for a party and its address; ("", "") when it has none."""
    if not isinstance(party, Outside):
        return str(party), ""
    if party.place in _ENTITIES:
        return _ENTITIES[party.place], party.address
    return party.address.removesuffix("/32").removesuffix("/128"), party.address
