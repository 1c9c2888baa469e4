"""Both live sources that listen, in a process of its own whose memory can be measured.

`python -m tests.integration.listening_process LIMITS` prints their addresses, then answers every line of standard input
with one line of JSON: `take` hands over what was gathered and says what it was, `stop` ends it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collector.listening import ListeningSource
from collector.serving import Limits
from collector.sources.envoy_als_server import AccessLogServer
from collector.sources.otlp_server import LogServer


class Listening:
    """The other process. `als` and `otlp` are addresses."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.als, self.otlp = self._line()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, what: str) -> Any:
        """`status`, `take` or `stop`."""
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._line()

    def memory(self, name: str = "VmRSS") -> float:
        """Megabytes that it has in memory now, or (`VmHWM`) had at most."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


@contextmanager
def listening(**limits: int) -> Iterator[Listening]:
    """A running process, ended by its own id."""
    command = [sys.executable, "-m", "tests.integration.listening_process", json.dumps(limits)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Listening(process)
        finally:
            process.kill()


def _told(source: ListeningSource) -> dict[str, Any]:
    status = source.status
    kept = {name: getattr(status, name) for name in ("flows", "bad", "refused", "broken", "streams")}
    return kept | {"newest": status.newest}


def main(limits: Limits) -> None:
    """Serve until told to stop."""
    sources: list[ListeningSource] = [
        AccessLogServer("127.0.0.1:0", limits=limits),
        LogServer("127.0.0.1:0", limits=limits),
    ]
    for source in sources:
        source.start()
    print(json.dumps([str(source.address) for source in sources]), flush=True)
    for line in sys.stdin:
        answer: dict[str, Any] = {}
        begin = time.monotonic()
        for source in sources:
            said = _told(source)
            if line == "take\n":
                patterns = source.take()
                said["records"] = patterns.quality.total
                said["lost"] = dict(patterns.quality.lost.items())
                said["edges"] = len(patterns.edges)
                said["labels"] = max((len(end.labels) for end in patterns.sightings), default=0)
            elif line == "stop\n":
                source.stop(3)
            answer[source.name] = said
        print(json.dumps(answer | {"seconds": time.monotonic() - begin}), flush=True)


if __name__ == "__main__":
    main(Limits(**json.loads(sys.argv[1])))
