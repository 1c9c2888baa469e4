"""Which workload an endpoint is.

Invariant: an endpoint is never two workloads, whether the inventory, Hubble or a proxy shows it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping

from collector.endpoints import GENERATED, Endpoint, Labels, workload_of_pod
from collector.patterns import Patterns, Sighting
from synthesizer.inventory import Inventory, Key, WorkloadObject
from synthesizer.naming import make_unique, name_policies, owner_of, tell_clusters_apart
from synthesizer.options import Mesh
from synthesizer.roster import Roster
from synthesizer.selectors import choose_selectors
from synthesizer.service_reach import ServiceReach
from synthesizer.workload import Workload

ACCOUNT = "ServiceAccount"  # the kind of a party that is known by a shared principal only
# Not a CronJob's pods, whose Jobs are named by the time: minutes since the epoch, formerly seconds.
_REPLICA_SET_POD = re.compile(rf"-(?![12]\d{{7,9}}-)[0-9a-z]{{6,10}}-[{GENERATED}]{{5}}\Z")


class Workloads:
    """All workloads known from flows and inventory, and who is who among the endpoints.

    `mesh` is the mesh that the policies are for. `mesh_assumed`: nothing says who is in it (no proxy's log, no object
    that asks for one), so all workloads that did not opt out are taken to be.
    """

    def __init__(self, patterns: Patterns, inventory: Inventory, mesh: Mesh = "none") -> None:
        self.inventory = inventory
        self.of: dict[Endpoint, Workload] = {}
        self.by_address: dict[str, Workload | None] = {}  # None: seen with several workloads
        self.accounts: dict[Endpoint, Workload] = {}  # principals that several workloads share
        self.all: list[Workload] = []
        self._from_inventory()
        self._from_sightings(patterns.sightings)
        self.reach = ServiceReach(self.all, inventory.services)
        tell_clusters_apart(self.all)
        self.all.sort(key=lambda workload: workload.key)
        choose_selectors(self.all, inventory)
        name_policies(self.all)
        self.mesh_assumed = mesh != "none" and not any(w.mesh == mesh or w.observed - {"hubble"} for w in self.all)
        for workload in self.all if self.mesh_assumed else ():
            workload.mesh = workload.mesh if workload.mesh == "none" or workload.host_network else mesh

    def named(self, namespace: str, name: str) -> Workload | None:
        """The workload of that name; the first cluster's when there are several."""
        return next((w for w in self.all if w.namespace == namespace and w.name == name), None)

    def of_object(self, item: WorkloadObject) -> Workload:
        """The workload of an inventory's object."""
        return self._objects[item.key]

    def declares(self, workload: Workload, protocol: str, port: int) -> bool:
        """Whether the inventory, a Service, or Hubble's named ports declare this port at a workload."""
        return (protocol, port) in workload.ports

    def published(self, workload: Workload) -> frozenset[tuple[str, int]]:
        """The (protocol, pod port) pairs at which a LoadBalancer, NodePort or external address reaches a workload."""
        items = [self.inventory.workload(one.object_key) for one in (workload, *workload.alike)]
        known = (self.inventory.published_ports(item) for item in items if item is not None)
        return self.reach.published(workload).union(*known)

    # -- who is there ---------------------------------------------------------------------------------------------

    def _from_inventory(self) -> None:
        self._objects: dict[Key, Workload] = {}
        for item in self.inventory.workloads:
            ports = {(port.protocol, port.number) for port in item.ports}
            workload = Workload(
                item.namespace,
                item.name,
                kind=item.kind,
                labels=item.labels,
                service_account=item.service_account or "default",
                host_network=item.host_network,
                mesh=item.mesh,
                ports=frozenset(ports | set(self.inventory.service_target_ports(item))),
                known=True,
                object_key=item.key,
                pods=item.pods,
            )
            self._objects[item.key] = workload
            self.all.append(workload)
            for address in item.addresses:
                self._locate(address, workload)

    def _from_sightings(self, sightings: Mapping[Endpoint, Sighting]) -> None:
        unnamed: list[Endpoint] = []
        labelled: list[Endpoint] = []
        foreign = self._foreign_clusters(sightings)
        for endpoint in sorted(e for e in sightings if e.kind == "pod"):
            items = [] if endpoint.cluster in foreign else self._in_inventory(endpoint, sightings[endpoint])
            if items:
                self._join(endpoint, sightings[endpoint], self.of_object(items[0]))
                self._see_as_one(*(self.of_object(item) for item in items))
            else:
                (labelled if endpoint.labels else unnamed).append(endpoint)
        for endpoints in _grouped(labelled, sightings):
            self._make(endpoints, sightings)
        make_unique(self.all)
        # Endpoints that name a pod or workload come first: they show whose the accounts of the others are.
        roster = Roster(self.all)
        for endpoint in sorted(unnamed, key=_is_account):
            self._join_unlabelled(endpoint, sightings[endpoint], roster)

    def _see_as_one(self, workload: Workload, *others: Workload) -> None:
        """Note that flows cannot distinguish these: Jobs of one template, or labels that Cilium leaves out."""
        for other in others:
            if other not in workload.alike:
                other.seen_as = workload
                workload.alike += (other,)
                workload.ports |= other.ports

    def _foreign_clusters(self, sightings: Mapping[Endpoint, Sighting]) -> set[str]:
        """If the flows show several clusters, those that the inventory does not describe.

        It describes the cluster whose live pods it holds, or, if it is of manifests only, the one it knows most of.
        """
        live: Counter[str] = Counter()
        named: Counter[str] = Counter()
        for endpoint, sighting in sightings.items():
            if endpoint.kind == "pod" and endpoint.cluster:
                pods = [seen.partition("|")[0] for seen in sighting.pods]
                live[endpoint.cluster] += sum(self.inventory.is_live_pod(endpoint.namespace, pod) for pod in pods)
                named[endpoint.cluster] += bool(self._in_inventory(endpoint, sighting))
        if len(named) < 2:
            return set()
        known = live if any(live.values()) else named
        home = min(known, key=lambda cluster: (-known[cluster], cluster))
        return set(named) - {home}

    def _in_inventory(self, endpoint: Endpoint, sighting: Sighting) -> list[WorkloadObject]:
        """The inventory's workload behind an endpoint: by pod, owner, name, labels; labels must not contradict.

        The first is the endpoint's own; the others have the same labels, and their pods or names were seen as well.
        """
        namespace = endpoint.namespace
        if _is_account(endpoint):
            holders = self.inventory.workloads_of_account(namespace, endpoint.service_account)
            return holders if len(holders) == 1 else []
        candidates: dict[tuple[str, str], WorkloadObject] = {}
        for seen in sighting.pods:
            pod, _, address = seen.partition("|")
            item = self.inventory.workload_of_pod(namespace, pod) if pod else None
            if item is None and address and not pod:
                item = self.inventory.workload_of_address(address)
            if item is not None and item.namespace == namespace:
                candidates[item.kind, item.name] = item
        for owner in sighting.owners:
            kind, _, name = owner.partition("/")
            for item in self.inventory.workloads_named(namespace, name):
                if item.kind == kind:
                    candidates[item.kind, item.name] = item
        told = set(candidates) if endpoint.labels else set()
        if not candidates and endpoint.workload:
            candidates = {(i.kind, i.name): i for i in self.inventory.workloads_named(namespace, endpoint.workload)}
        if not candidates and endpoint.labels:
            found = self.inventory.workloads_by_labels(namespace, dict(endpoint.labels))
            candidates = {(i.kind, i.name): i for i in found} if len(found) == 1 else {}
        if len(candidates) > 1 and endpoint.labels:
            fitting = {k: i for k, i in candidates.items() if set(endpoint.labels) <= set(i.labels)}
            told &= set(fitting)
            candidates = fitting or candidates
        keys = sorted(candidates)
        return [candidates[key] for key in keys if key == keys[0] or key in told]

    def _make(self, endpoints: list[Endpoint], sightings: Mapping[Endpoint, Sighting]) -> None:
        shared = set(endpoints[0].labels).intersection(*(set(endpoint.labels) for endpoint in endpoints[1:]))
        if not shared and len(endpoints) > 1:  # one name, nothing in common: not one workload after all
            for endpoint in endpoints:
                self._make([endpoint], sightings)
            return
        first = endpoints[0]
        ports = {
            (protocol, int(number))
            for endpoint in endpoints
            for _, protocol, number in (port.split("/") for port in sightings[endpoint].ports)
        }
        kind, name = owner_of(first, sightings[first])
        workload = Workload(
            first.namespace,
            name,
            kind=kind,
            cluster=next((e.cluster for e in endpoints if e.cluster), ""),
            labels=tuple(sorted(shared)),
            service_account=next((e.service_account for e in endpoints if e.service_account), ""),
            ports=frozenset(ports),
        )
        self.all.append(workload)
        for endpoint in endpoints:
            self._join(endpoint, sightings[endpoint], workload)

    def _join_unlabelled(self, endpoint: Endpoint, sighting: Sighting, roster: Roster) -> None:
        """Find the workload of a record without labels: by its pods, its name, its account."""
        namespace = endpoint.namespace
        pods = {seen.partition("|")[0] for seen in sighting.pods} - {""}
        found = roster.of_pods(namespace, pods)
        if not found and endpoint.workload:
            name = endpoint.workload
            found = roster.named(namespace, name) or roster.of_pods_named(namespace, name)
        if _is_account(endpoint):
            account = endpoint.service_account
            found = roster.of_account(namespace, account)
            if len(found) > 1:  # each address may tell which of them it was
                self.accounts[endpoint] = Workload(namespace, account, kind=ACCOUNT, service_account=account)
                return
        workload = found[0] if len(found) == 1 else self._without_labels(endpoint, roster)
        self._join(endpoint, sighting, workload)
        roster.enter(workload)

    def _without_labels(self, endpoint: Endpoint, roster: Roster) -> Workload:
        """The workload that is known only by this name, made if there is none.

        Its name differs from those of the workloads that it may be, which have labels.
        """
        name = endpoint.workload or endpoint.service_account or "unnamed"
        if any(workload.labels or workload.known for workload in roster.named(endpoint.namespace, name)):
            name += ".unlabelled"
        for workload in roster.named(endpoint.namespace, name):
            if not workload.labels and not workload.known:
                return workload
        made = Workload(endpoint.namespace, name, cluster=endpoint.cluster, service_account=endpoint.service_account)
        self.all.append(made)
        return made

    def _join(self, endpoint: Endpoint, sighting: Sighting, workload: Workload) -> None:
        self.of[endpoint] = workload
        workload.observed |= set(sighting.origins)
        workload.cluster = workload.cluster or endpoint.cluster
        if endpoint.service_account and not workload.service_account:
            workload.service_account = endpoint.service_account
        workload.pods = tuple(sorted({*workload.pods, *(s.partition("|")[0] for s in sighting.pods)} - {""}))
        for seen in sighting.pods:
            address = seen.partition("|")[2]
            if address:
                self._locate(address, workload)

    def _locate(self, address: str, workload: Workload) -> None:
        known = self.by_address.setdefault(address, workload)
        if known is not workload:
            self.by_address[address] = None


def _is_account(endpoint: Endpoint) -> bool:
    """Whether an endpoint is known by its service account alone (a principal in an access log)."""
    return bool(endpoint.service_account) and not endpoint.labels and not endpoint.workload


def _grouped(endpoints: list[Endpoint], sightings: Mapping[Endpoint, Sighting]) -> list[list[Endpoint]]:
    """Labelled endpoints that are one workload: the same labels and account, the same owner, or pods of one ReplicaSet
    name. A source that does not know cluster or account (an access log) joins the one that does, if there is one.
    """
    clusters: dict[str, set[str]] = {}
    accounts: dict[tuple[str, Labels], set[str]] = {}
    for endpoint in endpoints:
        clusters.setdefault(endpoint.namespace, set()).add(endpoint.cluster)
        accounts.setdefault((endpoint.namespace, endpoint.labels), set()).add(endpoint.service_account)
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = parent[above]
            node = above
        return node

    for endpoint in endpoints:
        namespace = endpoint.namespace
        cluster = endpoint.cluster or _only(clusters[namespace])
        account = endpoint.service_account or _only(accounts[namespace, endpoint.labels])
        tokens: set[Hashable] = {(cluster, namespace, "labels", endpoint.labels, account)}
        tokens |= {(cluster, namespace, "owner", owner) for owner in sightings[endpoint].owners}
        for seen in sightings[endpoint].pods:
            pod = seen.partition("|")[0]
            if _REPLICA_SET_POD.search(pod):
                tokens.add((cluster, namespace, "owner", f"Deployment/{workload_of_pod(pod)}"))
        for token in tokens:
            parent[root(token)] = root(endpoint)
    groups: dict[Hashable, list[Endpoint]] = {}
    for endpoint in endpoints:
        groups.setdefault(root(endpoint), []).append(endpoint)
    return sorted(groups.values())


def _only(names: set[str]) -> str:
    """The one known name; "" when none or several are."""
    known = names - {""}
    return next(iter(known)) if len(known) == 1 else ""
