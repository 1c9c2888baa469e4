"""Speed, measured side by side in one run: `make bench`, or `python -m tests.bench [FLOWS]` (100,000 unless told).

Ratios are what counts, of medians of three; the rates are those of this machine at this moment. hubble-audit2policy is
compared when it is on the PATH (`pip install hubble-audit2policy`, in an environment of its own). It writes a rule for
every client's port that it takes for a server's, so it is slower the more replies there are; we are slower the more
workloads there are, because every policy is rendered, parsed back and judged.
"""

from __future__ import annotations

import gc
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from collector.patterns import Patterns
from collector.sources import hubble_json, hubble_records
from tests.simulator.bench import LARGE, MIDDLE, SMALL, Size, flows

REPEATS = 3
PEER = "hubble-audit2policy"


def main(count: int) -> None:
    """Make a capture, run every contender over it, print a table."""
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "flows.jsonl"
        for size in (SMALL, MIDDLE, LARGE):
            _end_to_end(capture, count, size)
        fold = _report("lines to patterns, one process", count, lambda: _fold(capture))
        typed = _report("bare typed msgspec loop", count, lambda: _typed(capture))
        loads = _report("bare json.loads loop", count, lambda: _loads(capture))
        print(f"  → {typed / fold:.2f} of the typed loop's speed, {loads / fold:.2f} of json.loads'")


def _end_to_end(capture: Path, count: int, size: Size) -> None:
    """The whole job on a new capture, beside the peer's."""
    with capture.open("w") as file:
        file.writelines(flows(count, size=size))
    megabytes = capture.stat().st_size / 1e6
    print(f"{count:,} flows of {size.workloads} workloads, {size.replies} % replies, {megabytes:,.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        ours = _report("leastway generate, whole process", count, lambda: _generate(capture, folder))
        if not shutil.which(PEER):
            print(f"{PEER} is not on the PATH: not compared")
            return
        peer = _report(PEER, count, lambda: _peer(capture, folder))
        print(f"  → {peer / ours:.1f} times as fast, end to end")


def _report(what: str, count: int, run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        gc.disable()  # as `leastway.pipeline.generate` does
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        gc.enable()
    median = statistics.median(times)
    print(f"{what:36} {median:7.2f} s {count / median:12,.0f} flows/s")
    return median


def _generate(capture: Path, folder: str) -> None:
    output = str(Path(folder) / "policies")
    subprocess.run(
        [sys.executable, "-m", "leastway", "generate", str(capture), "-o", output], check=True, capture_output=True
    )


def _peer(capture: Path, folder: str) -> None:
    output = str(Path(folder) / "peer")
    subprocess.run([PEER, str(capture), "-o", output, "--no-enrich"], check=True, capture_output=True)


def _fold(capture: Path) -> None:
    with capture.open("rb") as lines:
        hubble_json.fold(enumerate(lines, 1), Patterns(), print)


def _typed(capture: Path) -> None:
    decode = msgspec.json.Decoder(hubble_records.Line).decode  # the fold's own types and nothing else
    with capture.open("rb") as lines:
        for line in lines:
            decode(line)


def _loads(capture: Path) -> None:
    with capture.open("rb") as lines:
        for line in lines:
            json.loads(line)


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 100_000)
