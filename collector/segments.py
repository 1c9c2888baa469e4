"""What kind of value a path segment is by its form alone, and how sets of path patterns are made smaller.

Invariant: nothing here knows counts or clients; the kind of a segment does not depend on other requests.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import pairwise

Segments = tuple[str, ...]

ANY = "{*}"  # Istio: exactly one segment, not empty, of LITERAL_CLASS
LITERAL_CLASS = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]"  # pchar of RFC 3986 without "*"; Envoy's `{*}` matches no other either

DEPTH = 12  # segments of a path that may become a template; a deeper one stays exact
COMPARISONS = 500_000  # of patterns with each other, see `fewest`

# Words that name a function, never a thing: a template must not admit one unnoticed, however rare it is.
_WORDS = """
account actuator admin administrator all api auth batch bulk callback config console count current debug default delete
docs download dump edit env export file files find graphql grpc health healthcheck healthz heapdump import index info
internal jmx job jobs livez login logout manage management me metrics new oauth oauth2 openapi password ping pprof
private public ready readyz recent register reload reset root rpc schema search secret secrets self session sessions
settings setup shutdown signup static stats status swagger system test token trace update upload user users version
webhook
"""
PROTECTED = frozenset(_WORDS.split())
_GRPC = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+/[A-Za-z_]\w*", re.ASCII)  # protobuf identifiers
# An integer below 1000 right after one of these is a version or a status, not an id.
_ANNOUNCES = frozenset({"api", "rest", "status", "v", "version"})

_VALUE = re.compile(
    r"(?P<integer>-?\d+)"
    r"|(?:urn:uuid:|%7B)?(?P<uuid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?:%7D)?"
    r"|(?:0x)?(?P<hexadecimal>[0-9a-f]{16,}|[0-9A-F]{16,}|(?=[a-f]*\d)[0-9a-f]{8,}|(?=[A-F]*\d)[0-9A-F]{8,})"
    r"|(?P<ulid>[0-7](?:[0-9A-HJKMNP-TV-Z]{25}|[0-9a-hjkmnp-tv-z]{25}))"
    r"|(?P<date>\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[Tt]\d{2}[\dA-Fa-f:.%+Zz-]*)?)"
    r"|(?P<email>[^@%]{1,64}(?:@|%40)(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63})"
    r"|(?P<digest>(?:md5|sha\d{1,3})(?::|%3A)[0-9a-fA-F]{32,128})"
    r"|(?P<address>\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5})"
    r"|(?P<decimal>-?\d+\.\d{3,}(?:[,;]-?\d+\.\d{3,})*)"
    r"|(?P<list>\d+(?:,\d+)+)"
    r"|(?P<phone>\+\d{8,15})"
    r"|(?P<file>[\w~-]+[.-](?=[a-f]*\d)[0-9a-f]{8,64}(?:\.[A-Za-z][A-Za-z0-9]{0,9}){1,3})"
    r"|(?P<token>[A-Za-z0-9_-]{16,}={0,2}|eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){1,4})",
    re.ASCII,
)
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}", re.ASCII)
_FILED = frozenset({"date", "file", "hexadecimal", "token", "ulid", "uuid"})  # what makes a file's name a value
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_CODE = re.compile(r"[A-Za-z0-9]*[0-9][A-Za-z0-9]*")
_VERSION = re.compile(r"[vV][0-9]+(?:\.[0-9]+)*")
_CAPITALS = re.compile(r"[A-Z]{2,}(?![A-Za-z])")
_WORDING = re.compile(r"[a-z]+(?:-[a-z]+)*")
_CLASSES = str.maketrans({**dict.fromkeys("0123456789", "0"), **dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A")})

NAMES = {  # of kinds, one and many; "numbered" and "value" are what was taken for one on evidence
    "address": ("address", "addresses"),
    "date": ("date", "dates"),
    "decimal": ("decimal number", "decimal numbers"),
    "digest": ("digest", "digests"),
    "email": ("e-mail address", "e-mail addresses"),
    "file": ("generated file name", "generated file names"),
    "hexadecimal": ("hexadecimal number", "hexadecimal numbers"),
    "integer": ("integer", "integers"),
    "list": ("list of numbers", "lists of numbers"),
    "numbered": ("numbered name", "numbered names"),
    "phone": ("phone number", "phone numbers"),
    "token": ("token", "tokens"),
    "ulid": ("ULID", "ULIDs"),
    "uuid": ("UUID", "UUIDs"),
    "value": ("value", "values"),
}


def kind(segment: str, before: str = "") -> str:
    """The type of a segment that is a value on sight (a key of `NAMES`), "" for a literal.

    `before` is the segment in front of it: `/api/2` is a version, `/orders/2` an id.
    """
    if len(segment) < 16 and segment.isalpha():  # the usual word, decided fast
        return ""
    found = _VALUE.fullmatch(segment)
    if found is None:
        stem, dot, end = segment.rpartition(".")
        return "file" if dot and _EXTENSION.fullmatch(dot + end) and kind(stem) in _FILED else ""
    name = found.lastgroup or ""
    if name == "integer":
        return "" if len(segment) <= 3 and before.lower() in _ANNOUNCES else name
    return name if name != "token" or _looks_random(segment) else ""


def numbering(segment: str) -> str:
    """What is the same in names that differ by a number or code: `ORD-2026-00017` → `A-#-#`; "" for no such name.

    A code without anything around it is told by its length. Capitals beside a code are part of it (`SHOP-17`), and so
    are words beside a long one (`red-mug-889598`).
    """
    plain = _ENCODED.sub("%", segment)
    codes = _CODE.findall(plain)
    if not codes or _VERSION.fullmatch(plain):
        return ""
    shape = _CAPITALS.sub("A", _CODE.sub("#", plain))
    if shape == "#":
        return f"#{len(segment)}" if len(segment) >= 6 else ""
    return _WORDING.sub("a", shape) if max(map(len, codes)) >= 5 else shape


def is_numbered(segment: str) -> bool:
    """Whether a name with a numbering is more than one of a few things that have names (`step-2`)."""
    return sum(map(len, _CODE.findall(_ENCODED.sub("%", segment)))) >= 2


def _looks_random(segment: str) -> bool:
    """Whether character classes alternate as in random base64url (two of three neighbours), not as in camelCase."""
    if segment.startswith("eyJ") and "." in segment:  # a JSON web token: its head is not random, and it is a secret
        return True
    classes = "".join("a" if c.islower() else c for c in segment.rstrip("=").translate(_CLASSES))
    mixed = {"0", "A", "a"} <= set(classes) and classes.count("0") >= 2
    changes = sum(a != b for a, b in pairwise(classes))
    return mixed and changes >= 0.4 * (len(classes) - 1) and len(set(segment)) >= 10


def is_grpc(method: str, segments: Segments) -> bool:
    """Whether a request has the form of a gRPC call: POST `/package.Service/Method`."""
    return method == "POST" and len(segments) == 2 and _GRPC.fullmatch("/".join(segments)) is not None


def is_protected(segment: str) -> bool:
    """Whether a segment names a function, by word (`admin`) or by form (`.well-known`, `_search`, `~root`)."""
    return segment.lower() in PROTECTED or segment[:1] in "._~"


def typed(segments: Segments) -> Segments:
    """The segments with `{*}` for each value on sight."""
    return tuple(ANY if kind(s, before) else s for s, before in zip(segments, ("", *segments), strict=False))


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
