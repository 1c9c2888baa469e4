"""Requests that stand for all others: one for each set of operations of rules that can match together.

Invariant: two sets of policies that give the same answers to the requests given here give the same answers to all
requests, as far as methods, paths and hosts decide. If there would be too many, `complete` is False.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from leastway.verify.authorizationpolicy_schema import AuthorizationPolicy, Field, Fields
from leastway.verify.httppath import Normalization, is_pattern, path_matches
from leastway.verify.identity import Request, field_matches
from leastway.verify.languages import Class, Kind, classes

ANY = "*"
KINDS: tuple[Kind, ...] = ("methods", "paths", "hosts")
PRODUCT = 1 << 20  # combinations of classes of methods, paths and hosts beyond which only some are tried
Asked = tuple[str, str, str]  # method, path and host
Called = tuple[str, str]  # method and path, as sent or as values of rules


def named(policies: Iterable[AuthorizationPolicy], kind: Kind) -> frozenset[str]:
    """All values of one field of operations."""
    return frozenset(
        value
        for policy in policies
        for rule in policy.rules
        for entry in rule.operations or ()
        for found in entry
        if found.name == kind
        for value in found.values
    )


class _Kind(NamedTuple):
    """The classes of one field, in `groups` by the operations that they match, as bits."""

    groups: dict[int, list[Class]]
    names: dict[frozenset[str], str]  # what a class is called, by the values that it matches


class Requests:
    """All requests that some policies distinguish, and each of `others` by itself (unless it reads as a pattern)."""

    def __init__(
        self, policies: Iterable[AuthorizationPolicy], option: Normalization, others: Iterable[Called] = ()
    ) -> None:
        given = list(policies)
        operations = list({entry: None for p in given for rule in p.rules for entry in rule.operations or ()})
        single = [
            (Field("methods", False, (method,)), Field("paths", False, (path,)))
            for method, path in sorted(others)
            if not is_pattern(method) and not is_pattern(path)
        ]
        operations += single
        self.complete = True
        self._kinds = []
        for kind in KINDS:
            values = {value for entry in single for field in entry if field.name == kind for value in field.values}
            found = classes(named(given, kind) | values, kind, option)
            self.complete = self.complete and found.complete
            self._kinds.append(_Kind(_grouped(found.found, operations, kind), _names(found.found)))
        methods, paths, hosts = (kind.groups for kind in self._kinds)
        most = max(1, PRODUCT // (len(methods) * len(hosts)))
        self.complete = self.complete and len(paths) <= most
        self._paths = dict(list(paths.items())[:most])
        self._methods, self._hosts = methods, hosts
        self._telling: list[Asked] | None = None

    def telling(self) -> list[Asked]:
        """One request for each set of operations that a request can match."""
        if self._telling is None:
            self._telling = self.matching(ANY, ANY)
        return self._telling

    def matching(self, method: str, path: str) -> list[Asked]:
        """`telling`, among the requests that a method value and a path value match, of the policies or others."""
        found: dict[int, Asked] = {}
        hosts = _first(self._hosts, ANY)
        methods, paths = _first(self._methods, method), _first(self._paths, path)
        for (path_bits, other), (method_bits, one), (host_bits, host) in product(paths, methods, hosts):
            found.setdefault(path_bits & method_bits & host_bits, (one, other, host))
        return list(found.values())

    def changed(self, change: Callable[[Asked], tuple[int, int]]) -> dict[tuple[str, str], tuple[int, int]]:
        """(method, path) → what `change` says of the requests with these names, where it says anything.

        A class is named by the narrowest values that it matches, `*` if it matches none.
        """
        known: dict[int, tuple[int, int]] = {}
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for matched, (methods, paths, hosts) in self._combined():
            if matched not in known:
                known[matched] = change((methods[0].witness, paths[0].witness, hosts[0].witness))
            gained, lost = known[matched]
            if not gained and not lost:
                continue
            for method in methods:
                for path in paths:
                    key = self._kinds[0].names[method.values], self._kinds[1].names[path.values]
                    before = found.get(key, (0, 0))
                    found[key] = before[0] | gained, before[1] | lost
        return found

    def _combined(self) -> Iterator[tuple[int, tuple[list[Class], list[Class], list[Class]]]]:
        for path_bits, paths in self._paths.items():
            for method_bits, methods in self._methods.items():
                both = path_bits & method_bits
                for host_bits, hosts in self._hosts.items():
                    yield both & host_bits, (methods, paths, hosts)


def _first(groups: dict[int, list[Class]], value: str) -> list[tuple[int, str]]:
    """For each group a text that a value matches; if the value is no pattern, only itself."""
    if not is_pattern(value):
        return [(-1, value)]
    found = (
        (bits, next((c.witness for c in known if path_matches(value, c.witness)), "")) for bits, known in groups.items()
    )
    return [pair for pair in found if pair[1]]


def _grouped(found: Sequence[Class], operations: Sequence[Fields], kind: Kind) -> dict[int, list[Class]]:
    groups: dict[int, list[Class]] = {}
    for one in found:
        text = one.witness
        request = Request(
            method=text if kind == "methods" else None,
            path=text if kind == "paths" else None,
            host=text if kind == "hosts" else None,
        )
        matched = 0
        for i, entry in enumerate(operations):
            if all(field_matches(field, request, "") for field in entry if field.name == kind):
                matched |= 1 << i
        groups.setdefault(matched, []).append(one)
    return groups


def _names(found: Sequence[Class]) -> dict[frozenset[str], str]:
    """The names of classes: the narrowest values that they match."""
    members: dict[str, int] = {}
    for i, one in enumerate(found):
        for value in one.values:
            members[value] = members.get(value, 0) | 1 << i
    return {one.values: " & ".join(_narrowest(one.values, members)) or ANY for one in found}


def _narrowest(values: frozenset[str], members: dict[str, int]) -> list[str]:
    kept: list[str] = []
    for value in sorted(values, key=lambda v: (members[v].bit_count(), v)):
        if not any(members[other] & ~members[value] == 0 for other in kept):
            kept.append(value)
    return sorted(kept)
