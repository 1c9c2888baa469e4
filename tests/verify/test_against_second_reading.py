"""Where no other implementation is at hand as an oracle: blocks against pods and nodes under each CNI, the host's
network, one and two address families, workloads of several pods. Every answer of `leastway can --queries` about random
clusters is compared with a second reading of the specification. `--oracle-rounds N` draws N times as many clusters."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import yaml

from leastway.verify.networkpolicy import CNIS, Cni
from tests.cli.conftest import Run, invoke
from tests.verify.clusters import PROTOCOLS
from tests.verify.places import Places
from tests.verify.second_reading import Reading

CLUSTERS = 28  # in one round and for one CNI
QUESTIONS = 700
PORTS = (53, 80, 81, 82, 8080, 8081, 9000)


@pytest.fixture(scope="module")
def run() -> Run:
    return invoke


@pytest.mark.parametrize("cni", CNIS)
def test_every_answer_is_that_of_the_second_reading(run: Run, tmp_path: Path, cni: Cni, oracle_rounds: int) -> None:
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(CLUSTERS * oracle_rounds):
        drawn = Places(seed)
        things, policies = drawn.things(), drawn.policies()
        reading = Reading([*things, *policies], cni)
        ends, draw = drawn.ends(things), Random(seed)
        asked, expected = [], []
        for _ in range(QUESTIONS):
            question = (draw.choice(ends), draw.choice(ends), draw.choice(PROTOCOLS), draw.choice(PORTS))
            found = reading.outcome(*question)
            if found is not None and {end for end in question[:2] if "/" in end or reading.actors(end)[0].document}:
                asked.append(dict(zip(("from", "to", "protocol", "port"), question, strict=True)))
                expected.append(found)
        for name, content in (("world.yaml", things), ("policies.yaml", policies)):
            (tmp_path / name).write_text(yaml.safe_dump_all(content))
        (tmp_path / "asked.jsonl").write_text("".join(json.dumps(q) + "\n" for q in asked))
        result = run(
            "can", tmp_path / "policies.yaml", "--inventory", tmp_path / "world.yaml",
            "--queries", tmp_path / "asked.jsonl", "--cni", cni,
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        answers = [json.loads(line) for line in result.stdout.splitlines()]
        assert len(answers) == len(asked)
        seen.update(expected)
        wrong += [
            f"seed {seed}: {answer} should be {right}"
            for answer, right in zip(answers, expected, strict=True)
            if answer["verdict"] != right
        ]
    assert not wrong, f"{len(wrong)} of {seen.total()} differ:\n" + "\n".join(wrong[:20])
    assert min(seen["allow"], seen["deny"]) > seen.total() / 20
