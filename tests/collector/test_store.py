"""The pattern store: exact, whole or not there, and honest about what it cannot read."""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import store, tables
from collector.endpoints import ADDRESS, Endpoint
from collector.errors import PatternStoreError
from collector.evidence import SKETCHES
from collector.flow import Flow, Signal
from collector.patterns import Patterns
from collector.storage import storage
from tests.collector.traffic import LIMITS, captures, limits, patterns_of

WEB = Endpoint("pod", "", "shop", (("app", "web"),))
API = Endpoint("pod", "", "shop", (("app", "api"),))
FIRST = [Flow(WEB, API, port=80, time="2024-03-01T10:00:00Z", source_pod="web-1", origin="hubble")]
SECOND = [Flow(API, WEB, port=443, signal=Signal.CARRIED, method="GET", path="/", origin="envoy")]

few = settings(max_examples=15)  # each example writes and syncs files


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A store with two parts."""
    store.save(patterns_of(FIRST), tmp_path)
    store.save(patterns_of(SECOND), tmp_path)
    return tmp_path


def parts(root: Path, table: str = "edges") -> list[Path]:
    return sorted((root / table).glob("*.parquet"))


@pytest.mark.parametrize("bound", [None, 2])
@few
@given(capture=captures())
def test_what_is_loaded_equals_what_was_saved(bound: int | None, capture: list[Flow]) -> None:
    with tempfile.TemporaryDirectory() as folder, limits(bound):
        store.save(patterns_of(capture), folder)
        assert store.load(folder) == patterns_of(capture)


@pytest.mark.parametrize("bound", [None, 2])
@few
@given(first=captures(12), second=captures(12))
def test_parts_are_merged_when_read_and_when_they_are_made_one(
    bound: int | None, first: list[Flow], second: list[Flow]
) -> None:
    capture = first + second if first != second else first
    with tempfile.TemporaryDirectory() as folder, limits(bound):
        same = store.save(patterns_of(first), folder) == store.save(patterns_of(second), folder)
        whole = patterns_of(first if same else capture)
        assert store.load(folder) == whole
        store.merge(folder)
        assert store.load(folder) == whole
        assert len(parts(Path(folder))) == 1


@few
@given(st.lists(st.text(), min_size=1, max_size=3), st.sampled_from([0, -1, 1 << 62, 1 << 63, 1 << 64, -(1 << 70)]))
def test_any_text_and_number_can_be_saved(texts: list[str], number: int) -> None:
    capture = [Flow(WEB, API, port=number, method="GET", path=f"/{text}\ud800", source_pod=text) for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        store.save(patterns_of(capture), folder)
        (edge,) = store.load(folder).edges.values()
        assert len(edge.knocked) == 1


def test_saving_the_same_patterns_again_is_no_second_observation(both: Path) -> None:
    expected = store.load(both)
    names = parts(both)
    store.save(patterns_of(FIRST), both)
    assert parts(both) == names
    store.merge(both)
    store.save(patterns_of(FIRST), both)
    assert store.load(both) == expected


def test_a_merge_stopped_before_it_deleted_counts_nothing_twice(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = store.load(both)

    def stop(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".parquet":
            raise OSError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(PatternStoreError, match="stopped"):
            store.merge(both)
    assert len(parts(both)) == 3
    assert store.load(both) == expected
    store.merge(both)
    assert len(parts(both)) == 1
    assert store.load(both) == expected


def test_a_part_stopped_before_its_edges_is_no_part(both: Path) -> None:
    expected = store.load(both)
    name = store.save(patterns_of(FIRST + SECOND), both)
    (both / "edges" / f"{name}.parquet").unlink()
    assert store.load(both) == expected


def test_left_over_temporary_files_are_ignored(both: Path) -> None:
    expected = store.load(both)
    (both / "edges" / ".3f2a.tmp").write_bytes(b"half a file")
    assert store.load(both) == expected


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(PatternStoreError, match="No space left"):
        store.save(patterns_of(FIRST), tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("table", store.TABLES)
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other columns"])
def test_a_damaged_part_is_named(both: Path, table: str, damage: str) -> None:
    path = parts(both, table)[0]
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-10])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        path.write_bytes(content[:60] + bytes(byte ^ 0xFF for byte in content[60:90]) + content[90:])
    else:
        kept = pq.read_table(path)
        pq.write_table(kept.drop_columns([kept.column_names[0]]), path)
    with pytest.raises(PatternStoreError) as caught:
        store.load(both)
    assert caught.value.where == str(path)
    assert caught.value.hint


@pytest.mark.parametrize("table", ["sightings", "quality"])
def test_a_missing_file_is_named(both: Path, table: str) -> None:
    path = parts(both, table)[0]
    path.unlink()
    with pytest.raises(PatternStoreError) as caught:
        store.load(both)
    assert caught.value.where == str(path)


def test_a_newer_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(store, "VERSION", tables.VERSION + 1)
        store.save(patterns_of(FIRST), tmp_path)
    with pytest.raises(PatternStoreError, match="newer leastway") as caught:
        store.load(tmp_path)
    assert caught.value.where == str(parts(tmp_path)[0])


def test_an_older_store_lacks_what_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 3 kept no requests by caller; read today, nobody's requests are taken for somebody's."""
    asked = [Flow(ADDRESS, API, port=80, method="GET", path=f"/{n}", source_address=f"10.0.0.{n}") for n in range(2)]
    with monkeypatch.context() as older:
        older.setattr(tables, "SKETCHES", tuple(name for name in SKETCHES if name != "callers"))
        older.setattr(store, "VERSION", 3)
        tables.schemas.cache_clear()
        store.save(patterns_of(asked), tmp_path)
    tables.schemas.cache_clear()
    for newer in (0, 2):
        found, whole = store.load(tmp_path), patterns_of(asked)
        found.merge(patterns_of(asked[:newer]))
        whole.merge(patterns_of(asked[:newer]))
        (evidence,), (expected,) = ([e for _, e in next(iter(p.edges.values())).ports()] for p in (found, whole))
        assert evidence.asked == expected.asked
        assert evidence.of_each([["10.0.0.0"], ["10.0.0.1"]]) is None
        assert expected.of_each([["10.0.0.0"], ["10.0.0.1"]]) is not None


def test_what_an_older_store_says_of_addresses_is_not_taken_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 4 kept no outcomes: an address that was answered then and is silent now is not called silent."""
    flows = [Flow(API, ADDRESS, port=80, signal=signal, destination_address="10.0.0.1") for signal in Signal][:3]
    with monkeypatch.context() as older:
        older.setattr(tables, "SKETCHES", tuple(name for name in SKETCHES if name != "outcomes"))
        older.setattr(store, "VERSION", 4)
        tables.schemas.cache_clear()
        store.save(patterns_of(flows), tmp_path)
    tables.schemas.cache_clear()
    found, whole = store.load(tmp_path), patterns_of(flows)
    for patterns in (found, whole):
        patterns.merge(patterns_of(flows[:1]))
    (evidence,), (expected,) = ([e for _, e in next(iter(p.edges.values())).ports()] for p in (found, whole))
    assert evidence.signals == expected.signals
    assert (evidence.apart(), list(expected.apart())) == ({}, ["10.0.0.1"])


def test_only_a_store_is_a_store(tmp_path: Path) -> None:
    assert not store.is_store(tmp_path)
    assert not store.is_store("-")
    assert not store.is_store("no-driver://bucket/patterns")
    for use in (store.load, store.merge):
        with pytest.raises(PatternStoreError, match="not a pattern store"):
            use(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(PatternStoreError):
        store.save(Patterns(), tmp_path / "file")


def test_a_store_without_patterns_is_empty_but_remembers_the_quality(tmp_path: Path) -> None:
    quiet = Patterns()
    quiet.quality.lost.add("node-1 PERF_EVENT_RING_BUFFER", 1 << 40)
    store.save(quiet, tmp_path)
    assert store.is_store(tmp_path)
    assert store.load(tmp_path) == quiet


def test_many_rows_are_written_and_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = [Flow(WEB, API, port=port, signal=Signal.ANSWERED) for port in range(1, 50)]
    whole = store.save(patterns_of(capture), tmp_path)
    assert store.load(tmp_path) == patterns_of(capture)
    monkeypatch.setattr(store, "CHUNK", 7)
    assert store.load(tmp_path) == patterns_of(capture)
    store.save(patterns_of(capture), tmp_path / "chunked")
    assert store.load(tmp_path / "chunked") == patterns_of(capture)
    assert whole.startswith("part-")


def test_parts_of_different_content_have_different_names_and_equal_ones_the_same(tmp_path: Path) -> None:
    names = [store.save(patterns_of(flows), tmp_path / str(n)) for n, flows in enumerate((FIRST, SECOND, FIRST))]
    assert names[0] == names[2] != names[1]
    assert parts(tmp_path / "0")[0].read_bytes() == parts(tmp_path / "2")[0].read_bytes()


def _save_many(root: str, pod: str) -> None:
    for number in range(5):
        store.save(patterns_of([Flow(WEB, API, port=80, source_pod=f"{pod}-{number}")]), root)


def test_several_writers_and_a_merge_lose_nothing(tmp_path: Path) -> None:
    store.save(Patterns(), tmp_path)
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_save_many, args=(str(tmp_path), pod)) for pod in ("web", "cron")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        store.merge(tmp_path)
        store.load(tmp_path)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    (edge,) = store.load(tmp_path).edges.values()
    (evidence,) = edge.knocked.kept.values()
    assert evidence.sources.items() == sorted((f"{pod}-{n}", 1) for pod in ("web", "cron") for n in range(5))


def test_a_second_merge_at_the_same_time_is_refused(both: Path) -> None:
    with storage(both).exclusive(), pytest.raises(PatternStoreError, match="another process is merging"):
        store.merge(both)


def test_other_limits_need_another_version() -> None:
    """Sets cut at different limits do not merge exactly: whoever changes a limit must raise tables.VERSION."""
    shipped = {name: getattr(module, name) for module, names in LIMITS.items() for name in names}
    assert (tables.VERSION, shipped) == (
        5,
        {
            "PORTS": 1024,
            "OPEN_PAIRS": 256,
            "PARTIES": 1024,
            "OUTCOMES": 2048,
            "REQUESTS": 4096,
            "HOURS": 2048,
            "NAMES": 16,
            "PODS": 8192,
            "OWNERS": 16,
        },
    )
