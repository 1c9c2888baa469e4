"""The stories' `expected/` folders: what `leastway generate` writes for each sample.

Run as `python -m tests.goldens` it compares, with `--update` it writes them anew.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

from leastway.export.folder import write
from leastway.pipeline import Run, generate
from synthesizer.options import Options

SAMPLES = Path(__file__).resolve().parent.parent / "sample_flows"
STORIES = tuple(sorted(path.parent.name for path in SAMPLES.glob("*/story.toml")))


def arguments(story: str) -> dict[str, Any]:
    """The arguments of `leastway generate` for a story, from its `story.toml`."""
    loaded: dict[str, Any] = tomllib.loads((SAMPLES / story / "story.toml").read_text())["generate"]
    return loaded


def run(story: str, inputs: list[str] | None = None) -> Run:
    """Generate a story's policies, from its own captures unless `inputs` are given."""
    told = arguments(story)
    folder = SAMPLES / story
    return generate(
        inputs or [str(folder / name) for name in told["inputs"]],
        [str(folder / name) for name in told.get("inventory", [])],
        Options(cni=told.get("cni", "generic"), namespaces=tuple(told.get("namespace", ()))),
        mesh=told.get("mesh"),
    )


def expected(story: str) -> dict[str, str]:
    """The committed files of a story, by path."""
    folder = SAMPLES / story / "expected"
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def main(arguments: list[str]) -> int:
    """Compare or update; returns the exit code."""
    stale = []
    for story in STORIES:
        files = run(story).files
        if "--update" in arguments:
            changes = write(files, SAMPLES / story / "expected")
            print(f"{story}: {len(changes.written)} written, {len(changes.removed)} removed")
        elif files != expected(story):
            stale.append(story)
    if stale:
        print(f"out of date: {', '.join(stale)}; run `make goldens` and read the diff", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
