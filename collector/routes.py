"""The routes of one HTTP method at one destination port, in one trie over all clients: which positions hold values.

Invariant: the trie depends only on the set of paths and their counts. Nodes are merged by union and sum, the children
to merge are chosen from all of them, and a bound keeps the paths with the smallest hash, never the first ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from heapq import nsmallest
from statistics import median_low

from collector.segments import ANY, NAMES, Segments, is_grpc, is_numbered, is_protected, kind, numbering, text
from collector.sketch import rank

NUMBERED = 5  # children of one node whose names differ only in numbers, before these are values
SLUGS = 20  # children of one node before they can be taken for values
SLUGS_ALONE = 50  # children of one node that are values whatever their counts say
FRESH = 0.5  # distinct values per visit above which a few children are values: routes recur, values do not
RECURS = 10  # visits, in medians of its siblings, above which a child is a route of its own
COMMON = 0.1  # part of the siblings that must have a next segment for it to belong to their common shape
SWALLOWED = 64  # reported siblings per client and template
SEARCH = 20_000  # trie nodes looked at per template for what else it admits
SEARCHES = 400_000  # and for all templates of one destination port
SHARE = 4096  # forms per client and method in the trie, so that no client can crowd out the others
FORMS = 1 << 15  # forms per method in the trie

Routes = dict[Segments, tuple[Segments, int]]  # segments → (typed form, visits)


class Node:
    """A position in the trie. `visits` counts requests through it, `end` says that a path ends here.

    `values`, on the `{*}` child of its parent, are the distinct segments that it stands for, by kind. `numberings` are
    those that were found to stand for values here. Below a `sealed` node (a gRPC service) nothing is taken for a value
    on evidence.
    """

    __slots__ = ("children", "end", "numberings", "sealed", "sorted_children", "values", "visits")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.end = False
        self.numberings: set[str] = set()
        self.sealed = False
        self.sorted_children: list[tuple[str, Node]] | None = None
        self.values: dict[str, set[str]] = {}
        self.visits = 0

    def step(self, segment: str) -> Node:
        """The child under a segment, made if there is none."""
        child = self.children.get(segment)
        if child is None:
            child = self.children[segment] = Node()
        return child

    def insert(self, form: Segments, raw: Segments, visits: int) -> None:
        """Add a path: `form` is `raw` with `{*}` for its typed segments."""
        node, before = self, ""
        for key, segment in zip(form, raw, strict=True):
            node = node.step(key)
            node.visits += visits
            if key == ANY:
                node.values.setdefault(kind(segment, before), set()).add(segment)
            before = segment
        node.end = True

    def absorb(self, other: Node) -> None:
        """Merge another node and all below it into this one; `other` must not be used afterwards."""
        self.end |= other.end
        self.visits += other.visits
        self.numberings |= other.numberings
        for name, values in other.values.items():
            self.values.setdefault(name, set()).update(values)
        for segment, child in other.children.items():
            mine = self.children.get(segment)
            if mine is None:
                self.children[segment] = child
            else:
                mine.absorb(child)

    def in_order(self) -> list[tuple[str, Node]]:
        """The children by segment; only after the last `collapse`."""
        if self.sorted_children is None:
            self.sorted_children = sorted(self.children.items())
        return self.sorted_children

    def follow(self, form: Segments) -> Iterator[tuple[str, Node]]:
        """The (segment, node) pairs along a path (`{*}` where a segment was absorbed), as far as the trie knows it."""
        node = self
        for segment in form:
            child = node.children.get(segment)
            if child is None:
                segment, child = ANY, node.children.get(ANY)
            if child is None:
                return
            node = child
            yield segment, node


def collapse(node: Node, depth: int = 0) -> None:
    """Merge into `{*}` the children that are values by evidence, from the leaves up. Depth 0 is the root."""
    for child in node.children.values():
        collapse(child, depth + 1)
    if not depth or node.sealed:  # never first segments
        return
    absorbed = dict.fromkeys(_slugs(node), "value") | dict.fromkeys(_numbered(node), "numbered")
    if not absorbed:
        return
    wild = node.step(ANY)
    for name, what in absorbed.items():
        wild.values.setdefault(what, set()).add(name)
        wild.absorb(node.children.pop(name))
    collapse(wild, depth + 1)  # what was thin below each child may be wide below all of them


def _numbered(node: Node) -> list[str]:
    """The children whose names differ only in numbers or codes: enough of one numbering, or of one known already."""
    groups: dict[str, list[str]] = {}
    for name in node.children:
        if name not in (ANY, "") and not is_protected(name) and (numbers := numbering(name)):
            groups.setdefault(numbers, []).append(name)
    node.numberings |= {numbers for numbers, names in groups.items() if sum(map(is_numbered, names)) >= NUMBERED}
    return [name for numbers, names in groups.items() if numbers in node.numberings for name in names]


def _slugs(node: Node) -> list[str]:
    """The children that are values by evidence: many, of one shape, none of which recurs."""
    names = [name for name in node.children if name not in (ANY, "") and not is_protected(name)]
    if len(names) < SLUGS:
        return []
    shapes = {name: _shape(node.children[name]) for name in names}
    tally = Counter(label for shape in shapes.values() for label in shape)
    common = {label for label, siblings in tally.items() if siblings >= max(2, COMMON * len(names))}
    alike = [name for name in names if shapes[name] <= common]
    if len(alike) < SLUGS:
        return []
    usual = median_low(node.children[name].visits for name in alike)
    found = [name for name in alike if node.children[name].visits <= RECURS * usual]
    visits = sum(node.children[name].visits for name in found)
    if len(found) >= SLUGS_ALONE or (len(found) >= SLUGS and len(found) > FRESH * visits):
        return found
    return []


def _shape(node: Node) -> frozenset[str]:
    return frozenset(node.children) | ({"/end"} if node.end else set())  # no segment contains a slash


class RouteTrie:
    """One method's trie over all clients, and questions to it; the trie and the work for all questions are bounded."""

    def __init__(self, method: str, clients: list[Routes], methods: int) -> None:
        shares = [{form for form, _ in routes.values()} for routes in clients]
        known = set[Segments]().union(*(_share(forms, SHARE) for forms in shares))
        forms = _share(known, FORMS)
        self.whole = len(forms) == len(set[Segments]().union(*shares))
        self.steps = SEARCHES // methods
        self.found: dict[Segments, tuple[list[tuple[Segments, Segments]], bool]] = {}
        self.forced: set[Segments] = set()
        self.root = Node()
        for routes in clients:
            for raw, (form, visits) in routes.items():
                if form in forms:
                    self.root.insert(form, raw, visits)
                    if is_grpc(method, raw):
                        self.root.step(raw[0]).sealed = True
        collapse(self.root)

    def class_of(self, form: Segments) -> Segments:
        """The form with `{*}` for what was absorbed too."""
        known = tuple(segment for segment, _ in self.root.follow(form))
        return known + form[len(known) :]

    def siblings(self, pattern: Segments, seen: Set[Segments]) -> list[Segments]:
        """What the pattern admits, by class, beyond the classes in `seen`; sorted, at most `SWALLOWED`."""
        beyond = (shown for shown, kin in self._admitted(pattern)[0] if kin not in seen)
        return [shown for shown, _ in zip(beyond, range(SWALLOWED), strict=False)]

    def is_clean(self, pattern: Segments, seen: Set[Segments]) -> bool:
        """Whether the pattern surely admits nothing beyond the classes in `seen`."""
        return self._admitted(pattern)[1] and not self.siblings(pattern, seen)

    def _admitted(self, pattern: Segments) -> tuple[list[tuple[Segments, Segments]], bool]:
        """(path as the pattern admits it, its class) for all that was observed, and whether that is all."""
        if pattern in self.found:
            return self.found[pattern]
        admitted: list[tuple[Segments, Segments]] = []
        steps = allowed = min(self.steps, SEARCH)
        stack: list[tuple[Node, Segments, Segments]] = [(self.root, (), ())]
        while stack and steps:
            steps -= 1
            node, shown, kin = stack.pop()
            if len(kin) == len(pattern):
                if node.end:
                    admitted.append((shown, kin))
                continue
            segment = pattern[len(kin)]
            if segment == ANY:
                below = [(name, child) for name, child in node.in_order()[: steps + 1] if name]
                stack += ((child, (*shown, name), (*kin, name)) for name, child in reversed(below))
            else:
                name = segment if segment in node.children else ANY
                if name in node.children:
                    stack.append((node.children[name], (*shown, segment), (*kin, name)))
        self.steps -= allowed - steps
        self.found[pattern] = (admitted, self.whole and not stack)
        return self.found[pattern]

    def because(self, pattern: Segments, forced: bool) -> str:
        """Why each `{*}` of a pattern is there, in one sentence; once forced for a client, it stays explained so."""
        reasons = []
        nodes = [node for _, node in self.root.follow(pattern)]
        for depth, segment in enumerate(pattern):
            values = nodes[depth].values if segment == ANY and depth < len(nodes) else {}
            counted = [f"{len(v)} distinct {NAMES[k][len(v) > 1]}" for k, v in sorted(values.items())]
            if counted:
                shape = " with the same shape" if "value" in values else ""
                reasons.append(f"{' and '.join(counted)} below {text(pattern[:depth])}{shape}")
        self.forced |= {pattern} if forced else set()
        if pattern in self.forced:
            reasons.insert(0, "more distinct paths in use than can be listed")
        if not self._admitted(pattern)[1]:
            reasons.append("too many siblings to look at all of them")
        return ", ".join(reasons)


def _share(forms: set[Segments], bound: int) -> set[Segments]:
    """At most `bound` of the forms, the same ones whatever the order."""
    return forms if len(forms) <= bound else set(nsmallest(bound, forms, key=rank))
