"""Standard errors: how much a figure would vary with other test rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from narrows.compare.figure_names import STDERR
from narrows.random import derive

Rows = NDArray[Any]
DRAWS = 200


def standard_error(values: Rows) -> float:
    """Of the mean of independent `values`, `[N]`: `std / sqrt(N)` with N - 1 degrees of freedom; NaN for one."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def with_error(name: str, values: Rows | Tensor) -> dict[str, float]:
    """The mean of independent values `[N]` under `name`, and its `standard_error`."""
    return {name: float(values.mean()), f"{name}{STDERR}": standard_error(np.asarray(values))}


def bootstrap(statistic: Callable[..., float], *rows: Rows, seed: int, draws: int = DRAWS) -> float:
    """Standard error of `statistic(*rows)` by resampling rows, the same of every array, with replacement.

    One row tells nothing of others: NaN. A draw for which the statistic is not defined (an AUROC of one class) is left
    out; NaN where fewer than two are. The same seed draws the same rows, so that two statistics of one test split are
    compared on equal terms.

    "Bootstrap Methods: Another Look at the Jackknife" (Efron, 1979).
    """
    source = np.random.default_rng(derive(seed, "bootstrap"))
    size = len(rows[0])
    if size < 2:
        return math.nan
    found = []
    for _ in range(draws):
        places = source.integers(size, size=size)
        value = statistic(*(part[places] for part in rows))
        if math.isfinite(value):
            found.append(value)
    return float(np.std(found, ddof=1)) if len(found) > 1 else math.nan
