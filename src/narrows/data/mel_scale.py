"""Frequencies as they are heard: bands on the mel scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BANDS = 40


def mel_filters(rate: int, width: int, bands: int = BANDS) -> NDArray[Any]:
    """Triangles `[M, F]` whose tops lie evenly on the mel scale from 0 to half the rate, `2595 log10(1 + f / 700)`;
    each ends where its neighbours have their tops, and is 1 at its own. A band that is narrower than the distance of
    two frequencies is that of the nearest one alone."""
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, width // 2 + 1)
    low, top, high = (edges[place : place + bands, None] for place in range(3))
    found = np.minimum((frequencies - low) / (top - low), (high - frequencies) / (high - top)).clip(0)
    empty = found.sum(1) == 0
    found[empty, np.abs(frequencies - top[empty]).argmin(1)] = 1
    return found
