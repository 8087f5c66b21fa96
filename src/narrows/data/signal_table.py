"""Signals in tables: in which order the rows come, where a signal is interrupted, which of its steps have labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from narrows.data.contents import shortened
from narrows.data.folders import files_below
from narrows.data.label_intervals import Intervals
from narrows.data.signal_cells import Columns, SignalCells
from narrows.data.table_format import Format
from narrows.data.time_grid import GAP, Steps, gaps_of, put_on_grid, step_in_units
from narrows.data.time_order import Recording, Recordings, Signals, Stretch, TimeOrder
from narrows.errors import UserError, nearest, require

CLOCK_SET_BACK = 0.01
"""Up to this share of times may stand twice in a series: a clock was set back. More are rows of several series."""
HERE = "datamodule.source"
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".gz", ".xz")
"""Endings of the tables that are looked for in a folder."""


def find_tables(folder: Path) -> list[Path]:
    """The tables in a folder and below, in the order of their names.

    Raises:
        UserError: there are none, or the folder cannot be read.
    """
    found = [file for file in files_below(folder) if file.suffix.lower() in TABLES]
    require(bool(found), f"{folder} holds no table: files that end in {', '.join(TABLES[:4])} are looked for")
    return found


def read_rows(path: Path, how: Format | None) -> pd.DataFrame:
    """All rows of a table as they are written.

    Raises:
        UserError: a file that cannot be read, or a row with more or fewer cells than columns.
    """
    return SignalCells.read(path, how or Format()).frame


@dataclass
class Reading:
    """How tables of signals are read."""

    how: Format
    wanted: Columns
    order: TimeOrder
    signals: Signals

    def read(self, path: Path) -> Recordings:
        """The signals of a table, or of every table in a folder and below it, each of which is a series of its own.

        Raises:
            UserError: a file, a column or a cell that does not fit the settings; rows of one time; tables of different
                channels.
        """
        intervals = None if self.signals.intervals_path is None else Intervals.read(self.signals.intervals_path)
        read = self._folder(path, intervals) if path.is_dir() else self._table(path, "", intervals)
        if intervals is not None:
            intervals.require_met()
        return read

    def _folder(self, path: Path, intervals: Intervals | None) -> Recordings:
        """The signals of every table of a folder."""
        files = find_tables(path)
        found = [self._table(file, file.relative_to(path).as_posix(), intervals) for file in files]
        for file, one in zip(files, found, strict=True):
            require(
                one.channels == found[0].channels,
                f"{file} has the channels {', '.join(one.channels)}, but {files[0]} has "
                f"{', '.join(found[0].channels)}: set source.columns to those that all have",
            )
        steps = [one.step for one in found if one.step is not None]
        return Recordings(
            [series for one in found for series in one.series],
            found[0].channels,
            _common(files, found),
            found[0].time,
            float(np.median(steps)) if steps else None,
        )

    def _table(self, path: Path, name: str, intervals: Intervals | None) -> Recordings:
        """The signals of one table, one row for each time step."""
        wanted, order = self.wanted, self.order
        table = SignalCells.read(path, self.how)
        _require_columns(table, wanted, order)
        time = table.find_time(wanted, order)
        require(time is not None or order.resample is None, f"{path} has no column of time to resample by: name it")
        taken = {wanted.label, order.id, time, *wanted.covariates} - {None}
        channels, out = table.choose_channels(wanted, taken)
        codes, names = table.series_of(order.id)
        if wanted.channels is None:
            table.refuse_clocks(channels, codes == codes[0])
        keep = self.signals.missing == "keep"
        values = np.stack([table.numbers(column, keep) for column in [*channels, *wanted.covariates]])
        label = None if wanted.label is None else table.labels(wanted.label).numpy()
        seconds = None if time is None else table.times(time)
        if intervals is not None:
            intervals.require_like(table.kind_of_times(time), time, path)
        ranks, back, said = _sorted_rows(table, codes, seconds, time, order)
        own = [_usual_step(seconds, rows) for rows in ranks]
        usual = _usual_step(seconds, *ranks)
        step = None
        if order.resample is not None:
            assert time is not None
            step = step_in_units(order.resample, usual, table.dated(time), time)
        notes = ([] if time is None else [f"ordered by '{time}'"]) + said
        found, empty = [], 0
        for series, rows, pace in zip(names, ranks, own, strict=True):
            whole = "/".join(part for part in (name, series) if part)
            of_rows = None if label is None else label[rows]
            if intervals is not None:
                times = None if seconds is None else seconds[rows]
                of_rows, missed = intervals.label(whole, times, len(rows))
                empty += missed
            steps = _steps(values, of_rows, seconds, rows, step, whole)
            found.append(self._recording(whole, rows, steps, pace, path))
        notes += self._told(found, step, back, empty)
        notes += [] if step is not None else _paces(own)
        notes += [f"left out: {shortened(out)}"] if out else []
        return Recordings(found, [*channels, *wanted.covariates], notes, time, step or usual)

    def _recording(
        self, name: str, rows: NDArray[np.int64], steps: Steps, usual: float | None, path: Path
    ) -> Recording:
        length, cuts = steps.values.shape[1], np.zeros(0, dtype=np.int64)
        looked_for = self.order.gaps != "ignore" and self.order.resample is None
        if looked_for and steps.times is not None and usual is not None:
            cuts = gaps_of(steps.times, usual)
        require(
            self.order.gaps != "refuse" or not len(cuts),
            f"{path} has {len(cuts)} gaps in its time, the first before step {cuts[0] if len(cuts) else 0} of series "
            f"'{name}': set source.order.resample=auto for equal steps, or source.order.gaps=cut",
        )
        missing = int(np.isnan(steps.values).any(0).sum())
        require(
            not missing or self.signals.missing == "keep",
            f"{missing} of {length} time steps of {name or path} have no reading after resampling: set "
            "source.signals.missing=keep",
        )
        label = None if steps.label is None else torch.from_numpy(steps.label)
        bounds = zip([0, *cuts.tolist()], [*cuts.tolist(), length], strict=True)
        stretches = [
            Stretch(torch.from_numpy(steps.values[:, start:end]), None if label is None else label[start:end], start)
            for start, end in bounds
        ]
        return Recording(name, length, stretches, label, rows, steps.of_rows)

    def _told(self, found: Sequence[Recording], step: float | None, back: int, empty: int) -> list[str]:
        """What people should know of the time steps: gaps, a grid, missing values, intervals without a step."""
        gaps = sum(len(one.stretches) - 1 for one in found) - back
        notes = [f"{gaps:,} gap{'s' if gaps > 1 else ''}, which no window crosses"] if gaps > 0 else []
        notes += [] if step is None else [f"put on steps of {step:g}"]
        missing = sum(int(part.values.isnan().sum()) for one in found for part in one.stretches)
        notes += [f"{missing:,} missing values, kept as missing"] if missing else []
        return notes + ([f"{empty} interval{'s' if empty > 1 else ''} without a time step"] if empty else [])


def _common(files: Sequence[Path], found: Sequence[Recordings]) -> list[str]:
    """The notes of all files once, and those of some with the names of the files."""
    said: dict[str, list[str]] = {}
    for file, one in zip(files, found, strict=True):
        for note in one.notes:
            said.setdefault(note, []).append(file.name)
    return [note if len(names) == len(files) else f"{note} ({shortened(names, 2)})" for note, names in said.items()]


def _require_columns(table: SignalCells, wanted: Columns, order: TimeOrder) -> None:
    require(wanted.channels is None or len(wanted.channels) > 0, "source.columns=[] names no channel: null means all")
    asked = [*(wanted.channels or ()), *wanted.covariates, wanted.label, order.id]
    for name in [*asked, None if order.time == "auto" else order.time]:
        otherwise = f"; {HERE}.order.time=null takes the rows as they come" if name == order.time else ""
        require(
            name is None or name in table.names,
            f"{table.path} has no column '{name}': {nearest(str(name), table.names)}{otherwise}",
        )
    both = sorted(set(wanted.channels or ()) & set(wanted.covariates))
    require(not both, f"column '{''.join(both[:1])}' is both a channel and a covariate: a covariate is not rebuilt")


def _sorted_rows(
    table: SignalCells,
    codes: NDArray[np.int64],
    seconds: NDArray[np.float64] | None,
    time: str | None,
    order: TimeOrder,
) -> tuple[list[NDArray[np.int64]], int, list[str]]:
    """The rows of each series in the order of time, how often the time does not go forward in them, and a note.

    A series in which a few times stand twice keeps its order: its clock was set back, as at the end of summer time, and
    sorting would mix the two hours. Wherever the time does not go forward the series is then cut. On a grid, rows of
    one step are one.

    Raises:
        UserError: many times stand twice.
    """
    found, moved, back = [], 0, 0
    together = np.argsort(codes, kind="stable")  # one pass for all series, of which there may be many thousands
    for rows in np.split(together, np.cumsum(np.bincount(codes))[:-1]):
        if seconds is not None and time is not None:
            by_time = rows[np.argsort(seconds[rows], kind="stable")]
            twice = np.flatnonzero(np.diff(seconds[by_time]) == 0)
            if len(twice) > CLOCK_SET_BACK * len(rows):
                raise UserError(table.two_of_one_time(int(by_time[twice[0]]), int(by_time[twice[0] + 1]), time))
            disorder = int((np.diff(seconds[rows]) <= 0).sum())
            kept = len(twice) > 0 and order.resample is None
            moved, back = (moved, back + disorder) if kept else (moved + disorder, back)
            rows = rows if kept else by_time
        found.append(rows)
    notes = [f"the rows were out of order in {_places(moved)}"] if moved else []
    then = "which is ignored" if order.gaps == "ignore" else "where no window goes on"
    return found, back, notes + ([f"the time does not go forward in {_places(back)}, {then}"] if back else [])


def _places(count: int) -> str:
    return f"{count:,} place{'s' if count > 1 else ''}"


def _usual_step(seconds: NDArray[np.float64] | None, *ranks: NDArray[np.int64]) -> float | None:
    """The median step in time of one series or all; None where there is no time."""
    if seconds is None:
        return None
    steps = np.concatenate([np.diff(seconds[rows]) for rows in ranks])
    return float(np.median(steps)) if len(steps) else None


def _paces(own: Sequence[float | None]) -> list[str]:
    """A note where the usual steps of series differ, so that windows of them span different times."""
    known = [step for step in own if step is not None and step > 0]
    if not known or max(known) <= GAP * min(known):
        return []
    return [f"the series have steps of {min(known):g} to {max(known):g} (order.resample puts all on one)"]


def _steps(
    values: NDArray[np.float64],
    of_rows: NDArray[np.int64] | None,
    seconds: NDArray[np.float64] | None,
    rows: NDArray[np.int64],
    step: float | None,
    name: str,
) -> Steps:
    """The time steps of one series: its rows, or a grid of steps `step` long."""
    own, times = values[:, rows], None if seconds is None else seconds[rows]
    if step is None or times is None:
        return Steps(own, of_rows, times, np.arange(len(rows)))
    return put_on_grid(own, of_rows, times, step, name)
