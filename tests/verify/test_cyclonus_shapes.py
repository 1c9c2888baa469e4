"""Every policy shape of cyclonus' generator, answered by network-config-analyzer and by the judge."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import yaml

from leastway.verify.judge import Judge, Question
from leastway.verify.world import World
from tests.verify.analyzer import analyzed
from tests.verify.cyclonus_cases import NAMES, cases, cluster
from tests.verify.test_against_analyzer import allows, connections

CASES = dict(cases())


def test_there_are_as_many_shapes_as_cyclonus_has() -> None:
    """230 there, whose upstream cases are in test_kubernetes_e2e; here two ports are combined in all ways."""
    kinds = [name.split()[0].rstrip(":") for name in CASES]
    assert kinds.count("PeersTestCases") == 112
    assert kinds.count("PortProtocolTestCases") >= 70
    assert kinds.count("ConflictTestCases") >= 16
    assert len(CASES) > 230


def test_every_shape_means_what_the_analyzer_says(tmp_path: Path) -> None:
    """The analyzer's blocks never select pods, as Cilium's; without blocks all profiles are alike."""
    world = World.from_manifests(cluster())
    names = dict(zip((f"{i:04}" for i in range(len(CASES))), CASES, strict=True))
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "all.yaml").write_text(yaml.dump_all(cluster() + CASES[name], Dumper=yaml.CSafeDumper))
    answers = analyzed(tmp_path)
    assert len(answers) == len(CASES)
    for folder, text in answers.items():
        name, found = names[folder], connections(text)
        judges = [Judge(world, CASES[name], cni="cilium")]
        if "ipBlock" not in str(CASES[name]):
            judges.append(Judge(world, CASES[name], cni="generic"))
        for source, destination in product(NAMES, NAMES):
            rows = found.get((source, destination), [])
            for protocol, port in product(("TCP", "UDP", "SCTP"), (80, 81, 82)):
                theirs = source == destination or any(allows(row, protocol, port) for row in rows)
                for judge in judges:
                    ours = judge.ask(Question(source, destination, protocol, port))
                    assert ours.allowed == theirs, (name, source, destination, protocol, port, ours, rows)
