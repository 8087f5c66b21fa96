"""How the cells of a table's columns are written, which its samples follow: integers, truth values, dates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from narrows.data.number_texts import PLAIN, Marks, to_numbers

MOST_DECIMALS = 6
DAY = 86_400
"""Seconds of a day."""
DATES = (-62_135_596_800.0, 253_402_300_799.0)
"""Seconds of the years 1 and 9999, between which a date can be written."""


@dataclass
class CellForm:
    """How the cells of a column are written; None or empty where a run did not record it, or there is no such form."""

    dtype: str | None = None
    """The type of the cells as pandas names it, of a CSV the one that pandas reads: int64, float64, bool, str."""
    truths: list[str] = field(default_factory=list)
    """The texts that stand for 0 and 1, where these are no numbers."""
    decimals: int | None = None
    """Digits behind the point that no number of the training rows exceeds; None where more than `MOST_DECIMALS`."""
    low: float | None = None
    high: float | None = None
    """The smallest and the largest number of the training rows."""
    days: bool = False
    """Whether the dates of the training rows are days, without a time."""

    def measured(self, numbers: NDArray[np.float64], is_date: bool) -> CellForm:
        """The form with what the training rows' numbers `[N]` say, at least one of them."""
        kind = np.float32 if self.dtype == "float32" else np.float64
        decimals = None
        if not is_date:
            fits = (digits for digits in range(MOST_DECIMALS + 1) if _has_digits(numbers, digits, kind))
            decimals = next(fits, None)
        days = is_date and bool((numbers % DAY == 0).all())
        return replace(self, decimals=decimals, low=float(numbers.min()), high=float(numbers.max()), days=days)

    def rounded(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers `[N]` as the training rows have them: as many digits, and none below the smallest or above the
        largest."""
        if self.low is not None and self.high is not None:
            numbers = np.clip(numbers, self.low, self.high)
        if self.days:
            return np.round(numbers / DAY) * DAY
        return numbers if self.decimals is None else np.round(numbers, self.decimals)


@dataclass
class LabelColumn:
    """The column of a table's labels, which no model reads as a value."""

    name: str
    place: int
    """Its position among the columns that are not left out."""
    texts: list[str]
    """What stands for each class, by its number."""
    dtype: str | None = None
    """See `CellForm`."""
    shares: list[float] = field(default_factory=list)
    """Of the training rows, by class."""


def _has_digits(numbers: NDArray[np.float64], digits: int, kind: type[np.floating[Any]]) -> bool:
    return bool((np.round(numbers, digits).astype(kind) == numbers.astype(kind)).all())


def form_of(cells: pd.Series, kind: str, has_levels: bool, marks: Marks = PLAIN) -> CellForm:
    """The form of a column's known cells, as far as their types and texts say it.

    Args:
        kind: of the column, see `TableColumn`.
        has_levels: whether the column keeps the texts of its values itself.
    """
    if not _are_texts(cells):
        return CellForm(str(cells.dtype))
    texts = cells.astype(str)
    if kind == "date" or has_levels:
        return CellForm("str")
    uniques = pd.Series(texts.unique())
    numbers = to_numbers(uniques, marks)
    if kind == "binary" and np.isnan(numbers).any():
        counts = texts.value_counts()
        told = [[text for text in counts.index if text.strip().lower() in words] for words in (_FALSE, _TRUE)]
        return CellForm("bool", [found[0] if found else other for found, other in zip(told, _BOOLS, strict=True)])
    whole = not uniques.str.contains(f"[{marks.decimal}eE]", regex=True).any()
    return CellForm("int64" if whole else "float64")


_BOOLS = ("False", "True")
_FALSE, _TRUE = ("false", "0"), ("true", "1")


def _are_texts(cells: pd.Series) -> bool:
    return cells.dtype == object or isinstance(cells.dtype, pd.StringDtype)


def of_type(values: Any, dtype: str | None) -> pd.Series:
    """Values `[N]` as a column of this type; texts of a type that cannot hold them stay texts."""
    column = pd.Series(values)
    if dtype in (None, "str", "object", "string"):
        return column if dtype is None else column.astype("str")
    try:
        if dtype == "bool" and _are_texts(column):
            return column.astype(str).str.strip().str.lower().isin(_TRUE)
        return column.astype(dtype)
    except (TypeError, ValueError):
        return column
