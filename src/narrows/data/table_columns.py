"""The columns of a table: inferring the kind of each, and turning its cells into numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from narrows.errors import nearest, require

ColumnKind = Literal["numeric", "binary", "categorical"]
TRUTHS = {"true": 1.0, "false": 0.0}
MOST_LEVELS = 1000
"""A text column with more different values than this probably identifies rows instead of describing them."""


@dataclass
class TableColumn:
    """A column that a model reads."""

    name: str
    kind: ColumnKind
    levels: list[str] = field(default_factory=list)
    """The texts that its cells may hold: the categories, or for a binary column the texts that mean 0 and 1 (empty if
    its cells are 0 and 1 or truth values already)."""


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


def infer(frame: pd.DataFrame, kinds: Mapping[str, str]) -> list[TableColumn]:
    """The kind of every column: the one in `kinds`, else binary if all cells are 0 and 1 or truth values, numeric if
    all are numbers, and categorical otherwise.

    Raises:
        UserError: an unknown kind or column, a column without a value or with too many texts, a binary one with
            more than two.
    """
    for name, kind in kinds.items():
        require(name in frame, f"source.kinds names column '{name}': {nearest(name, map(str, frame))}")
        known = get_args(ColumnKind)
        require(kind in known, f"source.kinds: column '{name}' cannot be '{kind}': {nearest(str(kind), known)}")
    return [_described(str(name), frame[name].dropna(), kinds.get(str(name))) for name in frame]


def _described(name: str, cells: pd.Series, asked: str | None) -> TableColumn:
    require(len(cells) > 0, f"column '{name}' has no value at all: name it in source.ignore")
    numbers = _numbers(cells)
    complete = bool(np.isfinite(numbers).all())
    truths = complete and set(np.unique(numbers)) <= {0.0, 1.0}
    if asked == "numeric" or (asked is None and complete and not truths):
        return TableColumn(name, "numeric")
    if truths and asked in (None, "binary"):
        return TableColumn(name, "binary")
    levels = sorted(map(str, cells.astype(str).unique()))
    if asked == "binary":
        require(len(levels) == 2, f"column '{name}' cannot be binary: it has {len(levels)} different values")
        return TableColumn(name, "binary", levels)
    require(
        len(levels) <= MOST_LEVELS,
        f"column '{name}' has {len(levels)} different texts, such as '{levels[0]}': name it in source.ignore",
    )
    return TableColumn(name, "categorical", levels)


def _numbers(cells: pd.Series) -> NDArray[np.float64]:
    """The cells as numbers; NaN where a cell is neither a number nor a truth value."""
    if cells.dtype == bool or pd.api.types.is_numeric_dtype(cells):
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)
    codes, texts = pd.factorize(cells)  # cells repeat, so each different text is parsed only once
    numbers = np.array(pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce"), dtype=np.float64)
    for place in np.flatnonzero(np.isnan(numbers)):
        numbers[place] = TRUTHS.get(str(texts[place]).lower(), np.nan)
    return np.append(numbers, np.nan)[codes]


def to_cells(frame: pd.DataFrame, columns: Sequence[TableColumn]) -> Cells:
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
        values[:, place] = _numbers(cells)
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
    return f"{text} is no finite number"
