"""`leastway replay --als` and `leastway observe --als`, as processes: live and offline give the same policies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from collector import store
from collector.reading import read
from tests.certificates import Authority
from tests.cli.conftest import invoke
from tests.conftest import ROOT
from tests.observing.processes import observe, until
from tests.playback.test_access_logs import SAMPLE

INVENTORY = ROOT / "sample_flows/path-ids/inventory.yaml"


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leastway", "replay", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def policies(source: str | Path, folder: Path) -> dict[str, bytes]:
    """The manifests that `generate` writes."""
    result = invoke("generate", source, "--inventory", INVENTORY, "--mesh", "sidecar", "-o", folder)
    assert result.exit_code == 0, result.output
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.yaml"))}


def test_observing_a_replayed_capture_and_reading_it_give_the_same_bytes(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.server(mutual=True), authority.client(mutual=True)
    options = ("--server-cert", str(server.certificate), "--server-key", str(server.key), "--server-ca", str(server.ca))
    with observe(tmp_path / "store", "--als", "127.0.0.1:0", *options) as started:
        target = started.running().addresses["als"]
        theirs = ("--als-ca", str(client.ca), "--als-cert", str(client.certificate), "--als-key", str(client.key))
        sent = replay(SAMPLE, "--als", target, "--speed", "max", *theirs)
        assert (sent.returncode, sent.stdout) == (0, ""), sent.stderr
        assert "in 38 messages" in sent.stderr
        assert started.end() == 0
    observed, expected = store.load(tmp_path / "store"), read([SAMPLE]).patterns
    assert (observed.edges, observed.sightings) == (expected.edges, expected.sightings)
    assert policies(tmp_path / "store", tmp_path / "live") == policies(SAMPLE, tmp_path / "offline")


def test_what_is_recorded_live_is_replayed_as_it_was(tmp_path: Path) -> None:
    recording = tmp_path / "recorded.jsonl.zst"
    with observe(tmp_path / "store", "--als", "127.0.0.1:0", "--record", str(recording)) as started:
        assert replay(SAMPLE, "--als", started.running().addresses["als"], "--speed", "max").returncode == 0
        assert started.end() == 0
    with observe(tmp_path / "again", "--als", "127.0.0.1:0") as started:
        assert replay(str(recording), "--als", started.running().addresses["als"], "--speed", "max").returncode == 0
        assert started.end() == 0
    first, again = store.load(tmp_path / "store"), store.load(tmp_path / "again")
    assert (first.edges, first.sightings) == (again.edges, again.sightings)


def test_a_loop_ends_with_a_signal(tmp_path: Path) -> None:
    with observe(tmp_path / "store", "--als", "127.0.0.1:0", "--metrics", "127.0.0.1:0") as started:
        target = started.running().addresses["als"]
        command = [sys.executable, "-m", "leastway", "replay", SAMPLE, "--als", target, "--speed", "max", "--loop"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            try:
                until(lambda: started.metric('leastway_flows_total{source="als",verdict="http"}') > 5000)
                process.terminate()
                assert process.wait(10) == 0
            finally:
                process.kill()
        assert started.end() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((SAMPLE,), 2, "give either --hubble or --als"),
        ((SAMPLE, "--als", "localhost:1", "--hubble", "localhost:0"), 2, "give either --hubble or --als"),
        ((SAMPLE, "--hubble", "localhost:0", "--als-tls"), 2, "the --als-... options need --als"),
        ((SAMPLE, "--als", "localhost:1", "--server-ca", "x"), 2, "the --server-... options need --hubble"),
        ((SAMPLE, "--als", "localhost"), 1, "no port"),
    ],
)
def test_wrong_options_are_told(arguments: tuple[str, ...], code: int, said: str) -> None:
    result = invoke("replay", *arguments)
    assert result.exit_code == code
    assert said in result.output
