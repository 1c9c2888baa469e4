"""The image, as far as it can be tried without building it: what it copies is enough, what it may do is enough.

What stays untried is the base image and what it holds: see deploy/README.md.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import store
from tests.conftest import ROOT
from tests.deploy.rendering import DEPLOY, container, source
from tests.observing.processes import PATIENCE, until
from tests.observing.replays import counted, minute, replaying

LINES = (DEPLOY / "Dockerfile").read_text().splitlines()
ALONE = ("unshare", "--mount", "--propagation", "private")


def copied() -> Iterator[str]:
    """What the build stage copies from the checkout."""
    for line in LINES:
        if line.startswith("COPY ") and "--from" not in line:
            yield from line.split()[1:-1]


def test_what_the_image_copies_is_enough_to_install_and_run(tmp_path: Path) -> None:
    build, target = tmp_path / "build", tmp_path / "target"
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, build / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            build.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, build / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(build)], check=True, timeout=120)
    program = "import leastway; from synthesizer.package_data import templates_root as templates\n"
    program += "print(leastway.__file__, any(templates().iterdir()))"
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(target)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == [str(target / "leastway" / "__init__.py"), "True"]


def confined(writable: Path) -> list[str]:
    """The start of a command that sees everything but one folder read-only, as the image's user and with no capability.

    Where that user cannot read this Python it stays root, without root's rights. Skips the test where neither works.
    """
    if not shutil.which("setpriv") or not shutil.which("unshare") or os.geteuid():
        pytest.skip("a read-only root needs Linux' unshare and setpriv, and root to begin with")
    user = next(line.split()[1] for line in LINES if line.startswith("USER ")).partition(":")[0]
    rights = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--clear-groups"]
    nobody = [*rights, f"--reuid={user}", f"--regid={user}"]
    if works([*nobody, sys.executable, "-c", "import click, leastway.cli"]):
        os.chown(writable, int(user), int(user))
        rights = nobody
    mounts = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'
    begin = [*ALONE, "sh", "-c", mounts, str(writable), *rights]
    if not works([*begin, "true"]):
        pytest.skip("mounts are not allowed here")
    return begin


def works(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True, cwd=ROOT, timeout=60).returncode == 0


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that anyone can be given: pytest's own are inside one that only its user may enter."""
    with tempfile.TemporaryDirectory(prefix="leastway-volume-") as folder:
        yield Path(folder)


def test_the_collector_writes_to_its_store_and_temporary_folder_only(place: Path, tmp_path: Path) -> None:
    """As the manifest starts it, but for the addresses: nobody's rights, and a root file system that is read-only."""
    begin = confined(place)
    blocked = subprocess.run([*begin, "touch", str(ROOT / "written")], check=False, capture_output=True, text=True)
    assert "Read-only file system" in blocked.stderr or "Permission denied" in blocked.stderr
    capture = minute(tmp_path / "flows.jsonl")
    with replaying(capture, speed="10x") as address:
        arguments = []
        for argument in container(source()["Deployment"])["args"]:
            name, _, value = argument.partition("=")
            value = {"--store": str(place / "patterns"), "--hubble": address}.get(name, value)
            arguments.append(f"{name}=127.0.0.1:0" if value.startswith(":") else f"{name}={value}" if value else name)
        process = subprocess.Popen(
            [*begin, sys.executable, "-m", "leastway", *arguments, "--flush=200ms", "--merge-every=2", "--since=9999d"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(place), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: process.poll() is not None or counted(place / "patterns") > 1000, PATIENCE)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait(10)
    assert process.returncode == 0, said
    assert {json.loads(line)["level"] for line in said.splitlines()} == {"info"}, said
    assert [mark.ended for _, mark in store.quality(place / "patterns").sessions.items()] == [True]
