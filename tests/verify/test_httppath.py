"""Paths as Envoy normalises and Istio matches them. The template rows follow Istio's TestAuthz_PathTemplating, the
normalisation rows its normalisation page, re-authored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leastway.verify.errors import PolicyError
from leastway.verify.httppath import Normalization, normalise, path_matches, string_matches, template


@pytest.mark.parametrize(
    ("value", "path", "matches"),
    [
        ("/store/{*}/items", "/store/books/items", True),
        ("/store/{*}/items", "/store/items", False),
        ("/store/{*}/items", "/store//items", False),
        ("/store/{*}/items", "/store/a/b/items", False),
        ("/t/{*}", "/t/1", True),
        ("/t/{*}", "/t/a%2Fb", True),
        ("/t/{*}", "/t/", False),
        ("/t/{*}", "/t/1/", False),
        ("/t/{*}", "/t/1/2", False),
        ("/t/{*}", "//t/1", False),
        ("/a/{*}/b/{**}", "/a/1/b/", True),
        ("/a/{*}/b/{**}", "/a/1/b/c/d", True),
        ("/a/{*}/b/{**}", "/a/1/b", False),
        ("/store/{**}/cart", "/store//cart", True),
        ("/store/{**}/cart", "/store/a/b/cart", True),
        ("/store/{**}/cart", "/store/cart", False),
        ("/{**}", "/", True),
        ("/{**}", "/any/thing", True),
        ("/{*}/{*}", "/a/b", True),
        ("/f/{*}/", "/f/a/", True),
        ("/f/{*}/", "/f/a", False),
        ("/t/{*}", "/t/*", True),
        ("/t/{*}", "/t/[", False),
        ("/t/{*}", "/t/x:y@z=1", True),
        ("/exact", "/exact", True),
        ("/exact", "/Exact", False),
        ("/exact", "/exact/", False),
        ("/prefix/*", "/prefix/", True),
        ("/prefix/*", "/prefix/a/b", True),
        ("/prefix/*", "/prefix", False),
        ("/prefix*", "/prefixed", True),
        ("*/suffix", "/a/b/suffix", True),
        ("*/suffix", "/suffix", True),
        ("*", "/", True),
        ("/a/*/b", "/a/1/b", False),
        ("/a/*/b", "/a/*/b", True),
    ],
)
def test_path_values(value: str, path: str, matches: bool) -> None:
    assert path_matches(value, path) is matches


@pytest.mark.parametrize(
    ("option", "path", "expected"),
    [
        ("NONE", "/a/../b//c?d#e", "/a/../b//c"),
        ("BASE", "/a/../b", "/b"),
        ("BASE", "/a/./b/.", "/a/b/"),
        ("BASE", "/a/b/..", "/a/"),
        ("BASE", "/../../a", "/a"),
        ("BASE", "\\a\\b", "/a/b"),
        ("BASE", "/%61%2d%7E", "/a-~"),
        ("BASE", "/%2e%2e/a", "/a"),
        ("BASE", "/a%2Fb", "/a%2Fb"),
        ("BASE", "//t/1", "//t/1"),
        ("BASE", '/"<>^`{|}', "/%22%3C%3E%5E%60%7B%7C%7D"),
        ("BASE", "/a%2fb%c3", "/a%2fb%c3"),
        ("BASE", "/\u00fc", "/%C3%BC"),  # over HTTP/2; HTTP/1.1 takes none
        ("NONE", "/\u00fc", "/\u00fc"),
        ("BASE", "/\ud800", "/%3F"),  # no text at all
        ("NONE", "/a b", None),
        ("BASE", "/a?x=/../b", "/a"),
        ("BASE", "/%00", None),
        ("MERGE_SLASHES", "//t///1", "/t/1"),
        ("MERGE_SLASHES", "/a%2F/b", "/a%2F/b"),
        ("DECODE_AND_MERGE_SLASHES", "/a%2F/%5cb", "/a/b"),
        ("DECODE_AND_MERGE_SLASHES", "/a%2f..%2fb", "/b"),
    ],
)
def test_normalisation(option: Normalization, path: str, expected: str | None) -> None:
    assert normalise(path, option) == expected


@pytest.mark.parametrize(
    "value",
    [
        "/a/{**}/{*}",
        "/a/{**}/b/{**}",
        "/a{*}",
        "/{*}b",
        "/f/{**}.txt",
        "/{*}{*}",
        "/a/{*",
        "t/{*}",
        "/a/{*}/ü",
        "/a//{*}",
        "//{*}",
        "/{*}//",
    ],
)
def test_templates_that_istio_or_envoy_rejects_are_errors(value: str) -> None:
    with pytest.raises(PolicyError):
        template(value)


@given(st.text(alphabet="/.%2eEfF5cCa\\?#", max_size=30))
def test_normalising_twice_changes_nothing_more_unless_decoding_made_an_escape(path: str) -> None:
    once = normalise("/" + path)
    if once is not None and "%" not in once:
        assert normalise(once) == once


@given(st.text(max_size=20), st.text(max_size=20))
def test_string_matches_follow_their_definition(value: str, found: str) -> None:
    assert string_matches(value + "*", found) == (
        found.endswith(value[1:] + "*")
        if value.startswith("*")
        else found.startswith(value) and (value + "*" != "*" or found != "")
    )
