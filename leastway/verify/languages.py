"""The values of authorization rules as sets of strings: which of them can match the same string.

Invariant: for every set of patterns that some string matches, while no other pattern matches it, there is exactly one
class, with one such string. So two rules that no class distinguishes are the same. Only strings that can reach a rule
count: paths begin with a slash and are in the form that the mesh's normalisation gives them.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Literal, NamedTuple

from leastway.verify import httppath
from leastway.verify.httppath import Normalization

STATES = 20_000  # after which a search gives up
Kind = Literal["paths", "methods", "hosts"]
_VISIBLE = frozenset(chr(code) for code in range(0x21, 0x7F))
_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")  # RFC 9110, of a method
_SEGMENT = frozenset(string.ascii_letters + string.digits + "-._~%!$&'()*+,;:@=")
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
_HEX = frozenset(string.hexdigits)
# Tried in this order for a character that no pattern names.
_ORDER = "xyzabcdefghijklmnopqrstuvwXYZABCDEFGHIJKLMNOPQRSTUVW0123456789-_~!$&'()*+,;:@=[]\"<>^`{|}\\#/.%"


class Class(NamedTuple):
    """The strings that match exactly `values` of the given patterns; `witness` is one of them."""

    witness: str
    values: frozenset[str]


class Classes(NamedTuple):
    """All classes, or those that were found before the search gave up."""

    found: tuple[Class, ...]
    complete: bool


class _Step(NamedTuple):
    """One character of a pattern: the possible letters, and whether it may be repeated or left out."""

    letters: frozenset[str]
    loop: bool


@lru_cache(maxsize=1 << 12)
def classes(values: frozenset[str], kind: Kind, option: Normalization = "BASE") -> Classes:
    """The classes of strings that patterns (values of one field) distinguish, and the class that matches none."""
    return _Search(sorted(values), kind, option).run()


@lru_cache(maxsize=1 << 14)
def contains(wider: str, value: str, kind: Kind, option: Normalization = "BASE") -> bool:
    """Does one pattern match all that the other matches?"""
    found = classes(frozenset((wider, value)), kind, option)
    return found.complete and all(wider in one.values for one in found.found if value in one.values)


def _steps(value: str, kind: Kind, alphabet: frozenset[str]) -> list[_Step]:
    anything = _Step(alphabet, True)
    if value == "*":
        return [_Step(alphabet, False), anything]
    if kind == "paths" and httppath.is_template(value):
        found: list[_Step] = []
        for segment in value[1:].split("/"):
            found.append(_Step(frozenset("/"), False))
            if segment == "{*}":
                found += [_Step(_SEGMENT, False), _Step(_SEGMENT, True)]
            elif segment == "{**}":
                found.append(_Step(_SEGMENT | {"/"}, True))
            else:
                found += [_Step(frozenset(letter), False) for letter in segment]
        return found
    text = value.lower() if kind == "hosts" else value
    begins, ends = text.startswith("*"), text.endswith("*")
    literal = text[1:] if begins else text[:-1] if ends else text
    letters = [_Step(frozenset(letter), False) for letter in literal]
    return [anything, *letters] if begins else [*letters, anything] if ends else letters


class _Search:
    """A breadth-first search through all strings, by how much of every pattern they have matched."""

    def __init__(self, values: list[str], kind: Kind, option: Normalization) -> None:
        self.values, self.kind, self.option = values, kind, option
        alphabet = {"paths": _path_letters(option), "methods": _TOKEN, "hosts": _VISIBLE - {"/", "?", "#", "\\"}}[kind]
        self.alphabet = alphabet - frozenset(string.ascii_uppercase) if kind == "hosts" else alphabet
        among = [letter for letter in _ORDER if letter in self.alphabet]
        self.others = [x for x in among if x in _SEGMENT], [x for x in among if x not in _SEGMENT]
        self.steps: list[_Step | None] = []  # of all patterns, each with None at its end
        self.ends: dict[int, str] = {}
        first = []
        for value in values:
            first.append(len(self.steps))
            self.steps += [*_steps(value, kind, self.alphabet), None]
            self.ends[len(self.steps) - 1] = value
        self.begin = self._reached(first)

    def run(self) -> Classes:
        """All classes, the shortest witness of each."""
        found: dict[frozenset[str], str] = {}
        form = _Form(self.option) if self.kind == "paths" else None
        start = (self.begin, NOTHING)
        seen = {start}
        level = [("", *start)]
        while level:
            following = []
            for text, active, shape in level:
                if text and (form is None or form.ends(shape)):
                    found.setdefault(frozenset(self.ends[i] for i in active if i in self.ends), text)
                for letter in ["/"] if form is not None and not text else self._letters(active):
                    after = form.after(shape, letter) if form else ANY_SHAPE
                    if after is None:
                        continue
                    state = (self._moved(active, letter), after)
                    if state not in seen:
                        if len(seen) >= STATES:
                            return self._result(found, False)
                        seen.add(state)
                        following.append((text + letter, *state))
            level = following
        return self._result(found, True)

    @staticmethod
    def _result(found: dict[frozenset[str], str], complete: bool) -> Classes:
        return Classes(tuple(Class(text, values) for values, text in found.items()), complete)

    def _reached(self, places: Iterable[int]) -> frozenset[int]:
        """Places, and those after steps that may be left out."""
        found = set()
        for place in places:
            found.add(place)
            step = self.steps[place]
            while step is not None and step.loop:
                place += 1
                found.add(place)
                step = self.steps[place]
        return frozenset(found)

    def _moved(self, active: frozenset[int], letter: str) -> frozenset[int]:
        after = []
        for place in active:
            step = self.steps[place]
            if step is not None and letter in step.letters:
                after.append(place if step.loop else place + 1)
        return self._reached(after)

    def _letters(self, active: frozenset[int]) -> list[str]:
        """The characters to try: those that a pattern names here, a slash, and two that none names (one that a
        template's segment may contain, and one that it may not)."""
        named = {"/"} if self.kind == "paths" else set()
        for place in active:
            step = self.steps[place]
            if step is not None and len(step.letters) == 1:
                named |= step.letters
        found = sorted(named & self.alphabet)
        for others in self.others:
            found += islice((letter for letter in others if letter not in named), 1)
        return found


def _path_letters(option: Normalization) -> frozenset[str]:
    letters = _VISIBLE - {"?", "#"}
    return letters if option == "NONE" else letters - frozenset('\\"<>^`{|}')


Shape = tuple[str, str]  # how the last segment ("x": as any other) and the last escape begin
NOTHING: Shape = ("", "")
ANY_SHAPE: Shape = ("x", "")


class _Form:
    """Paths as normalisation leaves them, letter by letter."""

    def __init__(self, option: Normalization) -> None:
        self.free = option == "NONE"
        self.merged = option in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
        self.decoded = option == "DECODE_AND_MERGE_SLASHES"

    def after(self, shape: Shape, letter: str) -> Shape | None:
        """What one more letter makes of a path; None if normalisation would change or refuse it."""
        if self.free:
            return ANY_SHAPE
        segment, escape = shape
        if letter == "/":
            dots, doubled = segment in (".", ".."), segment == "/" and self.merged
            return None if dots or doubled else ("/", "")
        segment = segment.removeprefix("/") + letter
        segment = segment if segment in (".", "..") else "x"
        if letter == "%":
            return segment, "%"
        if letter in _HEX and len(escape) == 1:
            return segment, escape + letter
        if letter in _HEX and len(escape) == 2:
            code = chr(int(escape[1] + letter, 16))
            if code in _UNRESERVED or code == "\0" or (self.decoded and code in "/\\"):
                return None
        return segment, ""

    def ends(self, shape: Shape) -> bool:
        """May a path end so?"""
        return shape[0] not in (".", "..")
