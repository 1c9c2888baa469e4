"""The synthesizer is a function: no clock, chance, network or cluster; same input in any order, same bytes."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthesizer
from collector.flow import Flow
from collector.patterns import Patterns
from synthesizer import Options, Synthesis, synthesize
from synthesizer.inventory import Inventory, parse
from tests.collector.traffic import captures, patterns_of
from tests.synthesizer.objects import deployment, namespace, node, service

FOLDER = Path(synthesizer.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
FORBIDDEN = {
    "asyncio",
    "datetime",
    "grpc",
    "http",
    "kubernetes",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}
OBJECTS = [
    deployment("web", {"app": "web"}, {"containerPort": 443}),
    deployment("api", {"app": "api", "tier": "back"}, {"containerPort": 80}, serviceAccountName="api"),
    deployment("idle", {"app": "idle"}),
    service("db", {"app": "api"}, {"port": 443, "targetPort": 80}, clusterIP="10.96.0.9"),
    namespace("shop", {"istio-injection": "enabled"}),
    node("n", "192.168.1.5", "10.244.0.0/24"),
]


def imported(module: Path) -> Iterator[str]:
    for found in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(found, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in found.names)
        elif isinstance(found, ast.ImportFrom) and found.module:
            yield found.module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_nothing_that_differs_from_run_to_run_is_imported(module: Path) -> None:
    assert set(imported(module)) & FORBIDDEN == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_nothing_depends_on_the_hash_or_the_place_of_an_object(module: Path) -> None:
    calls = {
        found.func.id
        for found in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(found, ast.Call) and isinstance(found.func, ast.Name)
    }
    assert calls & {"hash", "input", "print", "exec", "eval"} == set()


def written(result: Synthesis) -> tuple[dict[str, str], list[object]]:
    return {m.path: m.text for m in result.manifests}, [*result.review]


def made(patterns: Patterns, inventory: Inventory) -> tuple[dict[str, str], list[object]]:
    return written(synthesize(patterns, inventory, Options(mesh="sidecar")))


@settings(max_examples=40)
@given(captures(40), st.integers(0, 1 << 16), st.booleans())
def test_the_order_of_records_and_objects_changes_no_byte(capture: list[Flow], seed: int, inventoried: bool) -> None:
    flows, objects = list(capture), [*OBJECTS] if inventoried else []
    expected = made(patterns_of(flows), parse(objects))
    assert made(patterns_of(flows), parse(objects)) == expected
    random.Random(seed).shuffle(flows)
    random.Random(seed).shuffle(objects)
    assert made(patterns_of(flows), parse(objects)) == expected


def test_another_process_with_another_hash_seed_writes_the_same() -> None:
    code = (
        "from tests.goldens import run; from hashlib import sha256;"
        "print(sha256(repr(sorted(run('bookinfo').files.items())).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=FOLDER.parent,
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
