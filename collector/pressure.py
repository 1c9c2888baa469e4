"""How much memory this process uses, and how much it may use: what a listening server defends itself with.

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
    """Bytes of memory that this process uses; 0 if that is not known."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def give_back() -> None:
    """Let the C library return free memory to the system; it would keep the many pieces of gRPC's buffers."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def allowed() -> int:
    """Bytes that it may use: its container's limit, or the machine's memory."""
    found = [os.sysconf("SC_PHYS_PAGES") * _PAGE]
    for path in _LIMITS:
        try:
            found.append(int(path.read_bytes()))
        except (OSError, ValueError):  # another version of cgroups, or "max"
            continue
    return min(found)
