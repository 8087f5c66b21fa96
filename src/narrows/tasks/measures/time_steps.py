"""Scores of windows folded back to the time steps of their series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]


@dataclass
class Cut:
    """The windows of one series in one split."""

    rows: Matrix
    """`[N, C, W]`, scaled as they were served; missing values at the training mean of their place in the window."""
    starts: NDArray[np.int64]
    """The first time step of each, `[N]`, each another."""
    length: int
    """Time steps of the series, T."""

    def fold(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """The score of a time step is the mean of those of the windows that cover it: `[N] -> [T]`, NaN where none
        does."""
        return fold(scores, self.starts, self.rows.shape[-1], self.length)

    @property
    def covered(self) -> NDArray[np.bool_]:
        """The time steps that some window covers, `[T]`."""
        return np.isfinite(self.fold(np.zeros(len(self.starts))))


def fold(scores: NDArray[np.floating], starts: NDArray[np.int64], window: int, length: int) -> NDArray[np.float64]:
    """The mean, for every time step, of the scores of the windows that cover it; NaN where none does.

    Args:
        scores: of windows, `[N]`.
        starts: the first time step of each, `[N]`, each another.
        window, length: time steps of a window and of the series, T.

    Returns:
        `[T]`.

    Example:
        >>> fold(np.array([1.0, 3.0]), np.array([0, 2]), window=3, length=6).tolist()
        [1.0, 1.0, 2.0, 3.0, 3.0, nan]
    """
    sums, counts = np.zeros(length), np.zeros(length)
    for offset in range(window):
        sums[starts + offset] += scores
        counts[starts + offset] += 1
    return np.divide(sums, counts, out=np.full(length, np.nan), where=counts > 0)


def in_time(cut: Cut, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values of a series `[C, T]` from its windows; missing ones are NaN, as are those that no window covers.

    Args:
        missing: `[N, C, W]`.
    """
    found = np.full((cut.rows.shape[1], cut.length), np.nan)
    for offset in range(cut.rows.shape[-1]):
        values = np.where(missing[..., offset], np.nan, cut.rows[..., offset])
        found[:, cut.starts + offset] = values.T
    return found


def interpolated(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[C, T]` with NaN on the line between the known neighbours, or at the nearest one at an end; 0 where nothing is
    known."""
    found, steps = np.zeros_like(values), np.arange(values.shape[1])
    for channel, row in enumerate(values):
        known = np.isfinite(row)
        if known.any():
            found[channel] = np.interp(steps, steps[known], row[known])
    return found
