"""What one path segment is, and the trie in which siblings become `{*}`; `collector.paths` decides for whom.

Invariant: the trie after `collapse` depends on the set of paths and their counts only. Nodes are merged by union and
sum, and what is merged is chosen from the whole set of children, never from the first ones seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import pairwise
from statistics import median_low

Segments = tuple[str, ...]

ANY = "{*}"  # Istio: exactly one segment, not empty, of LITERAL_CLASS
LITERAL_CLASS = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]"  # pchar of RFC 3986 without "*"; Envoy's `{*}` matches no other either

DEPTH = 16  # segments of a path that may become a template; a deeper one stays exact
SLUGS = 20  # children of one node before they can be taken for values
SLUGS_ALONE = 50  # children of one node that are values whatever their counts say
FRESH = 0.5  # distinct values per visit above which a few children are values: routes recur, values do not
RECURS = 10  # visits, in medians of its siblings, above which a child is a route of its own
COMPARISONS = 500_000  # of patterns with each other, see `fewest`
COMMON = 0.1  # part of the siblings that must have a next segment for it to belong to their common shape

# Words that name a function and never a thing; a template may not take one in unnoticed, however rare it is.
_WORDS = """
account actuator admin administrator all api auth batch bulk callback config console count current debug default delete
docs download dump edit env export file files find graphql grpc health healthcheck healthz heapdump import index info
internal jmx job jobs livez login logout manage management me metrics new oauth oauth2 openapi password ping pprof
private public ready readyz recent register reload reset root rpc schema search secret secrets self session sessions
settings setup shutdown signup static stats status swagger system test token trace update upload user users version
webhook
"""
PROTECTED = frozenset(_WORDS.split())
# An integer below 1000 right after one of these is a version or a status, not an id.
_ANNOUNCES = frozenset({"api", "rest", "status", "v", "version"})

_VALUE = re.compile(
    r"(?P<integer>-?\d+)"
    r"|(?P<uuid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
    r"|(?:0x)?(?P<hexadecimal>[0-9a-f]{16,}|[0-9A-F]{16,}|(?=[a-f]*\d)[0-9a-f]{8,}|(?=[A-F]*\d)[0-9A-F]{8,})"
    r"|(?P<ulid>[0-7](?:[0-9A-HJKMNP-TV-Z]{25}|[0-9a-hjkmnp-tv-z]{25}))"
    r"|(?P<date>\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[Tt]\d{2}[\dA-Fa-f:.%+Zz-]*)?)"
    r"|(?P<email>[^@%]{1,64}(?:@|%40)(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63})"
    r"|(?P<token>[A-Za-z0-9_-]{16,}={0,2}|eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){1,4})",
    re.ASCII,
)
_CLASSES = str.maketrans({**dict.fromkeys("0123456789", "0"), **dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A")})

NAMES = {  # of kinds, one and many; "value" is what was taken for one on evidence
    "date": ("date", "dates"),
    "email": ("e-mail address", "e-mail addresses"),
    "hexadecimal": ("hexadecimal number", "hexadecimal numbers"),
    "integer": ("integer", "integers"),
    "token": ("token", "tokens"),
    "ulid": ("ULID", "ULIDs"),
    "uuid": ("UUID", "UUIDs"),
    "value": ("value", "values"),
}


def kind(segment: str, before: str = "") -> str:
    """The type of a segment that is a value on sight (a key of `NAMES`), "" for a literal.

    `before` is the segment in front of it: `/api/2` is a version, `/orders/2` an id.
    """
    found = _VALUE.fullmatch(segment)
    if found is None:
        return ""
    name = found.lastgroup or ""
    if name == "integer":
        return "" if len(segment) <= 3 and before.lower() in _ANNOUNCES else name
    return name if name != "token" or _looks_random(segment) else ""


def _looks_random(segment: str) -> bool:
    """Whether character classes alternate as in random base64url (two of three neighbours), not as in camelCase."""
    if segment.startswith("eyJ") and "." in segment:  # a JSON web token: its head is not random, and it is a secret
        return True
    classes = "".join("a" if c.islower() else c for c in segment.rstrip("=").translate(_CLASSES))
    mixed = {"0", "A", "a"} <= set(classes) and classes.count("0") >= 2
    changes = sum(a != b for a, b in pairwise(classes))
    return mixed and changes >= 0.4 * (len(classes) - 1) and len(set(segment)) >= 10


def is_protected(segment: str) -> bool:
    """Whether a segment names a function, by word (`admin`) or by form (`.well-known`, `_search`, `~root`)."""
    return segment.lower() in PROTECTED or segment[:1] in "._~"


def typed(segments: Segments) -> Segments:
    """The segments with `{*}` for each value on sight."""
    return tuple(ANY if kind(s, before) else s for s, before in zip(segments, ("", *segments), strict=False))


class Node:
    """A position in the trie. `visits` counts requests through it, `end` says that a path ends here.

    `values`, on the `{*}` child of its parent, are the distinct segments that it stands for, by kind. Below a `sealed`
    node (a gRPC service) nothing is taken for a value on evidence.
    """

    __slots__ = ("children", "end", "sealed", "sorted_children", "values", "visits")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.end = False
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
        """The (segment, node) pairs on a path, `{*}` where its own segment was absorbed, up to where it is unknown."""
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
    """Merge into `{*}` the children that are values by evidence (`_slugs`), from the leaves up. Depth 0 is the root."""
    for child in node.children.values():
        collapse(child, depth + 1)
    absorbed = _slugs(node) if depth and not node.sealed else []  # never first segments
    if not absorbed:
        return
    wild = node.step(ANY)
    for name in absorbed:
        wild.values.setdefault("value", set()).add(name)
        wild.absorb(node.children.pop(name))
    collapse(wild, depth + 1)  # what was thin below each child may be wide below all of them


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


def squeezed(patterns: set[Segments], bound: int) -> set[Segments]:
    """At most `bound` patterns that admit all given ones: the widest nodes give way, the root last.

    `bound` is at least 2 x `DEPTH`: at width 0 one pattern is left for each depth, with and without trailing slash.
    """
    for floor, widths in ((1, (1024, 64, 16)), (0, (1024, 64, 16, 4, 1, 0))):
        for width in widths:
            if len(patterns) <= bound:
                return patterns
            patterns = set(_narrowed(patterns, width, floor, ()))
    return patterns


def _narrowed(patterns: Collection[Segments], width: int, floor: int, prefix: Segments) -> Iterator[Segments]:
    """The patterns with `{*}` where, from depth `floor` on, more than `width` literals stood side by side."""
    depth = len(prefix)
    groups: dict[str, list[Segments]] = {}
    for pattern in patterns:
        if len(pattern) > depth:
            groups.setdefault(pattern[depth], []).append(pattern)
    if sum(map(len, groups.values())) < len(patterns):
        yield prefix
    literals = [segment for segment in groups if segment not in (ANY, "")]
    if depth >= floor and len(literals) > width:
        groups[ANY] = [pattern for segment in (*literals, ANY) for pattern in groups.pop(segment, ())]
    for segment, members in groups.items():
        if width and len(members) == 1:
            yield (*prefix, segment, *members[0][depth + 1 :])
        else:
            yield from _narrowed(members, width, floor, (*prefix, segment))


def fewest(patterns: set[Segments]) -> set[Segments]:
    """The patterns without those that another one admits; left as they are when comparing them would take too long."""
    masks = {tuple(segment == ANY for segment in pattern) for pattern in patterns if ANY in pattern}
    if len(patterns) * len(masks) > COMPARISONS:
        return patterns
    return {pattern for pattern in patterns if not any(_admitted(pattern, mask, patterns) for mask in masks)}


def _admitted(pattern: Segments, mask: tuple[bool, ...], patterns: set[Segments]) -> bool:
    if len(mask) != len(pattern):
        return False
    wide = tuple(ANY if wild and segment else segment for wild, segment in zip(mask, pattern, strict=True))
    return wide != pattern and wide in patterns


def text(pattern: Segments) -> str:
    """The path or template as it is written."""
    return "/" + "/".join(pattern)
