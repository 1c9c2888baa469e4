"""The suite notices when the judge is wrong: it is broken in many small ways, and named tests must fail each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.verify import mutations, mutations_of_istio, mutations_of_sets
from tests.verify.mutant import mutated
from tests.verify.mutations import Mutation

MUTATIONS = [*mutations.MUTATIONS, *mutations_of_sets.MORE, *mutations_of_istio.MORE]
HERE = Path(__file__).parent
FAILED = 1  # pytest's exit code when tests ran and some failed


def run(mutation: Mutation) -> subprocess.CompletedProcess[str]:
    """The named tests, in a process of their own, on the broken judge."""
    change = [f"leastway.verify.{mutation.module}", mutation.old, mutation.new]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider"]
    command += ["-p", "tests.verify.mutant", *(str(HERE.relative_to(ROOT) / test) for test in mutation.tests)]
    environment = os.environ | {"LEASTWAY_MUTANT": json.dumps(change)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def results() -> dict[str, subprocess.CompletedProcess[str]]:
    """All mutations, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip((m.name for m in MUTATIONS), pool.map(run, MUTATIONS), strict=True))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[m.name for m in MUTATIONS])
def test_a_mutation_applies_to_the_judge_as_it_is(mutation: Mutation) -> None:
    source = (ROOT / "leastway" / "verify" / f"{mutation.module}.py").read_text(encoding="utf-8")
    compile(mutated(source, mutation.old, mutation.new), mutation.module, "exec")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[m.name for m in MUTATIONS])
def test_a_broken_judge_fails_its_tests(
    mutation: Mutation, results: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    done = results[mutation.name]
    assert done.returncode == FAILED, f"nobody noticed\n{done.stdout[-3000:]}{done.stderr[-2000:]}"


def test_there_are_at_least_twenty_and_no_two_are_the_same() -> None:
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) >= 20
    assert len({m[1:4] for m in MUTATIONS}) == len(MUTATIONS)
