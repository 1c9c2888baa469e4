"""Where no other implementation is at hand as an oracle: blocks against pods and nodes under each CNI, the host's
network, one and two address families, workloads of several pods. Every answer of `leastway can --queries` about random
clusters is compared with a second reading of the specification. `--oracle-rounds N` draws N times as many clusters."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from leastway.verify.networkpolicy import CNIS, Cni
from tests.verify.clusters import PROTOCOLS
from tests.verify.places import Places
from tests.verify.queries import Compared
from tests.verify.second_reading import Reading

CLUSTERS = 28  # in one round and for one CNI
QUESTIONS = 700
PORTS = (53, 80, 81, 82, 8080, 8081, 9000)


@pytest.mark.parametrize("cni", CNIS)
def test_every_answer_is_that_of_the_second_reading(tmp_path: Path, cni: Cni, oracle_rounds: int) -> None:
    compared = Compared(tmp_path, "--cni", cni)
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
        compared.ask(seed, things, policies, asked, expected)
    compared.check()
