"""`leastway observe --hubble` against `leastway replay`: live and offline are one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from collector import store
from tests.certificates import Authority
from tests.conftest import ROOT
from tests.observing.processes import observe, until
from tests.observing.replays import EARLY, FLOWS, START, counted, minute, replaying

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


HOSTILE = ROOT / "sample_flows" / "hostile"


def policies(source: Path, folder: Path, *options: str) -> dict[str, bytes]:
    """The policies that `generate` writes for the hostile story, without its reports."""
    arguments = ["generate", str(source), "-o", str(folder), "--inventory", str(HOSTILE / "inventory.yaml"), *options]
    subprocess.run([sys.executable, "-m", "leastway", *arguments], cwd=ROOT, capture_output=True, check=False)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*/*.yaml")}


def test_a_filtered_observation_gives_the_policies_of_its_namespaces_and_of_no_other(tmp_path: Path) -> None:
    whole = policies(HOSTILE / "flows.jsonl", tmp_path / "whole", "--namespace", "monitoring")
    with replaying(HOSTILE / "flows.jsonl") as address:
        options = ["--hubble", address, "--namespace", "monitoring"]
        with observe(tmp_path / "store", *options, *EARLY, "--until", "2100-01-01") as process:
            process.heard("only flows of some namespaces are asked for; no other gets a policy")
            assert process.process.wait(20) == 0
        with observe(tmp_path / "unused", *options, "--metrics", "127.0.0.1:0") as process:
            running = process.running()
            assert running.metric('leastway_filter_info{source="hubble",namespaces="monitoring"}') == 1
            assert running.end() == 0
    quality = store.quality(tmp_path / "store")
    assert quality.scope == {"monitoring"}
    assert 0 < quality.total < 100
    assert policies(tmp_path / "store", tmp_path / "filtered") == whole
    assert {name.partition("/")[0] for name in whole} == {"monitoring"}
    assert "Only flows of the namespaces monitoring were asked for" in (tmp_path / "filtered/REVIEW.md").read_text()
    assert policies(tmp_path / "store", tmp_path / "other", "--namespace", "shop") == {}


def test_as_far_back_as_anyone_may_ask(tmp_path: Path, capture: Path) -> None:
    with replaying(capture) as address:
        options = ["--hubble", address, "--since", "999999999999999d", "--until", START.isoformat()]
        with observe(tmp_path / "store", *options) as process:
            assert process.process.wait(20) == 0
    assert counted(tmp_path / "store") == 1


def test_an_observation_of_the_past_ends_by_itself(tmp_path: Path, capture: Path) -> None:
    begin, end = ((START + timedelta(seconds=s)).isoformat() for s in (10, 20))
    with (
        replaying(capture) as address,
        observe(tmp_path / "store", "--hubble", address, "--since", begin, "--until", end) as process,
    ):
        assert process.process.wait(20) == 0
    quality = store.quality(tmp_path / "store")
    assert quality.total == 1001  # a flow each 10 ms, and both ends
    assert (quality.first, quality.last) == (START.timestamp() + 10, START.timestamp() + 20)
    assert [mark.ended for _, mark in quality.sessions.items()] == [True]


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
            status, why = running.get("/readyz")
            assert (status, why.count("\n")) == (503, 1)
            assert re.match(r"hubble has not been connected since 2\d{3}-\d\d-\d\dT[0-9:]{8}Z: UNAVAILABLE: .+", why)
            assert running.end(signal.SIGINT) == 0
    assert counted(tmp_path / "other") == 0
