"""Freed memory is kept for what is asked for next."""

from __future__ import annotations

import platform
import statistics

import pytest
import torch

from narrows.training.freed_memory import keep_freed_memory

PAGE, BYTES = 4096, 2**24


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_large_tensors_get_the_pages_of_those_before() -> None:
    from resource import RUSAGE_SELF, getrusage

    keep_freed_memory()
    faults = []
    for _ in range(40):
        before = getrusage(RUSAGE_SELF).ru_minflt
        torch.ones(BYTES // 4)
        faults.append(getrusage(RUSAGE_SELF).ru_minflt - before)
    # The first ones make the heap as large as they need it.
    assert statistics.median(faults[-9:]) < 0.1 * BYTES / PAGE, faults
