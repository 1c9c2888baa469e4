"""Hubble's stream to patterns: `make bench`, or `python -m tests.bench_hubble [FLOWS]` (100,000 unless told).

The server is a process of its own that sends ready-made frames, so two cores are at work and the client is what is
measured. Compared with a client that only takes the bytes, and with the `hubble` command (in Go) if it is on the PATH.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.experimental

from collector.patterns import Patterns
from collector.sources import hubble_json
from collector.sources.hubble_grpc import OPTIONS, HubbleSource
from collector.sources.hubble_request import FIELDS, HEALTH, METHOD, Request
from collector.wire.observer_pb2 import GetFlowsResponse
from leastway.playback import masking
from leastway.playback.capture import Capture
from tests.http2 import Server, grpc_message
from tests.simulator.bench import flows

REPEATS = 3
CHUNK = 1 << 18


def main(count: int) -> None:
    """Serve a capture's flows to every contender, print a table."""
    with tempfile.TemporaryDirectory() as folder:
        capture, whole, masked = (Path(folder) / name for name in ("flows.jsonl", "whole", "masked"))
        with capture.open("w") as file:
            file.writelines(flows(count))
        _encode(capture, whole, masked)
        sizes = ", ".join(f"{path.stat().st_size // count:,} bytes" for path in (whole, masked))
        print(f"{count:,} flows of {sizes} (whole, with our field mask); medians of {REPEATS}")
        read = _report("bytes taken and dropped", count, masked, _bytes_only)
        ours = _report("stream to patterns", count, masked, _counted)
        _report("stream counted, before a flush", count, masked, _streamed)
        _report("stream to patterns, no field mask", count, whole, _counted)
        file_time = _report("the same flows from a file", count, None, lambda _: _from_file(capture))
        print(f"  → {read / ours:.2f} of the speed of taking the bytes alone, {file_time / ours:.2f} of a file's")
        if shutil.which("hubble"):
            peer = _report("hubble observe -o compact", count, whole, _peer)
            print(f"  → {peer / ours:.2f} of the upstream client's speed")
        else:
            print("hubble is not on the PATH: not compared")


def _encode(capture: Path, whole: Path, masked: Path) -> None:
    """The bodies of two streams, ready to be sent."""
    played = Capture([str(capture)])
    mask = masking.compiled(FIELDS)
    with whole.open("wb") as all_of_it, masked.open("wb") as part:
        for position in range(len(played)):
            all_of_it.write(grpc_message(played[position]))
            message: Any = GetFlowsResponse.FromString(played[position])
            mask(message)
            part.write(grpc_message(message.SerializeToString()))


def _report(what: str, count: int, body: Path | None, run: Callable[[str], None]) -> float:
    greeted = run is not _peer
    command = [sys.executable, "-m", "tests.bench_hubble", "serve", str(body), str(int(greeted))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        times, cpus = [], []
        for _ in range(REPEATS):
            start, cpu = time.perf_counter(), time.process_time()
            run(address)
            times.append(time.perf_counter() - start)
            cpus.append(time.process_time() - cpu)
        server.kill()
    median = statistics.median(times)
    each = statistics.median(cpus) / count * 1e6
    print(f"{what:36} {median:7.2f} s {count / median:12,.0f} flows/s, {each:.1f} µs CPU here")
    return median


def _bytes_only(address: str) -> None:
    single = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    with grpc.insecure_channel(address, [*OPTIONS, single]) as channel:
        try:
            channel.unary_unary(HEALTH)(b"", timeout=5)
        except grpc.RpcError:
            for _ in channel.unary_stream(METHOD)(b""):
                pass


def _counted(address: str) -> None:
    source = HubbleSource(address, request=Request(follow=False))
    source.start()
    source.finished.wait()
    assert source.take().quality.total
    source.stop(1)


def _streamed(address: str) -> None:
    """What a collector does between two flushes, whose cost depends on the patterns and not on the flows."""
    source = HubbleSource(address, request=Request(follow=False))
    source.start()
    source.finished.wait()
    source.stop(1)


def _from_file(capture: Path) -> None:
    with capture.open("rb") as lines:
        hubble_json.fold(enumerate(lines, 1), Patterns(), print)


def _peer(address: str) -> None:
    command = ["hubble", "observe", "--server", address, "--since", "1000h", "-o", "compact"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _serve(body: Path, greeted: bool) -> None:
    data = body.read_bytes() if body.exists() else b""

    def answer(_: int) -> Iterator[bytes]:
        return (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))

    with Server(answer, greeted=greeted) as server:
        print(server.address, flush=True)
        time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(Path(sys.argv[2]), sys.argv[3] == "1")
    else:
        main(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 100_000)
