"""The one error tree. It lives in the lowest layer, so that every layer can raise from it.

Invariant: `str(error)` is one printable line, what — where — hint, whatever text from a file or a wire went into it.
The library raises; only the command line prints and exits.
"""

from __future__ import annotations

PART = 400  # characters kept of each part: a message quotes its input, and the input may be anything


class LeastwayError(Exception):
    """Something that a person has to do something about.

    `message` says what happened, `where` in which file, document or address, `hint` what to do next.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return " — ".join(filter(None, (_line(self.message), _line(self.where), _line(self.hint))))


class SourceError(LeastwayError):
    """A capture or a live source of flows cannot be read."""


class PatternStoreError(LeastwayError):
    """Patterns on disk cannot be read or written."""


class InventoryError(LeastwayError):
    """A document is not a Kubernetes object that could be understood."""


class RenderError(LeastwayError):
    """A template does not give the manifest that was meant."""


def reason(error: Exception) -> str:
    """What somebody else's exception says, as one short line; what kind it is if it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _line(text: str) -> str:
    """One line without control or direction-changing characters: terminals obey them."""
    words = " ".join(text[: PART * 4].split())
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
    return shown if len(shown) <= PART else shown[: PART - 1] + "…"
