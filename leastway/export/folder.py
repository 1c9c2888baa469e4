"""Policies → a folder: only changed files are written, and only our own files are replaced or removed.

Invariant: an interrupted run leaves every file either as it was or complete, and nothing outside the folder is touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import msgspec

from collector.errors import LeastwayError

REPORT = "leastway.json"
REVIEW = "REVIEW.md"
REPORTS = frozenset({REPORT, REVIEW})
MARKER = "app.kubernetes.io/managed-by: leastway"
KUSTOMIZATION = "kustomization.yaml"
_REVIEW_TITLE = "# Review\n"


class FolderError(LeastwayError):
    """The output folder cannot be written, or holds files that are not ours."""


class Report(msgspec.Struct):
    """What is read again of a report."""

    schema: int
    files: list[str]


_report = msgspec.json.Decoder(Report).decode


class Changes(NamedTuple):
    """Paths below the folder, sorted.

    `kept` were ours once and are no longer produced, but somebody has changed them.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...] = ()


def write(files: Mapping[str, str], folder: Path) -> Changes:
    """Make `folder` hold `files` (path below the folder → text), and none of ours that are not among them.

    All texts are staged beside their places before the first is renamed into place; the report comes last, so that it
    never speaks of files that are not there yet. Raises FolderError when a path leaves the folder, a file in its place
    is not ours, or the disk refuses.
    """
    try:
        listed = _listed(folder)
        below = _below(folder)
        places = {path: _place(folder, path, below) for path in sorted(files, key=lambda path: (path == REPORT, path))}
        changed = [path for path, place in places.items() if _differs(place, files[path], path, listed)]
        with _staged(files, {path: places[path] for path in changed}) as staged:
            obsolete = sorted(listed - set(files))
            removed = [path for path in obsolete if _is_ours(_place(folder, path), path, listed)]
            kept = [path for path in obsolete if path not in removed and _place(folder, path).is_file()]
            for path, temporary in staged:
                if path != REPORT:
                    temporary.replace(places[path])
            for path in removed:
                _remove(_place(folder, path), folder)
            for path, temporary in staged[-1:]:
                if path == REPORT:
                    temporary.replace(places[path])
    except OSError as error:
        where = str(error.filename or folder)
        raise FolderError(
            f"cannot be written: {error.strerror or error}", where=where, hint="choose another -o"
        ) from error
    return Changes(tuple(sorted(changed)), tuple(sorted(set(files) - set(changed))), tuple(removed), tuple(kept))


@contextlib.contextmanager
def _staged(files: Mapping[str, str], changed: Mapping[str, Path]) -> Iterator[list[tuple[str, Path]]]:
    """The changed texts in temporary files of their own folders; on failure, whatever was not moved away is removed."""
    staged: list[tuple[str, Path]] = []
    try:
        for parent in dict.fromkeys(place.parent for place in changed.values()):
            parent.mkdir(parents=True, exist_ok=True)
        for number, (path, place) in enumerate(changed.items()):
            temporary = place.with_name(f".leastway-{number}.tmp")
            staged.append((path, temporary))
            with _created(temporary) as stream:
                stream.write(files[path].encode("utf-8"))
        yield staged
    except BaseException:
        for _, temporary in staged:
            temporary.unlink(missing_ok=True)
        raise


def _created(place: Path) -> BinaryIO:
    """A new file; a leftover of a killed run in its place is removed. (Mode "x" follows no link.)"""
    try:
        return place.open("xb")
    except FileExistsError:
        place.unlink()
        return place.open("xb")


def _below(folder: Path) -> Callable[[Path], bool]:
    """Whether a place is below the folder, whatever links there are; looked up once for each."""
    root = folder.resolve()
    return cache(lambda place: place.resolve().is_relative_to(root))


def _place(folder: Path, path: str, below: Callable[[Path], bool] | None = None) -> Path:
    """Where a path is, after making sure that it is below the folder."""
    pure = PurePosixPath(path)
    plain = path == str(pure) and not pure.is_absolute() and ".." not in pure.parts
    if not plain or path in ("", ".") or not path.isprintable() or "\\" in path:
        raise FolderError(
            f"{path[:200]!r} is no path below the output folder", where=str(folder), hint="rename the workload"
        )
    place = folder.joinpath(*pure.parts)
    if not (below or _below(folder))(place.parent):
        raise FolderError("a link leads out of the output folder", where=str(place.parent), hint="remove the link")
    return place


def _listed(folder: Path) -> frozenset[str]:
    """The files that the previous run wrote, by its report; empty when there was none."""
    if folder.exists() and not folder.is_dir():
        raise FolderError("is not a folder", where=str(folder), hint="choose another -o")
    report = folder / REPORT
    if not report.exists():
        return frozenset()
    try:
        found = _report(report.read_bytes() or b'{"schema": 0, "files": []}')
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise FolderError(
            "is not a report of ours", where=str(report), hint="choose another -o, or remove it"
        ) from None
    return frozenset(path for path in found.files if _is_plain(folder, path))


def _is_plain(folder: Path, path: str) -> bool:
    try:
        _place(folder, path)
    except FolderError:
        return False
    return True


def _differs(place: Path, text: str, path: str, listed: frozenset[str]) -> bool:
    """Whether a file is to be written; raises FolderError when somebody else's is in its place."""
    if not place.exists() and not place.is_symlink():
        return True
    if place.is_dir():
        raise FolderError("a folder is in the place of a file", where=str(place), hint="choose another -o")
    if not place.is_symlink() and place.read_bytes() == text.encode("utf-8"):
        return False
    if path not in listed and not _is_ours(place, path, listed):
        raise FolderError("was not written by leastway", where=str(place), hint="move it away, or choose another -o")
    return True


def _is_ours(place: Path, path: str, listed: frozenset[str]) -> bool:
    """Whether a file is surely ours: a report, a manifest with our mark, or a kustomization of our files only."""
    if place.is_symlink() or not place.is_file():
        return False
    text = place.read_text(encoding="utf-8", errors="replace")
    if place.name in REPORTS:
        return path == REPORT or text.startswith(_REVIEW_TITLE)
    if place.name == KUSTOMIZATION:
        return _names_only_ours(
            text, {p.rpartition("/")[2] for p in listed if p.rpartition("/")[0] == path.rpartition("/")[0]}
        )
    return MARKER in text


def _names_only_ours(text: str, ours: set[str]) -> bool:
    import yaml

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return False
    if not isinstance(document, dict) or set(document) != {"apiVersion", "kind", "resources"}:
        return False
    resources = document["resources"]
    return isinstance(resources, list) and all(isinstance(item, str) and item in ours for item in resources)


def _remove(place: Path, folder: Path) -> None:
    """Remove a file, and its folder if nothing else is in it."""
    place.unlink(missing_ok=True)
    if place.parent != folder:
        with contextlib.suppress(OSError):
            place.parent.rmdir()


__all__ = ["Changes", "FolderError", "write"]
