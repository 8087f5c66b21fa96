"""The cells of a table of signals: which columns are channels, time or labels, and what their cells hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from narrows.data.number_texts import explain_disguise, to_numbers
from narrows.data.sources.arrays import to_labels
from narrows.data.table_columns import TRUTHS, has_zone, looks_like_a_time, numbers_of, seconds_of
from narrows.data.table_files import read_chunks
from narrows.data.table_format import UNNAMED, Format, in_shell
from narrows.data.time_order import TimeOrder
from narrows.errors import UserError, require

EVEN = 0.9
"""A column of which this share of the steps is one and the same, and all go one way, is a clock or a row number."""
FEWEST = 8
"""Rows below which no column is called a clock."""
LOOKED_AT = 100
"""First filled cells of a column that are looked at before all of it is read as time stamps."""
CLOCKS = {"time", "timestamp", "datetime", "date", "epoch", "unixtime", "unixtimestamp", "epochseconds", "epochms"}
"""Names, in small letters without marks, of columns of different numbers that are a clock."""
HERE = "datamodule.source"


@dataclass
class Columns:
    """The columns of a table of signals that are asked for: channels (null: all of numbers), labels and covariates."""

    channels: Sequence[str] | None
    label: str | None
    covariates: Sequence[str] = ()


@dataclass
class SignalCells:
    """The cells of a file, as they are written."""

    frame: pd.DataFrame
    lines: list[int]
    unit: str
    path: Path
    how: Format

    @classmethod
    def read(cls, path: Path, how: Format) -> SignalCells:
        frames, lines, unit = [], [], "row"
        for chunk in read_chunks(path, how):
            for place, wrong in chunk.broken.items():
                raise UserError(
                    f"line {chunk.lines[place]} of {path} has {wrong}: every row must have one for each column"
                )
            frame = _with_index(chunk.frame)
            frames.append(frame.set_axis(list(map(str, frame)), axis=1))
            lines += chunk.lines.tolist()
            unit = chunk.unit
        require(bool(frames), f"{path} holds no rows: a header and one row for each time step are needed")
        return cls(pd.concat(frames, ignore_index=True), lines, unit, path, how)

    @property
    def names(self) -> list[str]:
        return list(self.frame)

    def find_time(self, wanted: Columns, order: TimeOrder) -> str | None:
        """The column of the time, if there is one."""
        if order.time != "auto":
            return order.time
        taken = {*(wanted.channels or ()), *wanted.covariates, wanted.label, order.id}
        found = [name for name in self.names if name not in taken and self._holds_stamps(name)]
        require(
            len(found) <= 1,
            f"{self.path} has more than one column of time stamps ({', '.join(found)}): name the one that orders the "
            f"rows, {HERE}.order.time={found[0] if found else ''}, or set {HERE}.order.time=null",
        )
        if not found:
            self._refuse_other_stamps([name for name in self.names if name not in taken])
        return found[0] if found else None

    def _refuse_other_stamps(self, names: Sequence[str]) -> None:
        """Refuse texts that look like the time of a row, and cannot order the rows as they are written."""
        for name in names:
            filled = self._filled(name)
            if not self._is_plain(name) and len(filled) and filled.map(looks_like_a_time).mean() >= EVEN:
                raise UserError(
                    f"column '{name}' of {self.path} looks like the time of each row ('{filled.iloc[0]}'): write it as "
                    f"2026-11-29 08:30:00, so that it orders the rows, or set {HERE}.order.time=null to take them as "
                    "they come"
                )

    def choose_channels(self, wanted: Columns, taken: set[str | None]) -> tuple[list[str], list[str]]:
        """The columns of channels, and of those left out each with its reason."""
        if wanted.channels is not None:
            return list(wanted.channels), []
        chosen, out = [], []
        for name in self.names:
            if name in taken:
                continue
            cells = self.frame[name]
            nested = cells.map(lambda cell: isinstance(cell, list | dict | np.ndarray))
            require(
                not nested.any(),
                f"column '{name}' of {self.path} holds lists or structures, and a channel is one number a row: set the "
                "columns to be read, datamodule.source.columns",
            )
            texts = [str(text) for text in cells.dropna().unique()[:1000]]
            if not np.isnan(self._parsed(cells)).all():
                chosen.append(name)
            elif disguised := next((text for text in texts if explain_disguise(text, self.how.marks)), None):
                where = self._where(int(np.flatnonzero(cells.astype(str) == disguised)[0]))
                hint = explain_disguise(disguised, self.how.marks)
                raise UserError(f"{where} has '{disguised}' in column '{name}', which {hint}")
            else:
                out.append(f"{name or 'a column without a name'} (no cell is a number)")
        require(bool(chosen), f"{self.path} has no column of numbers: its columns are {', '.join(self.names)}")
        return chosen, out

    def series_of(self, column: str | None) -> tuple[NDArray[np.int64], list[str]]:
        """The number of each row's series, and the names of the series, in the order in which they come."""
        if column is None:
            return np.zeros(len(self.frame), dtype=np.int64), [""]
        cells = self.frame[column].replace("", None)
        for row in np.flatnonzero(cells.isna())[:1]:
            raise UserError(f"{self._where(int(row))} has nothing in column '{column}', which names its series")
        codes, names = pd.factorize(cells)
        return codes, list(map(str, names))

    def refuse_clocks(self, channels: Sequence[str], rows: NDArray[np.bool_]) -> None:
        """Refuse channels that nobody asked for and that are none: without a name, in equal steps, or called time."""
        for name in channels:
            others = [other for other in channels if other != name and not UNNAMED.fullmatch(other)]
            columns = in_shell("columns", others or [name])
            require(
                not UNNAMED.fullmatch(name),
                f"a column of {self.path} has no name ('{name}'), as the row numbers that pandas writes: set the "
                f"columns to be read, {columns}",
            )
            numbers = self._parsed(self.frame[name])[rows]
            named = "".join(filter(str.isalnum, name.lower())) in CLOCKS and len(np.unique(numbers)) == len(numbers)
            step, why = _even_step(numbers), "is a clock by its name" if named else ""
            if step is not None:
                why = f"moves by {step:g} in every row, as a clock or a row number does"
            require(
                not why,
                f"column '{name}' of {self.path} {why}: set {HERE}.order.time={name} to order the rows by it, or the "
                f"columns to be read, {columns} (with '{name}' if it is a sensor)",
            )

    def numbers(self, name: str, keep_missing: bool = False) -> NDArray[np.float64]:
        """A column of which every cell must be a finite number, `[T]`, or NaN where it is missing and that is kept."""
        numbers = self._parsed(self.frame[name])
        bad = ~np.isfinite(numbers)
        if keep_missing and bad.any():
            cells = self.frame[name]
            empty = (cells.isna() | cells.isin(["", *self.how.missing])).to_numpy(dtype=bool)
            numbers, bad = np.where(empty, np.nan, numbers), bad & ~empty
        for row in np.flatnonzero(bad)[:1].tolist():
            text = str(self.frame[name].iloc[row])
            hint = explain_disguise(text, self.how.marks)
            ways = "fill it in, set source.signals.missing=keep, or set source.columns"
            way_out = f"which {hint}" if hint else f"which is no number: {ways}"
            raise UserError(f"{self._where(row)} has '{text}' in column '{name}', {way_out}")
        return numbers

    def labels(self, name: str) -> Tensor:
        """The labels of all rows, `[T]`: whole numbers, or truth values, of which true is 1."""
        cells = self.frame[name]
        texts = cells.map(lambda cell: TRUTHS.get(cell.strip().lower(), cell) if isinstance(cell, str) else cell)
        numbers = self._parsed(texts)
        for row in np.flatnonzero(~np.isfinite(numbers))[:1].tolist():
            raise UserError(
                f"{self._where(row)} has '{cells.iloc[row]}' in column '{name}', which is no label: every row needs a "
                "whole number, 0 where it is normal, or true and false"
            )
        return to_labels(numbers, f"column '{name}'")

    def times(self, name: str) -> NDArray[np.float64]:
        """The column of the time in seconds, or in its own unit, `[T]`."""
        cells = self.frame[name]
        stamps = self._parsed(cells)
        if np.isnan(stamps).all():
            stamps = seconds_of(cells)
        for row in np.flatnonzero(~np.isfinite(stamps))[:1].tolist():
            raise UserError(
                f"{self._where(row)} has '{cells.iloc[row]}' in column '{name}', which is no time: it must be a "
                "number, or written as 2026-11-29 08:30:00"
            )
        self.kind_of_times(name)
        return stamps

    def kind_of_times(self, name: str | None) -> str:
        """How the times are written: numbers (also where there are none), dates, or dates with a zone.

        Raises:
            UserError: some dates name a zone, and others do not.
        """
        if name is None or not self.dated(name):
            return "numbers"
        cells = self.frame[name]
        if pd.api.types.is_datetime64_any_dtype(cells):
            return "dates" if getattr(cells.dtype, "tz", None) is None else "dates with a zone"
        zoned = cells.map(lambda cell: has_zone(str(cell))).to_numpy(dtype=bool)
        if zoned.any() and not zoned.all():
            row = int(np.flatnonzero(zoned != zoned[0])[0])
            raise UserError(
                f"{self._where(row)} has the time '{cells.iloc[row]}' in column '{name}', and {self.unit} "
                f"{self.lines[0]} '{cells.iloc[0]}': write all of them with their zone, or none"
            )
        return "dates with a zone" if zoned.any() else "dates"

    def two_of_one_time(self, first: int, second: int, time: str) -> str:
        """A sentence about two rows of one series and time."""
        return (
            f"{self._where(max(first, second))} has the time '{self.frame[time].iloc[first]}' of {self.unit} "
            f"{self.lines[min(first, second)]}: if the rows are of several series, set {HERE}.order.id to the column "
            f"that names them; if they only follow one another, set {HERE}.order.time=null; if a clock was set back, "
            "write the times with their zone, 2026-10-25 02:30:00+02:00"
        )

    def _where(self, row: int) -> str:
        return f"{self.unit} {self.lines[row]} of {self.path}"

    def _parsed(self, cells: pd.Series) -> NDArray[np.float64]:
        if pd.api.types.is_datetime64_any_dtype(cells):
            return np.full(len(cells), np.nan)
        if pd.api.types.is_numeric_dtype(cells) or pd.api.types.is_timedelta64_dtype(cells):
            return numbers_of(cells)
        codes, texts = pd.factorize(cells)
        return np.append(to_numbers(texts, self.how.marks), np.nan)[codes]

    def dated(self, name: str) -> bool:
        """Whether a column of the time holds dates, and no numbers."""
        return bool(np.isnan(self._parsed(self.frame[name])).all())

    def _holds_stamps(self, name: str) -> bool:
        cells = self.frame[name]
        if pd.api.types.is_datetime64_any_dtype(cells):
            return True
        filled = self._filled(name)
        if self._is_plain(name) or np.isnan(seconds_of(filled.iloc[:LOOKED_AT])).all():
            return False
        return bool(np.isfinite(seconds_of(filled)).mean() >= EVEN)

    def _filled(self, name: str) -> pd.Series:
        """The cells of a column that are not missing."""
        cells = self.frame[name]
        return cells[~(cells.isna() | cells.isin(["", *self.how.missing]))]

    def _is_plain(self, name: str) -> bool:
        """Whether a column holds numbers or truth values by its type, and no texts."""
        cells = self.frame[name]
        return cells.dtype == bool or pd.api.types.is_numeric_dtype(cells)


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its index as columns before the others: pandas writes the times of a series into Parquet so.

    Numbers without a name count the rows, and are left out. (Of other tables the index is an identifier mostly; they
    leave it out, and say so.)
    """
    index = frame.index
    if index.nlevels == 1 and index.name is None and pd.api.types.is_numeric_dtype(index.dtype):
        return frame.reset_index(drop=True)
    return frame.reset_index()


def _even_step(numbers: NDArray[np.float64]) -> float | None:
    """The step of a column that only rises, or only falls, nearly always by the same amount; None of any other."""
    steps = np.diff(numbers)
    if len(numbers) < FEWEST or not np.isfinite(steps).all() or not (np.all(steps > 0) or np.all(steps < 0)):
        return None
    usual = float(np.median(steps))
    return usual if float((np.abs(steps - usual) <= 0.01 * abs(usual)).mean()) >= EVEN else None
