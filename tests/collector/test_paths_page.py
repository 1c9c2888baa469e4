"""What docs/paths.md says of values and bounds is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector import paths, routes
from collector.segments import ANY, DEPTH, typed

PAGE = (Path(__file__).resolve().parents[2] / "docs/paths.md").read_text()
ROWS = re.findall(r"^\| (?P<form>[^|]+) \| (?P<example>`/[^|]*`) \| (?P<literal>[^|]*)\|$", PAGE, re.MULTILINE)


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def form(path: str) -> tuple[str, ...]:
    return typed(tuple(path.removeprefix("/").split("/")))


def test_the_page_has_a_row_for_every_kind_of_value() -> None:
    assert len(ROWS) == 12


@pytest.mark.parametrize("path", [path for _, example, _ in ROWS for path in quoted(example)])
def test_an_example_of_a_value_is_one(path: str) -> None:
    assert form(path)[-1] == ANY


@pytest.mark.parametrize(
    "text",
    [text for name, _, literal in ROWS for text in quoted(literal) if name != "integer" or re.search(r"/|v1", text)],
)
def test_what_stays_literal_does(text: str) -> None:
    assert ANY not in form(text if text.startswith("/") else f"/x/{text}")


@pytest.mark.parametrize("word", [text for text in quoted(ROWS[0][2]) if not re.search(r"/|v1", text)])
def test_a_small_integer_after_these_words_is_no_value(word: str) -> None:
    assert form(f"/{word}/999") == (word, "999")
    assert form(f"/{word}/1000") == (word, ANY)


@pytest.mark.parametrize(
    "said",
    [
        f"with more than {DEPTH} segments",
        f"at least {'five' if routes.NUMBERED == 5 else '?'} names at one position",
        f"at least {routes.SLUGS} candidates",
        f"at least {routes.SLUGS_ALONE} values",
        f"more than one distinct value for {'two' if routes.FRESH == 1 / 2 else '?'} requests",
        f"more than {'ten' if routes.RECURS == 10 else '?'} times the usual number",
        f"one single value, {'five' if paths.CONSTANT == 5 else '?'} times or more",
        f"| methods | {paths.METHODS} |",
        f"because their template would admit a sibling | {paths.VALUES} |",
        f"| paths and templates per method | {paths.LISTED} |",
        f"| gRPC calls | {paths.RPCS} |",
        f"| exact paths that no template matches, per method | {paths.EXACT} |",
        f"| swallowed paths per template, inexpressible requests | {paths.INEXPRESSIBLE} |",
        f"{routes.SEARCH:,} positions per template, {routes.SEARCHES:,} per destination port",
        f"more than {paths.LENGTH}\ncharacters",
    ],
)
def test_the_bounds_are_those_of_the_code(said: str) -> None:
    assert said in PAGE
    assert routes.SWALLOWED == paths.INEXPRESSIBLE
