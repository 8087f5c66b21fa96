"""Encoding a table for a model: numbers scaled, categories one-hot, missing cells filled, all by the training rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler
from torch import Tensor

from narrows.data.cell_forms import DATES, CellForm, LabelColumn
from narrows.data.checks import check_finite
from narrows.data.contents import Scaling, ScalingMethod
from narrows.data.float_precision import refuse_blurred
from narrows.data.splits import Split
from narrows.data.stores import Dense
from narrows.data.table_columns import TableColumn
from narrows.errors import require
from narrows.types import Column

log = logging.getLogger(__name__)

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]
MOST_QUANTILES = 1000
OTHER = "(other)"
"""The name of the value that stands for all categories that no training row has."""


@dataclass
class Encoding:
    """The encoding of a table's R columns as the D values of an example, and back.

    A numeric column is scaled by scikit-learn's scaler of the chosen method (`quantile` maps to a standard normal) and
    clipped to [-clip, clip]. A binary column is 0 or 1. A categorical column is one-hot: one value for each category of
    the training rows, and a last one for any other category. A missing cell becomes the training mean of its values.
    """

    columns: list[TableColumn]
    """The columns, with the categories that occur in training rows."""
    scaling: Scaling
    scaler: Any
    fill: Matrix
    """The training mean of every value, `[D]`."""
    label: LabelColumn | None = None
    """The column of labels; None where there is none, or the run did not record it."""

    @classmethod
    def fit(cls, columns: Sequence[TableColumn], values: Matrix, missing: Mask, scaling: Scaling) -> Encoding:
        """Fit the encoding on training rows: `values` and `missing` are `[N, R]`, see `Cells`.

        Raises:
            UserError: a column that is missing in every training row; nothing is scaled and float32 cannot tell the
                numbers of a column apart.
        """
        for column, gone in zip(columns, np.all(missing, axis=0).tolist(), strict=True):
            require(not gone, f"column '{column.name}' has no value in any training row: name it in source.ignore")
        found = cls(_seen(columns, values, missing), scaling, _scaler(scaling.method, len(values)), np.zeros(0))
        numbers = np.where(missing, np.nan, values)[:, found._numeric]
        for place, cells in zip(found._numeric, numbers.T, strict=True):
            column = found.columns[place]
            form = column.cells.measured(cells[~np.isnan(cells)], column.kind == "date")
            found.columns[place] = replace(column, cells=form)
        if numbers.shape[1]:
            found.scaler.fit(numbers)
            if scaling.method == "none":
                found._refuse_blurred(numbers)
        x, gaps = found._encoded(_renumbered(values, columns, found.columns), missing)
        found.fill = np.nanmean(np.where(gaps, np.nan, x), axis=0)
        return found

    @property
    def layout(self) -> list[Column]:
        """The columns in the form that models read."""
        return [Column(column.name, _model_kind(column), _width(column)) for column in self.columns]

    @property
    def feature_names(self) -> list[str]:
        """The names of the D values; that of a category is `column=category`."""
        return [name for column in self.columns for name in _names(column)]

    def encode(self, values: Matrix, missing: Mask) -> tuple[Tensor, Tensor]:
        """Encode cells `[N, R]` (see `Cells`): float32 values and which of them are observed, `[N, D]` each."""
        x, gaps = self._encoded(values, missing)
        with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, which the checks report
            filled = np.where(gaps, self.fill, x).astype(np.float32)
        return torch.from_numpy(filled), torch.from_numpy(~gaps)

    def decode(self, x: Matrix) -> pd.DataFrame:
        """Decode examples `[N, D]` to the data's own units: numbers, likelier truth values, likeliest categories."""
        pieces = np.split(x, np.cumsum([_width(column) for column in self.columns])[:-1], axis=1)
        numeric = [piece for piece, column in zip(pieces, self.columns, strict=True) if column.is_number]
        numbers = iter(self.scaler.inverse_transform(np.hstack(numeric)).T if numeric else ())
        return pd.DataFrame(
            {
                column.name: _written(column, next(numbers)) if column.is_number else _likeliest(column, piece)
                for column, piece in zip(self.columns, pieces, strict=True)
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """The encoding as plain values, from which `from_dict` restores it bitwise."""
        fitted = {name: np.asarray(value).tolist() for name, value in vars(self.scaler).items() if _is_fitted(name)}
        columns = [asdict(column) for column in self.columns]
        label = None if self.label is None else asdict(self.label)
        found = {"scaling": asdict(self.scaling), "columns": columns, "scaler": fitted, "fill": self.fill.tolist()}
        return found | {"label": label}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoding:
        """The encoding that `to_dict` wrote."""
        scaling = Scaling(**values["scaling"])
        scaler = _scaler(scaling.method, MOST_QUANTILES)
        for name, fitted in values["scaler"].items():
            array = np.asarray(fitted)
            setattr(scaler, name, array if array.ndim else array.item())
        columns = [
            TableColumn(**(column | {"cells": CellForm(**column.get("cells", {}))})) for column in values["columns"]
        ]
        told = values.get("label")
        label = None if told is None else LabelColumn(**told)
        return cls(columns, scaling, scaler, np.asarray(values["fill"], dtype=np.float64), label)

    @property
    def _numeric(self) -> list[int]:
        return [place for place, column in enumerate(self.columns) if column.is_number]

    def _refuse_blurred(self, numbers: Matrix) -> None:
        names = [self.columns[place].name for place in self._numeric]
        known = np.where(np.isnan(numbers), np.nanmean(numbers, axis=0), numbers)
        refuse_blurred([torch.from_numpy(known)], names, "set source.scaling.method=standard, or take the offset off")

    def _encoded(self, values: Matrix, missing: Mask) -> tuple[Matrix, Mask]:
        numbers = np.where(missing, np.nan, values)[:, self._numeric]
        scaled = self.scaler.transform(numbers) if numbers.size else numbers
        if self.scaling.clip is not None:
            scaled = np.clip(scaled, -self.scaling.clip, self.scaling.clip)
        by_column = iter(scaled.T)
        pieces = [
            next(by_column)[:, None] if column.is_number else _spread(column, cells)
            for column, cells in zip(self.columns, values.T, strict=True)
        ]
        widths = [_width(column) for column in self.columns]
        return np.hstack(pieces), np.repeat(missing, widths, axis=1)


def encode(
    columns: Sequence[TableColumn], splits: dict[str, Split], scaling: Scaling, label: LabelColumn | None = None
) -> tuple[Encoding, dict[str, Split]]:
    """Fit the encoding on the train split; returns it and all splits encoded by it.

    Raises:
        UserError: see `Encoding.fit`; or scaling makes a value infinite.
    """
    train = _cells(splits["train"])
    fitted = Encoding.fit(columns, *train, scaling)
    classes = splits["train"].part.label
    if label is not None and classes is not None:
        counts = torch.bincount(classes.cpu(), minlength=len(label.texts)).double()
        fitted.label = replace(label, shares=(counts / counts.sum()).tolist())
    done = {}
    for name, split in splits.items():
        values, missing = _cells(split)
        values = _renumbered(values, columns, fitted.columns)
        _report_unseen(np.where(missing, 0, values), fitted.columns, name)
        x, observed = fitted.encode(values, missing)
        check_finite([x], name)
        part = replace(split.part, x=Dense(x), observed=None if bool(observed.all()) else observed)
        done[name] = replace(split, part=part)
    return fitted, done


def _cells(split: Split) -> tuple[Matrix, Mask]:
    values = split.part.x.take(slice(None)).numpy()
    observed = split.part.observed
    return values, np.zeros(values.shape, bool) if observed is None else ~observed.numpy()


def _report_unseen(values: Matrix, columns: Sequence[TableColumn], name: str) -> None:
    counts = {c.name: int((cells < 0).sum()) for c, cells in zip(columns, values.T, strict=True) if c.levels}
    told = ", ".join(f"{count} in '{column}'" for column, count in counts.items() if count)
    if told:
        log.warning("the %s split has categories that no training row has, served as 'other': %s", name, told)


def _scaler(method: ScalingMethod, rows: int) -> Any:
    return {
        "none": lambda: FunctionTransformer(),
        "standard": lambda: StandardScaler(),
        "minmax": lambda: MinMaxScaler(),
        "robust": lambda: RobustScaler(),
        "quantile": lambda: QuantileTransformer(
            n_quantiles=min(MOST_QUANTILES, rows), output_distribution="normal", subsample=None
        ),
    }[method]()


def _is_fitted(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _seen(columns: Sequence[TableColumn], values: Matrix, missing: Mask) -> list[TableColumn]:
    """The columns with only the categories that occur in these rows."""
    found = []
    for place, column in enumerate(columns):
        if column.kind == "categorical":
            codes = np.unique(values[~missing[:, place], place]).astype(int)
            column = replace(column, levels=[column.levels[code] for code in codes])
        found.append(column)
    return found


def _renumbered(values: Matrix, old: Sequence[TableColumn], new: Sequence[TableColumn]) -> Matrix:
    """Positions among the old levels, turned into positions among the new levels; -1 where these lack the text."""
    values = values.copy()
    for place, (before, after) in enumerate(zip(old, new, strict=True)):
        if before.kind == "categorical":
            places = {level: code for code, level in enumerate(after.levels)}
            lookup = np.array([places.get(level, -1) for level in before.levels], dtype=np.float64)
            values[:, place] = lookup[values[:, place].astype(int)]
    return values


def _width(column: TableColumn) -> int:
    return len(column.levels) + 1 if column.kind == "categorical" else 1


def _names(column: TableColumn) -> list[str]:
    if column.kind != "categorical":
        return [column.name]
    return [f"{column.name}={level}" for level in (*column.levels, OTHER)]


def _spread(column: TableColumn, cells: Matrix) -> Matrix:
    if column.kind == "binary":
        return cells[:, None]
    return (cells[:, None] == [*range(len(column.levels)), -1]).astype(np.float64)


def _model_kind(column: TableColumn) -> Literal["numeric", "binary", "categorical"]:
    """The kind of a column as models read it: they know no dates."""
    return "numeric" if column.kind == "date" else column.kind


def _written(column: TableColumn, numbers: Matrix) -> Any:
    """Numbers as they are, seconds since 1970 as dates in UTC."""
    if column.kind != "date":
        return numbers
    dates = np.clip(np.nan_to_num(numbers), *DATES).round().astype("datetime64[s]")
    return np.asarray(np.datetime_as_string(dates), dtype=object)


def _likeliest(column: TableColumn, piece: Matrix) -> Any:
    levels: list[Any] = [*column.levels] or [0, 1]
    places = piece[:, : len(levels)].argmax(1) if column.kind == "categorical" else (piece[:, 0] > 0.5).astype(int)
    return np.asarray(levels, dtype=object)[places]
