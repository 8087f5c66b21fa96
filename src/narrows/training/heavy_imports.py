"""Imports of torch and what needs it, without the garbage collector."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import in this context what imports torch, and collect no garbage meanwhile, nor look through what it made later.

    Torch and Lightning make a million objects, nearly all of which stay. The collector would walk over them again and
    again while they are made, and over all of them in every full collection afterwards, which takes 0.2 to 0.4 s. A
    process that has imported torch before, or collects nothing, is left alone: what is garbage there would be kept.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
