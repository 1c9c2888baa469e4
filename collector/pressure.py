"""How much memory this process has, and how much it may have: what a server that listens defends itself by.

Invariant: reading it costs microseconds and raises nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of a container


def resident() -> int:
    """Bytes of memory that this process has; 0 where that cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def give_back() -> None:
    """Let the C library return what it holds free; gRPC's buffers are in many pieces that it keeps otherwise."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def allowed() -> int:
    """Bytes that it may have: its container's limit, or the machine's memory."""
    found = [os.sysconf("SC_PHYS_PAGES") * _PAGE]
    for path in _LIMITS:
        try:
            found.append(int(path.read_bytes()))
        except (OSError, ValueError):  # another version of cgroups, or "max"
            continue
    return min(found)
