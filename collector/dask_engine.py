"""Captures read by the workers of a Dask cluster, a file a task.

Invariant: the patterns are those of reading the files here, because a file's patterns are merged as any others are
(`Patterns.merge`). Scheduling, retries and memory are Dask's; nothing of it is written here.

The workers need leastway, and the files under the same names as here: shared storage, or URLs.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from collector.errors import SourceError

T = TypeVar("T")

AHEAD = 4  # files a worker thread that are on their way at once: what is done waits in the workers' memory
PATIENCE = 10  # seconds to wait for the scheduler


class DaskEngine:
    """Does work on the cluster of one scheduler, or on processes of this machine for an empty address."""

    def __init__(self, client: Any, where: str) -> None:
        self.client = client
        self.where = where

    def __call__(self, work: Callable[[str], T], items: Sequence[str]) -> Iterator[T]:
        """Yield `work(item)` for every item, in order.

        Raises what `work` raises, and SourceError when the cluster cannot do it.
        """
        from distributed import CancelledError, KilledWorker

        waiting: deque[Any] = deque()
        ahead = AHEAD * max(1, sum(self.client.nthreads().values()))
        rest = iter(items)
        try:
            while True:
                while len(waiting) < ahead and (item := next(rest, None)) is not None:
                    waiting.append(self.client.submit(work, item, pure=False))
                if not waiting:
                    return
                yield waiting.popleft().result()
        except KilledWorker as error:
            hint = "give the workers more memory, or the capture in smaller files"
            raise SourceError("a file killed every worker that read it", where=self.where, hint=hint) from error
        except ImportError as error:
            hint = "install the same version of leastway on them"
            raise SourceError(f"the workers cannot import leastway: {error}", where=self.where, hint=hint) from error
        except CancelledError as error:
            hint = "is the scheduler still there?"
            raise SourceError("the cluster gave the work up", where=self.where, hint=hint) from error


@contextlib.contextmanager
def dask(scheduler: str = "") -> Iterator[DaskEngine]:
    """An engine on the scheduler at an address (`tcp://host:8786`); without one, on processes of this machine.

    Raises SourceError when Dask is not installed or the scheduler cannot be reached.
    """
    where = f"--scheduler {scheduler}" if scheduler else "--engine dask"
    try:
        from distributed import Client
    except ImportError as error:
        raise SourceError("Dask is not installed", where=where, hint="pip install 'leastway[dask]'") from error
    try:
        # Without an address Dask starts workers of its own, which listen on this machine only and serve no dashboard.
        how: dict[str, Any] = {"address": scheduler} if scheduler else {"dashboard_address": None}
        client = Client(**how, timeout=PATIENCE)  # type: ignore[no-untyped-call]  # Dask has no types for it
    except (OSError, ValueError) as error:
        hint = "check the address, such as tcp://host:8786, and that the scheduler runs"
        raise SourceError(f"the scheduler cannot be reached: {error}", where=where, hint=hint) from error
    with client:
        yield DaskEngine(client, where)
