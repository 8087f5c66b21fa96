"""Labels as intervals of time: a JSON such as the Numenta benchmark's `combined_windows.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from narrows.data.dataset_files import existing
from narrows.data.table_columns import has_zone, seconds_of
from narrows.errors import UserError, nearest, require
from narrows.files import read_json

SETTING = "source.signals.intervals_path"


@dataclass
class Intervals:
    """The labelled intervals of a file, by the name of their series; one series may have no name."""

    path: Path
    found: dict[str, list[tuple[float, float]]]
    kinds: set[str] = field(default_factory=set)
    """How the moments of the file are written: `numbers`, `dates` or `dates with a zone`."""
    asked: int = 0
    """Intervals of the series that were labelled so far."""
    empty: int = 0
    """Those of them that held no time step."""

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
        bounds = {str(name): _bounds(pairs, str(name), path) for name, pairs in named.items()}
        return cls(path, bounds, {_kind(moment) for pairs in named.values() for pair in pairs for moment in pair})

    def require_like(self, kind: str, column: str | None, table: Path) -> None:
        """Refuse moments that cannot be those of a table's times.

        Args:
            kind: of its times, as `kinds`; numbers where it has no column of time.

        Raises:
            UserError: numbers where the times are dates, or the like; a zone on one side alone, which would move labels
                by hours.
        """
        strange = sorted(self.kinds - {kind})
        times = (
            f"the times in column '{column}' of {table} are" if column else f"the steps of {table}, without times, are"
        )
        require(
            not strange,
            f"the intervals of {self.path} are {''.join(strange[:1])}, and {times} {kind}: write both in the same way",
        )

    def label(self, name: str, times: NDArray[np.float64] | None, steps: int) -> tuple[NDArray[np.int64], int]:
        """Labels `[R]` of the rows of a series, and the number of intervals that hold none of them.

        Args:
            times: of each row, `[R]`, in seconds or the time's own unit; None: the numbers of the rows.

        Raises:
            UserError: no entry of this series.
        """
        clock = np.arange(steps, dtype=np.float64) if times is None else times
        label, empty = np.zeros(steps, dtype=np.int64), 0
        for first, last in self._of(name):
            inside = (clock >= first) & (clock <= last)
            label[inside] = 1
            empty += not inside.any()
            self.asked += 1
        self.empty += empty
        return label, empty

    def require_met(self) -> None:
        """Refuse intervals of which none held a time step: all would be normal.

        Raises:
            UserError: names the file.
        """
        require(
            self.empty < self.asked or self.asked == 0,
            f"none of the {self.asked} intervals of {self.path} holds a time step: do they belong to these series, and "
            "are they of the same zone and unit?",
        )

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


def _kind(moment: Any) -> str:
    """How a moment that `_moment` reads is written."""
    if not isinstance(moment, str):
        return "numbers"
    return "dates with a zone" if has_zone(moment) else "dates"


def _moment(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(seconds_of(pd.Series([value]))[0]) if isinstance(value, str) else math.nan
