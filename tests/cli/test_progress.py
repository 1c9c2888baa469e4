"""The bar of long reads, on a real terminal: drawn where somebody waits, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leastway.cli.progress import PATIENCE
from tests.cli.cluster import CAPTURE
from tests.conftest import ROOT

ESCAPE = "\x1b["


def generate(tmp_path: Path, wait: float, terminal: bool) -> tuple[int, str]:
    """`leastway generate` of flows that come through a pipe, the second half after `wait` seconds; its exit code and
    what stands on stderr."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    arguments = [sys.executable, "-m", "leastway", "generate", "-", "-o", str(tmp_path / "policies")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    assert process.stdin is not None
    lines = CAPTURE.splitlines(keepends=True)
    for half in (lines[::2], lines[1::2]):
        process.stdin.write("".join(half).encode())
        process.stdin.flush()
        time.sleep(wait)
    process.stdin.close()
    shown = b""
    with contextlib.suppress(OSError):  # a terminal whose other end has gone
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    return process.wait(20), shown.decode()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("wait", [0.0, PATIENCE * 1.5])
def test_a_bar_is_drawn_where_somebody_waits(tmp_path: Path, wait: float, terminal: bool) -> None:
    code, shown = generate(tmp_path, wait, terminal)
    assert code == 0
    assert "mesh none" in shown
    drawn = terminal and wait > PATIENCE
    assert ((ESCAPE in shown), ("━" in shown), (" kB" in shown)) == (drawn, drawn, drawn), shown
