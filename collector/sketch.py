"""Bounded sets whose bound does not depend on order: of all keys ever added, the k with the smallest hash stay.

Invariant: for any way to split, order and merge the same additions, the kept keys, their values and `saturated` are the
same. (A key among the k smallest of everything is among the k smallest of every part, so it was never dropped and its
value is exact.) Trimming is therefore free to be lazy.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Generic, Self, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_HASH_SPACE = float(1 << 64)


@lru_cache(maxsize=1 << 17)
def rank(key: Hashable) -> int:
    """A fixed 64-bit hash of a key, the same in every process (Python's own `hash` is salted)."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big")


class BottomK(msgspec.Struct, Generic[K, V], eq=False):
    """A map that keeps at most `limit` keys. A subclass says how two values of a key combine."""

    limit: int
    kept: dict[K, V] = {}
    saturated: bool = False

    @staticmethod
    def combine(old: V, new: V) -> V:
        """Combine two values of one key; `old` may be changed and returned."""
        raise NotImplementedError  # there is no way that fits all kinds of values

    def add(self, key: K, value: V) -> None:
        """Merge `value` into the value kept for `key`."""
        old = self.kept.get(key)
        self.kept[key] = value if old is None else self.combine(old, value)
        if len(self.kept) > 2 * self.limit:
            self.trim()

    def copy(self) -> Self:
        """A copy with the same keys and values."""
        return type(self)(self.limit, dict(self.kept), self.saturated)

    def merge(self, other: BottomK[K, V]) -> None:
        """Take in everything that another sketch kept."""
        self.saturated |= other.saturated
        for key, value in other.kept.items():
            self.add(key, value)

    def trim(self) -> None:
        """Drop the keys beyond the limit."""
        if len(self.kept) > self.limit:
            self.saturated = True
            # The key itself breaks ties: 64 bits collide for someone who wants it, and then order would decide.
            ranked = sorted(self.kept, key=lambda key: (rank(key), key))
            self.kept = {key: self.kept[key] for key in ranked[: self.limit]}

    def items(self) -> list[tuple[K, V]]:
        """The kept keys and values, in the keys' own order."""
        self.trim()
        if len(self.kept) < 2:
            return list(self.kept.items())
        return sorted(self.kept.items(), key=lambda item: item[0])  # type: ignore[arg-type,return-value]  # keys sort

    def estimate(self) -> int:
        """How many distinct keys were added: exact up to the limit, then the k-minimum-values estimate."""
        self.trim()
        if not self.saturated:
            return len(self.kept)
        return max(self.limit, round((self.limit - 1) * _HASH_SPACE / max(map(rank, self.kept))))

    def __iter__(self) -> Iterator[K]:
        return iter([key for key, _ in self.items()])

    def __len__(self) -> int:
        self.trim()
        return len(self.kept)

    def __bool__(self) -> bool:
        return bool(self.kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BottomK) and self.saturated_now == other.saturated_now and self.kept == other.kept

    def __ne__(self, other: object) -> bool:
        return not self == other  # a struct without its own `eq` has a `!=` of identity

    __hash__ = None  # type: ignore[assignment]  # mutable

    @property
    def saturated_now(self) -> bool:
        """Whether the limit was ever passed, after trimming."""
        self.trim()
        return self.saturated


class Tally(BottomK[K, int]):
    """A bounded count per key."""

    def add(self, key: K, value: int) -> None:
        """Count `value` more of `key`."""
        kept = self.kept
        kept[key] = kept.get(key, 0) + value
        if len(kept) > 2 * self.limit:
            self.trim()

    @staticmethod
    def combine(old: int, new: int) -> int:
        """The sum."""
        return old + new


class Members(BottomK[K, int]):
    """A bounded set: every value is 1, however often its key was added."""

    @staticmethod
    def combine(old: int, new: int) -> int:
        """One."""
        return max(old, new)


class Greatest(BottomK[K, V]):
    """The greatest value per key."""

    @staticmethod
    def combine(old: V, new: V) -> V:
        """The greater one."""
        return old if old > new else new  # type: ignore[operator]  # numbers and ordered records are kept here
