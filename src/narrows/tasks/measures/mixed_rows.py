"""Rows of mixed columns, numbers and categories, as synthetic data are made and judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.types import Column

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class RowColumn:
    """One column of `MixedRows`."""

    name: str
    levels: int = 0
    """Number of categories; 0 of a column of numbers."""
    texts: tuple[str, ...] = ()
    """The names of the categories."""


@dataclass(frozen=True)
class MixedRows:
    """Rows of a table, one column of which is the class."""

    columns: list[RowColumn]
    values: Matrix
    """`[N, R]`, float64: numbers, and the numbers of categories."""
    target: int
    """The column of the class."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def label(self) -> NDArray[np.int64]:
        """The classes, `[N]`."""
        return self.values[:, self.target].astype(np.int64)

    @property
    def numeric(self) -> NDArray[np.bool_]:
        """Which columns are numbers, `[R]`."""
        return np.array([column.levels == 0 for column in self.columns])

    def take(self, rows: NDArray[np.int64]) -> MixedRows:
        """These rows, in this order."""
        return replace(self, values=self.values[rows])

    def like(self, values: Matrix) -> MixedRows:
        """Other rows of the same columns."""
        return replace(self, values=values)

    def features(self, with_target: bool) -> Matrix:
        """The rows as a classifier reads them, `[N, F]`: numbers, and a 0 or 1 for every category."""
        pieces = [
            self.values[:, [place]] if column.levels == 0 else np.eye(column.levels)[self.values[:, place].astype(int)]
            for place, column in enumerate(self.columns)
            if with_target or place != self.target
        ]
        return np.hstack(pieces) if pieces else np.zeros((len(self), 0))


def columns_of(layout: Sequence[Column] | None, names: Sequence[str] | None, width: int) -> list[RowColumn]:
    """The columns of examples of `width` values: those of a table's `layout`, or one of numbers for every value."""
    names = names or [f"value {place}" for place in range(width)]
    if layout is None:
        return [RowColumn(name) for name in names]
    found, start = [], 0
    for column in layout:
        texts = tuple(name.removeprefix(f"{column.name}=") for name in names[start : start + column.width])
        start += column.width
        kinds = {"numeric": RowColumn(column.name), "binary": RowColumn(column.name, 2, ("0", "1"))}
        found.append(kinds.get(column.kind, RowColumn(column.name, column.width, texts)))
    return found


def cells_of(x: Tensor, layout: Sequence[Column] | None) -> Matrix:
    """Examples `[N, D]` as a model reads them, as cells `[N, R]` (see `MixedRows.values`)."""
    rows: Matrix = x.double().numpy()
    if layout is None:
        return rows
    pieces = np.split(rows, np.cumsum([column.width for column in layout])[:-1], axis=1)
    found = []
    for column, piece in zip(layout, pieces, strict=True):
        if column.kind == "categorical":
            found.append(piece.argmax(1).astype(np.float64))
        else:
            found.append((piece[:, 0] > 0.5).astype(np.float64) if column.kind == "binary" else piece[:, 0])
    return np.stack(found, 1)


def spread(cells: Matrix, layout: Sequence[Column] | None) -> Tensor:
    """Cells `[N, R]` as a model reads them, `[N, D]`: the way back of `cells_of`."""
    if layout is None:
        return torch.from_numpy(cells).float()
    pieces = [
        np.eye(column.width)[cells[:, place].astype(int)] if column.kind == "categorical" else cells[:, [place]]
        for place, column in enumerate(layout)
    ]
    return torch.from_numpy(np.hstack(pieces)).float()
