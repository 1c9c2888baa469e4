"""Which files an input stands for: itself, the captures in a folder, or what lies behind a URL; `-` is standard input.

Invariant: nothing is opened here, and the files of a folder come in the order of their names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from collector.errors import SourceError, reason

_NOTES = ("LICENSE", "README")  # what lies in a folder of captures without being one, by how its name begins
_OURS = "leastway.json"  # is in every folder that `leastway generate` writes to
_OUR_SUFFIXES = (".yaml", ".md", _OURS)


def files_of(name: str) -> list[str]:
    """The files of one input, as paths or URLs.

    Raises SourceError if there is nothing, or it may not be looked at.
    """
    if name == "-":
        return [name]
    path = Path(name)
    try:
        there = "://" not in name and path.exists()
    except OSError as error:
        _unreadable(error)
    if not there:
        return _remote(name)
    if not path.is_dir():
        return [name]
    found = sorted(_below(path))
    if not found:
        raise SourceError("the folder holds no files", where=name, hint="give the folder that holds the captures")
    return found


def _below(path: Path) -> Iterator[str]:
    """The files in a folder and its subfolders that may be captures; links to folders are not followed.

    Passed over are hidden ones, notes, and what an earlier run wrote there.
    """
    ours: set[str] = set()
    for folder, subfolders, names in os.walk(path, onerror=_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if folder in ours or _OURS in names:
            ours.update(str(Path(folder, name)) for name in subfolders)
            names = [name for name in names if not name.endswith(_OUR_SUFFIXES)]
        for name in names:
            if not name.startswith(".") and not name.upper().startswith(_NOTES) and Path(folder, name).is_file():
                yield str(Path(folder, name))


def _unreadable(error: OSError) -> NoReturn:
    """Raise the SourceError for a file or folder that cannot even be looked at."""
    hint = "check the path and its permissions"
    raise SourceError(f"cannot be read: {error.strerror}", where=str(error.filename), hint=hint) from error


def _remote(name: str) -> list[str]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(name)
        if filesystem.isdir(path):
            return [filesystem.unstrip_protocol(p) for p in sorted(filesystem.find(path))]
        if not filesystem.exists(path):
            raise FileNotFoundError(name)
    except FileNotFoundError:
        raise SourceError("no such file or folder", where=name, hint="check the path") from None
    except Exception as error:  # drivers of object stores have errors of their own
        hint = "check the URL, the credentials for it and its fsspec driver"
        raise SourceError(f"cannot be opened: {reason(error)}", where=name, hint=hint) from error
    return [name]
