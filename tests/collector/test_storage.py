"""Stores behind URLs: object stores, where an upload is whole, and other file systems, where it is not."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from collector import storage as storage_module
from collector import store
from collector.errors import PatternStoreError
from collector.reading import read
from collector.storage import Bucket, Folder, storage
from tests.collector.test_store import FIRST, SECOND
from tests.collector.traffic import patterns_of


class Plain(DirFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system that is no object store: a rename is needed for an upload to appear whole."""

    protocol = "plain"

    def __init__(self, **_: Any) -> None:
        super().__init__(path=str(Plain.folder), fs=LocalFileSystem())

    folder = Path()


@pytest.fixture(params=["memory", "plain"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "plain":
        Plain.folder = tmp_path
        Plain.clear_instance_cache()
        fsspec.register_implementation("plain", Plain, clobber=True)
        yield "plain://patterns"
    else:
        root = f"memory://{uuid.uuid4().hex}/patterns"
        yield root
        files = fsspec.filesystem("memory")
        if files.exists(root):
            files.rm(root, recursive=True)


def test_what_is_saved_at_a_url_is_loaded_merged_and_read(url: str) -> None:
    assert not store.is_store(url)
    store.save(patterns_of(FIRST), url)
    store.save(patterns_of(FIRST), url)  # no second observation
    store.save(patterns_of(SECOND), url)
    assert store.is_store(url)
    assert store.count(url) == 2
    expected = patterns_of(FIRST + SECOND)
    assert store.load(url) == expected
    assert read([url]).patterns == expected
    assert read([url]).formats == {url: "pattern store"}
    assert store.merge(url) == 2
    assert store.count(url) == 1
    assert store.load(url) == expected
    store.save(patterns_of(FIRST), url)
    assert store.load(url) == expected


def test_nothing_but_the_parts_stays_at_the_url_or_in_the_temporary_folder(
    url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    store.save(patterns_of(FIRST), url)
    store.save(patterns_of(SECOND), url)
    store.merge(url)
    assert list(scratch.iterdir()) == []
    files, root = fsspec.core.url_to_fs(url)
    assert len(files.find(root)) == len(store.TABLES)


def test_an_upload_that_fails_is_no_part(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(patterns_of(FIRST), url)
    files, _ = fsspec.core.url_to_fs(url)
    put = type(files).put_file

    def cut(self: Any, source: str, target: str, **more: Any) -> None:
        if "edges" in target:
            raise OSError("connection reset")
        put(self, source, target, **more)

    monkeypatch.setattr(type(files), "put_file", cut)
    with pytest.raises(PatternStoreError, match="connection reset"):
        store.save(patterns_of(SECOND), url)
    assert store.load(url) == patterns_of(FIRST)


def test_one_merge_at_a_time(url: str) -> None:
    store.save(patterns_of(FIRST), url)
    store.save(patterns_of(SECOND), url)
    with storage(url).exclusive(), pytest.raises(PatternStoreError, match="another process is merging"):
        store.merge(url)
    assert store.merge(url) == 2


def test_of_many_who_want_the_lock_at_once_never_two_have_it(url: str) -> None:
    inside: list[int] = []
    most: list[int] = []

    def want() -> None:
        for _ in range(5):
            try:
                with storage(url).exclusive():
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.002)
                    inside.pop()
            except PatternStoreError:
                continue

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most, default=1) == 1


def test_the_lock_of_a_process_that_was_killed_is_taken_over_after_its_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(patterns_of(FIRST), url)
    store.save(patterns_of(SECOND), url)
    held = storage(url).exclusive()
    held.__enter__()  # and never released
    with pytest.raises(PatternStoreError):
        store.merge(url)
    monkeypatch.setattr(storage_module, "LEASE", 0)
    monkeypatch.setattr(store, "LEASE", 3600)
    assert store.merge(url) == 2


def test_a_merge_that_outlasted_its_lock_writes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(patterns_of(FIRST), url)
    store.save(patterns_of(SECOND), url)
    monkeypatch.setattr(store, "LEASE", 0)
    with pytest.raises(PatternStoreError, match="lock"):
        store.merge(url)
    assert store.count(url) == 2


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    assert isinstance(storage(f"file://{tmp_path}"), Folder)
    assert isinstance(storage("memory://x"), Bucket)
    store.save(patterns_of(FIRST), f"file://{tmp_path}")
    assert store.load(tmp_path) == patterns_of(FIRST)


def test_a_url_that_nobody_understands_is_an_error_of_one_line() -> None:
    assert not store.is_store("nowhere://x")
    for use in (store.load, store.merge, lambda url: store.save(patterns_of(FIRST), url)):
        with pytest.raises(PatternStoreError) as caught:
            use("nowhere://x")
        assert "nowhere" in str(caught.value)


def test_what_killed_writers_left_is_swept_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(patterns_of(FIRST), tmp_path)
    part = store.save(patterns_of(SECOND), tmp_path)
    (tmp_path / "edges" / f"{part}.parquet").unlink()  # killed before its last file
    left = tmp_path / "edges" / ".0123.tmp"
    left.write_bytes(b"half")
    store.merge(tmp_path)
    assert left.exists()  # perhaps someone is writing it
    monkeypatch.setattr(storage_module, "STALE", -1)
    store.merge(tmp_path)
    assert not left.exists()
    assert [len(list((tmp_path / table).iterdir())) for table in store.TABLES] == [1, 1, 1]
    assert store.load(tmp_path) == patterns_of(FIRST)


def test_what_killed_uploads_left_in_the_temporary_folder_is_swept_when_it_is_old(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store.save(patterns_of(FIRST), url)
    left, other = tmp_path / "leastway-edges-0123.tmp", tmp_path / "somebodys-edges-0123.tmp"
    left.write_bytes(b"half")
    other.write_bytes(b"")
    store.merge(url)
    assert left.exists()  # perhaps someone is writing it
    monkeypatch.setattr(storage_module, "STALE", -1)
    store.merge(url)
    assert not left.exists()
    assert other.exists()


def test_a_part_written_during_a_merge_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(patterns_of(FIRST), tmp_path)
    store.save(patterns_of(SECOND), tmp_path)
    later = patterns_of([*FIRST, *SECOND])
    live = store._live

    def and_then_one_more(*arguments: Any) -> list[str]:
        monkeypatch.setattr(store, "_live", live)
        store.save(later, tmp_path)
        return live(*arguments)

    monkeypatch.setattr(store, "_live", and_then_one_more)
    store.merge(tmp_path)
    assert store.load(tmp_path) == patterns_of([*FIRST, *SECOND, *FIRST, *SECOND])


def test_a_store_of_the_version_before_is_read_and_merged(tmp_path: Path) -> None:
    store.save(patterns_of(FIRST), tmp_path)
    for table in store.TABLES:
        (path,) = (tmp_path / table).glob("part-*.parquet")
        content = pq.read_table(path)
        if table == "quality":
            content = content.drop_columns(["blind", "cursors", "sessions"])
        metadata = {b"leastway.version": b"2", b"leastway.replaces": b"[]"}
        pq.write_table(content.replace_schema_metadata(metadata), path)
    assert store.load(tmp_path) == patterns_of(FIRST)
    store.save(patterns_of(SECOND), tmp_path)
    store.merge(tmp_path)
    assert store.load(tmp_path) == patterns_of(FIRST + SECOND)
