"""Waypoints of ambient mode: which Services have one, what ports its policies name, and what it needs of the workloads.

Invariant: a waypoint is known only by the inventory; a policy for one that is not there would attach to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from synthesizer.decisions import Decision
from synthesizer.intent import Access, Cause, fewest_accesses
from synthesizer.inventory import Inventory, ServiceObject
from synthesizer.options import Options
from synthesizer.workload import Workload, WorkloadKey


def has_waypoint(service: str, inventory: Inventory) -> bool:
    """Whether the inventory names a waypoint for a Service, so that a policy may attach there."""
    namespace, _, name = service.partition("/")
    known = inventory.service(namespace, name)
    return known is not None and bool(known.waypoint)


def hops(
    behind: Mapping[str, list[Decision]], inventory: Inventory, options: Options
) -> dict[WorkloadKey, tuple[Access, ...]]:
    """What waypoints need of the workloads behind them, whether they were seen there or not.

    The destination's ztunnel sees the waypoint's identity: its service account has the Gateway's name (istio,
    pilot/pkg/config/kube/gateway, the managed deployment of a waypoint).
    """
    needed: dict[WorkloadKey, set[tuple[str, int]]] = {}
    for service, called in behind.items():
        namespace, _, name = service.partition("/")
        front = inventory.service(namespace, name)
        if front is None:
            continue
        owner, _, gateway = front.waypoint.partition("/")
        principal = f"{options.trust_domain}/ns/{owner}/sa/{gateway}"
        for decision in called:
            if isinstance(decision.line.destination, Workload):
                needed.setdefault(decision.line.destination.key, set()).add((principal, decision.line.port))
    return {
        key: fewest_accesses(Access(Cause.MESH, (principal,), (port,)) for principal, port in sorted(hops))
        for key, hops in needed.items()
    }


def beyond(needed: tuple[Access, ...], given: tuple[Access, ...]) -> tuple[Access, ...]:
    """Of the TCP accesses `needed`, what is not among those given."""
    have = {(principal, port) for a in given if not a.methods for principal in a.principals for port in a.ports}
    lacking = [
        Access(access.cause, (principal,), (port,))
        for access in needed
        for principal in access.principals
        for port in access.ports
        if (principal, port) not in have
    ]
    return fewest_accesses(lacking)


def waypoint_ports(service: ServiceObject | None, workload: Workload, inventory: Inventory) -> dict[int, set[int]]:
    """The ports that a waypoint's policy names for each port of a pod behind a Service.

    A waypoint compares rules with the Service's ports, on which it listens (undocumented; istio
    pilot/pkg/networking/core/listener_waypoint.go). So a policy names every Service port that leads to the pod's port,
    and the pod's port itself unless the Service's port of that number leads elsewhere.
    """
    if service is None:
        return {}
    item = inventory.workload(workload.object_key)
    leading: dict[int, set[int]] = {}
    for port in service.ports:
        for target, number in inventory.target_ports(service, port.protocol, port.port):
            if target is item and port.protocol == "TCP":
                leading.setdefault(number, set()).add(port.port)
    taken = {port for ports in leading.values() for port in ports}
    return {number: ports if number in taken else {number, *ports} for number, ports in leading.items()}
