"""A pattern store in S3, over real sockets: moto's server in a process of its own, and s3fs as users install it."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import boto3
import pytest
from s3fs import S3FileSystem

from collector import store
from collector.errors import PatternStoreError
from collector.sessions import breaks
from collector.storage import storage
from leastway.observing.session import resume_points
from tests.collector.test_store import FIRST, SECOND
from tests.collector.traffic import patterns_of
from tests.conftest import ROOT
from tests.observing.processes import observe, until
from tests.observing.test_session import observing, written
from tests.observing.ticking import NODE

NAMES = ("one", "two")


class S3:
    """A server at an address of its own, which may be stopped and started again; what it held is gone then."""

    def __init__(self, log: Path) -> None:
        self.port = 0
        self.log = log
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stderr=log,
                stdout=subprocess.DEVNULL,
            )
        until(lambda: "Running on" in self.log.read_text())
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.log.read_text())
        assert found is not None
        self.port = int(found[1])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The server, which the environment points s3fs to, here and in the processes that are started."""
    with pytest.MonkeyPatch.context() as patch:
        running = S3(tmp_path_factory.mktemp("s3") / "log")
        patch.setenv("AWS_ENDPOINT_URL", running.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        S3FileSystem.clear_instance_cache()  # one that another test has opened knows nothing of this server
        try:
            yield running
        finally:
            S3FileSystem.clear_instance_cache()
            running.stop()


@pytest.fixture
def place(server: S3, request: pytest.FixtureRequest) -> str:
    """The URL of a store that does not exist yet, in a bucket that does."""
    bucket = request.node.name.removeprefix("test_").replace("_", "-")[:60].strip("-")
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/patterns"


def test_what_is_saved_is_loaded_and_merged(place: str) -> None:
    assert not store.is_store(place)
    store.save(patterns_of(FIRST), place)
    store.save(patterns_of(SECOND), place)
    assert store.count(place) == 2
    assert store.load(place) == patterns_of(FIRST + SECOND)
    assert store.merge(place) == 2
    assert store.count(place) == 1
    assert store.load(place) == patterns_of(FIRST + SECOND)


def test_one_merge_at_a_time(place: str) -> None:
    store.save(patterns_of(FIRST), place)
    store.save(patterns_of(SECOND), place)
    with storage(place).exclusive(), pytest.raises(PatternStoreError, match="another process is merging"):
        store.merge(place)
    assert store.merge(place) == 2


def test_several_collectors_write_while_parts_are_merged(place: str) -> None:
    processes = [observing(place, "0.1", name) for name in NAMES]
    until(partial(written, place, 4))
    store.merge(place)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    numbers = [int(process.communicate(timeout=10)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    store.merge(place)
    found = store.load(place).quality
    assert found.total == sum(numbers)
    assert [resume_points(found, name)[NODE] for name in NAMES] == numbers


def test_a_killed_collector_leaves_a_readable_store_and_loses_at_most_an_interval(place: str) -> None:
    chance = random.Random(6)
    flushed = 0
    for number in range(2):
        parts = store.count(place) if number else 0
        process = observing(place, "0.05", resume=number > 0)
        until(partial(written, place, parts + 2))
        time.sleep(chance.uniform(0, 0.1))  # the instant is what is tried
        process.kill()
        process.communicate()
        found = store.load(place).quality
        last = resume_points(found, "one")[NODE]
        assert found.total == last > flushed  # each record up to the cursor, once
        assert [gap.torn for gap in breaks(mark for _, mark in found.sessions.items())] == [True] * (number + 1)
        flushed = last


def test_a_merge_that_is_killed_loses_and_repeats_nothing(place: str) -> None:
    expected = patterns_of([])
    for chunk in (FIRST, SECOND):
        store.save(patterns_of(chunk), place)
        expected.merge(patterns_of(chunk))
    merging = [sys.executable, "-m", "leastway", "merge", place]
    for delay in (0.9, 1.2):
        process = subprocess.Popen(merging, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)  # the instant is what is tried
        process.kill()
        process.wait(10)
        assert store.load(place) == expected


def test_an_outage_is_told_and_its_end_too(server: S3, place: str) -> None:
    """The server dies, and with it what it held; another comes up at its address."""
    with observe(place, "--als", "127.0.0.1:0", "--flush", "200ms", "--metrics", "127.0.0.1:0") as process:
        running = process.running()
        until(lambda: running.get("/readyz") == (200, "ok\n"))
        server.stop()
        until(lambda: running.get("/readyz")[0] == 503, 30)
        server.start()
        boto3.client("s3").create_bucket(Bucket=place.split("/")[2])
        until(lambda: running.get("/readyz") == (200, "ok\n"), 30)
        assert running.end() == 0
    assert breaks(mark for _, mark in store.quality(place).sessions.items()) == []


def test_a_bucket_that_is_not_there_is_told_in_one_line(server: S3, tmp_path: Path) -> None:
    with observe("s3://no-such-bucket/patterns", "--als", "127.0.0.1:0") as process:
        assert process.process.wait(20) == 1
        process.end()
        assert len(process.other) + len(process.said) <= 2, (process.other, process.said)
