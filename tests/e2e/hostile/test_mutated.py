"""The samples with some values exchanged for hostile ones: no traceback, a proof that holds, and the same in any order.

Invariant: whatever a record is made to say, what becomes policy of it is what the judge is asked about.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from leastway import pipeline
from synthesizer.options import Mesh, Options
from tests.goldens import SAMPLES, STORIES, arguments

JUNK: tuple[Any, ...] = (
    *(None, True, 0, -1, 65536, 2**70, 1e308, "", "x", "-", ".", "=", "*", "{*}", "\0", "\ud800", "a" * 3000),
    *('"', "\n- x: y", "k8s:", "k8s:=", "reserved:world", "default/kubernetes", "../.."),
    *("10.0.0.1", "0.0.0.0", "255.255.255.255", "169.254.169.254", "::ffff:10.0.0.1", "fd00::1%eth0", "::"),
    *([], {}, [None], ["k8s:a=b", None, 3], {"a": 1}),
)


@cache
def records(path: Path) -> tuple[bytes, ...]:
    data = path.read_bytes()
    return tuple((gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()[:600])


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a parsed record."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(items):
        yield value, key
        yield from places(below)


def mutated(line: bytes, random: Random) -> bytes:
    try:
        record = json.loads(line)
    except ValueError:
        return line
    for _ in range(random.randint(1, 3)):
        container, key = random.choice([*places(record), ({}, "")])
        if random.random() < 0.25 and isinstance(container, dict):
            container.pop(key, None)
        elif random.random() < 0.1 and isinstance(container, dict):
            container[random.choice(["labels", "pod_name", "namespace", "kind"])] = deepcopy(random.choice(JUNK))
        elif container:
            container[key] = deepcopy(random.choice(JUNK))
    return json.dumps(record).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("seed", range(20))
def test_a_mutated_capture_is_read_and_its_policies_are_proven(tmp_path: Path, story: str, seed: int) -> None:
    random = Random(seed)
    told = arguments(story)
    files: dict[str, list[bytes]] = {}
    for name in told["inputs"]:
        known = records(SAMPLES / story / name)
        share = random.choice([0.05, 0.3])
        chosen = random.sample(known, min(len(known), random.choice([3, 20, 120])))
        files[name.removesuffix(".gz")] = [
            mutated(line, random) if random.random() < share else line for line in chosen
        ]
    inventories = [str(SAMPLES / story / name) for name in told.get("inventory", []) if random.random() < 0.7]
    options = Options(cni=random.choice(["generic", "cilium", "calico"]))
    meshes: list[Mesh | None] = [None, "none", "sidecar", "ambient"]
    mesh = random.choice(meshes)
    first = pipeline.generate(written(tmp_path / "one", files), inventories, options, mesh=mesh)
    assert first.proof["denied"] == []
    for name, lines in files.items():
        if not name.startswith("als"):  # a stream names its proxy in the first message only
            random.shuffle(lines)
    other = pipeline.generate(written(tmp_path / "two", files), inventories, options, mesh=mesh)
    assert other.files == first.files


def written(folder: Path, files: dict[str, list[bytes]]) -> list[str]:
    folder.mkdir()
    for name, lines in files.items():
        (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return [str(folder / name) for name in files]
