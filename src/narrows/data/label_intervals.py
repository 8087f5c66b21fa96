"""Labels as intervals of time: a JSON such as the Numenta benchmark's `combined_windows.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.data.dataset_files import existing
from narrows.data.table_columns import seconds_of
from narrows.errors import UserError, nearest, require
from narrows.files import read_json

SETTING = "source.signals.intervals_path"


@dataclass
class Intervals:
    """The labelled intervals of a file, by the name of their series; one series may have no name."""

    path: Path
    found: dict[str, list[tuple[float, float]]]

    @classmethod
    def read(cls, where: str) -> Intervals:
        """Read `{series: [[first, last], ...]}` or `[[first, last], ...]`.

        Raises:
            UserError: no such file, no JSON, or another structure.
        """
        path = existing(where, SETTING)
        require(path.is_file(), f"{path} is a folder: {SETTING} is one JSON file")
        values = read_json(path)
        named = values if isinstance(values, dict) else {"": values}
        return cls(path, {str(name): _bounds(pairs, str(name), path) for name, pairs in named.items()})

    def label(self, name: str, times: NDArray[np.float64] | None, steps: int) -> tuple[Tensor, int]:
        """Labels `[T]` of the time steps of a series, and the number of intervals that hold none of them.

        Args:
            times: of each time step, `[T]`, in seconds or the time's own unit; None: the numbers of the steps.

        Raises:
            UserError: no entry of this series.
        """
        clock = np.arange(steps, dtype=np.float64) if times is None else times
        label, empty = np.zeros(steps, dtype=np.int64), 0
        for first, last in self._of(name):
            inside = (clock >= first) & (clock <= last)
            label[inside] = 1
            empty += not inside.any()
        return torch.from_numpy(label), empty

    def _of(self, name: str) -> list[tuple[float, float]]:
        if list(self.found) == [""]:
            return self.found[""]
        fitting = [key for key in self.found if key == name or key.endswith(f"/{name}") or name.endswith(f"/{key}")]
        known = nearest(name, self.found)
        require(
            len(fitting) == 1,
            f"{self.path} has {'no' if not fitting else 'more than one'} entry of the series '{name}': {known}; a "
            "series without anomalies has an empty list",
        )
        return self.found[fitting[0]]


def _bounds(pairs: Any, name: str, path: Path) -> list[tuple[float, float]]:
    where = f"{path}, '{name}'," if name else f"{path}"
    shape = "a list of pairs [first, last], each two time stamps or two numbers"
    right = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    require(right, f"{where} must be {shape}")
    found = []
    for first, last in pairs:
        low, high = _moment(first), _moment(last)
        if math.isnan(low) or math.isnan(high):
            raise UserError(f"{where} has [{first!r}, {last!r}]: it must be {shape}")
        require(low <= high, f"{where} has the interval [{first}, {last}], which ends before it begins")
        found.append((low, high))
    return found


def _moment(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(seconds_of(pd.Series([value]))[0]) if isinstance(value, str) else math.nan
