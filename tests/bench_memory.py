"""Memory of the live Hubble client over many flows of one cluster: `python -m tests.bench_memory [FLOWS]`.

Ten million flows unless told, which take four minutes or more; progress is on stderr. The peak after a tenth of the
flows is compared with the peak after all of them, with a flush every few seconds.
Times go on over the rounds, a day each, and every flow has an id of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from collector import store
from collector.sources.hubble_grpc import HubbleSource
from collector.sources.hubble_request import Request
from leastway.playback.capture import Capture
from tests.http2 import Server, grpc_message
from tests.simulator.bench import MIDDLE, flows

FLUSH = 3.0  # seconds
ROUND = 50_000  # flows that are encoded; later rounds are these with other ids and times
DAY = 86_400
CHUNK = 512  # messages in one piece


def main(count: int) -> None:
    """Count so many flows and print two peaks and their ratio."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench_memory", "serve", str(count)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            _count(server.stdout.readline().strip(), count)
        finally:
            server.kill()


def _count(address: str, count: int) -> None:
    source = HubbleSource(address, request=Request(follow=False))
    began = flushed = time.perf_counter()
    early = 0.0
    source.start()
    with tempfile.TemporaryDirectory() as folder:
        while not source.finished.wait(0.5):
            if time.perf_counter() - flushed >= FLUSH:
                store.save(source.take(), folder)
                flushed = time.perf_counter()
                done = sum(source.status.flows.values())
                early = early or (_peak() if done >= count // 10 else 0.0)
                print(f"{done:,} of {count:,} flows, {_peak():.0f} MB at most", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    source.stop(1)
    total = sum(source.status.flows.values())
    assert total == count, f"{total:,} of {count:,} were counted: {source.trouble}"
    took, late = time.perf_counter() - began, _peak()
    if not early:
        print(f"{count:,} flows in {took:.1f} s: too few for two peaks; {late:.0f} MB at most")
        return
    print(f"{count:,} flows in {took:.1f} s: {early:.0f} MB at most after a tenth, {late:.0f} MB after all")
    print(f"  → {late / early:.2f} times as much (the target is 1.2 from 1 to 10 million)")


def _peak() -> float:
    """Megabytes that this process had at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _serve(count: int) -> None:
    """Offer flows as fast as they are taken."""
    messages = list(_messages())

    def answer(_: int) -> Iterator[bytes]:
        for start in range(0, count, CHUNK):
            yield b"".join(_message(messages, number) for number in range(start, min(start + CHUNK, count)))

    with Server(answer) as server:
        print(server.address, flush=True)
        time.sleep(3600)


def _messages() -> Iterator[tuple[bytes, bytes, int]]:
    """Serialised responses, each with its id and its second."""
    from collector.wire.observer_pb2 import GetFlowsResponse

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flows.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(flows(ROUND, size=MIDDLE))
        capture = Capture([str(path)])
    for position in range(len(capture)):
        raw = capture[position]
        flow = GetFlowsResponse.FromString(raw).flow
        yield raw, flow.uuid.encode(), flow.time.seconds


def _message(messages: list[tuple[bytes, bytes, int]], number: int) -> bytes:
    rounds, index = divmod(number, len(messages))
    raw, uuid, second = messages[index]
    fresh = b"%x-" % rounds
    raw = raw.replace(uuid, (fresh + uuid)[: len(uuid)]).replace(_varint(second), _varint(second + rounds * DAY))
    return grpc_message(raw)


def _varint(number: int) -> bytes:
    """As protobuf writes it; five bytes for every second of these centuries, so that lengths stay."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes((*found, number))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(int(sys.argv[2]))
    else:
        main(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 10_000_000)
