"""How a file of counts is written, what it holds, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from narrows.data.array_keys import AUTO
from narrows.data.table_format import Format
from narrows.errors import nearest, require

Layout = Literal["auto", "dense", "triples"]


@dataclass
class CountForm:
    """How a file of counts is written, and what is kept of it.

    Args:
        key: of the array or, before `data`, `indices` and `indptr`, of the sparse matrix in a .npz; of the layer in a
            .h5ad; `auto` finds it.
        layout: of a table: `dense` has a column for each feature, `triples` a line for each count (row, feature,
            count); `auto` tells them apart by the names of the columns.
        transpose: whether a column of the matrix is an example, as in the Matrix Market files of gene expression.
        text: the format of a CSV file.
        variable: how many features are kept, those that vary most over training rows (see `most_variable` in
            `narrows.data.counted`); None for all.
    """

    key: str = AUTO
    layout: Layout = "auto"
    transpose: bool = False
    text: Format = field(default_factory=Format)
    variable: int | None = None

    def __post_init__(self) -> None:
        choices = ("auto", "dense", "triples")
        require(self.layout in choices, f"unknown form.layout={self.layout!r}: {nearest(str(self.layout), choices)}")


@dataclass
class CountFile:
    """What a file holds."""

    path: Path
    matrix: Any
    """CSR `[N, D]`, float32, canonical."""
    said: str
    """What the file is, for people."""
    features: list[str] | None = None
    rows: list[str] | None = None
    """The name of each row."""
    columns: dict[str, Any] = field(default_factory=dict)
    """Other arrays of the file, or columns of its table, by name: labels are among them."""
