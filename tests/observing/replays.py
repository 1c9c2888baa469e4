"""A real `leastway replay` for a real `leastway observe`, and a capture that says which of its flows are missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector import store
from tests.conftest import ROOT

NODES = ("node-1", "node-2", "node-3")
FLOWS = 6000
EARLY = ("--since", "36500d")  # from the first flow on: without it, an observation begins now
START = datetime(2026, 3, 1, 8, tzinfo=UTC)


@contextmanager
def replaying(*captures: Path, speed: str = "max", options: tuple[str, ...] = ()) -> Iterator[str]:
    """A real `leastway replay`; its address."""
    arguments = ["replay", *map(str, captures), "--hubble", "127.0.0.1:0", "--speed", speed, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "leastway", *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if " Hubble records on " in line:
                break
        else:
            pytest.fail("the replay did not come up")
        yield line.rpartition(" ")[2].strip()
    finally:
        process.terminate()
        process.communicate(timeout=10)


def counted(place: Path) -> int:
    return store.quality(place).total if store.is_store(place) else 0


def minute(path: Path) -> Path:
    """A capture of a minute on three nodes, each flow with a time of its own."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(FLOWS):
            moment = (START + timedelta(milliseconds=10 * number)).isoformat().replace("+00:00", "Z")
            flow = {
                "time": moment,
                "uuid": f"flow-{number}",
                "verdict": "FORWARDED",
                "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
                "l4": {
                    "TCP": {"source_port": 32768 + number % 20000, "destination_port": 8080, "flags": {"SYN": True}}
                },
                "source": {"namespace": "shop", "labels": ["k8s:app=web"], "pod_name": f"web-{number % 5}"},
                "destination": {"namespace": "shop", "labels": ["k8s:app=api"], "pod_name": f"api-{number % 7}"},
                "Type": "L3_L4",
                "is_reply": False,
            }
            file.write(json.dumps({"flow": flow, "node_name": NODES[number % 3], "time": moment}) + "\n")
    return path
