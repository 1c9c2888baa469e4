"""`leastway replay`, as a process: what it prints, serves and ends with."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.cli.conftest import ROOT, Run
from tests.goldens import SAMPLES
from tests.live import differences, observed, offline

BOUTIQUE = SAMPLES / "online-boutique" / "flows.jsonl.gz"


@contextmanager
def replaying(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A running `leastway replay`, the address that it serves, and what it has said until then."""
    command = [sys.executable, "-m", "leastway", "replay", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            said = []
            for line in running.stderr:
                said.append(line.strip())
                if found := re.search(r"serving \d+ Hubble records on (\S+)$", said[-1]):
                    yield running, found[1], said
                    break
            else:
                pytest.fail(f"it ended: {said}")
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_a_capture_and_ends_quickly_and_cleanly(number: signal.Signals) -> None:
    with replaying(BOUTIQUE, "--hubble", "127.0.0.1:0", "--speed", "max") as (running, address, _):
        assert differences(observed(address), offline(BOUTIQUE)) == []
        began = time.monotonic()
        running.send_signal(number)
        stdout, stderr = running.communicate(timeout=10)
        assert time.monotonic() - began < 3
        assert (running.returncode, stdout, stderr) == (0, "", "")


def test_it_serves_over_mutual_tls_on_a_unix_socket(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.server("hubble.example", mutual=True)
    options = ["--server-cert", tls.certificate, "--server-key", tls.key, "--server-ca", tls.ca]
    client = authority.client(mutual=True, server_name="hubble.example")
    socket = f"unix://{tmp_path}/socket"
    with replaying(BOUTIQUE, "--hubble", socket, "--speed", "max", *options) as (_, address, _):
        assert address == socket
        assert observed(address, client).edges


def test_chaos_says_what_it_will_do() -> None:
    with replaying(BOUTIQUE, "--hubble", "localhost:0", "--speed", "max", "--chaos", "7") as (_, _, said):
        assert re.search(r"chaos 7: 50 disconnects, \d+ records repeated, .* missing", said[0])


def test_what_cannot_be_played_is_told_beforehand(run: Run, tmp_path: Path) -> None:
    result = run("replay", SAMPLES / "bookinfo" / "access-log.jsonl", "--hubble", "localhost:0")
    assert result.exit_code == 1
    assert "no Hubble flows to play" in result.stderr
    result = run("replay", BOUTIQUE, "--hubble", "localhost:0", "--server-ca", tmp_path / "missing.pem")
    assert result.exit_code == 1
    assert "certificate" in result.stderr


@pytest.mark.parametrize("speed", ["0", "-1x", "fast", "nan"])
def test_a_speed_is_a_factor(run: Run, speed: str) -> None:
    result = run("replay", BOUTIQUE, "--hubble", "localhost:0", f"--speed={speed}")
    assert result.exit_code == 2
    assert "1x, 10x or max" in result.stderr


def test_the_upstream_client_understands_it() -> None:
    hubble = shutil.which("hubble")
    if hubble is None:
        pytest.skip("the `hubble` command-line client is not on the PATH")
    with replaying(BOUTIQUE, "--hubble", "127.0.0.1:0", "--speed", "max") as (_, address, _):

        def ask(*arguments: str) -> str:
            command = [hubble, *arguments, "--server", address]
            return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout

        lines = ask("observe", "--first", "5", "-o", "jsonpb").splitlines()
        assert [set(json.loads(line)) & {"flow", "node_name"} for line in lines] == [{"flow", "node_name"}] * 5
        assert "Healthcheck" in ask("status")
        assert "node-1" in ask("list", "nodes")
