"""network-config-analyzer, installed apart: its pins are not ours, and one of its top-level packages has our name."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

VERSION = "2.1.0"
HOME = Path(sys.prefix) / f"network-config-analyzer-{VERSION}"  # with the environment it comes and goes
NEWEST = (3, 13)  # what it pins has no wheels for a newer Python


@functools.cache
def installed() -> Path:
    """The folder that it is installed in; the first who asks installs it. Skips the test where that cannot be."""
    if sys.version_info[:2] > NEWEST:
        pytest.skip("network-config-analyzer's pins have no wheels for this Python")
    if HOME.is_dir():
        return HOME
    with tempfile.TemporaryDirectory(dir=HOME.parent) as folder:
        target = Path(folder) / "site"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]
        done = subprocess.run(
            [*command, str(target), f"network-config-analyzer=={VERSION}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"network-config-analyzer cannot be installed: {done.stderr.strip()[-200:]}")
        target.replace(HOME)
    return HOME


def analyzed(root: Path) -> dict[str, str]:
    """Connection lists of the clusters below a folder, from two processes at a time."""
    runner = str(Path(__file__).with_name("nca_connections.py"))
    environment = {**os.environ, "PYTHONPATH": str(installed())}

    def part(number: int) -> dict[str, str | None]:
        command = [sys.executable, "-P", runner, str(root), str(number), "2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=True, env=environment)
        found: dict[str, str | None] = json.loads(done.stdout)
        return found

    with ThreadPoolExecutor(2) as pool:
        found = {name: text for half in pool.map(part, range(2)) for name, text in half.items()}
    return {name: text for name, text in found.items() if text is not None}
