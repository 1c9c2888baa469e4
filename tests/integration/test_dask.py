"""Captures read by a real Dask cluster: a scheduler and two worker processes on this machine."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from collector.dask_engine import dask
from collector.errors import SourceError
from collector.reading import read
from tests.goldens import SAMPLES
from tests.simulator.bench import flows


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    how: dict[str, object] = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(**how) as made:  # type: ignore[no-untyped-call]  # Dask has no types for it
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture in nine files, one of them packed, with bad lines in two and one of another kind."""
    found = tmp_path_factory.mktemp("captures")
    lines = list(flows(8000))
    for number in range(8):
        (found / f"part-{number}.jsonl").write_text("".join(lines[number::8]))
    for number in (2, 5):
        with (found / f"part-{number}.jsonl").open("a") as file:
            file.write('{"flow": {"l4": 7}}\n')
    packed = (found / "part-7.jsonl").read_bytes()
    (found / "part-7.jsonl").unlink()
    (found / "part-7.jsonl.gz").write_bytes(gzip.compress(packed))
    (found / "access-log.jsonl").write_bytes((SAMPLES / "bookinfo" / "access-log.jsonl").read_bytes())
    return found


def test_a_cluster_reads_what_this_process_reads(cluster: LocalCluster, folder: Path) -> None:
    told: list[tuple[str, int]] = []
    with dask(cluster.scheduler_address) as engine:
        found = read([str(folder)], lambda file, size: told.append((Path(file).name, size)), engine)
    here = read([str(folder)])
    assert found.patterns == here.patterns
    assert found.formats == here.formats
    assert (sorted(found.bad), found.bad_lines) == (sorted(here.bad), 2)
    assert sorted(told) == sorted((file.name, file.stat().st_size) for file in folder.iterdir())


def test_a_worker_that_dies_costs_nothing(cluster: LocalCluster, folder: Path) -> None:
    with dask(cluster.scheduler_address) as engine:
        results = engine(_slow_name, [str(number) for number in range(20)])
        assert next(results) == "0"
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        assert list(results) == [str(number) for number in range(1, 20)]


def _slow_name(item: str) -> str:
    signal.sigtimedwait([], 0.1)
    return item


def test_the_policies_are_the_same_bytes(cluster: LocalCluster, folder: Path, tmp_path: Path) -> None:
    written = {}
    for name, options in {
        "local": [],
        "there": ["--engine", "dask", "--scheduler", cluster.scheduler_address],
        "own": ["--engine", "dask"],
    }.items():
        command = [sys.executable, "-m", "leastway", "generate", str(folder), "-o", str(tmp_path / name), *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        files = (file for file in (tmp_path / name).rglob("*") if file.is_file())
        written[name] = (
            {str(file.relative_to(tmp_path / name)): file.read_bytes() for file in files},
            done.stdout.splitlines()[0],
        )
    assert len(written["local"][0]) > 100
    assert written["local"] == written["there"] == written["own"]


def test_what_cannot_be_read_there_is_told_as_here(cluster: LocalCluster, tmp_path: Path) -> None:
    with dask(cluster.scheduler_address) as engine:
        with pytest.raises(SourceError, match="no such file"):
            read([str(tmp_path / "nowhere.jsonl")], None, engine)
        with pytest.raises(SourceError, match="standard input"):
            read(["-"], None, engine)


def test_a_scheduler_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.dask_engine.PATIENCE", 1)
    for address in ("tcp://127.0.0.1:9", "bogus", "tcp://"):
        with pytest.raises(SourceError, match="cannot be reached") as caught, dask(address):
            pass
        assert address in caught.value.where
        assert caught.value.hint


def test_without_dask_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SourceError, match=r"not installed.*leastway\[dask\]"), dask():
        pass
