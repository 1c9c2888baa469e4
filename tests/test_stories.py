"""Every sample story: the expected files, the truth that must be allowed, and what must never be."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from leastway.pipeline import Run
from leastway.verify.judge import Judge, Question
from leastway.verify.world import World
from tests.goldens import SAMPLES, STORIES, arguments, expected, run


@pytest.fixture(scope="module", params=STORIES)
def story(request: pytest.FixtureRequest) -> tuple[str, Run]:
    return request.param, run(request.param)


def test_writes_the_expected_files(story: tuple[str, Run]) -> None:
    """`make goldens` refreshes them; the diff is what a change does to users."""
    name, made = story
    assert sorted(made.files) == sorted(expected(name))
    for path, text in expected(name).items():
        assert made.files[path] == text, path


def test_is_sound_and_has_no_bad_surprise(story: tuple[str, Run]) -> None:
    """The proof holds, and bad lines are those that the story plants."""
    name, made = story
    assert made.proof["denied"] == []
    assert made.proof["observed"] > 0
    assert (made.reading.bad_lines > 0) == (name == "hostile")


def test_every_true_connection_is_allowed(story: tuple[str, Run]) -> None:
    """Each true connection is allowed by the rendered YAML; what needs a person's decision is in the review."""
    name, made = story
    held = {item.kind for item in made.synthesis.review}
    judge = _judge(made)
    wrong = []
    for row in _rows(name, "truth.jsonl"):
        if _ASKED.get(row["kind"]) in held:
            continue
        verdict = judge.ask(_question(row, made))
        if not verdict.allowed:
            wrong.append((row, verdict.because))
    assert wrong == []


def test_never_allows_what_must_not_be(story: tuple[str, Run]) -> None:
    """Attacks, refusals and what nobody did stay denied."""
    name, made = story
    judge = _judge(made)
    open_ends = [row for row in _rows(name, "never.jsonl") if judge.ask(_question(row, made)).allowed]
    assert [row for row in open_ends if row["kind"] != "shared-account"] == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["online-boutique", "bookinfo", "hostile"])
def test_order_and_files_do_not_matter(name: str, seed: int, tmp_path: Path) -> None:
    """The same records, shuffled and dealt into other files, give the same bytes."""
    lines = [line for path in arguments(name)["inputs"] for line in _lines(SAMPLES / name / path)]
    random.Random(seed).shuffle(lines)
    halves = [lines[: len(lines) // 3], lines[len(lines) // 3 :]]
    for number, half in enumerate(halves):
        (tmp_path / f"part-{number}.jsonl").write_bytes(b"\n".join(half) + b"\n")
    again = run(name, [str(tmp_path)])
    assert again.files == run(name).files


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    if data.lstrip()[:2] == b"{\n":  # pretty-printed: one record a line, so that it can be shuffled
        decoder = json.JSONDecoder()
        text, found, at = data.decode(), [], 0
        while at < len(text.rstrip()):
            value, at = decoder.raw_decode(text, at)
            found.append(json.dumps(value).encode())
            at += len(text[at:]) - len(text[at:].lstrip())
        return found
    return [line for line in data.split(b"\n") if line.strip()]


# Kinds of truth that have no word in the written policies, and the review item that says so.
_ASKED = {"plaintext": "plaintext-caller", "waypoint": "plaintext-caller", "control-plane": "kube-apiserver"}


def _judge(made: Run) -> Judge:
    options = made.options
    manifests = [manifest.document for manifest in made.synthesis.manifests]
    world = World.from_manifests(made.inventory.documents)
    return Judge(world, manifests, cni=options.cni, mesh=options.mesh, trust_domain=options.trust_domain)


def _rows(story: str, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / story / file).read_text().splitlines()]


def _question(row: dict[str, Any], made: Run) -> Question:
    caller = made.synthesis.workloads.named(*row["from"].split("/")) if "/" in row["from"] else None
    principal = f"cluster.local/ns/{caller.namespace}/sa/{caller.service_account}" if caller else None
    method = row.get("method", "") if made.options.mesh == "sidecar" else ""
    return Question(
        row["from"],
        row["to"],
        row["protocol"],
        row["port"],
        method,
        row.get("path", "") if method else "",
        principal="" if row["kind"] == "plaintext" else principal,
    )
