"""Values of a model written as rows of the table that it was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from narrows.data.cell_forms import LabelColumn, of_type
from narrows.data.table_columns import ISO, TableColumn, seconds_of
from narrows.data.table_scaling_and_encoding import Encoding


def own_rows(encoding: Encoding, x: Tensor, label: Tensor | None = None) -> pd.DataFrame:
    """Samples `[N, D]` as rows of the table: columns, their order and types as the training rows have them, numbers
    with as many digits and within the same range, categories by their texts. No cell is missing.

    Args:
        label: `[N]`, classes; None leaves the column of labels out.
    """
    decoded = encoding.decode(x.double().numpy())
    table = {column.name: _as_written(column, decoded[column.name]) for column in encoding.columns}
    if encoding.label is not None and label is not None:
        cells = _of_labels(encoding.label, label.numpy())
        names = list(table)
        names.insert(encoding.label.place, encoding.label.name)
        table[encoding.label.name] = cells
        table = {name: table[name] for name in names}
    return pd.DataFrame(table)


def rewritten(encoding: Encoding, x: Tensor) -> Tensor:
    """Samples `[N, D]` as a model reads them once they have been written to a file: rounded, each one category."""
    from narrows.data.table_columns import to_cells

    cells = to_cells(own_rows(encoding, x), encoding.columns)
    return encoding.encode(cells.values, cells.missing)[0]


def _of_labels(column: LabelColumn, label: NDArray[Any]) -> pd.Series:
    return of_type(np.asarray(column.texts, dtype=object)[label], column.dtype)


def _as_written(column: TableColumn, cells: pd.Series) -> pd.Series:
    form = column.cells
    if column.kind == "numeric":
        return of_type(form.rounded(cells.to_numpy(dtype=np.float64)), form.dtype)
    if column.kind == "date":
        return _dates(column, cells)
    if form.truths and not column.levels:
        texts = np.asarray(form.truths, dtype=object)[cells.to_numpy(dtype=np.int64)]
        # pandas reads and writes exactly these two as truth values.
        return of_type(texts, form.dtype if form.truths == ["False", "True"] else "str")
    return of_type(cells, form.dtype)


def _dates(column: TableColumn, cells: pd.Series) -> pd.Series:
    stamps = pd.to_datetime(pd.Series(column.cells.rounded(seconds_of(cells))), unit="s")
    if column.cells.dtype is not None and column.cells.dtype.startswith("datetime64"):
        return (
            stamps.dt.tz_localize("UTC").astype(column.cells.dtype)
            if "," in column.cells.dtype
            else stamps.astype(column.cells.dtype)
        )
    plain = "%Y-%m-%d" if column.cells.days else "%Y-%m-%d %H:%M:%S"
    return stamps.dt.strftime(plain if column.form == ISO else column.form).astype("str")
