"""Pairs of pods as pairs of names: of workloads where all pods are concerned, else of single pods.

Invariant: names and total depend only on the pods concerned, not on the classes in which they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from leastway.verify.bits import Universe, indices

Names = tuple[str, ...]
MIXED = "mixed"  # some cells say so, some do not


class Pairs:
    """Sets of sources, by the classes of one destination workload. A pod is not paired with itself."""

    def __init__(self, universe: Universe, workload: range, by_destination: Mapping[int, int]) -> None:
        self._universe = universe
        self._workload = workload
        self._sources = {d: by_destination.get(d, 0) for d in workload}
        self._any = 0
        for bits in self._sources.values():
            self._any |= bits

    @property
    def total(self) -> int:
        """How many pairs `ends` gives."""
        if not self._universe.split:
            return self._any.bit_count()
        return sum(
            len(ones) * len(others) - (len(ones) if pods and ones == others else 0)
            for ones, others, pods in self._groups()
        )

    def ends(self) -> Iterator[tuple[str, str]]:
        """(source, destination), by the order of sources."""
        for ones, others, pods in self._groups():
            yield from ((one, other) for one in ones for other in others if not (pods and one == other))

    def _groups(self) -> Iterator[tuple[Names, Names, bool]]:
        """(sources, destinations, whether both are pods), each source paired with each destination."""
        universe = self._universe
        for first in indices(universe.folded(self._any)):
            yield from self._between(universe.extent[first])

    def _between(self, sources: range) -> Iterator[tuple[Names, Names, bool]]:
        universe, workload = self._universe, self._workload
        names: tuple[Names, Names] = ((universe.names[sources.start],), (universe.names[workload.start],))
        rows = {s: self._common((s, d) for d in workload) for s in sources}
        columns = {d: self._common((s, d) for s in sources) for d in workload}
        if rows.keys() == {s for s, row in rows.items() if row in (True, None)}:
            yield (*names, False)
        elif MIXED not in rows.values():
            yield from ((self._pods(s), names[1], False) for s, row in rows.items() if row is True)
        elif MIXED not in columns.values():
            yield from ((names[0], self._pods(d), False) for d, column in columns.items() if column is True)
        else:
            cells = ((s, d) for s in sources for d in workload if self._sources[d] >> s & 1)
            yield from ((self._pods(s), self._pods(d), True) for s, d in cells)

    def _pods(self, i: int) -> Names:
        return self._universe.members[i] or (self._universe.names[i],)

    def _common(self, cells: Iterable[tuple[int, int]]) -> bool | str | None:
        """What all cells say, `MIXED` if they differ; None if there are only pairs of a pod and itself."""
        said = {bool(self._sources[d] >> s & 1) for s, d in cells if s != d or not self._universe.subjects[d].single}
        return None if not said else said.pop() if len(said) == 1 else MIXED
