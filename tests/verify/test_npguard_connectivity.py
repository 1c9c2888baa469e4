"""Every list of connections of np-guard's analyzer that is a fixture here, against the judge, pair by pair."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product

import pytest

from leastway.verify.networkpolicy import CNIS, Cni
from tests.verify.connection_lists import boundaries, differences
from tests.verify.kit import judge
from tests.verify.npguard_boutique_cases import CASES as BOUTIQUE
from tests.verify.npguard_cases import CASES, Case
from tests.verify.npguard_exposure_cases import CASES as EXPOSURE
from tests.verify.npguard_twin_cases import CASES as TWINS

ALL_CASES = [*CASES, *BOUTIQUE, *EXPOSURE, *TWINS]


def table(case: Case) -> list[tuple[str, str, str]]:
    """The case's rows."""
    found = []
    for line in filter(None, case.rows.splitlines()):
        pair, _, text = line.partition(" : ")
        source, _, destination = pair.partition(" => ")
        found.append((source, destination, text))
    return found


@pytest.mark.parametrize("cni", CNIS)
@pytest.mark.parametrize("case", ALL_CASES, ids=[case.name for case in ALL_CASES])
def test_connections(case: Case, cni: Cni) -> None:
    of, rows = judge(case.things(), case.policies, cni=cni), table(case)
    ports = boundaries(text for *_, text in rows)
    ends = {name: name.split("-") for name in case.ranges} | {ref: [ref] for ref in case.pods}
    used, wrong = set(), []
    for source, destination in product(ends, ends):
        if source == destination or not case.pods.keys() & {source, destination}:
            continue
        at = next(i for i, row in enumerate(rows) if fnmatchcase(source, row[0]) and fnmatchcase(destination, row[1]))
        used.add(at)
        for pair in product(ends[source], ends[destination]):
            wrong += differences(of, pair, rows[at][2], ports)
    assert not wrong
    assert used == set(range(len(rows))), "a row fits no pair"


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in ALL_CASES}) == len(ALL_CASES)
