"""Generated traffic: few endpoints and values, so that flows meet in the same pattern, and every kind of signal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

from collector import evidence as evidence_module
from collector import patterns as patterns_module
from collector.endpoints import ADDRESS, Endpoint, entity
from collector.flow import Flow, Signal
from collector.patterns import Patterns

LIMITS = {  # the bounds of the patterns, by the module that sets them
    patterns_module: ("PORTS", "OPEN_PAIRS", "PODS", "OWNERS"),
    evidence_module: ("PARTIES", "OUTCOMES", "REQUESTS", "HOURS", "NAMES"),
}

ENDPOINTS = (
    ADDRESS,
    entity("host"),
    entity("kube-apiserver"),
    Endpoint("pod", "east", "shop", (("app", "web"),)),
    Endpoint("pod", "east", "shop", (("app", "api"), ("tier", "back"))),
    Endpoint("pod", "", "shop", workload="api", service_account="api"),
    Endpoint("service", "", "shop", workload="db"),
)
TIMES = ("", "2024-03-01T10:00:00Z", "2024-03-01T10:59:59.5Z", "2024-03-01T11:00:00Z", "2024-03-02T00:00:00+01:00")


def flows() -> st.SearchStrategy[Flow]:
    """Single flows of all signals."""

    def one_of(*values: str) -> st.SearchStrategy[str]:
        return st.sampled_from(values)

    pods = one_of("", "web-1", "web-2", "web-3", "api-1")
    addresses = one_of("", "10.0.0.1", "10.0.0.2", "fd00::1")
    return st.builds(
        Flow,
        source=st.sampled_from(ENDPOINTS),
        destination=st.sampled_from(ENDPOINTS),
        protocol=one_of("TCP", "UDP"),
        port=st.sampled_from((0, 53, 80, 443, 8080, 9090)),
        signal=st.sampled_from(Signal),
        time=st.sampled_from(TIMES),
        source_pod=pods,
        destination_pod=pods,
        source_address=addresses,
        destination_address=addresses,
        source_port=st.sampled_from((0, 40000, 40001, 40002)),
        method=one_of("", "GET", "POST"),
        path=one_of("", "/", "/a", "/b/1", "/b/2"),
        status=st.sampled_from((0, 200, 404, 503)),
        principal=one_of("", "cluster.local/ns/shop/sa/web"),
        mtls=st.sampled_from((None, True, False)),
        names=st.lists(one_of("a.example", "b.example", "c.example"), max_size=3, unique=True).map(tuple),
        reason=one_of("", "POLICY_DENIED"),
        flow_id=one_of("", "id-1", "id-2", "id-3"),
        point=one_of("", "to-endpoint", "from-endpoint"),
        side=one_of("", "source", "destination"),
        origin=one_of("hubble", "envoy"),
    )


def captures(max_size: int = 30) -> st.SearchStrategy[list[Flow]]:
    """Captures of several flows."""
    return st.lists(flows(), max_size=max_size)


def patterns_of(capture: list[Flow]) -> Patterns:
    """The reference: every flow added, one after the other."""
    patterns = Patterns()
    for flow in capture:
        patterns.add(flow)
    return patterns


@contextmanager
def limits(value: int | None) -> Iterator[None]:
    """All bounds of the patterns set to `value`, so that little traffic reaches them; None leaves them."""
    with pytest.MonkeyPatch.context() as patch:
        for module, names in LIMITS.items() if value is not None else ():
            for name in names:
                patch.setattr(module, name, value)
        yield
