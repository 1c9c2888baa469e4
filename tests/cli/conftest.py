"""The command line as a function of its arguments, and one generated story that many tests read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from leastway.cli import cli
from tests.cli.cluster import CAPTURE, INVENTORY

Run = Callable[..., Result]
ROOT = Path(__file__).resolve().parent.parent.parent


def invoke(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """One run in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def run() -> Run:
    """`run("verify", folder, capture)` → exit code, stdout, stderr."""
    return invoke


@pytest.fixture(scope="session")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small cluster of `tests.cli.cluster` as kubectl prints it."""
    path = tmp_path_factory.mktemp("cluster") / "inventory.yaml"
    path.write_text(INVENTORY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its flows."""
    path = tmp_path_factory.mktemp("capture") / "flows.jsonl"
    path.write_text(CAPTURE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory, inventory: Path, capture: Path) -> Path:
    """What `generate` makes of both; read only."""
    folder = tmp_path_factory.mktemp("policies")
    result = invoke("generate", capture, "--inventory", inventory, "-o", folder)
    assert result.exit_code == 0, result.stderr
    return folder
