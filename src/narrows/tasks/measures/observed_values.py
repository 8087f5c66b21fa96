"""Statistics of a split's observed values, without missing ones and padding."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from narrows.types import Batch


def flat(x: Tensor) -> NDArray:
    """`[B, *shape]` as `[B, D]`, bool or single precision, on the CPU."""
    rows = x.flatten(1).cpu()
    return (rows if rows.dtype == torch.bool else rows.float()).numpy()


def laid_out(x: Tensor, seen: Tensor | None, dims: int) -> tuple[NDArray, NDArray | None]:
    """`[B, *shape]` as `[B, dims]`, and which values of it count; None: all of them.

    Examples that are shorter than the longest ones, of `dims` values, are padded along their last axis with values that
    do not count.

    Args:
        seen: bool, the shape of `x`; None where all its values count.
    """
    steps = dims // math.prod(x.shape[1:-1])
    if steps > x.shape[-1]:
        short = (0, steps - x.shape[-1])
        seen = pad(torch.ones_like(x, dtype=torch.bool) if seen is None else seen, short)
        x = pad(x, short)
    return flat(x), None if seen is None else flat(seen)


class Statistics:
    """Mean and range of the observed values of `dims`, over all batches that are added."""

    def __init__(self, dims: int) -> None:
        self.sums, self.counts = np.zeros(dims), np.zeros(dims)
        self.low, self.high = math.inf, -math.inf

    def add(self, batch: Batch) -> None:
        values, seen = laid_out(batch.truth, batch.judged, len(self.sums))
        if seen is None:
            self.sums += values.sum(0, dtype=np.float64)
            self.counts += len(values)
            present = values
        else:
            self.sums += np.where(seen, values, 0).sum(0, dtype=np.float64)
            self.counts += seen.sum(0)
            present = values[seen]
        if present.size:
            self.low, self.high = min(self.low, float(present.min())), max(self.high, float(present.max()))

    @property
    def mean(self) -> NDArray[np.float64]:
        """`[D]`; 0 where nothing was ever observed."""
        return self.sums / np.maximum(self.counts, 1)


def mean_of(batches: Iterable[Batch], dims: int) -> NDArray[np.float64]:
    """The mean of all rows of batches, `[D]`; 0 where nothing was ever observed."""
    statistics = Statistics(dims)
    for batch in batches:
        statistics.add(batch)
    return statistics.mean
