"""The image, built without a registry or a daemon: `python -m tests.deploy.image DIR` (as root, with network; minutes).

buildah carries out deploy/Dockerfile itself, step by step. Only the base image is a stand-in of the same name: Debian's
own Python of that version, which debootstrap fetches. DIR/root becomes the image's file system, DIR/config.json what
the image says about itself; `LEASTWAY_IMAGE=DIR pytest tests/deploy/test_built_image.py` then starts the collector
in it.

Invariant: nothing of the machine's own settings gets into the image: those of pip are lent to the build and taken back.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TOOLS = ("buildah", "debootstrap")
SUITES = {"3.13": "trixie"}  # the release of Debian that has a version of Python
TAG = "localhost/leastway:check"


def missing() -> str:
    """Why the image cannot be built here, "" if nothing speaks against it."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"{' and '.join(lacking)} not installed"
    return "only root can make a file system of another system" if os.geteuid() else ""


def build(folder: Path) -> None:
    """Build the image into a folder that is not there yet. Raises CalledProcessError when a step fails."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="leastway-image-") as scratch:
        _base(Path(scratch), _buildah(Path(scratch)))
        _image(Path(scratch), _buildah(Path(scratch)), folder)


def _buildah(scratch: Path) -> list[str]:
    return ["buildah", "--storage-driver", "vfs", "--root", str(scratch / "images"), "--runroot", str(scratch / "run")]


def _base(scratch: Path, buildah: list[str]) -> None:
    """An image by the name that the Dockerfile begins with: `python` and `pip` first on the PATH, as in that one."""
    found = re.search(r"^FROM (python:([0-9.]+)\S*)", DOCKERFILE.read_text(), re.MULTILINE)
    assert found is not None
    name, version = found.groups()
    root = scratch / "base"
    apt = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"]
    mirror = subprocess.run(apt, check=True, capture_output=True, text=True).stdout.split()[0]
    include = "--include=python3,python3-venv,ca-certificates"
    _run(["debootstrap", "--variant=minbase", include, SUITES[version], str(root), mirror], log=scratch / "log")
    _run(["chroot", str(root), "python3", "-m", "venv", "--copies", "/usr/local"])
    container = _said([*buildah, "from", "scratch"])
    _run([*buildah, "add", "--quiet", container, str(root), "/"])
    _run([*buildah, "config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container])
    _run([*buildah, "commit", "--quiet", "--rm", container, f"docker.io/library/{name}"])
    shutil.rmtree(root)


def _image(scratch: Path, buildah: list[str], folder: Path) -> None:
    lent = _pip_settings(scratch / "pip.conf")
    options = ["--pull-never", "--isolation", "chroot", "--network", "host", "--tag", TAG, "--file", str(DOCKERFILE)]
    _run([*buildah, "build", *options, *lent, str(ROOT)])
    told = json.loads(_said([*buildah, "inspect", "--type", "image", TAG]))
    (folder / "config.json").write_text(json.dumps(told["OCIv1"]["config"], indent=2, sort_keys=True) + "\n")
    container = _said([*buildah, "from", "--pull-never", TAG])
    _run(["cp", "--archive", _said([*buildah, "mount", container]), str(folder / "root")])
    _run([*buildah, "umount", container])


def _pip_settings(target: Path) -> list[str]:
    """Options that lend the build this machine's index, certificates and wheels."""
    lines = _said([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    settings = {key.rpartition(".")[2]: value.strip("'\"") for key, _, value in (line.partition("=") for line in lines)}
    target.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(settings.items())))
    paths = {value for value in settings.values() if value.startswith("/") and Path(value).exists()}
    lent = [f"{target}:/etc/pip.conf", *(f"{path}:{path}" for path in sorted(paths))]
    return [option for each in lent for option in ("--volume", f"{each}:ro")]


def _run(command: list[str], log: Path | None = None) -> None:
    """Run a command; its output goes to stderr, or to a file that is shown if it fails."""
    if log is None:
        subprocess.run(command, check=True, stdout=sys.stderr)
        return
    with log.open("wb") as file:
        failed = subprocess.run(command, check=False, stdout=file, stderr=file).returncode
    if failed:
        sys.stderr.write(log.read_text(errors="replace")[-4000:])
        raise subprocess.CalledProcessError(failed, command)


def _said(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def size(folder: Path) -> int:
    """Bytes of all files in a folder, each once."""
    found = [path.lstat() for path in folder.rglob("*")]
    return sum({(each.st_dev, each.st_ino): each.st_size for each in found}.values())


if __name__ == "__main__":
    if why := missing():
        sys.exit(f"the image is not built: {why}")
    place = Path(sys.argv[1])
    build(place)
    whole, own = (size(place / "root" / part) / 1e6 for part in ("", "opt/leastway"))
    print(f"{whole:.0f} MB unpacked, of which {own:.0f} MB are leastway and what it needs")
