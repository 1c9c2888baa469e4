"""Many questions put to `leastway can --queries`, and what another reading of the specification answers them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from leastway.verify.reading import Document
from tests.cli.conftest import invoke


class Compared:
    """Answers of the judge against those of another reading, over many random worlds."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []

    def ask(
        self,
        seed: int,
        things: Sequence[Document],
        policies: Sequence[Document],
        asked: Sequence[Document],
        expected: Sequence[str],
    ) -> None:
        """Ask about one world."""
        world, given, queries = (self.folder / name for name in ("world.yaml", "policies.yaml", "asked.jsonl"))
        world.write_text(yaml.safe_dump_all(things))
        given.write_text(yaml.safe_dump_all(policies))
        queries.write_text("".join(json.dumps(question) + "\n" for question in asked))
        result = invoke("can", given, "--inventory", world, "--queries", queries, *self.options)
        assert result.exit_code == 0, result.stderr
        answers = [json.loads(line) for line in result.stdout.splitlines()]
        self.seen.update(expected)
        self.wrong += [
            f"seed {seed}: {answer} should be {right}"
            for answer, right in zip(answers, expected, strict=True)
            if answer["verdict"] != right
        ]

    def check(self) -> None:
        """No answer differs, and neither yes nor no is rare."""
        assert not self.wrong, f"{len(self.wrong)} of {self.seen.total()} differ:\n" + "\n".join(self.wrong[:20])
        assert min(self.seen["allow"], self.seen["deny"]) > self.seen.total() / 20
