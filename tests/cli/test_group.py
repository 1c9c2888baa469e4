"""The group: lazy, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from leastway import pipeline
from leastway.cli.group import COMMANDS
from tests.cli.conftest import ROOT, Run

HEAVY = ("google.protobuf", "grpc", "jinja2", "kubernetes", "msgspec", "pandas", "pyarrow", "rich", "yaml")


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A real run, as `python -m leastway`."""
    command = [sys.executable, "-m", "leastway", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"leastway {name} " in result.stdout.partition("\n\n")[2]


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    began = time.perf_counter()
    done = process("--help")
    print(f"leastway --help took {1000 * (time.perf_counter() - began):.0f} ms, interpreter included")
    assert done.returncode == 0
    code = f"import sys, leastway.cli; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    result = run("genrate")
    assert result.exit_code == 2
    assert "genrate" in result.stderr


def test_the_version_is_told() -> None:
    done = process("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("leastway ")


def test_a_whole_run_as_a_process(tmp_path: Path, capture: Path, inventory: Path) -> None:
    done = process("generate", capture, "--inventory", inventory, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SOUND")
    assert done.stderr.splitlines() == ["leastway: mesh none, by the kinds of records in the input (--mesh to choose)"]


def test_an_interrupt_is_one_line_and_130(
    run: Run, tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "generate", interrupted)
    result = run("generate", capture, "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_defect_is_one_line_and_1(run: Run, tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a\nb\x1b")

    monkeypatch.setattr(pipeline, "generate", broken)
    monkeypatch.delenv("LEASTWAY_DEBUG", raising=False)
    result = run("generate", capture, "-o", tmp_path)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "ZeroDivisionError: a b" in line
    assert "\x1b" not in line


def test_a_reader_that_goes_away_is_not_an_error_message(policies: Path, inventory: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"from": "shop/web", "to": "shop/api", "port": 8080}\n' * 5000)
    can = [
        sys.executable,
        "-m",
        "leastway",
        "can",
        str(policies),
        "--inventory",
        str(inventory),
        "--queries",
        str(questions),
    ]
    with subprocess.Popen(can, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait() == 141
