"""Patterns at rest: three Parquet datasets in a folder or an object store, written in whole parts, merged when read.

Invariant: `load` gives the merge of everything that was saved, each part once, whenever a writer, a reader or a
merge is stopped. A part is three files of one name. It exists once its file in `edges/` does, which is put into
place last. The name is a hash of the content, so writers never clash, and saving the same patterns again (after a
crash, say) is no second observation. A merged part lists the parts that it replaces; readers ignore those, deleted
or not.

    STORE/edges/part-<hash>.parquet       one row per edge, class and port; see collector.tables
    STORE/sightings/part-<hash>.parquet   one row per endpoint
    STORE/quality/part-<hash>.parquet     one row

STORE is a path or any fsspec URL (`s3://bucket/patterns`); see collector.storage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from collector.errors import LeastwayError, PatternStoreError, reason
from collector.patterns import Patterns
from collector.quality import Quality
from collector.storage import LEASE, Storage, storage
from collector.tables import VERSION, Row, fold, rows, schemas, storable

TABLES = ("sightings", "quality", "edges")  # in the order of writing: edges last, for it makes the part exist
CHUNK = 512  # rows that are Python objects at one time
_VERSION_KEY = b"leastway.version"
_REPLACES_KEY = b"leastway.replaces"
_NOT_WRITTEN = "check that the store is writable and not full"
_DAMAGED = "restore the file from a backup, or move this part's files out of the store and observe again"


def is_store(path: str | Path) -> bool:
    """True if a folder or URL is a pattern store, with or without patterns in it."""
    try:
        place = storage(path)
        return all(place.exists(table) for table in TABLES)
    except Exception:  # reading it as a capture will report what is wrong with it
        return False


def save(patterns: Patterns, path: str | Path) -> str:
    """Add an aggregate to the store at `path` (made if it is not there) and return the part's name.

    What was saved counts from then on: save the next flows in a fresh `Patterns`, not in one that holds these too.
    After an error, save only the very same patterns again: they may have been stored in spite of it.
    Raises PatternStoreError when the store cannot be written.
    """
    with _as_store_error(str(path), "cannot write to the pattern store", _NOT_WRITTEN):
        return _write(patterns, storage(path), replaces=())


def load(path: str | Path) -> Patterns:
    """The merge of all parts of a store.

    Raises PatternStoreError when `path` is no store, when a file is damaged or missing (it is named), or when a newer
    leastway wrote it.
    """
    return _loaded(path, TABLES)


def _loaded(path: str | Path, tables: tuple[str, ...]) -> Patterns:
    place = _existing(path)
    missing, before = "", None
    while (names := _names(place)) != before:
        before = names
        try:
            return _merged(_live(names, place), place, tables)
        except FileNotFoundError as error:  # replaced and deleted since it was listed, unless the next list is the same
            missing = str(error.filename or error)
    raise PatternStoreError("a file of the pattern store is missing", where=missing, hint=_DAMAGED)


def quality(path: str | Path) -> Quality:
    """How far the whole store can be trusted, without its patterns. Raises PatternStoreError as `load` does."""
    return _loaded(path, ("quality",)).quality


def count(path: str | Path) -> int:
    """How many parts a store has. Raises PatternStoreError when `path` is no store."""
    with _as_store_error(str(path), "cannot list the pattern store", "check the path and its permissions"):
        return len(_names(_existing(path)))


def merge(path: str | Path) -> int:
    """Merge all parts of a store into one, and return how many there were.

    Readers and writers may go on meanwhile; a second merge at the same time is refused.
    Raises PatternStoreError as `load` and `save` do.
    """
    place = _existing(path)
    began = time.monotonic()
    with _as_store_error(place.where(), "cannot merge the parts of the pattern store", _NOT_WRITTEN), place.exclusive():
        names = _names(place)
        place.sweep(TABLES)
        if len(names) < 2:
            return len(names)
        merged = _merged(_live(names, place), place)  # these, and not those that were written since
        if time.monotonic() - began > LEASE / 2:
            raise TimeoutError("it took so long that the lock may not hold")
        _write(merged, place, replaces=names)
        for name in names:
            for table in reversed(TABLES):
                place.delete(table, name)
        return len(names)


def _existing(path: str | Path) -> Storage:
    with _as_store_error(str(path), "cannot open the pattern store", "check the URL and its fsspec driver"):
        place = storage(path)
        if all(place.exists(table) for table in TABLES):
            return place
    hint = "name the folder that `leastway observe --store` made"
    raise PatternStoreError("this is not a pattern store", where=str(path), hint=hint)


def _merged(names: Iterable[str], place: Storage, tables: tuple[str, ...] = TABLES) -> Patterns:
    patterns = Patterns()
    for name in names:
        for table in tables:
            _read(place, table, name, patterns)
    return patterns


def _write(patterns: Patterns, place: Storage, replaces: Iterable[str]) -> str:
    replaced = sorted(replaces)
    digest = blake2b(msgspec.json.encode([VERSION, replaced]), digest_size=16)
    written: dict[str, Path] = {}
    try:
        for table in TABLES:
            written[table] = place.staging(table)
            _write_table(table, patterns, written[table], replaced, digest.update)
        name = f"part-{digest.hexdigest()}"
        if not place.exists("edges", name):
            for table in TABLES:
                place.put(written[table], table, name)
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


def _names(place: Storage) -> list[str]:
    """The parts there are, those that are replaced too. Listed until two listings agree: one that a merge runs
    through could miss the new part and the deleted ones alike."""
    before: list[str] | None = None
    while (now := place.names("edges")) != before:
        before = now
    return now


def _live(names: list[str], place: Storage) -> list[str]:
    """The parts that count: those of `names` that no other one of them replaces."""
    import pyarrow.parquet as pq

    replaced: set[str] = set()
    for name in names:
        with _open(place, "edges", name) as file:
            metadata = pq.read_schema(file).metadata or {}
            _check_version(metadata, place.where("edges", name))
            replaced.update(msgspec.json.decode(metadata[_REPLACES_KEY], type=list[str]))
    return [name for name in names if name not in replaced]


def _read(place: Storage, table: str, name: str, patterns: Patterns) -> None:
    import pyarrow.parquet as pq

    with _open(place, table, name) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        found, known = parquet.schema_arrow, schemas()[table]
        version = _check_version(found.metadata or {}, place.where(table, name))
        if version < VERSION:  # columns were added since
            known = known.empty_table().select([column for column in known.names if column in found.names]).schema
        if not found.equals(known):
            raise ValueError(f"its columns are not those of version {version}")
        for batch in parquet.iter_batches(batch_size=CHUNK):
            fold(table, batch.to_pylist(), patterns)


def _check_version(metadata: dict[bytes, bytes], where: str) -> int:
    """The version, if it is one that can be read."""
    version = int(metadata[_VERSION_KEY])
    if version > VERSION:
        raise PatternStoreError(
            f"written by a newer leastway (pattern store version {version}, this one reads up to {VERSION})",
            where=where,
            hint="update leastway",
        )
    if version < 1:
        raise ValueError(f"impossible version {version}")
    return version


@contextmanager
def _open(place: Storage, table: str, name: str) -> Iterator[Any]:
    """A part's file for reading; whatever is wrong with its content is a PatternStoreError that names it."""
    where, message = place.where(table, name), "cannot read a part of the pattern store"
    with _as_store_error(where, message, _DAMAGED, but=FileNotFoundError), place.open(table, name) as file:
        yield file


@contextmanager
def _as_store_error(where: str, message: str, hint: str, *, but: type[OSError] | None = None) -> Iterator[None]:
    try:
        yield
    except LeastwayError:
        raise
    except Exception as error:  # drivers of object stores have errors of their own
        if but is not None and isinstance(error, but):
            raise
        raise PatternStoreError(f"{message}: {reason(error)}", where=where, hint=hint) from error
