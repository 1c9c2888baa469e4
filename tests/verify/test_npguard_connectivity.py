"""Every list of connections of np-guard's analyzer that is a fixture here, against the judge, pair by pair."""

from __future__ import annotations

import pytest

from leastway.verify.errors import PolicyError
from leastway.verify.networkpolicy import CNIS, Cni
from leastway.verify.reading import Document
from tests.verify.connection_lists import wrong_rows
from tests.verify.kit import judge, outcome
from tests.verify.npguard_boutique_cases import CASES as BOUTIQUE
from tests.verify.npguard_cases import ANY, CASES, HELLO, Case, about, block, chosen, into, onto, peer
from tests.verify.npguard_demo_cases import CASES as DEMOS
from tests.verify.npguard_exposure_cases import CASES as EXPOSURE
from tests.verify.npguard_twin_cases import CASES as TWINS

ALL_CASES = [*CASES, *BOUTIQUE, *DEMOS, *EXPOSURE, *TWINS]


@pytest.mark.parametrize("cni", CNIS)
@pytest.mark.parametrize("case", ALL_CASES, ids=[case.name for case in ALL_CASES])
def test_connections(case: Case, cni: Cni) -> None:
    assert not wrong_rows(case, judge(case.things(), case.policies, cni=cni))


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in ALL_CASES}) == len(ALL_CASES)


def admitting(*rules: Document) -> Document:
    return about("hello/bad", chosen("app:a"), "I", ingress=list(rules))


REFUSED: dict[str, Document] = {
    "bad_netpols/subdir1": admitting(into("", block("A"))),
    "bad_netpols/subdir2": about("hello/bad", chosen("app@b:a"), "I"),
    "bad_netpols/subdir3": admitting(into("", peer(ANY) | block("10.0.0.0/8"))),
    "bad_netpols/subdir4": admitting(into("", {})),
    "bad_netpols/subdir7": admitting(into("", peer(chosen("app:$b")))),
    "np_bad_path_test_2": admitting({"ports": [{"port": "http", "endPort": 90}]}),
    "np_test_with_empty_port_range": admitting(into("10-1")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_policy_that_both_refuse(name: str) -> None:
    with pytest.raises(PolicyError):
        judge(Case(name, HELLO, [], "").things(), [REFUSED[name]])


def test_a_named_port_towards_a_block_reaches_no_address() -> None:
    """bad_netpols/subdir6, which they refuse; the API server takes it, and an address has no names of ports."""
    bad = about("hello/bad", chosen("app:a"), "E", egress=[onto("abc", block("0.0.0.0/0"))])
    of = judge(Case("bad_netpols/subdir6", HELLO, [], "").things(), [bad])
    assert outcome(of, "hello/a", "8.8.8.8") == "deny"


def test_of_two_policies_with_one_name_the_last_is_in_force() -> None:
    """np_bad_path_test_1, which they refuse; applied one after the other, the second replaces the first."""
    things = Case("np_bad_path_test_1", HELLO, [], "").things()
    assert outcome(judge(things, [admitting(), admitting(into())]), "hello/b", "hello/a") == "allow"
    assert outcome(judge(things, [admitting(into()), admitting()]), "hello/b", "hello/a") == "deny"
