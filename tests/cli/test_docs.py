"""docs/cli.md: every command and every option is in it."""

from __future__ import annotations

import re

import click
import pytest

from leastway.cli import cli
from leastway.cli.group import COMMANDS
from tests.cli.conftest import ROOT

SECTIONS = dict(
    re.findall(r"^## leastway (\w+)\n(.*?)(?=^## |\Z)", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), re.M | re.S)
)


def test_there_is_a_section_for_each_command_and_no_other() -> None:
    assert list(SECTIONS) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented_and_no_other(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {text for parameter in command.params if isinstance(parameter, click.Option) for text in parameter.opts}
    documented = set(re.findall(r"`(--?[a-z][a-z-]*)", "".join(re.findall(r"^\|.*\|$", SECTIONS[name], re.M))))
    assert documented == options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_section_has_an_example(name: str) -> None:
    assert re.search(rf"^    leastway {name} |^leastway {name} ", SECTIONS[name], re.M)
