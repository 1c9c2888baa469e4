"""The `leastway.json` beside generated policies, as other commands use it: options as defaults, evidence to show.

Invariant: a file that leastway did not write is never taken for a record; there is none then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from leastway.export.folder import REPORT

LEVELS = 3  # folders above a policy file in which its record may be


class Record(msgspec.Struct, frozen=True):
    """What a previous `generate` left. `folder` holds it; `evidence` maps a file's path to the lines behind it."""

    folder: Path
    options: dict[str, Any]
    files: tuple[str, ...]
    evidence: dict[str, list[dict[str, Any]]]
    review: tuple[dict[str, Any], ...] = ()

    def option(self, name: str) -> str:
        """A text option, "" if it was not recorded."""
        found = self.options.get(name)
        return found if isinstance(found, str) else ""

    def options_list(self, name: str) -> tuple[str, ...]:
        """An option that is a list of texts."""
        found = self.options.get(name)
        return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def beside(path: Path) -> Record | None:
    """The record of the folder that a policy file or folder belongs to, None if there is none."""
    start = path if path.is_dir() else path.parent
    for folder in [start, *start.resolve().parents][:LEVELS]:
        found = _read(folder)
        if found is not None:
            return found
    return None


def _read(folder: Path) -> Record | None:
    try:
        found = json.loads((folder / REPORT).read_bytes())
        return msgspec.convert({"folder": str(folder), **_relevant(found)}, Record, strict=True, dec_hook=_path)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # an object without our keys is not ours
        return None


def _relevant(found: Any) -> dict[str, Any]:
    return {name: found[name] for name in ("options", "files", "evidence", "review")}


def _path(kind: type, value: Any) -> Any:
    return kind(value)
