"""What np-guard's tools print of a pair: "TCP 80,8080-8090,UDP 53", "All Connections" or "No Connections".

A verdict is compared at every boundary: each number that the texts of a case mention, one below and one above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import product
from typing import TYPE_CHECKING

from leastway.verify.judge import Judge, Question

if TYPE_CHECKING:
    from tests.verify.npguard_cases import Case

PROTOCOLS = ("TCP", "UDP", "SCTP")
ALL, NONE = "All Connections", "No Connections"
SPAN = re.compile(r"(\d+)(?:-(\d+))?")


def spans(text: str) -> Iterator[tuple[str, int, int]]:
    """The port spans of a text, ends included; a number without a protocol belongs to the one before it."""
    protocol = ""
    for part in text.split(","):
        *named, numbers = part.split()
        protocol = named[0] if named else protocol
        found = SPAN.fullmatch(numbers)
        assert found, text
        assert protocol in PROTOCOLS, text
        yield protocol, int(found[1]), int(found[2] or found[1])


def admits(text: str, protocol: str, port: int) -> bool:
    """Does a text hold a connection?"""
    if text in (ALL, NONE):
        return text == ALL
    return any(protocol == name and first <= port <= last for name, first, last in spans(text))


def boundaries(texts: Iterable[str], *more: int) -> list[int]:
    """The ports to ask about, so that nothing between them can differ."""
    ends = {end for text in texts if text not in (ALL, NONE) for span in spans(text) for end in span[1:]} | set(more)
    near = {port for end in ends for port in (end - 1, end, end + 1)} | {1, 80, 65535}
    return sorted(port for port in near if 0 < port <= 65535)


def differences(judge: Judge, pair: tuple[str, str], text: str, ports: Iterable[int]) -> list[str]:
    """Where the judge says otherwise than a text about a pair."""
    found = []
    for protocol, port in product(PROTOCOLS, ports):
        ours = judge.ask(Question(*pair, protocol, port))
        if ours.outcome != ("allow" if admits(text, protocol, port) else "deny"):
            found.append(f"{' => '.join(pair)} {protocol} {port}: {text}, but {ours.outcome}: {ours.because}")
    return found


def table(case: Case) -> list[tuple[str, str, str]]:
    """A case's rows: source, destination, connections."""
    found = []
    for line in filter(None, case.rows.splitlines()):
        pair, _, text = line.partition(" : ")
        source, _, destination = pair.partition(" => ")
        found.append((source, destination, text))
    return found


def mentioned(case: Case) -> set[int]:
    """The port numbers of a case's policies and pods, which its texts may leave out."""
    rules = [rule for p in case.policies for side in ("ingress", "egress") for rule in p["spec"].get(side) or ()]
    found = {entry.get(key) for rule in rules for entry in rule.get("ports") or () for key in ("port", "endPort")}
    named = {int(part.split()[2]) for text in case.ports.values() for part in text.split(",")}
    return {number for number in found if isinstance(number, int)} | named


def wrong_rows(case: Case, of: Judge) -> list[str]:
    """Where the judge says otherwise than a case's table, pair by pair, and rows that fit no pair."""
    rows = table(case)
    ports = boundaries((text for *_, text in rows), *mentioned(case))
    ends = {name: name.split("-") for name in case.ranges} | {ref: [ref] for ref in case.pods}
    used, wrong = set(), []
    for source, destination in product(ends, ends):
        if source == destination or not case.pods.keys() & {source, destination}:
            continue
        at = next(i for i, row in enumerate(rows) if fnmatchcase(source, row[0]) and fnmatchcase(destination, row[1]))
        used.add(at)
        for pair in product(ends[source], ends[destination]):
            wrong += differences(of, pair, rows[at][2], ports)
    return wrong + [f"no pair fits {' => '.join(row[:2])}" for i, row in enumerate(rows) if i not in used]
