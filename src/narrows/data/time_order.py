"""Signals and the order of their time steps: what a reader of signals gives, whatever file it read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from narrows.errors import nearest, require


@dataclass
class TimeOrder:
    """How the rows of a table of signals follow one another.

    Args:
        time: the column of the time: ISO time stamps, or numbers. Rows are put in its order, and no window crosses a
            gap in it. `auto` takes the one column of time stamps, if there is one; null takes the rows as they come.
        id: the column that names the series of each row, if the table holds many.
        split: of many series: `series` holds out whole ones, `time` the last part of each.
    """

    time: str | None = "auto"
    id: str | None = None
    split: Literal["series", "time"] = "series"

    def __post_init__(self) -> None:
        choices = ("series", "time")
        require(self.split in choices, f"unknown order.split={self.split!r}: {nearest(str(self.split), choices)}")


@dataclass
class Stretch:
    """Time steps that follow one another without a gap: values `[C, T]` and labels `[T]`, if there are any."""

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


@dataclass
class Recordings:
    """The series of a file."""

    series: list[Recording]
    channels: list[str]
    notes: list[str] = field(default_factory=list)
    """What people should know of the reading: order, gaps, columns left out."""
