"""Time series: whole examples from a .npz, windows of a .csv, or a generated signal."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.data.contents import Contents, Part, Standardise
from narrows.data.dataset_files import array_names, existing, read_arrays
from narrows.data.sliding_windows import cut_windows
from narrows.data.sources import synthetic
from narrows.data.sources.arrays import lay_out, to_labels, to_tensor
from narrows.errors import UserError, nearest, require

log = logging.getLogger(__name__)

SYNTHETIC_WINDOW = 64


class Series:
    """Series of equal length, `[C, T]` float32.

    - a .npz holds whole examples, `X` `[N, T]` or `[N, C, T]` with labels `y` if there are any, or the
      official parts `X_train`, `y_train`, `X_test`, `y_test` (also in small letters);
    - a .csv holds one long signal, one row per time step, which is cut into windows;
    - without a path, a signal is **generated** (`narrows.data.sources.synthetic`): correlated sensors with a regime
      change, whose test part has labelled anomalies.

    Windows are split by time, not at random: if the stride is shorter than the window, neighbouring windows share
    samples, and a random split would put the same samples into training and test, which flatters every held-out figure.
    The test split is the last part of the signal, and validation is the last part of the rest (or one contiguous fold);
    windows that would reach across a cut are left out. A window's label is 1 if that of any of its time steps is not 0.

    Args:
        window, stride: in time steps, for signals, not for a .npz; stride null means `window`, without overlap.
        columns: of the .csv; null for every column of numbers except the labels.
        label_column: of the .csv; null for no labels.
        standardise: per channel, fitted on the training rows.
        test: fraction held out for the test split, if the file has no test part; null for no test split.
        train_labels: only these labels are trained and validated on; the test split keeps all.

    Raises:
        UserError: (`load`) a file that is missing, broken, or shorter than a window; a window for a .npz.
    """

    def __init__(
        self,
        path: str | None = None,
        window: int | None = None,
        stride: int | None = None,
        columns: Sequence[str] | None = None,
        label_column: str | None = None,
        standardise: Standardise = "standard",
        test: float | None = 0.1,
        train_labels: Sequence[int] | None = None,
    ) -> None:
        require(test is None or 0 < test < 1, f"source.test={test} is no fraction between 0 and 1")
        require(window is None or window >= 1, f"source.window={window} must be at least 1 time step")
        require(stride is None or stride >= 1, f"source.stride={stride} must be at least 1 time step")
        self.path = path
        self.window = window
        self.stride = stride
        self.columns = columns
        self.label_column = label_column
        self.standardise = standardise
        self.test = test
        self.train_labels = train_labels

    def load(self) -> Contents:
        if self.path is None:
            return self._generated()
        path = existing(self.path, "source.path")
        if path.suffix == ".csv":
            return self._signal(*_read_csv(path, self.columns, self.label_column), window=self.window)
        if path.suffix == ".npz":
            return self._examples(path)
        raise UserError(f"{path} is neither a .npz nor a .csv file: convert it to one of them")

    def _generated(self) -> Contents:
        self._refuse("a generated signal has its own", columns=self.columns, label_column=self.label_column)
        start = synthetic.LENGTH if self.test is None else _cut(synthetic.LENGTH, self.test)
        signal = synthetic.generate(start)
        log.info("series: no source.path is set, so this is a SYNTHETIC signal, generated and not measured")
        return self._signal(signal.values, signal.anomalous, signal.names, window=self.window or SYNTHETIC_WINDOW)

    def _refuse(self, reason: str, **settings: object) -> None:
        for name, value in settings.items():
            require(value is None, f"source.{name}={value} cannot be used: {reason}; set it to null")

    def _signal(self, values: Tensor, label: Tensor | None, names: list[str], window: int | None) -> Contents:
        if window is None:
            raise UserError(f"{self.path} is one long signal: set source.window to cut it, such as 64 time steps")
        stride = self.stride or window
        length = values.shape[1]
        start = length if self.test is None else _cut(length, self.test)
        for part, size in {"before the test part": start, "of the test part": length - start}.items():
            require(
                size >= window or size == 0,
                f"the {size} time steps {part} are fewer than window={window}: shorten it, or change source.test",
            )
        test = None if self.test is None else cut_windows(values[:, start:], _from(label, start), window, stride)
        return Contents(
            "series",
            cut_windows(values[:, :start], None if label is None else label[:start], window, stride),
            test=test,
            train_labels=self.train_labels,
            neighbours=-(-window // stride) - 1,
            standardise=self.standardise,
            feature_names=names,
        )

    def _examples(self, path: Path) -> Contents:
        self._refuse(
            "a .npz holds whole examples, whose length is the file's",
            window=self.window,
            stride=self.stride,
            columns=self.columns,
            label_column=self.label_column,
        )
        names = {name.lower(): name for name in array_names(path)}
        official = "x_train" in names and "x_test" in names
        if not official and "x" not in names:
            raise UserError(f"{path} has neither X nor X_train and X_test: {nearest('X', names.values())}")
        train = _example_part(path, names, "_train" if official else "")
        return Contents(
            "series",
            train,
            test=_example_part(path, names, "_test") if official else None,
            test_fraction=self.test,
            train_labels=self.train_labels,
            standardise=self.standardise,
        )


def _example_part(path: Path, names: dict[str, str], suffix: str) -> Part:
    x_name, y_name = names["x" + suffix], names.get("y" + suffix)
    arrays = read_arrays(path, [x_name] if y_name is None else [x_name, y_name])
    where = f"array '{x_name}' of {path}"
    x = arrays[x_name]
    require(x.ndim in (2, 3), f"{where} has shape {list(x.shape)}, but series must be [N, T] or [N, C, T]")
    label = None if y_name is None else to_labels(arrays[y_name], f"array '{y_name}' of {path}")
    return Part(to_tensor(lay_out(x, "series", None, where), "series", where), label)


def _cut(length: int, test: float) -> int:
    return length - round(length * test)


def _from(label: Tensor | None, start: int) -> Tensor | None:
    return None if label is None else label[start:]


def _read_csv(
    path: Path, columns: Sequence[str] | None, label_column: str | None
) -> tuple[Tensor, Tensor | None, list[str]]:
    """Values `[C, T]`, labels `[T]`, and the names of the columns."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    require(bool(rows), f"{path} holds no rows: a header and one row for each time step are needed")
    for line, row in enumerate(rows, start=2):
        require(len(row) == len(header), f"line {line} of {path} has {len(row)} cells, but the header {len(header)}")
    cells = dict(zip(header, zip(*rows, strict=True), strict=True))
    wanted = [*(columns or []), *([label_column] if label_column else [])]
    for name in wanted:
        require(name in cells, f"{path} has no column '{name}': {nearest(name, cells)}")
    names = list(columns) if columns else [name for name in header if name != label_column and _numeric(cells[name])]
    require(bool(names), f"{path} has no column of numbers: its columns are {', '.join(header)}")
    values = torch.stack([_numbers(cells[name], name, path) for name in names])
    label = None
    if label_column is not None:
        label = to_labels(_numbers(cells[label_column], label_column, path).numpy(), f"column '{label_column}'")
    return values, label, names


def _numeric(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers, judged by its first cell; time stamps do not count."""
    try:
        float(cells[0])
    except ValueError:
        return False
    return True


def _numbers(cells: Sequence[str], name: str, path: Path) -> Tensor:
    numbers = np.empty(len(cells), dtype=np.float32)
    for row, cell in enumerate(cells):
        try:
            numbers[row] = float(cell)
        except ValueError:
            raise UserError(f"line {row + 2} of {path} has '{cell}' in column '{name}', which is no number") from None
    return torch.from_numpy(numbers)
