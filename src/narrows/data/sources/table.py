"""Your own table of numbers, truth values and categories, with missing cells: CSV, Parquet or numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from narrows.data.cell_forms import LabelColumn, form_of
from narrows.data.checks import MOST_CLASSES
from narrows.data.contents import Contents, Part, Scaling, shortened
from narrows.data.dataset_files import existing
from narrows.data.table_columns import Cells, TableColumn, complaint, numbers_of, to_cells
from narrows.data.table_files import read_chunks
from narrows.data.table_format import Format
from narrows.data.table_kinds import KINDS, explain_bad_cell, infer, read_kinds
from narrows.errors import UserError, nearest, require

Name = str | int
"""The name of a column, or its position from 0."""


@dataclass
class Label:
    """The column of labels.

    Args:
        column: its name or position; null if the table has no labels.
        normal: the values of normal rows; labels are then 0 for these and 1, an anomaly, for every other value. Null
            makes labels classes: whole numbers unchanged, other texts numbered in order.
        train: the values of the rows that are trained and validated on; null for all. The test split keeps every row.
        strip: characters to take off the end of every value.
    """

    column: Name | None = None
    normal: Sequence[str | int] | None = None
    train: Sequence[str | int] | None = None
    strip: str | None = None

    def __post_init__(self) -> None:
        require(
            self.column is not None or (self.normal is None and self.train is None),
            "label.normal and label.train choose rows by their label: name its column in label.column",
        )
        require(
            self.normal is None or self.train is None or {*map(str, self.train)} == {*map(str, self.normal)},
            f"with label.normal={self.normal} every other row is an anomaly: label.train={self.train} must be the same "
            "values, or null",
        )


@dataclass
class HeldOutRows:
    """Where the test split of `Table` comes from.

    Args:
        fraction: of the rows, if `path` is null; null for no test split.
        rest: whether the rows that `label.train` leaves out join the test split, so that it holds all anomalies.
        path: another file with the same columns.
        skip_rows: of that file; null for that of the training file.
    """

    fraction: float | None = 0.1
    rest: bool = False
    path: str | None = None
    skip_rows: int | None = None


class Table:
    """Rows of a table: CSV (also .gz or .xz), Parquet, or numpy arrays (.npz, .npy).

    Numbers are scaled, categories become one-hot, and missing cells become the training mean, marked as not observed.
    All of this is fitted on the training rows alone and kept with the run (`narrows.data.table_scaling_and_encoding`).
    The kind of a column is inferred from all its cells in all files (`narrows.data.table_kinds`). A column of texts is
    meant as numbers if 9 in 10 of its cells are numbers, or half of them, of 20 different values; its first cell that
    is none is refused. So are columns of dates, of texts that are nearly all different, and without a name.

    Args:
        ignore: columns that the model does not read, by name or place.
        kinds: of columns whose kind cannot be inferred, such as numbers that are names:
            `{column: numeric | binary | categorical | date}`, or texts `column: kind`, which a shell can pass whatever
            the column is called. A date is read as a number, its seconds since 1970; `date %d.%m.%Y` says how it is
            written where that is not `2026-11-29` or `2026-11-29 08:30:00`.

    Raises:
        UserError: (`load`) a file, a column or a cell that does not fit the arguments.
    """

    def __init__(
        self,
        path: str,
        label: Label | None = None,
        ignore: Sequence[Name] = (),
        kinds: Mapping[str, str] | Sequence[str] | None = None,
        scaling: Scaling | None = None,
        format: Format | None = None,
        test: HeldOutRows | None = None,
    ) -> None:
        self.path = path
        self.label = label or Label()
        self.ignore = ignore
        self.kinds = read_kinds(kinds)
        self.scaling = scaling or Scaling()
        self.format = format or Format()
        self.test = test or HeldOutRows()
        own = self.test.path is not None
        require(
            not own or not self.test.rest, "test.rest=true joins rows of the training file, but test.path is another"
        )
        require(own or self.test.skip_rows is None, "test.skip_rows is of the file test.path, which is null")
        require(
            not self.test.rest or (self.label.train is not None and self.test.fraction is not None),
            "test.rest=true joins the rows that label.train leaves out to test.fraction: set both",
        )

    def load(self) -> Contents:
        files = {"train": _read(existing(self.path, "source.path"), self.format)}
        if self.test.path is not None:
            skip = self.format.skip_rows if self.test.skip_rows is None else self.test.skip_rows
            where = existing(self.test.path, "source.test.path")
            files["test"] = _read(where, replace(self.format, skip_rows=skip))
        named = {part: self.split(rows.frame, rows.path) for part, rows in files.items()}
        whole = pd.concat([features for features, _ in named.values()], ignore_index=True)
        require(len(whole.columns) > 0, f"{self.path} has no column that a model reads: label and ignore name them all")
        columns = infer(whole, self.kinds, self.format.marks)
        coded = _Classes(self.label, [texts for _, texts in named.values() if texts is not None])
        parts = {
            name: self._part(files[name], features, columns, None if texts is None else coded.of(texts))
            for name, (features, texts) in named.items()
        }
        return Contents.of_parts(
            "vector",
            parts,
            self.test.fraction,
            rest_to_test=self.test.rest,
            train_labels=coded.trained,
            columns=columns,
            scaling=self.scaling,
            class_names=coded.names,
            label_column=self._label_column(files["train"], coded),
            reading=self._reading(files["train"], parts, columns, coded),
        )

    def _label_column(self, read: _Rows, coded: _Classes) -> LabelColumn | None:
        if self.label.column is None:
            return None
        names = list(map(str, read.frame))
        column = _resolved(self.label.column, names, "source.label.column", read.path)
        dropped = {_resolved(name, names, "source.ignore", read.path) for name in self.ignore}
        form = form_of(read.frame.iloc[:, names.index(column)], "categorical", coded.names is not None)
        place = [name for name in names if name not in dropped].index(column)
        return LabelColumn(column, place, coded.texts, form.dtype)

    def _reading(
        self, read: _Rows, parts: Mapping[str, Part], columns: Sequence[TableColumn], coded: _Classes
    ) -> list[str]:
        said = [f"table: {describe_columns(columns)}; {_describe_rows(parts)}{coded.described}"]
        names = list(map(str, read.frame))
        out = [_resolved(name, names, "source.ignore", read.path) or "one without a name" for name in self.ignore]
        out += [f"the index {index}" for index in read.index]
        return said + ([f"table: left out: {shortened(out)}"] if out else [])

    def _part(self, rows: _Rows, features: pd.DataFrame, columns: list[TableColumn], label: Tensor | None) -> Part:
        for column in columns:
            require(column.name in features, f"{rows.path} has no column '{column.name}', which the other file has")
        cells = to_cells(features, columns, self.format.marks)
        for row in np.flatnonzero(np.any(cells.bad | cells.unseen, axis=1))[:1]:
            self._refuse_cell(rows, features, columns, cells, int(row))
        observed = None if not cells.missing.any() else torch.from_numpy(~cells.missing)
        return Part(torch.from_numpy(cells.values), label, observed)

    def _refuse_cell(
        self, rows: _Rows, features: pd.DataFrame, columns: list[TableColumn], cells: Cells, row: int
    ) -> None:
        column = columns[int(np.flatnonzero(cells.bad[row] | cells.unseen[row])[0])]
        share = float(np.isfinite(numbers_of(features[column.name].dropna(), self.format.marks)).mean())
        text = features[column.name].iloc[row]
        how = self.format if isinstance(text, str) else None
        way_out = explain_bad_cell(text, column, column.name in self.kinds, share, how)
        wrong = complaint(cells, features, columns, row)
        raise UserError(f"{rows.unit} {rows.lines[row]} of {rows.path}: {wrong}; {way_out}")

    def split(self, frame: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, pd.Series | None]:
        """The columns that a model reads, and the texts of the labels if there are any.

        Raises:
            UserError: a column of `label` or `ignore` that does not exist, or a row without a label.
        """
        names = list(map(str, frame))
        frame = frame.set_axis(names, axis=1)
        dropped = [_resolved(name, names, "source.ignore", path) for name in self.ignore]
        if self.label.column is None:
            return frame.drop(columns=dropped), None
        column = _resolved(self.label.column, names, "source.label.column", path)
        unlabelled = int(frame[column].isna().sum())
        require(unlabelled == 0, f"{unlabelled} rows of {path} have no label in column '{column}'")
        texts = frame[column].astype(str)
        if self.label.strip is not None:
            texts = texts.str.rstrip(self.label.strip)
        return frame.drop(columns=[*dropped, column]), texts


@dataclass
class _Rows:
    """A whole file."""

    frame: pd.DataFrame
    lines: list[int]
    path: Path
    unit: str
    """What `lines` counts: lines of a text, or rows."""
    index: list[str]
    """The columns that a Parquet file keeps as the index of its rows, which no model reads."""


def _read(path: Path, how: Format) -> _Rows:
    frames, lines, unit = [], [], "row"
    for chunk in read_chunks(path, how):
        for place, wrong in chunk.broken.items():
            raise UserError(f"line {chunk.lines[place]} of {path} has {wrong}: every row must have one for each column")
        frames.append(chunk.known)
        unit = chunk.unit
        lines += chunk.lines.tolist()
    require(bool(frames), f"{path} holds no rows")
    index = [str(name) for name in frames[0].index.names if name is not None]
    return _Rows(pd.concat(frames, ignore_index=True), lines, path, unit, index)


def _resolved(name: Name, names: list[str], setting: str, path: Path) -> str:
    if isinstance(name, int) and str(name) not in names:
        require(-len(names) <= name < len(names), f"{setting}={name}, but {path} has {len(names)} columns")
        return names[name]
    require(str(name) in names, f"{setting}={name}: {path} has no such column; {nearest(str(name), names)}")
    return str(name)


def describe_columns(columns: Sequence[TableColumn]) -> str:
    """The columns by kind: "5 numeric (temp, ...), 2 categorical (city: 12 levels, colour: 3 levels)"."""
    said = []
    for kind in KINDS:
        names = [
            f"{column.name}: {len(column.levels)} levels" if kind == "categorical" else column.name
            for column in columns
            if column.kind == kind
        ]
        if names:
            said.append(f"{len(names)} {kind} ({shortened(names)})")
    return ", ".join(said)


def _describe_rows(parts: Mapping[str, Part]) -> str:
    missing = sum(int((~part.observed).sum()) for part in parts.values() if part.observed is not None)
    tested = f" and {len(parts['test']):,} of the test file" if "test" in parts else ""
    return f"{len(parts['train']):,} rows{tested}" + (f", {missing:,} missing cells" if missing else "")


class _Classes:
    """The texts of labels as numbers."""

    def __init__(self, label: Label, texts: Sequence[pd.Series]) -> None:
        self._label = label
        self._normal = None if label.normal is None else {*map(str, label.normal)}
        known = sorted({text for column in texts for text in column})
        whole = all(_is_whole(text) and abs(float(text)) < MOST_CLASSES for text in known)
        self._codes = {text: int(float(text)) if whole else code for code, text in enumerate(known)}
        for value in [*(label.normal or ()), *(label.train or ())]:
            require(
                str(value) in self._codes, f"source.label: no row has the label '{value}'; {nearest(str(value), known)}"
            )
        self.names = None if whole else known
        """The name of each class; None where labels are numbers already."""
        if self._normal is not None:
            self.names = [" or ".join(sorted(self._normal)), "anomaly"]
        self.texts = self._texts(known)
        """What stands for each class in the file, or describes it where several values are one class."""

    def _texts(self, known: Sequence[str]) -> list[str]:
        if self._normal is not None:
            others = [text for text in known if text not in self._normal]
            return [(self.names or [])[0], others[0] if len(others) == 1 else "anomaly"]
        by_code = {code: text for text, code in self._codes.items()}
        return [by_code.get(code, str(code)) for code in range(max(by_code, default=-1) + 1)]

    @property
    def described(self) -> str:
        """The label's column and its classes, the end of a line for people; empty if there are no labels."""
        if self._label.column is None:
            return ""
        classes = [f"{code} is {name}" for code, name in enumerate(self.names or ())]
        return f"; label: {self._label.column}" + (f" ({shortened(classes)})" if classes else "")

    @property
    def trained(self) -> list[int] | None:
        """The numbers of `label.train`."""
        if self._label.train is None:
            return None
        return sorted({self._number(str(value)) for value in self._label.train})

    def of(self, texts: pd.Series) -> Tensor:
        return torch.tensor([self._number(text) for text in texts])

    def _number(self, text: str) -> int:
        return self._codes[text] if self._normal is None else int(text not in self._normal)


def _is_whole(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return False
