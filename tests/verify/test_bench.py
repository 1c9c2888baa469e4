"""The benchmark of the judge still runs, and what it measures is right: it judges its own policies sound."""

from __future__ import annotations

from tests.bench_judge import calls, measure, patterns, policies


def test_a_small_size_is_measured() -> None:
    found = measure(250)
    assert set(found) == {"reading", "soundness", "over-permission", "minimality", "MiB"}
    assert all(value > 0 for value in found.values())


def test_there_are_two_policies_and_ten_patterns_a_workload() -> None:
    graph = calls(250)
    assert len(policies(250, graph)) == 2 * 250
    assert len({pattern.key for pattern in patterns(graph)}) == 10 * 250
