"""Sets of subjects as Python integers: bit i stands for the i-th subject of the universe.

Invariant: a selector's set is built once from label indices by whole-set operations, never subject by subject, so
thousands of policies over thousands of workloads take seconds. `networkpolicy` decides the same questions one by one,
and a test compares the two. The subjects of one workload are neighbours, and the first of them stands for it where
workloads are counted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from leastway.verify.blocks import AddressRange
from leastway.verify.networkpolicy_schema import Block, Network, Pods
from leastway.verify.selectors import Selector
from leastway.verify.variants import Variants
from leastway.verify.world import Subject, World, address


def indices(bits: int) -> Iterator[int]:
    """The members of a set, in ascending order."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


class Universe:
    """The counted subjects of a world, with indices by label and address (host network pods are nodes, and left out).

    A subject is a workload, or, where `variants` distinguishes its pods, one class of its pods. `workloads` has the
    range of indices of each workload. For each index, `owner` is the first index of its workload, `names` the
    workload's reference, and `members` the references of the class's pods (empty if the workload is not split).
    """

    def __init__(self, world: World, variants: Variants | None = None) -> None:
        self.world = world
        self.left_out = sorted(s.ref for s in world.universe() if s.host_network)
        self.subjects: list[Subject] = []
        self.names: list[str] = []
        self.owner: list[int] = []
        self.members: list[tuple[str, ...]] = []
        self.workloads: list[range] = []
        for subject in world.universe():
            if not subject.host_network:
                self._count(subject, variants)
        self.extent = {found.start: found for found in self.workloads}
        self.position = {self.names[found.start]: found.start for found in self.workloads}
        self.all = (1 << len(self.subjects)) - 1
        self.split = len(self.workloads) < len(self.subjects)
        self._within_workload = self._offsets()
        self._index()

    def _count(self, subject: Subject, variants: Variants | None) -> None:
        first = len(self.subjects)
        classes = variants.classes(subject) if variants is not None else ()
        self.subjects += (variants.subjects(subject) if variants is not None else []) or [subject]
        self.members += [tuple(pod.ref for pod in pods) for pods in classes] or [()]
        self.names += [subject.ref] * (len(self.subjects) - first)
        self.owner += [first] * (len(self.subjects) - first)
        self.workloads.append(range(first, len(self.subjects)))

    def _offsets(self) -> list[tuple[int, int]]:
        """(step, indices at least that far from the first of their workload), for ascending powers of two."""
        longest = max(map(len, self.workloads), default=1)
        found = []
        for step in (1 << power for power in range((longest - 1).bit_length())):
            parts = ((1 << len(one)) - (1 << step) << one.start for one in self.workloads if len(one) > step)
            found.append((step, union(parts)))
        return found

    def folded(self, bits: int) -> int:
        """The workloads with some class in a set, each as its first index."""
        if not self.split:
            return bits
        for step, behind in self._within_workload:
            bits |= (bits & behind) >> step
        return bits & ~self._within_workload[0][1]

    def spread(self, bits: int) -> int:
        """All classes of the workloads in a `folded` set."""
        for step, behind in self._within_workload:
            bits |= bits << step & behind
        return bits

    def _index(self) -> None:
        self.namespaces: dict[str, int] = defaultdict(int)
        self._pairs: dict[tuple[str, str], int] = defaultdict(int)
        self._keys: dict[str, int] = defaultdict(int)
        self._selected: dict[Selector, int] = {}
        self._regions: dict[Selector, int] = {}
        self._blocks: dict[tuple[Network, tuple[Network, ...]], tuple[int, int]] = {}
        addresses: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        self._several: dict[int, Counter[int]] = {4: Counter(), 6: Counter()}
        self.addressless = 0
        self.only = {4: 0, 6: 0}  # subjects that have addresses of only this family
        self.dual = 0  # subjects that have addresses of both
        for i, subject in enumerate(self.subjects):
            bit = 1 << i
            self.namespaces[subject.namespace] |= bit
            for pair in subject.labels.items():
                self._pairs[pair] |= bit
                self._keys[pair[0]] |= bit
            found = [ip for text in subject.ips if (ip := address(text)) is not None]
            for ip in found:
                addresses[ip.version].append((int(ip), i))
            for version, number in Counter(ip.version for ip in found).items():
                self._several[version][i] = number
            families = {ip.version for ip in found}
            if len(families) == 1:
                self.only[min(families)] |= bit
            elif families:
                self.dual |= bit
            else:
                self.addressless |= bit
        self._addresses = {version: sorted(known) for version, known in addresses.items()}
        self._distinct = {version: sorted({ip for ip, _ in known}) for version, known in addresses.items()}

    def locate(self, ref: str) -> int | None:
        """The index of a subject, or of the workload that a pod belongs to; None if it is not counted."""
        found = self.position.get(ref)
        if found is not None:
            return found
        subject = self.world.subjects.get(ref)
        return None if subject is None else self.position.get(self.world.workload(subject).ref)

    def locate_address(self, text: str) -> int | None:
        """The index of the subject with an address."""
        subject = self.world.at(text)
        return None if subject is None else self.locate(subject.ref)

    def selected(self, selector: Selector) -> int:
        """Subjects, of any namespace, whose labels a selector matches."""
        known = self._selected.get(selector)
        if known is None:
            known = self.all
            for pair in selector.pairs:
                known &= self._pairs.get(pair, 0)
            for key, operator, values in selector.requirements:
                if operator in ("In", "NotIn"):
                    having = 0
                    for value in values:
                        having |= self._pairs.get((key, value), 0)
                else:
                    having = self._keys.get(key, 0)
                known &= having if operator in ("In", "Exists") else ~having
            self._selected[selector] = known
        return known

    def region(self, selector: Selector) -> int:
        """Subjects of the namespaces that a namespace selector matches."""
        known = self._regions.get(selector)
        if known is None:
            known = 0
            for name, labels in self.world.namespaces.items():
                if selector.matches(labels):
                    known |= self.namespaces.get(name, 0)
            self._regions[selector] = known
        return known

    def pods(self, peer: Pods, namespace: str) -> int:
        """Subjects that a pod peer of a policy in `namespace` names."""
        region = self.namespaces.get(namespace, 0) if peer.namespaces is None else self.region(peer.namespaces)
        return region & self.selected(peer.pods)

    def block(self, block: Block) -> int:
        """Subjects with all of their known addresses of the block's family in it."""
        return self._covered(block)[0]

    def touched(self, network: Network) -> int:
        """Subjects with at least one known address in a block."""
        return self._covered(Block(network, ()))[1]

    def _covered(self, block: Block) -> tuple[int, int]:
        key = (block.network, block.excepts)
        known = self._blocks.get(key)
        if known is None:
            inside = set(self._within(block.network))
            for inner in block.excepts:
                inside.difference_update(self._within(inner))
            several, counted = self._several[block.network.version], Counter(i for _, i in inside)
            known = self._blocks[key] = (
                union(1 << i for i, count in counted.items() if count == several[i]),
                union(1 << i for i in counted),
            )
        return known

    def occupied(self, part: AddressRange) -> int:
        """How many addresses of a range belong to subjects."""
        known = self._distinct[part.version]
        return bisect_right(known, part.last) - bisect_left(known, part.first)

    def over_every_family(self, destination: int, over: Callable[[int], int]) -> int:
        """Sources that reach a destination whichever address family they take; `over` gives those that do over one
        family (0: the only one there is)."""
        if not self.dual:
            return over(0)
        four, six = over(4), over(6)
        bit = 1 << destination
        if self.only[4] & bit:
            return four & ~self.only[6] | six & self.only[6]
        if self.only[6] & bit:
            return six & ~self.only[4] | four & self.only[4]
        either = self.all & ~self.only[4] & ~self.only[6]
        return four & self.only[4] | six & self.only[6] | four & six & either

    def _within(self, network: Network) -> list[tuple[int, int]]:
        ordered = self._addresses[network.version]
        low = bisect_left(ordered, (int(network.network_address), -1))
        return ordered[low : bisect_right(ordered, (int(network.broadcast_address), len(self.subjects)))]


def union(parts: Iterable[int]) -> int:
    """The union of some sets."""
    bits = 0
    for part in parts:
        bits |= part
    return bits
