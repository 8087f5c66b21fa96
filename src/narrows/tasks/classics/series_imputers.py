"""The classic imputers of series: each fills in a row of `[C, T]` from its own known values in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from narrows.tasks.classics.imputers import Imputer, Known, Matrix, mean
from narrows.tasks.measures.volume_under_surface import period_of

Fill = Callable[[Matrix], Matrix]
"""One channel `[T]`, NaN where a value is not known, of which one is; returns it without NaN."""
MOST = 500
"""Training rows from which the period is found."""


def linear(values: Matrix) -> Matrix:
    """On the line between the known neighbours; at an end the nearest known value."""
    known = np.flatnonzero(np.isfinite(values))
    return np.interp(np.arange(len(values)), known, values[known])


def last_value(values: Matrix) -> Matrix:
    """The last known value before; at the beginning the first known one."""
    known = np.isfinite(values)
    places = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return values[np.where(places < 0, np.flatnonzero(known)[0], places)]


def seasonal(period: int, values: Matrix) -> Matrix:
    """The nearest known value that lies whole periods away, the mean of both where two are as near; `linear` where none
    is known."""
    found, steps = values.copy(), len(values)
    for step in np.flatnonzero(np.isnan(values)):
        for away in range(period, steps, period):
            near = [values[place] for place in (step - away, step + away) if 0 <= place < steps]
            near = [value for value in near if np.isfinite(value)]
            if near:
                found[step] = np.mean(near)
                break
    return linear(found)


def _by_channel(fill: Fill, shape: tuple[int, int], known: Known, rows: Matrix) -> Matrix:
    """Every channel of every row filled in; one of which nothing is known by the mean of the training rows."""
    found = mean(known, rows).reshape(-1, shape[1])
    for place, channel in enumerate(rows.reshape(-1, shape[1])):
        if np.isfinite(channel).any():
            found[place] = fill(channel)
    return found.reshape(rows.shape)


def series_imputers(shape: tuple[int, int], train: Matrix) -> dict[str, Imputer]:
    """The imputers of series `[C, T]`; the seasonal one where training rows `[N, C T]` have a period of at most half
    their length."""
    fills: dict[str, Fill] = {"linear": linear, "last_value": last_value}
    period = period_of(np.nan_to_num(train[:MOST]).reshape(-1, shape[1]))
    if period is not None:
        fills["seasonal"] = partial(seasonal, period)
    return {name: partial(_by_channel, fill, shape) for name, fill in fills.items()}
