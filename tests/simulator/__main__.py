"""The command line: write the stories' captures, check that the committed ones are up to date, or stream a benchmark.

python -m tests.simulator                              all stories
python -m tests.simulator sample_flows/online-boutique one story
python -m tests.simulator --check                      exit 1 when a committed file differs
python -m tests.simulator --bench 1000000 flows.jsonl  mixed traffic of a large cluster
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Callable
from pathlib import Path

from tests.simulator import ambient, bench, bookinfo, boutique, hostile, path_ids
from tests.simulator.tables import STORIES

MAKERS: dict[str, Callable[[], dict[str, bytes]]] = {
    "online-boutique": boutique.files,
    "bookinfo": bookinfo.files,
    "path-ids": path_ids.files,
    "hostile": hostile.files,
    "ambient": ambient.files,
}


def stale(name: str) -> list[str]:
    """The files of a story that differ from what the simulator makes (compared unpacked: zlibs pack differently)."""
    found = []
    for file, content in MAKERS[name]().items():
        path = STORIES / name / file
        if not path.exists() or _unpacked(path.read_bytes()) != _unpacked(content):
            found.append(f"{name}/{file}")
    return found


def write(name: str) -> None:
    """Write a story's files, leaving alone those that are as they should be."""
    changed = set(stale(name))
    for file, content in MAKERS[name]().items():
        if f"{name}/{file}" in changed:
            (STORIES / name / file).write_bytes(content)


def _unpacked(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="Makes the sample captures.")
    parser.add_argument("story", nargs="*", help="a folder of sample_flows (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a committed file differs")
    parser.add_argument("--bench", nargs=2, metavar=("N", "FILE"), help="write N mixed flows to FILE (- for stdout)")
    options = parser.parse_args(arguments)
    if options.bench:
        bench.write(int(options.bench[0]), options.bench[1])
        return 0
    names = [Path(story).name for story in options.story] or list(MAKERS)
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        parser.error(f"no such story: {', '.join(unknown)}; there are {', '.join(MAKERS)}")
    if options.check:
        differing = [file for name in names for file in stale(name)]
        for file in differing:
            print(f"differs from what the simulator makes: sample_flows/{file}", file=sys.stderr)
        return 1 if differing else 0
    for name in names:
        write(name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
