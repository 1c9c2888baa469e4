"""Memoised functions of text, for text that anyone may have written.

Invariant: the memory is bounded in bytes, not only in entries: answers to long texts are not remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

T = TypeVar("T")


def memo(entries: int, *, longest: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Remember the answers to the last `entries` texts of at most `longest` characters."""

    def decorate(function: Callable[[str], T]) -> Callable[[str], T]:
        remembered = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def answer(text: str) -> T:
            return remembered(text) if len(text) <= longest else function(text)

        return answer

    return decorate
