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


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["generate", "", "-o", "out"], "INPUT..."),
        (["generate", "flows.jsonl", "", "-o", "out"], "INPUT..."),
        (["generate", "flows.jsonl", "-o", ""], "--output"),
        (["generate", "flows.jsonl", "-o", "out", "--inventory", ""], "--inventory"),
        (["generate", "flows.jsonl", "-o", "out", "--declared", ""], "--declared"),
        (["generate", "flows.jsonl", "-o", "out", "--templates", ""], "--templates"),
        (["generate", "flows.jsonl", "-o", "out", "--namespace", ""], "--namespace"),
        (["generate", "flows.jsonl", "-o", "out", "--accept", ""], "--accept"),
        (["verify", "", "flows.jsonl"], "POLICIES"),
        (["verify", "policies", ""], "INPUT..."),
        (["can", "", "--inventory", "i.yaml"], "POLICIES"),
        (["can", "policies", "--inventory", "i.yaml", "--queries", ""], "--queries"),
        (["diff", "", "new", "--inventory", "i.yaml"], "OLD"),
        (["diff", "old", "", "--inventory", "i.yaml"], "NEW"),
        (["explain", ""], "PATH..."),
        (["merge", ""], "STORE"),
        (["replay", "", "--als", "unix:///nowhere"], "CAPTURE..."),
        (["observe", "--store", "", "--hubble", "localhost:1", "--for", "1ms"], "--store"),
    ],
)
def test_an_empty_name_is_not_the_current_folder(
    arguments: list[str], what: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes of a variable that is not set."""
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert what in result.stderr
    assert "it is empty" in result.stderr


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


def test_an_interrupt_while_the_commands_are_imported_is_no_traceback() -> None:
    script = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from leastway.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interrupt_ends_what_works_beside() -> None:
    """Whoever reads the output would wait for those processes too."""
    script = """
import time
from collector.beside import beside
from leastway import cli
def interrupted(**_):
    beside(lambda: time.sleep(60))
    raise KeyboardInterrupt
cli.cli = interrupted
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True, timeout=30)
    assert done.returncode == 130


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


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_closed(tmp_path: Path, capture: Path, closed: str) -> None:
    """What is asked of files is done all the same; standard input that is not there holds nothing."""
    run = f"exec {sys.executable} -m leastway generate"
    done = subprocess.run(
        f"{run} {capture} -o {tmp_path}/out {closed}", shell=True, cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert (tmp_path / "out" / "REVIEW.md").exists()


def test_standard_input_that_is_closed_is_empty(tmp_path: Path) -> None:
    run = f"exec {sys.executable} -m leastway generate - -o {tmp_path}/out <&-"
    done = subprocess.run(run, shell=True, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no connection was observed" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_one_line_and_1(policies: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "leastway", "explain", str(policies), "--format", "json"]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No space left on device — standard output" in line


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
