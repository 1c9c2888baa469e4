"""Patterns on disk: a folder of three Parquet datasets, written in whole parts and merged when read.

Invariant: `load` gives the merge of everything that was saved, each part once, whenever a writer, a reader or a
compaction is stopped. A part is three files of one name, and exists from the moment its file in `edges/` does, which
is renamed into place last. The name is a hash of the content, so that writers never clash and a repeated save of the
same patterns (after a crash, say) is no second observation. A compacted part lists the parts that it replaces; whoever
reads ignores these, deleted or not.

    STORE/edges/part-<hash>.parquet       one row per edge, class and port; see collector.tables
    STORE/sightings/part-<hash>.parquet   one row per endpoint
    STORE/quality/part-<hash>.parquet     one row
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from collector.errors import PatternStoreError
from collector.patterns import Patterns
from collector.tables import VERSION, Row, fold, rows, schemas, storable

TABLES = ("sightings", "quality", "edges")  # in the order of writing: edges last, for it makes the part exist
ATTEMPTS = 5  # how often a load starts again because a compaction took files away under it
CHUNK = 512  # rows that are Python objects at one time
_VERSION_KEY = b"leastway.version"
_REPLACES_KEY = b"leastway.replaces"
_NOT_WRITTEN = "check that the folder is writable and not full"
_DAMAGED = "restore the file from a backup, or move this part's files out of the store and observe again"


def is_store(path: str | Path) -> bool:
    """True if a folder is a pattern store, with or without patterns in it. A URL never is."""
    return all((Path(path) / table).is_dir() for table in TABLES)


def save(patterns: Patterns, path: str | Path) -> str:
    """Add an aggregate to the store at `path` (made if it is not there) and return the part's name.

    What was saved counts from then on: save the next flows in a fresh `Patterns`, not in one that holds these too.
    Raises PatternStoreError when the folder cannot be written.
    """
    root = Path(path)
    with _as_store_error(root, "cannot write to the pattern store", _NOT_WRITTEN):
        return _write(patterns, root, replaces=())


def load(path: str | Path) -> Patterns:
    """The merge of all parts of a store.

    Raises PatternStoreError when `path` is no store, when a file is damaged or missing (it is named), or when a newer
    leastway wrote it.
    """
    root = Path(path)
    if not is_store(root):
        raise _no_store(root)
    missing = ""
    for _ in range(ATTEMPTS):
        patterns = Patterns()
        try:
            for name in _live(root):
                for table in TABLES:
                    _read(_file(root, table, name), table, patterns)
            return patterns
        except FileNotFoundError as error:  # perhaps replaced and deleted since it was listed: list again
            missing = str(error.filename)
    raise PatternStoreError("a file of the pattern store is missing", where=missing, hint=_DAMAGED)


def compact(path: str | Path) -> None:
    """Merge all parts of a store into one. Readers and writers may go on meanwhile; a second compaction is refused.

    Raises PatternStoreError as `load` and `save` do.
    """
    root = Path(path)
    with _exclusive(root):
        names = _names(root)
        if len(names) < 2:
            return
        merged = load(root)
        with _as_store_error(root, "cannot compact the pattern store", _NOT_WRITTEN):
            _write(merged, root, replaces=names)
            for name in names:
                for table in reversed(TABLES):
                    _file(root, table, name).unlink(missing_ok=True)


def _write(patterns: Patterns, root: Path, replaces: Iterable[str]) -> str:
    replaced = sorted(replaces)
    digest = blake2b(msgspec.json.encode([VERSION, replaced]), digest_size=16)
    written: dict[str, Path] = {}
    try:
        for table in TABLES:
            (root / table).mkdir(parents=True, exist_ok=True)
            written[table] = root / table / f".{uuid.uuid4().hex}.tmp"
            _write_table(table, patterns, written[table], replaced, digest.update)
        name = f"part-{digest.hexdigest()}"
        if not _file(root, "edges", name).exists():
            for table in TABLES:
                written[table].replace(_file(root, table, name))
                _sync_folder(root / table)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
    return name


def _write_table(
    table: str, patterns: Patterns, target: Path, replaced: list[str], digest: Callable[[bytes], None]
) -> None:
    """Write one table, a bounded number of rows at a time, and feed its content to the digest."""
    import pyarrow.parquet as pq

    encode = msgspec.msgpack.Encoder().encode
    metadata = {_VERSION_KEY: str(VERSION).encode(), _REPLACES_KEY: msgspec.json.encode(replaced)}
    schema = schemas()[table].with_metadata(metadata)
    with target.open("xb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            every = rows(table, patterns)
            while chunk := list(islice(every, CHUNK)):
                content, chunk = _arrow(chunk, schema)
                writer.write_table(content)
                digest(encode(chunk))
        digest(encode(None))
        file.flush()
        os.fsync(file.fileno())


def _arrow(chunk: list[Row], schema: Any) -> tuple[Any, list[Row]]:
    """Rows as an Arrow table, and as what was really put into it."""
    import pyarrow as pa

    try:
        return pa.Table.from_pylist(chunk, schema=schema), chunk
    except (UnicodeEncodeError, OverflowError, pa.ArrowException):  # hostile input; everyone else is spared the copy
        chunk = storable(chunk)
        return pa.Table.from_pylist(chunk, schema=schema), chunk


def _sync_folder(path: Path) -> None:
    """Make a rename survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _no_store(root: Path) -> PatternStoreError:
    hint = "name the folder that `leastway observe --store` made"
    return PatternStoreError("this is not a pattern store", where=str(root), hint=hint)


def _file(root: Path, table: str, name: str) -> Path:
    return root / table / f"{name}.parquet"


def _names(root: Path) -> list[str]:
    """The parts there are, those that are replaced too. Listed until two listings agree: one that a compaction runs
    through could miss the new part and the deleted ones alike."""
    before: list[str] | None = None
    while (now := sorted(file.stem for file in (root / "edges").glob("part-*.parquet"))) != before:
        before = now
    return now


def _live(root: Path) -> list[str]:
    """The parts that count: those there are, without those that another one replaces."""
    import pyarrow.parquet as pq

    names = _names(root)
    replaced: set[str] = set()
    for name in names:
        path = _file(root, "edges", name)
        with _open(path) as file:
            metadata = pq.read_schema(file).metadata or {}
            _check_version(metadata, path)
            replaced.update(msgspec.json.decode(metadata[_REPLACES_KEY], type=list[str]))
    return [name for name in names if name not in replaced]


def _read(path: Path, table: str, patterns: Patterns) -> None:
    import pyarrow.parquet as pq

    with _open(path) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        found = parquet.schema_arrow
        _check_version(found.metadata or {}, path)
        if not found.equals(schemas()[table]):
            raise ValueError("its columns are not those of this version")
        for batch in parquet.iter_batches(batch_size=CHUNK):
            fold(table, batch.to_pylist(), patterns)


def _check_version(metadata: dict[bytes, bytes], path: Path) -> None:
    version = int(metadata[_VERSION_KEY])
    if version > VERSION:
        raise PatternStoreError(
            f"written by a newer leastway (pattern store version {version}, this one reads up to {VERSION})",
            where=str(path),
            hint="update leastway",
        )
    if version < 1:
        raise ValueError(f"impossible version {version}")


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A part's file for reading; whatever is wrong with its content is a PatternStoreError that names it."""
    message = "cannot read a part of the pattern store"
    with _as_store_error(path, message, _DAMAGED, but=FileNotFoundError), path.open("rb") as file:
        yield file


@contextmanager
def _as_store_error(
    where: Path, message: str, hint: str, *, but: tuple[type[OSError], ...] | type[OSError] = ()
) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except but:
        raise
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException, msgspec.MsgspecError) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise PatternStoreError(f"{message}: {why}", where=str(where), hint=hint) from error


@contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    """Hold the store's compaction lock (released by the system when the process ends, however it ends)."""
    import fcntl

    if not is_store(root):
        raise _no_store(root)
    with _as_store_error(root, "cannot lock the pattern store", "check that the folder is writable"):
        lock = (root / ".compaction").open("ab")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PatternStoreError(
                "another process is compacting this pattern store", where=str(root), hint="wait until it is done"
            ) from error
        yield
