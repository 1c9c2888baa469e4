"""Classes of strings against the strings themselves: everyone that can be sent is in exactly one."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leastway.verify import languages
from leastway.verify.httppath import Normalization, normalise, path_matches, string_matches
from leastway.verify.languages import classes, contains

SEGMENTS = ("a", "b", "ab", "{*}", "{*}", "{**}", "..", "%41", "%4", "")
ENDINGS = ("a", "/a", ".a", "/b/a", "b", "/")
TEXTS = [
    "/" + "/".join(parts) for length in (1, 2, 3) for parts in product(("a", "b", "ab", "b.a", "", "["), repeat=length)
]
OPTIONS = get_args(Normalization)


def _legal(parts: list[str]) -> str:
    """No operator after `{**}`, and only literals beside operators that Istio takes."""
    if "{**}" in parts:
        first = parts.index("{**}")
        parts = parts[: first + 1] + [part for part in parts[first + 1 :] if not part.startswith("{")]
    if any(part.startswith("{") for part in parts):
        parts = [part for part in parts if part]
    return "/" + "/".join(parts)


_literals = st.lists(st.sampled_from(("a", "b", "ab", "..", "%41", "%2f", "", "x?")), min_size=1, max_size=3).map(
    _legal
)
_templates = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map(_legal)
_prefixes = _literals.map(lambda text: text + "*")
_suffixes = st.sampled_from(ENDINGS).map(lambda text: "*" + text)
_values = st.one_of(_templates, _literals, _prefixes, _suffixes, st.just("*"))


@given(st.frozensets(_values, max_size=5), st.sampled_from(OPTIONS))
@example(frozenset({"/a/{*}/b", "/{*}/a/{*}", "/a*", "*b"}), "BASE")
@example(frozenset({"/{**}/a", "/a/{**}", "/a/b*"}), "MERGE_SLASHES")
def test_every_path_is_in_exactly_one_class(values: frozenset[str], option: Normalization) -> None:
    found = classes(values, "paths", option)
    assert found.complete
    by_values = {one.values: one.witness for one in found.found}
    assert len(by_values) == len(found.found)
    for one in found.found:
        assert normalise(one.witness, option) == one.witness, one
        assert one.values == {value for value in values if path_matches(value, one.witness)}
    for text in {normalise(text, option) for text in TEXTS} - {None}:
        assert frozenset(value for value in values if path_matches(value, text or "")) in by_values, text


@given(st.frozensets(st.sampled_from(("GET", "POST", "P*", "*T", "G*", "*", "get", "PUT", "*UT"))))
def test_every_method_is_in_exactly_one_class(values: frozenset[str]) -> None:
    found = {one.values for one in classes(values, "methods").found}
    for text in ("GET", "POST", "PUT", "PATCH", "get", "G", "T", "DELETE", "GT", "PT"):
        assert frozenset(value for value in values if string_matches(value, text)) in found


@pytest.mark.parametrize(
    ("wider", "value", "expected"),
    [
        ("/a/{*}", "/a/b", True),
        ("/{*}/{*}", "/a/{*}", True),
        ("/a/{*}", "/{*}/{*}", False),
        ("/a/*", "/a/{*}", True),
        ("/a/{*}", "/a/*", False),
        ("/a/{**}", "/a/*", False),  # a template's operator does not match every character
        ("/a/*", "/a/{**}", True),
        ("*.php", "/a/{*}", False),
        ("/a*", "/a/{*}/b.php", True),
        ("/{*}", "*.php", False),
        ("/a//b", "/a/../b", True),  # no request has such a path
    ],
)
def test_one_value_contains_another(wider: str, value: str, expected: bool) -> None:
    assert contains(wider, value, "paths") == expected


def test_hosts_are_compared_whatever_their_case() -> None:
    assert {one.values for one in classes(frozenset({"A.test", "*.TEST"}), "hosts").found} == {
        frozenset(), frozenset({"*.TEST"}), frozenset({"A.test", "*.TEST"}),
    }  # fmt: skip


def test_a_search_that_is_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "STATES", 50)
    values = frozenset(f"/{'{*}/' * i}only-{i}" for i in range(9))
    assert not classes(values, "paths").complete
    assert not contains("/" + "x" * 60 + "*", "/" + "x" * 60 + "/*", "paths")  # not that anyone knows
