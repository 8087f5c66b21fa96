"""Signals and the order of their time steps: what a reader of signals gives, whatever file it read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from narrows.errors import nearest, require


@dataclass
class TimeOrder:
    """How the rows of a table of signals follow one another.

    Args:
        time: the column of the time: ISO time stamps, or numbers. Rows are put in its order. `auto` takes the one
            column of time stamps, if there is one (of Parquet also an index); null takes the rows as they come. New
            rows are ordered by the column that ordered the run's own.
        id: the column that names the series of each row, if the table holds many.
        split: of many series: `series` holds out whole ones, `time` the last part of each.
        gaps: where the time jumps or goes back: `cut`, so that no window crosses it; `refuse` such data; or `ignore`
            it and take the rows for equal steps.
        resample: puts the rows on a grid of equal steps, each the mean of its rows, and missing where it has none: a
            duration such as `5min`, a number in the unit of the time, or `auto` for the usual step of each file. Null
            keeps the rows.
    """

    time: str | None = "auto"
    id: str | None = None
    split: Literal["series", "time"] = "series"
    gaps: Literal["cut", "ignore", "refuse"] = "cut"
    resample: str | float | None = None

    def __post_init__(self) -> None:
        choices = {"split": ("series", "time"), "gaps": ("cut", "ignore", "refuse")}
        for name, known in choices.items():
            value = getattr(self, name)
            require(value in known, f"unknown order.{name}={value!r}: {nearest(str(value), known)}")
        require(
            self.resample is None or self.gaps == "cut",
            f"order.resample={self.resample} leaves no gaps for order.gaps={self.gaps}: set one of them",
        )


@dataclass
class Signals:
    """How the signals of a table are read, beside their order.

    Args:
        covariates: columns that the encoder reads beside the channels (`input=covariates`), and that are not rebuilt.
        missing: what becomes of cells without a number, and of NaN in a .npz: `refuse`, or `keep` them as missing
            values, which no loss and no figure counts.
        intervals_path: a JSON of labelled intervals, `{series: [[first, last], ...]}` or, of one series, its list
            alone: the time steps from first to last are anomalies, label 1, all others 0.
        scale: whether `standardise` is fitted to all series `together`, or to `each` by its own training part.
    """

    covariates: Sequence[str] = ()
    missing: Literal["refuse", "keep"] = "refuse"
    intervals_path: str | None = None
    scale: Literal["together", "each"] = "together"

    def __post_init__(self) -> None:
        choices = {"missing": ("refuse", "keep"), "scale": ("together", "each")}
        for name, known in choices.items():
            value = getattr(self, name)
            require(value in known, f"unknown signals.{name}={value!r}: {nearest(str(value), known)}")


@dataclass
class Stretch:
    """Time steps that follow one another without a gap: values `[C, T]`, NaN where one is missing, and labels `[T]`, if
    there are any."""

    values: Tensor
    label: Tensor | None
    start: int
    """The place of the first time step in its series."""


@dataclass
class Recording:
    """One series: its name, its number of time steps, and its stretches."""

    name: str
    length: int
    stretches: list[Stretch]
    label: Tensor | None = None
    """Of every time step, `[T]`."""
    rows: NDArray[np.int64] | None = None
    """The rows of the file that it was read from, in the order of time, `[R]`."""
    steps: NDArray[np.int64] | None = None
    """The time step of each of these rows, `[R]`."""


@dataclass
class Recordings:
    """The series of a file or a folder."""

    series: list[Recording]
    channels: list[str]
    """Names of the rows of values: the channels, then the covariates."""
    notes: list[str] = field(default_factory=list)
    """What people should know of the reading: order, gaps, columns left out."""
    time: str | None = None
    """The column that orders the rows."""
    step: float | None = None
    """The usual step in time, in seconds or the time's own unit; of a grid its step."""


@dataclass
class Timeline:
    """The series that windows were cut from, and where each window lies in its series."""

    window: int
    names: list[str]
    """Of the series."""
    labels: list[Tensor | None]
    """Of every time step of each series, `[T]`; 0 is normal."""
    lengths: list[int]
    """Time steps of each series."""
    places: dict[str, Tensor]
    """Of the windows of each part, int64 `[N, 2]`: the number of the series, and the first time step."""
    time: str | None = None
    """The column that ordered the rows."""
    step: float | None = None
    """The usual step in time."""
