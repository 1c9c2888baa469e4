"""Work beside other work, on a second processor.

Invariant: the result is the same as doing the work here, and where there is no second process, or it dies, it is done
here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

S = TypeVar("S")
T = TypeVar("T")
MANY = 64  # pieces of work from which on a second process pays


def beside(work: Callable[[], T], *, worth: bool = True) -> Callable[[], T]:
    """Start `work` in a copy of this process, if it is `worth` one; the function returned waits for its result.

    `work` must change nothing but what it returns, and return what can be pickled.
    """
    # Elsewhere a copy of a running process is not safe to work in.
    if not worth or sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        return work
    import multiprocessing

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(here, there, work), daemon=True)
    process.start()
    there.close()

    def result() -> T:
        try:
            return here.recv()  # type: ignore[no-any-return]  # what `_send` sent
        except EOFError:
            return work()
        finally:
            here.close()
            process.join()

    return result


def abandon() -> None:
    """End what still works beside this process: its results are not wanted any more."""
    multiprocessing = sys.modules.get("multiprocessing")
    for process in multiprocessing.active_children() if multiprocessing else ():
        process.kill()


def shared(work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """`work` done on every item, in order: the second half of many `beside` the first."""
    middle = len(items) // 2
    rest = beside(lambda: [work(item) for item in items[middle:]], worth=len(items) >= MANY)
    return [work(item) for item in items[:middle]] + rest()


def _send(here: Connection, there: Connection, work: Callable[[], object]) -> None:
    here.close()  # only the parent reads: once it is gone, sending fails instead of waiting for ever
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent tells the user, once
    with contextlib.suppress(Exception):  # the parent does the work again, and raises the error where it is handled
        there.send(work())
    there.close()
