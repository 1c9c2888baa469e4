"""A client that asks for flows and does not read them costs the replay server no memory, and other clients nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from collector.transport import open_channel, parse_address
from collector.wire import observer_pb2 as api
from tests.conftest import ROOT
from tests.observing.replays import FLOWS, minute

METHOD = "/observer.Observer/GetFlows"
SLOW = 20  # clients
SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16))  # of what is sent unread
MARGIN = 40  # megabytes; what the clients do not read would be gigabytes


def megabytes(pid: int) -> float:
    """The peak of a process' memory."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1000


def read(address: str, number: int) -> float:
    """Seconds that a client takes for so many flows."""
    began = time.monotonic()
    with open_channel(parse_address(address), None) as channel:
        call = channel.unary_stream(METHOD)(api.GetFlowsRequest(follow=True).SerializeToString(), timeout=30)
        assert sum(1 for _ in zip(range(number), call, strict=False)) == number
        call.cancel()
    return time.monotonic() - began


def test_who_does_not_read_costs_neither_memory_nor_the_others(tmp_path: Path) -> None:
    arguments = ["replay", str(minute(tmp_path / "flows.jsonl")), "--hubble", "127.0.0.1:0", "--speed", "max", "--loop"]
    process = subprocess.Popen(
        [sys.executable, "-m", "leastway", *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if " Hubble records on " in line)
        address = line.rpartition(" ")[2].strip()
        alone, before = read(address, 2 * FLOWS), megabytes(process.pid)
        with ExitStack() as stack:
            for _ in range(SLOW):
                channel = stack.enter_context(open_channel(parse_address(address), None, SMALL_WINDOW))
                call = channel.unary_stream(METHOD)(api.GetFlowsRequest(follow=True).SerializeToString(), timeout=30)
                stack.callback(call.cancel)
                next(call)  # it has begun, and reads no more
            read(address, FLOWS)  # meanwhile their windows fill, and then their streams stand still
            assert read(address, 2 * FLOWS) < 5 * alone + 1
            assert megabytes(process.pid) < before + MARGIN
    finally:
        process.terminate()
        process.communicate(timeout=10)
