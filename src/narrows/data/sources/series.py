"""Time series: whole examples from a .npz, windows of signals in a table, or a generated signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from narrows.data.contents import Contents, Part, Standardise, shortened
from narrows.data.dataset_files import array_names, existing, read_arrays
from narrows.data.sliding_windows import Windows, both_masked, cut_recordings, whole_series
from narrows.data.sources import synthetic
from narrows.data.sources.arrays import lay_out, to_labels, to_tensor
from narrows.data.table_format import Format
from narrows.data.time_order import Recording, Recordings, Signals, Stretch, Timeline, TimeOrder
from narrows.errors import UserError, nearest, require

SYNTHETIC_WINDOW = 64
Stride = int | Literal["auto"] | None


class Series:
    """Series of equal length, `[C, T]` float32.

    - a .npz holds whole examples, `X` `[N, T]` or `[N, C, T]` with labels `y` if there are any, or the
      official parts `X_train`, `y_train`, `X_test`, `y_test` (also in small letters);
    - a table (.csv, also packed, or Parquet) holds signals, one row for each time step, which are cut into windows: one
      signal, or many that a column tells apart (`order.id`) or that lie in one folder, a table for each. Without a
      window each of many is an example;
    - without a path, a signal is **generated** (`narrows.data.sources.synthetic`): correlated sensors with a regime
      change, whose test part has labelled anomalies.

    Windows of a signal are split by time, not at random: if the stride is shorter than the window, neighbouring windows
    share samples, and a random split would put the same samples into training and test, which flatters every held-out
    figure. The test split is the last part of the signal, and validation is the last part of the rest (or one
    contiguous fold); windows that would reach across a cut are left out. Many signals are split as a whole, or each by
    time (`order.split`). A window's label is 1 if that of any of its time steps is not 0.

    Args:
        window, stride: in time steps, for signals, not for a .npz; stride null means `window`, without overlap, and
            `auto` a quarter of it.
        columns: of the table; null for every column of numbers except the labels, the time and the name of the series.
        label_column: of the table; null for no labels.
        standardise: per channel, fitted on the training rows.
        test: fraction held out for the test split, if the file has no test part; null for no test split.
        train_labels: only these labels are trained and validated on; the test split keeps all.
        channels_last: whether the examples of a .npz are `[N, T, C]`; null: no, but asks where it looks wrong.
        order: the columns of the table that order its rows.
        format: of the table, if it is a text.
        signals: covariates, missing values, intervals of labels and the scale of signals in tables.

    Raises:
        UserError: (`load`) a file that is missing, broken, or shorter than a window; a window for a .npz; a cell that
            is no number; a column that is a clock and no sensor.
    """

    def __init__(
        self,
        path: str | None = None,
        window: int | None = None,
        stride: Stride = None,
        columns: Sequence[str] | None = None,
        label_column: str | None = None,
        standardise: Standardise = "standard",
        test: float | None = 0.1,
        train_labels: Sequence[int] | None = None,
        channels_last: bool | None = None,
        order: TimeOrder | None = None,
        format: Format | None = None,
        signals: Signals | None = None,
    ) -> None:
        require(test is None or 0 < test < 1, f"source.test={test} is no fraction between 0 and 1")
        require(window is None or window >= 1, f"source.window={window} must be at least 1 time step")
        least = stride is None or stride == "auto" or (isinstance(stride, int) and stride >= 1)
        require(least, f"source.stride={stride} must be at least 1 time step, auto or null")
        self.path = path
        self.window = window
        self.stride = stride
        self.columns = columns
        self.label_column = label_column
        self.standardise = standardise
        self.test = test
        self.train_labels = train_labels
        self.channels_last = channels_last
        self.order = order or TimeOrder()
        self.format = format
        self.signals = signals or Signals()
        both = label_column is not None and self.signals.intervals_path is not None
        require(not both, "labels are source.label_column or source.signals.intervals_path: set the other to null")

    def load(self) -> Contents:
        if self.path is None:
            return self._generated()
        path = existing(self.path, "source.path")
        if path.suffix == ".npz":
            return self._examples(path)
        if path.suffix == ".npy":
            raise UserError(f"{path} is neither a .npz of examples X nor a table of signals: convert it to one of them")
        self._refuse("a table has a column for each channel", channels_last=self.channels_last)
        read = self.recordings(path)
        return self._signals(read, self.window, many=self.order.id is not None or path.is_dir())

    def recordings(self, path: Path) -> Recordings:
        """The signals of a table or a folder of tables, uncut."""
        # Tables need pandas, which is slow to import.
        from narrows.data.signal_cells import Columns
        from narrows.data.signal_table import Reading
        from narrows.data.table_format import Format

        wanted = Columns(self.columns, self.label_column, self.signals.covariates)
        return Reading(self.format or Format(), wanted, self.order, self.signals).read(path)

    def _generated(self) -> Contents:
        reason = "a generated signal has its own"
        self._refuse(reason, columns=self.columns, label_column=self.label_column, **self._named_order())
        start = synthetic.LENGTH if self.test is None else _cut(synthetic.LENGTH, self.test)
        signal = synthetic.generate(start)
        label = signal.anomalous.to(torch.int64)
        whole = Recording("", synthetic.LENGTH, [Stretch(signal.values, label, 0)], label)
        found = self._signals(Recordings([whole], signal.names), self.window or SYNTHETIC_WINDOW, many=False)
        note = "series: no source.path is set, so this is a SYNTHETIC signal, generated and not measured"
        return replace(found, reading=[note, *found.reading])

    def _named_order(self) -> dict[str, object]:
        time = None if self.order.time == "auto" else self.order.time
        return {"order.time": time, "order.id": self.order.id}

    def _refuse(self, reason: str, **settings: object) -> None:
        for name, value in settings.items():
            require(value is None, f"source.{name}={value} cannot be used: {reason}; set it to null")

    def _signals(self, read: Recordings, window: int | None, *, many: bool) -> Contents:
        if window is None:
            require(many, f"{self.path} is one long signal: set source.window to cut it, such as 64 time steps")
            return self._whole(read)
        stride = self.stride_of(window)
        covariates = list(self.signals.covariates)
        channels = read.channels[: len(read.channels) - len(covariates)]
        cut = Windows(window, stride, len(channels))
        by_time = not many or self.order.split == "time"
        test = self.test if by_time else None
        train, places = cut_recordings(read.series, cut, "before the test part", end=test)
        held, held_places = None, None
        if test is not None:
            held, held_places = cut_recordings(read.series, cut, "of the test part", start=test)
        both_masked(train, held)
        contents = Contents(
            "series",
            train,
            test=held,
            test_fraction=None if by_time else self.test,
            train_labels=self.train_labels,
            neighbours=-(-window // stride) - 1 if by_time else None,
            groups=places[:, 0] if many else None,
            standardise=self.standardise,
            feature_names=channels,
            covariate_names=covariates or None,
            timeline=_timeline(read, window, places, held_places),
            scale_each=self.signals.scale == "each",
        )
        steps = sum(one.length for one in read.series)
        cuts = f", a window every {stride} of {steps:,} time steps"
        told = self._told_apart(read) if many else ""
        notes = read.notes + _without_windows(read, window, [places, *([] if held_places is None else [held_places])])
        return replace(contents, reading=self._reading(contents, window, cuts + told, notes))

    def stride_of(self, window: int) -> int:
        """Time steps from one window to the next."""
        return max(1, window // 4) if self.stride == "auto" else self.stride or window

    def _told_apart(self, read: Recordings) -> str:
        by = "by their files" if self.order.id is None else f"by '{self.order.id}'"
        return f" in {len(read.series):,} series told apart {by}, split by {self.order.split}"

    def _whole(self, read: Recordings) -> Contents:
        """Each of many series as an example."""
        reason = "without a window every series is an example"
        self._refuse(reason, stride=_told(self.stride), **{"signals.covariates": list(self.signals.covariates) or None})
        part = whole_series(read.series)
        contents = Contents(
            "series",
            part,
            test_fraction=self.test,
            train_labels=self.train_labels,
            standardise=self.standardise,
            feature_names=read.channels,
        )
        apart = ", each a series" + ("" if self.order.id is None else f" named by '{self.order.id}'")
        return replace(contents, reading=self._reading(contents, part.x.shape[-1], apart, read.notes))

    def _reading(self, contents: Contents, steps: int, more: str, notes: Sequence[str]) -> list[str]:
        channels = contents.train.x.shape[1]
        names = f" ({shortened(contents.feature_names)})" if contents.feature_names else ""
        count = sum(len(part) for part in contents.parts().values())
        held = f" ({len(contents.test):,} of them to test)" if contents.test is not None else ""
        of = f"{channels} channel{'s' if channels > 1 else ''}{names} x {steps} time steps"
        source = self.label_column or self.signals.intervals_path
        label = f"; beside them {shortened(self.signals.covariates)}" if contents.covariate_names else ""
        label += f"; label: {source}" if source else ""
        said = [f"series: {count:,} examples{held} of {of}{more}{label}"]
        return said + ([f"series: {'; '.join(notes)}"] if notes else [])

    def _examples(self, path: Path) -> Contents:
        self._refuse(
            "a .npz holds whole examples, whose length is the file's",
            window=self.window,
            stride=_told(self.stride),
            columns=self.columns,
            label_column=self.label_column,
            **self._named_order(),
            **{
                "signals.covariates": list(self.signals.covariates) or None,
                "signals.intervals_path": self.signals.intervals_path,
                "signals.scale": None if self.signals.scale == "together" else self.signals.scale,
                "order.resample": self.order.resample,
            },
        )
        names = {name.lower(): name for name in array_names(path)}
        official = "x_train" in names and "x_test" in names
        if not official and "x" not in names:
            raise UserError(f"{path} has neither X nor X_train and X_test: {nearest('X', names.values())}")
        train = self._example_part(path, names, "_train" if official else "")
        test = self._example_part(path, names, "_test") if official else None
        both_masked(train, test)
        contents = Contents(
            "series",
            train,
            test=test,
            test_fraction=self.test,
            train_labels=self.train_labels,
            standardise=self.standardise,
        )
        labels = "" if train.label is None else f"; label: {names['y_train' if official else 'y']}"
        read = {f"{what}{part}" for what in "xy" for part in (("_train", "_test") if official else ("",))}
        others = [name for lower, name in names.items() if lower not in read]
        masks = [part.observed for part in (train, test) if part is not None and part.observed is not None]
        missing = sum(int((~mask).sum()) for mask in masks)
        notes = [f"{missing:,} missing values, kept as missing"] if missing else []
        notes += [f"not read: {shortened(others)}"] if others else []
        return replace(contents, reading=self._reading(contents, train.x.shape[-1], labels, notes))

    def _example_part(self, path: Path, names: dict[str, str], suffix: str) -> Part:
        x_name, y_name = names["x" + suffix], names.get("y" + suffix)
        arrays = read_arrays(path, [x_name] if y_name is None else [x_name, y_name])
        where = f"array '{x_name}' of {path}"
        x = arrays[x_name]
        require(x.ndim in (2, 3), f"{where} has shape {list(x.shape)}, but series must be [N, T] or [N, C, T]")
        label = None if y_name is None else to_labels(arrays[y_name], f"array '{y_name}' of {path}")
        values = to_tensor(lay_out(x, "series", self.channels_last, where), "series", where)
        gone = values.isnan()
        if not gone.any() or self.signals.missing != "keep":
            return Part(values, label)
        return Part(values.masked_fill(gone, 0.0), label, ~gone)


def _timeline(read: Recordings, window: int, train: Tensor, test: Tensor | None) -> Timeline:
    places = {"train": train} | ({} if test is None else {"test": test})
    series = read.series
    names, labels = [one.name for one in series], [one.label for one in series]
    return Timeline(window, names, labels, [one.length for one in series], places, read.time, read.step)


def _without_windows(read: Recordings, window: int, places: Sequence[Tensor]) -> list[str]:
    """A note of the series of which no window is, because all of their stretches are shorter."""
    known = set(torch.cat(list(places))[:, 0].tolist())
    lost = [one.name for number, one in enumerate(read.series) if number not in known]
    if not lost:
        return []
    return [f"{len(lost):,} series without a window, of {window} time steps in a stretch: {shortened(lost, 3)}"]


def _told(stride: Stride) -> int | None:
    """The stride, where it is a number."""
    return stride if isinstance(stride, int) else None


def _cut(length: int, test: float) -> int:
    return length - round(length * test)
