"""A grid of equal time steps: the rows of a series put on it, and the gaps of one that is not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from narrows.errors import UserError, require

GAP = 1.5
"""A step in time longer than so many usual ones is a gap."""
LARGEST = 20
"""A grid may have so many times the steps that a series has rows, or it is no grid for them."""
FEW = 10_000


@dataclass
class Steps:
    """The time steps of one series."""

    values: NDArray[np.float64]
    """`[C, T]`, NaN where a value is missing."""
    label: NDArray[np.int64] | None
    """`[T]`."""
    times: NDArray[np.float64] | None
    """`[T]`."""
    of_rows: NDArray[np.int64]
    """The time step of each row, `[R]`."""


def put_on_grid(
    values: NDArray[np.float64], label: NDArray[np.int64] | None, times: NDArray[np.float64], step: float, name: str
) -> Steps:
    """Rows on a grid of equal steps that begins at the first one: each step is the mean of its rows, and its label that
    of theirs which is not 0 (the largest of several). A step without rows has the label of the rows on both sides where
    they agree, else 0.

    Args:
        values, label, times: of the rows, in the order of time: `[C, R]`, `[R]`, `[R]`.

    Raises:
        UserError: a step so short that the grid would be nearly empty.
    """
    places = np.floor((times - times[0]) / step + 0.5).astype(np.int64)
    size = int(places.max()) + 1
    require(
        size <= max(LARGEST * len(times), FEW),
        f"order.resample={step:g} makes {size:,} time steps of the {len(times):,} rows of series '{name}': set a "
        "longer step",
    )
    known = np.isfinite(values)
    sums, counts = np.zeros((len(values), size)), np.zeros((len(values), size))
    for channel in range(len(values)):
        np.add.at(sums[channel], places[known[channel]], values[channel][known[channel]])
        np.add.at(counts[channel], places[known[channel]], 1)
    found = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    labels = None
    if label is not None:
        labels = _labels_of_steps(label, places, size)
    return Steps(found, labels, times[0] + step * np.arange(size), places)


def _labels_of_steps(label: NDArray[np.int64], places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    least = np.iinfo(np.int64).min
    found = np.full(size, least)
    np.maximum.at(found, places, np.where(label == 0, least + 1, label))  # so that 0 gives way to any other
    filled = np.flatnonzero(found != least)
    found[found == least + 1] = 0
    every = np.arange(size)
    before = found[filled[np.searchsorted(filled, every, side="right") - 1]]
    after = found[filled[np.searchsorted(filled, every)]]  # the last row is in the last step
    return np.where(before == after, before, np.where(found == least, 0, found))


def step_in_units(resample: str | float, usual: float | None, dated: bool, column: str) -> float:
    """A step as `order.resample` writes it, in seconds or the time's own unit.

    Raises:
        UserError: no duration, or none above 0.
    """
    if resample == "auto":
        if usual is None or not usual > 0:
            raise UserError(f"order.resample=auto: column '{column}' has no usual step; set one, such as 5min")
        return usual
    if isinstance(resample, str):
        try:
            found = pd.Timedelta(resample).total_seconds()
        except ValueError:
            found = math.nan
        require(dated, f"order.resample={resample} is a duration, but column '{column}' holds numbers: set a number")
    else:
        found = float(resample)
    require(
        math.isfinite(found) and found > 0,
        f"order.resample={resample} is no step above 0: set a duration such as 5min, a number in the unit of the time, "
        "or auto",
    )
    return found


def gaps_of(times: NDArray[np.float64], usual: float) -> NDArray[np.int64]:
    """The places behind a gap: where the time jumps by more than the usual step, or does not go forward."""
    steps = np.diff(times)
    return np.flatnonzero((steps > GAP * usual) | (steps <= 0)) + 1
