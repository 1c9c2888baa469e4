"""Envoy access log entries a second, with a thousand streams open: `make bench`, or `python -m tests.bench_als`.

The sender is a process of its own, so two cores are at work. Compared with a server that only reads the bytes: that
ratio is what our code costs; the rate is that of this machine at this moment.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from collector.patterns import Patterns
from collector.serving import Limits, Server
from collector.sources.envoy_als_server import AccessLogServer
from tests.simulator.als import identifier_message, messages

STREAMS = 1000
ENTRIES = 16  # a message; Envoy's own default is 16 KiB, some 40 entries
METHOD = f"/{AccessLogServer.service}/{AccessLogServer.method}"


def main(entries: int = 1_600_000) -> None:
    """Send so many entries to either server, print a table."""
    gc.set_threshold(50_000, 20, 50)  # as `leastway observe` has it
    print(f"{entries:,} access log entries, {ENTRIES} a message, {STREAMS:,} streams")
    read = _report("bytes read and dropped", entries, _bytes_only)
    ours = _report("entries to patterns", entries, _counted)
    print(f"  → {read / ours:.2f} of the speed of reading the bytes alone")


def _report(what: str, entries: int, run: Callable[[int], tuple[float, float]]) -> float:
    wall, cpu = run(entries)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what:36} {wall:7.2f} s {entries / wall:12,.0f} entries/s, {cpu / entries * 1e6:.1f} µs CPU, {memory} MB")
    return wall


def _counted(entries: int) -> tuple[float, float]:
    source = AccessLogServer("127.0.0.1:0")
    source.start()
    measured = _measured(str(source.address), entries, lambda: sum(source.status.flows.values()))
    patterns: Patterns = source.take()
    assert patterns.quality.total == entries, patterns.quality.total
    source.stop(2)
    return measured


def _bytes_only(entries: int) -> tuple[float, float]:
    async def read(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        async for _ in requests:
            server.progress += 1
        return b""

    def methods() -> dict[str, Any]:
        return {AccessLogServer.method: grpc.stream_unary_rpc_method_handler(read)}

    server = Server("127.0.0.1:0", None, Limits(), AccessLogServer.service, methods)
    server.start()
    measured = _measured(str(server.address), entries, lambda: ENTRIES * max(0, server.progress - STREAMS))
    server.stop(2)
    return measured


def _measured(address: str, entries: int, counted: Callable[[], int]) -> tuple[float, float]:
    """Seconds of the clock and of this process, from all streams open to the last entry."""
    command = [sys.executable, "-m", "tests.bench_als", "send", address, str(entries)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sender:
        assert sender.stdin is not None
        assert sender.stdout is not None
        sender.stdout.readline()  # all streams are open
        begin, cpu = time.perf_counter(), time.process_time()
        sender.stdin.write(b"go\n")
        sender.stdin.flush()
        while counted() < entries:
            assert sender.poll() in (None, 0)
            time.sleep(0.01)
        return time.perf_counter() - begin, time.process_time() - cpu


async def _send(address: str, entries: int) -> None:
    """Open all streams, wait for a line, send everything."""
    each = [*messages(200, ENTRIES)]
    share = entries // (STREAMS * ENTRIES)
    opened, go = asyncio.Semaphore(0), asyncio.Event()
    local = [("grpc.use_local_subchannel_pool", 1)]

    async def stream(number: int) -> None:
        call = grpc.aio.insecure_channel(address, local).stream_unary(METHOD)()  # a proxy has a connection of its own
        await call.write(identifier_message(number))
        opened.release()
        await go.wait()
        for turn in range(share):
            await call.write(each[(number + turn) % len(each)])
        await call.done_writing()
        await call

    tasks = [asyncio.create_task(stream(number)) for number in range(STREAMS)]
    for _ in range(STREAMS):
        await opened.acquire()
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    go.set()
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        asyncio.run(_send(sys.argv[2], int(sys.argv[3])))
    else:
        main(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 1_600_000)
