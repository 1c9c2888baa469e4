"""The error of the judge, and how text is made fit for messages.

Invariant: `str(error)` is one printable line of what, where and hint, whatever text a hostile manifest put into it. It
looks like the errors of `collector.errors`, which the judge does not import.
"""

from __future__ import annotations

PART = 400  # characters kept of each part


class PolicyError(Exception):
    """A policy, manifest or question that cannot be judged.

    `where` is the file, document or field (`NetworkPolicy default/web spec.ingress[0].ports[1].endPort`), `hint` what
    to do about it ("" when there is nothing more to say).
    """

    def __init__(self, message: str, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return " — ".join(filter(None, (line(self.message), line(self.where), line(self.hint))))


def wrapped(text: str, width: int, indent: int = 0, hanging: int = 0) -> str:
    """`text` on lines of at most `width` characters, all but the first indented by `hanging` more. Lines break only at
    spaces, so names, addresses and paths can be copied whole, unless one alone is longer than a line."""
    import textwrap

    first, others = " " * indent, " " * (indent + hanging)
    return "\n".join(textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False))


def line(text: str, limit: int = PART) -> str:
    """Text on one line, without control or direction-changing characters, which terminals obey."""
    words = " ".join(text[: limit * 4].split())
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
