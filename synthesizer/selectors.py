"""The smallest selector that picks a workload's pods and nobody else's.

Invariant: a selector holds only stable labels, which all pods of its workload carry, and all that were seen as it.
Adding a workload changes another one's selector only if that selector would have picked it. The owner's own selector
wins, where the inventory has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations

from collector.endpoints import Labels
from synthesizer.inventory import Inventory
from synthesizer.workload import Workload

# Labels that say what something is, best first; any other stable label comes after, by key.
PREFERRED_KEYS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app",
    "k8s-app",
    "name",
)
# Commit hashes, versions of two numbers or more, dates and serial numbers, UUIDs. (`v1` is a name.)
_RELEASE = re.compile(
    r"(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{7,64}|v?[0-9]+([.-][0-9]+)+([-.+_][0-9A-Za-z.-]+)?|[0-9]{6,}"
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
_SEARCHED = 10  # labels within which the smallest selector is searched exhaustively


def preference(label: tuple[str, str]) -> tuple[int, str, str]:
    """Sorts the most telling label first."""
    key, value = label
    rank = PREFERRED_KEYS.index(key) if key in PREFERRED_KEYS else len(PREFERRED_KEYS)
    return (rank, key, value)


def choose_selectors(workloads: list[Workload], inventory: Inventory) -> None:
    """Give every workload that can be selected its selector, and note whom else it picks."""
    by_namespace: dict[str, list[Workload]] = {}
    for workload in workloads:
        by_namespace.setdefault(workload.namespace, []).append(workload)
    for there in by_namespace.values():
        for cluster in sorted({workload.cluster for workload in there}):
            # Workloads of unknown cluster (the inventory does not name it) may be in any.
            _choose([w for w in there if not cluster or w.cluster in (cluster, "")], cluster, inventory)


def _choose(here: list[Workload], cluster: str, inventory: Inventory) -> None:
    """Give the workloads of one cluster their selectors, in view of all that may be `here` with them."""
    index: dict[tuple[str, str], int] = {}
    for position, workload in enumerate(here):
        for label in workload.labels:
            index[label] = index.get(label, 0) | 1 << position
    for position, workload in enumerate(here):
        if workload.cluster != cluster or not workload.labels or workload.host_network:
            continue
        own, labels = inventory.selector_of(*workload.object_key), workload.labels
        shared = set(labels).intersection(*(other.labels for other in workload.alike))
        if shared and not all(set(own or labels) <= set(other.labels) for other in workload.alike):
            own, labels = (), tuple(sorted(shared))
        selector = own or smallest_selector(labels, index)
        workload.selector, workload.selectable = selector, True
        picked = _picked(selector, index) & ~(1 << position)
        workload.also_selects = tuple(here[i].name for i in range(len(here)) if picked >> i & 1)


def _picked(selector: Labels, index: Mapping[tuple[str, str], int]) -> int:
    """The bit set of workloads that carry all of a selector's labels."""
    picked = -1
    for label in selector:
        picked &= index.get(label, 0)
    return picked


def smallest_selector(labels: Labels, index: Mapping[tuple[str, str], int]) -> Labels:
    """The smallest set of `labels` that picks no workload but those that all of them together pick.

    `index` maps each label of the namespace to the bit set of workloads that carry it. Ties go to the preferred keys.
    A value that looks like one release's (a commit, a version, a date) is used only where nothing else will do.
    """
    ranked = sorted(labels, key=preference)
    unavoidable = _picked(labels, index)
    lasting = [label for label in ranked if not _RELEASE.fullmatch(label[1])]
    for among in (lasting[:_SEARCHED], ranked[:_SEARCHED]):
        for size in range(1, len(among) + 1):
            for chosen in combinations(among, size):
                if _picked(chosen, index) == unavoidable:
                    return tuple(sorted(chosen))
    return labels
