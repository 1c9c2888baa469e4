"""Where a pattern store lies: a local folder, or an object store or other file system behind an fsspec URL.

Invariant: `put` makes a file appear whole or not at all, and once it returns the file stays. One process at a time
holds `exclusive`, however the one before it ended.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from collector.errors import PatternStoreError

STALE = 24 * 3600  # seconds after which a file that belongs to no part was left by a writer that is gone
LEASE = 3600  # seconds for which a lock in an object store is respected; its holder gives up after half of that
# Where an upload is seen only when it is whole.
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory"})


class Storage(Protocol):
    """The files of a store, by table and part name."""

    def where(self, table: str = "", name: str = "") -> str:
        """Path or URL, for people."""

    def exists(self, table: str, name: str = "") -> bool:
        """Whether there is such a file, or a folder of such a table."""

    def names(self, table: str) -> list[str]:
        """The names of the files of a table, sorted."""

    def open(self, table: str, name: str) -> Any:
        """A file for reading, as a context manager. Raises FileNotFoundError."""

    def staging(self, table: str) -> Path:
        """A local path, not taken yet, to write a file to before it is `put`."""

    def put(self, staged: Path, table: str, name: str) -> None:
        """Make a staged file the file of that name. Raises OSError only if it has not become it, as far as is known."""

    def delete(self, table: str, name: str) -> None:
        """Delete a file if it is there."""

    def sweep(self, tables: tuple[str, ...]) -> None:
        """Delete what killed writers left behind; a part exists if the last of `tables` has its file."""

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Hold the store's one lock. Raises PatternStoreError if someone else does."""


def storage(path: str | Path) -> Storage:
    """The storage that a path or fsspec URL names. Raises ImportError, ValueError or OSError if there is none."""
    text = str(path)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Folder(Path(path))
    if scheme in ("file", "local"):
        return Folder(Path(rest))
    return Bucket(text)


class Folder:
    """A local folder (or a mounted one)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def where(self, table: str = "", name: str = "") -> str:
        """The path."""
        return str(self._path(table, name))

    def exists(self, table: str, name: str = "") -> bool:
        """Whether the table's folder, or the file in it, is there."""
        path = self._path(table, name)
        return path.is_file() if name else path.is_dir()

    def names(self, table: str) -> list[str]:
        """The parts' names in one table."""
        return sorted(file.stem for file in (self.root / table).glob("part-*.parquet"))

    def open(self, table: str, name: str) -> IO[bytes]:
        """The file itself."""
        return self._path(table, name).open("rb")

    def staging(self, table: str) -> Path:
        """A hidden file in the folder that it will be renamed in."""
        folder = self.root / table
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f".{uuid.uuid4().hex}.tmp"

    def put(self, staged: Path, table: str, name: str) -> None:
        """Rename. From then on the file is there, and a folder that cannot be synced is no reason to say otherwise."""
        staged.replace(self._path(table, name))
        with contextlib.suppress(OSError):
            _sync_folder(self.root / table)

    def delete(self, table: str, name: str) -> None:
        """Unlink."""
        self._path(table, name).unlink(missing_ok=True)

    def sweep(self, tables: tuple[str, ...]) -> None:
        """Temporary files, and files of parts that were never completed, once they are `STALE`."""
        complete = set(self.names(tables[-1]))
        for table in tables:
            for file in (self.root / table).iterdir():
                if file.stem in complete and file.suffix == ".parquet":
                    continue
                if file.suffix in (".tmp", ".parquet"):
                    _remove_stale(file)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """A lock file, released by the system when the process ends, however it ends."""
        import fcntl

        with (self.root / ".merging").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise _busy(str(self.root)) from error
            yield

    def _path(self, table: str, name: str) -> Path:
        return self.root / table / f"{name}.parquet" if name else self.root / table


class Bucket:
    """An object store, or any other file system that fsspec knows."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self.files, self.root = fsspec.core.url_to_fs(self.url)
        self.root = self.root.rstrip("/")
        protocols = (self.files.protocol,) if isinstance(self.files.protocol, str) else self.files.protocol
        self.atomic = not _ATOMIC.isdisjoint(protocols)

    def where(self, table: str = "", name: str = "") -> str:
        """The URL."""
        return "/".join(filter(None, (self.url, table, name and f"{name}.parquet")))

    def exists(self, table: str, name: str = "") -> bool:
        """Whether there is such a file, or anything below the table's prefix."""
        self.files.invalidate_cache()
        return bool(self.files.exists(self._path(table, name)))

    def names(self, table: str) -> list[str]:
        """The parts' names in one table."""
        files = (file.rpartition("/")[2] for file in self._list(self._path(table)))
        return sorted(f.removesuffix(".parquet") for f in files if f.startswith("part-") and f.endswith(".parquet"))

    def open(self, table: str, name: str) -> Any:
        """The file, read in blocks."""
        return self.files.open(self._path(table, name), "rb")

    def staging(self, table: str) -> Path:
        """A file in the local folder for temporary files."""
        return Path(tempfile.gettempdir()) / f"leastway-{table}-{uuid.uuid4().hex}.tmp"

    def put(self, staged: Path, table: str, name: str) -> None:
        """Upload; where an upload can be seen half done, under another name first."""
        target = self._path(table, name)
        if self.atomic:
            self.files.put_file(str(staged), target)
        else:
            self.files.makedirs(self._path(table), exist_ok=True)
            passing = self._path(table) + f"/.{uuid.uuid4().hex}.tmp"
            self.files.put_file(str(staged), passing)
            self.files.mv(passing, target)
        staged.unlink(missing_ok=True)

    def delete(self, table: str, name: str) -> None:
        """Remove the object."""
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self._path(table, name))

    def sweep(self, tables: tuple[str, ...]) -> None:
        """Staged files on this machine; incomplete uploads are for the object store's own life-cycle rules."""
        for table in tables:
            for file in Path(tempfile.gettempdir()).glob(f"leastway-{table}-*.tmp"):
                with contextlib.suppress(PermissionError):  # another user's
                    _remove_stale(file)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """A lock object that names its time. Two processes that see each other's both give up, so both never go on."""
        locks = f"{self.root}/locks"
        mine = f"{locks}/{int(time.time()):012d}-{uuid.uuid4().hex}"
        if not self.atomic:
            self.files.makedirs(locks, exist_ok=True)
        self.files.pipe_file(mine, b"merging")
        try:
            for other in self._list(locks):
                held, _, _ = other.rpartition("/")[2].partition("-")
                if other.rpartition("/")[2] == mine.rpartition("/")[2] or not held.isdecimal():
                    continue
                if time.time() - int(held) < LEASE:
                    raise _busy(self.url)
                with contextlib.suppress(FileNotFoundError):
                    self.files.rm_file(other)
            yield
        finally:
            with contextlib.suppress(OSError):
                self.files.rm_file(mine)

    def _list(self, folder: str) -> list[str]:
        self.files.invalidate_cache()
        try:
            return [str(file) for file in self.files.ls(folder, detail=False)]
        except FileNotFoundError:
            return []

    def _path(self, table: str, name: str = "") -> str:
        return f"{self.root}/{table}/{name}.parquet" if name else f"{self.root}/{table}"


def _remove_stale(file: Path) -> None:
    """Unlink a file that nobody writes any more."""
    with contextlib.suppress(FileNotFoundError):  # renamed or swept by someone else meanwhile
        if time.time() - file.stat().st_mtime > STALE:
            file.unlink()


def _busy(where: str) -> PatternStoreError:
    hint = "wait until it is done"
    return PatternStoreError("another process is merging the parts of this pattern store", where=where, hint=hint)


def _sync_folder(path: Path) -> None:
    """Make a rename survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
