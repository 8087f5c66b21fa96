"""How the process treats memory that it has freed."""

from __future__ import annotations

import ctypes
import os
import platform

# Numbers of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 2**28


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for what is asked for next.

    glibc gives large blocks back to the system at once, so that every step gets the same ones again page by page, each
    zeroed: of a step of a language model with 10,000 words on the CPU that is a third. Other libraries, and a process
    whose environment has a `MALLOC_*`, are left alone.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, LARGEST)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
