"""The built image at work as a container runtime would start it: nobody's rights, a read-only root, and process 1.

Needs what `python -m tests.deploy.image DIR` made, as LEASTWAY_IMAGE=DIR.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from collector import store
from tests.deploy.rendering import container, source
from tests.integration.test_object_store import S3
from tests.observing.processes import PATIENCE, until
from tests.observing.replays import counted, minute, replaying

VOLUME = "var/lib/leastway"
# Mounts and the user as the manifest asks for them; the last program to be started is process 1 of its container.
START = """
mkdir -p "$0/$1"
mount --bind "$0" "$0"
mount --bind "$2" "$0/$1"
mount -t tmpfs tmpfs "$0/tmp"
mount -t proc proc "$0/proc"
mount -o remount,bind,ro "$0"
root=$0 user=$3
shift 3
exec chroot "$root" setpriv --no-new-privs --inh-caps=-all --bounding-set=-all --clear-groups \
    --reuid="${user%:*}" --regid="${user#*:}" env --ignore-environment "$@"
"""


@pytest.fixture(scope="module")
def image() -> Path:
    promised = os.environ.get("LEASTWAY_IMAGE")
    if not promised:
        pytest.skip("no image was built; `python -m tests.deploy.image DIR` and LEASTWAY_IMAGE=DIR bring one")
    return Path(promised).absolute()


@pytest.fixture(scope="module")
def config(image: Path) -> dict[str, Any]:
    return dict(json.loads((image / "config.json").read_text()))


@pytest.fixture
def volume(config: dict[str, Any]) -> Iterator[Path]:
    user, _, group = config["User"].partition(":")
    with tempfile.TemporaryDirectory(prefix="leastway-volume-") as folder:
        os.chown(folder, int(user), int(group))
        yield Path(folder)


def command(image: Path, config: dict[str, Any], volume: Path, *program: str) -> list[str]:
    """The start of a program in the image."""
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    inside = [str(image / "root"), VOLUME, str(volume), config["User"], *config["Env"], *program]
    return [*alone, "sh", "-ec", START, *inside]


def said(image: Path, config: dict[str, Any], volume: Path, *program: str) -> str:
    result = subprocess.run(
        command(image, config, volume, *program), capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def running(
    image: Path, config: dict[str, Any], volume: Path, log: Path, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The image's own program with arguments; what it says is in `log`."""
    with log.open("wb") as file:
        process = subprocess.Popen(command(image, config, volume, *config["Entrypoint"], *arguments), stderr=file)
    try:
        yield process
    finally:
        process.kill()  # and with it what it has started: --kill-child
        process.wait(10)


def test_the_image_says_who_it_is(image: Path, config: dict[str, Any], volume: Path) -> None:
    pod = source()["Deployment"]["spec"]["template"]["spec"]["securityContext"]
    assert config["User"] == f"{pod['runAsUser']}:{pod['runAsGroup']}"
    ports = {f"{port['containerPort']}/tcp" for port in container(source()["Deployment"])["ports"]}
    assert set(config["ExposedPorts"]) == ports
    assert "observe" in said(image, config, volume, *config["Entrypoint"], *config["Cmd"])


def test_nothing_in_it_is_writable_for_the_collector(image: Path, config: dict[str, Any], volume: Path) -> None:
    script = "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; touch /opt/leastway/x 2>&1 || true"
    lines = said(image, config, volume, "sh", "-c", script).splitlines()
    assert lines[:4] == ["65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
    assert "Read-only file system" in lines[4]
    found = (image / "root/opt/leastway").rglob("*")
    assert [path for path in found if not path.is_symlink() and path.stat().st_mode & 0o6022] == []


def test_the_drivers_of_object_stores_are_there_and_what_is_never_loaded_is_not(
    image: Path, config: dict[str, Any], volume: Path
) -> None:
    program = "import s3fs, gcsfs, pyarrow.parquet, pandas, leastway.cli.generate, leastway.cli.merge; print('here')"
    assert said(image, config, volume, "python", "-c", program) == "here\n"
    (packages,) = (image / "root/opt/leastway/lib").glob("python3*/site-packages")
    assert not {"kubernetes", "pip", "pytest"} & {path.name for path in packages.iterdir()}


def test_the_collector_observes_merges_and_ends_as_process_1(
    image: Path, config: dict[str, Any], volume: Path, tmp_path: Path
) -> None:
    with replaying(minute(tmp_path / "flows.jsonl"), speed="10x") as address:
        arguments = []
        for argument in container(source()["Deployment"])["args"]:
            name, _, value = argument.partition("=")
            value = address if name == "--hubble" else "127.0.0.1:0" if value.startswith(":") else value
            arguments.append(f"{name}={value}" if value else name)
        more = ("--flush=200ms", "--merge-every=2", "--since=9999d")
        log = tmp_path / "log"
        with running(image, config, volume, log, *arguments, *more) as process:
            until(lambda: process.poll() is not None or counted(volume / "patterns") > 1000, PATIENCE)
            until(lambda: process.poll() is not None or "merged the store's parts" in log.read_text(), PATIENCE)
            assert process.poll() is None, log.read_text()
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)
            assert process.wait(10) == 0, log.read_text()
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert {each["level"] for each in told} == {"info"}, told
    assert [mark.ended for _, mark in store.quality(volume / "patterns").sessions.items()] == [True]
    written = ("generate", f"/{VOLUME}/patterns", "-o", f"/{VOLUME}/policies")
    said(image, config, volume, *config["Entrypoint"], *written)
    assert list((volume / "policies/shop").glob("networkpolicy-api*.yaml"))


def test_a_store_in_a_bucket(image: Path, config: dict[str, Any], volume: Path, tmp_path: Path) -> None:
    server = S3(tmp_path / "log")
    try:
        bucket = ("AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret", f"AWS_ENDPOINT_URL={server.url}")
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}/bucket", method="PUT"), timeout=10):
            options = ("--als=127.0.0.1:0", "--for=500ms", "--flush=100ms", "--merge-every=0")
            observed = (*config["Entrypoint"], "observe", "--store=s3://bucket/patterns", *options)
            said(image, config, volume, *bucket, *observed)
            merge = (*config["Entrypoint"], "merge", "s3://bucket/patterns")
            said(image, config, volume, *bucket, *merge)
    finally:
        server.stop()
