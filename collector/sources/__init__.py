"""Capture files in: every format that is understood, one module each, recognised by content.

Invariant: a line that cannot be read is counted, its position and reason are handed to the caller, and never stops the
run. A new format is one module with `recognises(head)` and `fold(lines, patterns, bad)`, and one entry in `SOURCES`.
If a record may lean on those before it, the module is a `Stream` as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from collector.patterns import Patterns

Bad = Callable[[int, str], None]

# In order of asking; the first that recognises a file's first record reads it.
SOURCES = ("hubble_json", "istio_json", "istio_text", "ztunnel", "envoy_als", "otlp_logs")


class Source(Protocol):
    """What a module in `SOURCES` offers."""

    def recognises(self, head: bytes) -> bool:
        """True if a file's first record is in this format."""

    def fold(self, lines: Iterable[tuple[int, bytes]], patterns: Patterns, bad: Bad) -> None:
        """Count every record into `patterns`."""


@runtime_checkable
class Stream(Protocol):
    """A source whose records may lean on an earlier one of the same file."""

    def begins(self, record: bytes) -> bool:
        """True if neither this record nor those after it lean on what was before."""


def source(name: str) -> Source:
    """A source by its name in `SOURCES`; imported on first use, for some need heavy packages."""
    return cast(Source, import_module(f"collector.sources.{name}"))


def recognise(head: bytes) -> str | None:
    """The name of the source that reads a file whose first record is `head`; None if no one does."""
    return next((name for name in SOURCES if source(name).recognises(head)), None)
