"""The built-in templates: every value from outside goes through a filter, in every one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import jinja2
import jinja2.meta
import pytest

from synthesizer.outputs import (
    authorizationpolicy,
    ciliumnetworkpolicy,
    kustomization,
    networkpolicy,
    peerauthentication,
)
from synthesizer.package_data import templates_root
from synthesizer.render import Renderer

# Written bare, since they are our own words: the section of a policy and the name of its ends.
OUR_OWN = {"direction", "ends"}
USED = {
    output.TEMPLATE
    for output in (authorizationpolicy, ciliumnetworkpolicy, kustomization, networkpolicy, peerauthentication)
}


def templates() -> dict[str, str]:
    return {
        f"{folder.name}/{file.name}": file.read_text(encoding="utf-8")
        for folder in templates_root().iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
    }


def outputs(node: jinja2.nodes.Node) -> Iterator[jinja2.nodes.Expr]:
    """Every expression that a template writes."""
    for found in node.find_all(jinja2.nodes.Output):
        yield from (expression for expression in found.nodes if not isinstance(expression, jinja2.nodes.TemplateData))


@pytest.mark.parametrize("name", sorted(templates()))
def test_nothing_is_written_bare_but_our_own_words(name: str) -> None:
    bare = []
    for expression in outputs(Renderer().environment.parse(templates()[name])):
        filtered = isinstance(expression, jinja2.nodes.Filter) and expression.name in ("yaml", "comment")
        named = isinstance(expression, jinja2.nodes.Name) and expression.name in OUR_OWN
        if not (filtered or named):
            bare.append(repr(expression))
    assert bare == []


@pytest.mark.parametrize("name", sorted(templates()))
def test_what_the_parser_calls_an_expression_is_all_that_looks_like_one(name: str) -> None:
    """The same by eye: `{{ x }}` without a filter is one of our own words, and no block writes unfiltered text."""
    text = templates()[name]
    for inside in re.findall(r"{{-?(.*?)-?}}", text, re.DOTALL):
        assert re.search(r"\|\s*(yaml|comment)\s*$", inside) or inside.strip() in OUR_OWN, inside
    assert not re.search(r"{%-?\s*(autoescape|filter|include|import|macro|call|raw|extends)", text)


@pytest.mark.parametrize("name", sorted(templates()))
def test_a_comment_holds_nothing_but_comments(name: str) -> None:
    for line in templates()[name].splitlines():
        if line.lstrip().startswith("#"):
            assert "| yaml" not in line


def test_our_own_words_are_fixed_by_the_output_not_by_traffic() -> None:
    text = templates()[networkpolicy.TEMPLATE]
    assert "{%- for direction, ends, rules in sections %}" in text
    assert set(networkpolicy._ENDS.items()) == {("ingress", "from"), ("egress", "to")}


def test_every_template_belongs_to_an_output_and_every_output_has_one() -> None:
    assert set(templates()) == USED
