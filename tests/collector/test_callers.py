"""Requests of callers that are known by their address alone: told apart as long as there is room."""

from __future__ import annotations

import pytest

from collector.endpoints import ADDRESS, Endpoint
from collector.evidence import REQUESTS, Evidence
from collector.flow import Flow, Signal
from tests.collector.traffic import patterns_of

API = Endpoint("pod", "", "shop", (("app", "api"),))
WEB = Endpoint("pod", "", "shop", (("app", "web"),))


def asked(address: str, path: str, status: int = 200, **more: object) -> Flow:
    """A request that a proxy logged, from an address."""
    flow = Flow(ADDRESS, API, port=80, signal=Signal.ANSWERED, method="GET", path=path, status=status)
    flow.source_address = address
    for name, value in more.items():
        setattr(flow, name, value)
    return flow


def evidence_of(*flows: Flow) -> Evidence:
    """The evidence of the one port that all flows are about."""
    (edge,) = patterns_of(list(flows)).edges.values()
    ((_, evidence),) = edge.ports()
    return evidence


def test_each_party_has_its_own_requests_and_addresses() -> None:
    flows = [asked("10.0.0.1", "/a"), asked("10.0.0.2", "/b"), asked("10.0.0.3", "/c d"), asked("10.0.0.1", "/no", 403)]
    found = evidence_of(*flows, asked("10.0.0.1", "/a")).of_each([["10.0.0.1", "10.0.0.3"], ["10.0.0.2"]])
    assert found is not None
    first, second = found
    assert first.requests.kept == {"GET /a": 2, "GET /c d": 1}
    assert first.rejected.kept == {"GET /no": 1}
    assert first.sources.kept == {"10.0.0.1": 3, "10.0.0.3": 1}
    assert (second.requests.kept, second.rejected.kept) == ({"GET /b": 1}, {})


def test_a_caller_without_an_address_is_a_party_too() -> None:
    found = evidence_of(asked("", "/a"), asked("10.0.0.2", "/b")).of_each([[""], ["10.0.0.2"]])
    assert found is not None
    assert [e.requests.kept for e in found] == [{"GET /a": 1}, {"GET /b": 1}]


def test_a_source_with_an_identity_costs_nothing_more() -> None:
    assert not evidence_of(asked("10.0.0.1", "/a", source=WEB)).callers


@pytest.mark.parametrize("many", ["paths", "addresses"])
def test_beyond_the_bound_nothing_is_told_apart(many: str) -> None:
    paths, addresses = many == "paths", many == "addresses"
    flows = [asked(f"10.0.{n * addresses >> 8}.{n * addresses & 255}", f"/{n * paths}") for n in range(REQUESTS + 1)]
    assert len(evidence_of(*flows).callers) == REQUESTS
    assert evidence_of(*flows).of_each([["10.0.0.1"], ["10.0.0.2"]]) is None
