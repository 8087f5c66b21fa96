"""The columns of a table, and their cells as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from narrows.data.cell_forms import CellForm
from narrows.data.number_texts import PLAIN, Marks, to_numbers

ColumnKind = Literal["numeric", "binary", "categorical", "date"]
TRUTHS = {"true": 1.0, "false": 0.0}
ISO = "ISO8601"
"""How dates are written unless a column says otherwise: 2026-11-29 or 2026-11-29T08:30:00+01:00."""
DAY = r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}"
"""What such a date begins with."""
ZONE = re.compile(r"[T ][0-9]{2}.*?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)\s*$", re.IGNORECASE)
"""The time of an ISO date that names its zone."""
OTHER_TIMES = re.compile(
    r"\s*(?:[0-9]{1,4}[./-][0-9]{1,2}[./-][0-9]{1,4}(?:[ T,].*)?"  # 29.11.2026 08:30
    r"|[0-9]{8}[T ]?[0-9]{4,6}.*"  # 20261129T083000
    r"|[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?[AaPp][Mm])?"  # 08:30:00
    r"|(?:[A-Za-z]{3,9},? +)?[0-9]{1,2}[ -][A-Za-z]{3,9}\.?[ -][0-9]{2,4}.*"  # Sun, 29 Nov 2026
    r"|[A-Za-z]{3,9}\.? +[0-9]{1,2},? +[0-9]{4}.*)\s*"  # Nov 29, 2026
)
"""Dates and times as people write them, and that are not read."""


@dataclass
class TableColumn:
    """A column that a model reads."""

    name: str
    kind: ColumnKind
    levels: list[str] = field(default_factory=list)
    """The texts that its cells may hold: the categories, or for a binary column the texts that mean 0 and 1 (empty if
    its cells are 0 and 1 or truth values already)."""
    form: str = field(default=ISO, repr=False)
    """How the texts of a column of dates are written, as for `strftime`; not in `repr`, which fingerprints contain."""
    cells: CellForm = field(default_factory=CellForm, repr=False, compare=False)
    """How its cells are written, which samples follow."""

    @property
    def is_number(self) -> bool:
        """Whether its cells are scaled as numbers: a date is its seconds since 1970 in UTC."""
        return self.kind in ("numeric", "date")


@dataclass
class Cells:
    """The cells of R columns as numbers, with masks; each field is `[N, R]`."""

    values: NDArray[np.float64]
    """A number, 0 or 1, or the position of the text among the levels; 0 where `missing` or `bad`, -1 where `unseen`."""
    missing: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    """True where a cell does not fit the kind of its column."""
    unseen: NDArray[np.bool_]
    """True where a category is not among the levels."""


def numbers_of(cells: pd.Series, marks: Marks = PLAIN) -> NDArray[np.float64]:
    """The cells as numbers; NaN where a cell is neither a number nor a truth value, durations in seconds."""
    if pd.api.types.is_timedelta64_dtype(cells):
        return cells.dt.total_seconds().to_numpy(dtype=np.float64, na_value=np.nan)
    if cells.dtype == bool or pd.api.types.is_numeric_dtype(cells):
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)
    codes, texts = pd.factorize(cells)  # cells repeat, so each different text is parsed only once
    numbers = to_numbers(texts, marks)
    for place in np.flatnonzero(np.isnan(numbers)):
        numbers[place] = TRUTHS.get(str(texts[place]).lower(), np.nan)
    return np.append(numbers, np.nan)[codes]


def seconds_of(cells: pd.Series, form: str = ISO) -> NDArray[np.float64]:
    """Dates as seconds since 1970 in UTC, which is assumed where they name no zone; NaN where a cell is no date.

    Raises:
        ValueError: a `form` that cannot be.
    """
    if not pd.api.types.is_datetime64_any_dtype(cells):
        texts = cells.astype(object).where(cells.notna(), "").map(str)
        if form == ISO:  # of which years, weeks and fractions of a year are parts too
            texts = texts.where(texts.str.match(DAY), "")
        cells = pd.to_datetime(texts, format=form, utc=True, errors="coerce")
    stamps = pd.to_datetime(cells, utc=True).dt.as_unit("us")
    return np.where(stamps.isna(), np.nan, stamps.astype("int64") / 1e6)


def has_zone(text: str) -> bool:
    """Whether an ISO date names its zone: 2026-11-29T08:30:00+01:00 or 2026-11-29 07:30Z."""
    return ZONE.search(text) is not None


def looks_like_a_time(cell: object) -> bool:
    """Whether a cell is a text that looks like a date or a time of day, in whatever form."""
    return isinstance(cell, str) and OTHER_TIMES.fullmatch(cell) is not None


def to_cells(frame: pd.DataFrame, columns: Sequence[TableColumn], marks: Marks = PLAIN) -> Cells:
    """The cells of these columns of `frame`, in which missing cells are NA."""
    missing = frame[[column.name for column in columns]].isna().to_numpy()
    values = np.zeros(missing.shape)
    bad, unseen = np.zeros_like(missing), np.zeros_like(missing)
    for place, column in enumerate(columns):
        cells = frame[column.name]
        if column.levels:
            codes = pd.Index(column.levels).get_indexer(cells.astype(str))
            values[:, place] = codes
            lost = unseen if column.kind == "categorical" else bad
            lost[:, place] = (codes < 0) & ~missing[:, place]
            continue
        values[:, place] = seconds_of(cells, column.form) if column.kind == "date" else numbers_of(cells, marks)
        # Models compute in float32.
        fine = np.abs(values[:, place]) <= np.finfo(np.float32).max
        if column.kind == "binary":
            fine &= np.isin(values[:, place], (0.0, 1.0))
        bad[:, place] = ~fine & ~missing[:, place]
    values[missing | bad] = 0.0
    return Cells(values, missing, bad, unseen)


def complaint(cells: Cells, frame: pd.DataFrame, columns: Sequence[TableColumn], row: int) -> str | None:
    """A sentence about the first bad or unseen cell of a row; None if there is none."""
    places: Any = np.flatnonzero(cells.bad[row] | cells.unseen[row])
    if not len(places):
        return None
    place = int(places[0])
    column = columns[place]
    text = f"'{frame[column.name].iloc[row]}' in column '{column.name}'"
    if cells.unseen[row, place]:
        return f"{text} is a category that the training rows do not have"
    if column.kind == "binary":
        return f"{text} is neither {' nor '.join(column.levels or ('0', '1'))}"
    if column.kind == "date":
        return f"{text} is no date of the form {'YYYY-MM-DD' if column.form == ISO else column.form}"
    return f"{text} is no finite number"
