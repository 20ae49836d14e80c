"""Memory of the host: let the allocator keep what a CPU training step frees."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next step instead of returning it to the kernel.

    XLA's CPU backend allocates the temporaries of every step anew. glibc maps each large one from
    the kernel and unmaps it afterwards, so that every step faults in all of its pages again.
    Does nothing where there is no glibc. See mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_ARENA_MAX, 1)  # only the main heap can grow past 64 MB
