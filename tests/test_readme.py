"""The README claims only what a run shows."""

from __future__ import annotations

import re
from pathlib import Path

from leastway.cli.group import cli
from tests.readme import README, ROOT, commands, updated


def test_examples_are_what_the_commands_print() -> None:
    """`python -m tests.readme --update` makes them anew."""
    assert updated() == README.read_text()


def test_two_commands_on_the_first_screen() -> None:
    """One runs a sample, the other the tests; CI calls the same test command."""
    first_screen = "\n".join(README.read_text().splitlines()[:40])
    generate, test = commands()
    assert generate in first_screen
    assert test in first_screen
    assert "pytest -q" in test
    assert re.search(r"^pytest -q$", (ROOT / ".ci" / "run").read_text(), re.M)


def test_the_command_table_is_complete() -> None:
    """Every command is in the table, and nothing else is."""
    listed = set(re.findall(r"^\| `leastway (\w+)", README.read_text(), re.M))
    assert listed == set(cli.list_commands(None))  # type: ignore[arg-type]  # the lazy group needs no context


def test_links_lead_somewhere() -> None:
    """Relative links name files of the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert [link for link in links if not Path(ROOT / link).exists()] == []
