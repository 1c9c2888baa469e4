"""`leastway observe --hubble` against `leastway replay`: live and offline are one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.conftest import ROOT
from tests.observing.processes import observe, until
from tests.observing.replays import FLOWS, counted, minute, replaying

BOUTIQUE = ROOT / "sample_flows" / "online-boutique"


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minute(tmp_path_factory.mktemp("capture") / "flows.jsonl")


def generated(source: Path, folder: Path) -> dict[str, bytes]:
    """Every file that `generate` writes."""
    arguments = ["generate", str(source), "-o", str(folder), "--inventory", str(BOUTIQUE / "inventory.yaml")]
    subprocess.run([sys.executable, "-m", "leastway", *arguments], cwd=ROOT, check=True, capture_output=True)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_policies_from_a_live_observation_its_recording_and_the_file_are_the_same_bytes(tmp_path: Path) -> None:
    capture = BOUTIQUE / "flows.jsonl.gz"
    expected = generated(capture, tmp_path / "file")
    record = tmp_path / "raw.jsonl.zst"
    with (
        replaying(capture) as address,
        observe(
            tmp_path / "store", "--hubble", address, "--metrics", "127.0.0.1:0", "--record", str(record)
        ) as process,
    ):
        running = process.running()
        until(lambda: running.get("/readyz") == (200, "ok\n"))
        series = 'leastway_flows_total{source="hubble",verdict="FORWARDED"}'
        before = -1.0
        while before != (before := running.metric(series)) or not before:
            time.sleep(0.3)  # until no more comes
        assert running.end() == 0
    assert generated(tmp_path / "store", tmp_path / "live") == expected
    assert generated(record, tmp_path / "recorded") == expected


def test_mutual_tls_to_hubble(tmp_path: Path, capture: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.server("relay.example", mutual=True)
    client = authority.client(mutual=True)
    serving = ("--server-cert", str(server.certificate), "--server-key", str(server.key), "--server-ca", str(server.ca))
    with replaying(capture, options=serving) as address:
        options = ["--hubble", address, "--hubble-ca", str(authority.ca), "--flush", "100ms"]
        options += ["--hubble-cert", str(client.certificate), "--hubble-key", str(client.key)]
        with observe(tmp_path / "store", *options, "--hubble-server-name", "relay.example") as process:
            until(lambda: counted(tmp_path / "store") == FLOWS)
            assert process.running().end() == 0
        with observe(
            tmp_path / "other", *options, "--metrics", "127.0.0.1:0"
        ) as process:  # the name is not the address
            running = process.running()
            until(lambda: running.metric('leastway_reconnects_total{source="hubble"}') > 0)
            assert running.get("/readyz") == (503, "not connected: hubble\n")
            assert running.end(signal.SIGINT) == 0
    assert counted(tmp_path / "other") == 0
