"""What of a proxy's URL a policy can match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.urls import path_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://reviews:9080/reviews/0?full=1", "/reviews/0"),
        ("http://reviews:9080/reviews/0#top", "/reviews/0"),
        ("http://reviews:9080/a?next=http://other/b", "/a"),
        ("http://reviews:9080", "/"),
        ("http://reviews:9080/", "/"),
        ("http://reviews:9080?x=/y", "/"),
        ("http://reviews:9080#/y", "/"),
        ("https://[fd00::1]:8443/a", "/a"),
        ("/reviews/0", "/reviews/0"),
        ("/reviews/0?x=1#y", "/reviews/0"),
        ("/a#b?c", "/a"),
        ("/redirect?to=http://other/b", "/redirect"),
        ("?to=http://other/b", ""),
        ("//double", "//double"),
        ("/", "/"),
        ("", ""),
        ("*", ""),
        ("reviews:9080", ""),
        ("?x=/y", ""),
    ],
)
def test_the_path_is_cut_out_of_a_url(url: str, path: str) -> None:
    assert path_of(url) == path


@given(st.text(alphabet="ab:/?#*. %", max_size=20))
def test_what_comes_out_is_a_path_or_nothing(url: str) -> None:
    path = path_of(url)
    assert path == "" or (path.startswith("/") and not set(path) & set("?#"))


@given(st.text(alphabet="ab/.%", max_size=20), st.text(alphabet="ab/?#:", max_size=10))
def test_an_absolute_url_and_its_path_agree(path: str, query: str) -> None:
    """Envoy logs the one, Cilium's proxy the other."""
    assert path_of(f"http://shop:80/{path}?{query}") == path_of(f"/{path}?{query}") == f"/{path}"
