"""Work beside other work gives what it gives here, whatever becomes of the second process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from collector.beside import MANY, beside, shared


def test_the_result_comes_from_another_process() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor only")
    assert beside(os.getpid)() != os.getpid()


def test_a_process_that_dies_is_made_up_for() -> None:
    parent = os.getpid()

    def work() -> str:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    assert beside(work)() == "done"


def test_with_one_processor_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert beside(os.getpid)() == os.getpid()


def test_an_error_is_raised_where_the_result_is_asked_for_and_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        beside(lambda: 1 // 0)()
    said = capfd.readouterr()
    assert "ZeroDivisionError" not in said.out + said.err  # (gRPC may have a word of its own on processes that fork)


@pytest.mark.parametrize("count", [0, 1, MANY, MANY + 1, 5 * MANY])
def test_shared_work_comes_back_in_order(count: int) -> None:
    assert shared(lambda number: number * 2, range(count)) == [number * 2 for number in range(count)]


def test_the_second_half_is_done_elsewhere() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor only")
    assert len(set(shared(lambda _: os.getpid(), range(MANY)))) == 2


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM"])
def test_nobody_works_on_for_a_process_that_is_gone(end: str) -> None:
    """A copy that waits to hand over more than a pipe holds would keep the output open and its reader waiting."""
    script = f"""
import os, signal
from collector.beside import beside
beside(lambda: b"x" * (1 << 22))
beside(lambda: b"y" * (1 << 22))
os.kill(os.getpid(), signal.{end})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=False)
    assert done.returncode == -signal.Signals[end]
