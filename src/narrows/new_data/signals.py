"""New signals in tables, cut into windows and scaled as the run's own were, and rebuilt time step by time step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.data import Recording, Recordings, Series, SignalScaling
from narrows.data.signal_table import find_tables, read_rows
from narrows.data.time_grid import GAP
from narrows.errors import UserError, require
from narrows.files import appearing
from narrows.new_data.examples import Chunk, Known, NewData, Write
from narrows.new_data.places_apart import PlacesApart, renamed
from narrows.new_data.problem_file import FILE as PROBLEM_FILE
from narrows.new_data.problem_file import listing_problems
from narrows.new_data.result_columns import PROBLEM
from narrows.new_data.tables import writing_rows
from narrows.types import Batch

CSV = ".csv"
Values = NDArray[np.float64]
log = logging.getLogger(__name__)


class NewSignals(NewData):
    """The windows of a table of the run's channels, or of every table of a folder; where the run's examples were whole
    series, each series is one.

    Time orders the rows, no window crosses a gap, and the last one ends with its stretch, so that it may overlap.
    """

    form = "signals"

    def __init__(self, source: Any, known: Known, given: Any) -> None:
        super().__init__(source, known, given)
        require(isinstance(source, Series), f"{type(source).__name__} reads no new tables of signals")
        self.scaling = known.signals or _scaling_of_wholes(known)
        self.whole = known.signals is None
        self.stride = self.scaling.window if self.whole else source.stride_of(self.scaling.window)
        source.columns, source.label_column, source.signals.intervals_path = self.scaling.channels, None, None
        keep_clock(source, self.scaling)

    @property
    def files(self) -> list[Path]:
        """The tables."""
        return find_tables(self.path) if self.path.is_dir() else [self.path]

    def chunks(self) -> Iterator[Chunk]:
        files = self.files
        for number, file in enumerate(files, 1):
            name = self.name_of(file)
            try:
                table, read = read_rows(file, self.source.format), self.source.recordings(file)
            except UserError as error:
                if len(files) == 1:
                    raise
                yield Chunk([name], [str(error)], None, np.zeros(0, np.int64), number / len(files))
                continue
            tell_other_step(read, self.scaling, name)
            yield from self._of_file(Table(name, table, read.series), (number - 1) / len(files), len(files))

    def _of_file(self, table: Table, before: float, files: int) -> Iterator[Chunk]:
        """The windows of a file's series, the last chunk of which ends it."""
        pending: Chunk | None = None
        for number, one in enumerate(table.series, 1):
            for chunk in self._of_series(table, one):
                if pending is not None:
                    yield pending
                pending = chunk
                pending.done = before + number / len(table.series) / files
        if pending is not None:
            pending.beside.ends = True
            yield pending

    def _of_series(self, table: Table, one: Recording) -> Iterator[Chunk]:
        called = "/".join(part for part in (table.name, one.name) if part)
        problem = self._unfit(one)
        found = None if problem else cut(one, one.name or table.name, self.scaling, self.stride)
        if found is None:
            problem = problem or (
                f"no stretch of it has {self.scaling.window} time steps, as a window of the run has, or nothing in it "
                "was measured"
            )
            yield Chunk([called], [problem], None, np.zeros(0, np.int64), 0.0, Windows(table, one, np.zeros(0, int)))
            return
        batch, starts = found
        for start in range(0, len(starts), self.known.rows):
            rows = slice(start, start + self.known.rows)
            part = _rows_of(batch, rows)
            last = self.scaling.window - 1
            names = [called if self.whole else f"{called}:{first}-{first + last}" for first in starts[rows].tolist()]
            places = Windows(table, one, starts[rows])
            yield Chunk(names, [None] * len(part), part, np.arange(len(part)), 0.0, places)

    def _unfit(self, one: Recording) -> str | None:
        """Why a series cannot be an example as a whole; None where it can, or windows are cut."""
        if not self.whole or (one.length == self.scaling.window and len(one.stretches) == 1):
            return None
        return f"it has {one.length} time steps in {len(one.stretches)} stretches, and examples of the run have " + (
            f"{self.scaling.window} in one"
        )

    def default_target(self) -> Path:
        return self.stem("reconstructed", "" if self.path.is_dir() else CSV)

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """The rows of each table, in order, its channels replaced by the mean of what the windows that cover a time
        step rebuild, and `problem`."""
        open_tables: dict[int, Folded] = {}
        names = map(self.name_of, self.files)
        apart = PlacesApart(((name, renamed(name, CSV)) for name in names), taken=[PROBLEM_FILE])
        with ExitStack() as stack:
            folder = stack.enter_context(appearing(out)) if self.path.is_dir() else None
            problems = None if folder is None else stack.enter_context(listing_problems(folder))
            write_one = None if folder is not None else stack.enter_context(writing_rows(out))

            def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
                if problems is not None:
                    problems.add(chunk)
                where: Windows | None = chunk.beside
                if where is None:
                    return
                folded = open_tables.setdefault(id(where.table), Folded(where.table, self.scaling))
                if rebuilt is not None:
                    folded.add(where, self.own_form(rebuilt, chunk))
                if not where.ends:
                    return
                rows = open_tables.pop(id(where.table)).rows()
                if write_one is not None:
                    write_one(rows)
                    return
                assert folder is not None
                target = apart.place(folder, where.table.name, renamed(where.table.name, CSV), CSV)
                with writing_rows(target) as write_table:
                    write_table(rows)

            yield write

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Values:
        """Windows `[M, C, W]` in the data's own units."""
        where: Windows = chunk.beside
        shift, scale = self.scaling.of(where.one.name or where.table.name)
        channels = len(self.scaling.channels)
        return (rebuilt.double() * scale[:channels] + shift[:channels]).numpy()


@dataclass
class Table:
    """A file of signals."""

    name: str
    rows: pd.DataFrame
    series: list[Recording]


@dataclass
class Windows:
    """Where the windows of a chunk lie."""

    table: Table
    one: Recording
    starts: NDArray[np.int64]
    """Of each, its first time step in its series."""
    ends: bool = False
    """Whether they are the last ones of their file."""


@dataclass
class Folded:
    """The mean of what windows say of each time step, series by series."""

    table: Table
    scaling: SignalScaling
    sums: dict[int, Values] = field(default_factory=dict)
    counts: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, where: Windows, values: Values) -> None:
        """Add windows `[M, C, W]`."""
        key, length = id(where.one), where.one.length
        sums = self.sums.setdefault(key, np.zeros((len(self.scaling.channels), length)))
        counts = self.counts.setdefault(key, np.zeros(length, np.int64))
        for start, window in zip(where.starts.tolist(), values, strict=True):
            sums[:, start : start + self.scaling.window] += window
            counts[start : start + self.scaling.window] += 1

    def rows(self) -> pd.DataFrame:
        """The rows of the table with its channels rebuilt."""
        found = np.full((len(self.table.rows), len(self.scaling.channels)), np.nan)
        for one in self.table.series:
            assert one.rows is not None
            assert one.steps is not None
            if id(one) in self.sums:
                sums, counts = self.sums[id(one)], self.counts[id(one)]
                mean = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
                found[one.rows] = mean.T[one.steps]
        table = self.table.rows.copy()
        for channel, values in zip(self.scaling.channels, found.T, strict=True):
            table[channel] = values
        said = f"in no window: a stretch of fewer than {self.scaling.window} time steps, or nothing measured"
        problems = [said if bad else None for bad in np.isnan(found).all(1)]
        return table.assign(**{PROBLEM: pd.Series(problems, table.index, dtype="str")})


def keep_clock(source: Series, scaling: SignalScaling) -> None:
    """Have new rows ordered, and put on a grid, as the run's own were: what is `auto` was found in these."""
    if source.order.time == "auto" and scaling.time is not None:
        source.order.time = scaling.time
    if source.order.resample == "auto" and scaling.step is not None:
        source.order.resample = scaling.step


def tell_other_step(read: Recordings, scaling: SignalScaling, name: str) -> None:
    """Warn of time steps that are longer or shorter than those that the run was trained on."""
    if read.step is None or scaling.step is None or scaling.step <= 0:
        return
    if 1 / GAP < read.step / scaling.step < GAP:
        return
    log.warning(
        "%s has time steps of %g, and the run was trained on steps of %g: its windows span another time, so that the "
        "results mean little%s",
        name,
        read.step,
        scaling.step,
        f"; datamodule.source.order.resample={scaling.step:g} puts it on the run's" if read.step < scaling.step else "",
    )


def cut(one: Recording, name: str, scaling: SignalScaling, stride: int) -> tuple[Batch, NDArray[np.int64]] | None:
    """The windows `[N, C, W]` of a series as the model reads them, and the first time step of each: one every `stride`,
    and one at the end of every stretch. Those in which nothing was measured are left out; None if none is left.

    Raises:
        UserError: each series was scaled by itself, and this one was not among them.
    """
    window, channels, (shift, scale) = scaling.window, len(scaling.channels), scaling.of(name)
    x, starts = [], []
    for part in one.stretches:
        last = part.values.shape[1] - window
        if last >= 0:
            places = sorted({*range(0, last + 1, stride), last})
            scaled = ((part.values - shift) / scale).float()
            x += [scaled[:, place : place + window] for place in places]
            starts += [part.start + place for place in places]
    if not x:
        return None
    every, begin = torch.stack(x), np.array(starts)
    measured = every[:, :channels].isfinite().flatten(1).any(1)
    every, begin = every[measured], begin[measured.numpy()]
    if not len(begin):
        return None
    rows, beside = every[:, :channels], every[:, channels:].nan_to_num()
    observed = ~rows.isnan()
    batch = Batch(
        rows.nan_to_num(),
        observed=None if observed.all() else observed,
        covariates=beside if scaling.covariates else None,
    )
    return batch, begin


def _rows_of(batch: Batch, rows: slice) -> Batch:
    observed = None if batch.observed is None else batch.observed[rows]
    return Batch(
        batch.x[rows], observed=observed, covariates=None if batch.covariates is None else batch.covariates[rows]
    )


def _scaling_of_wholes(known: Known) -> SignalScaling:
    """How whole series were scaled, in the form of that of windows.

    Raises:
        UserError: their channels have no names, so that no table holds them.
    """
    names, (channels, steps) = known.spec.feature_names, known.spec.shape
    if names is None:
        raise UserError("the run's channels have no names, so that it reads no tables of signals: give a .npy or .npz")
    found = known.scaling
    shift = [0.0] * channels if found is None else found.shift
    scale = [1.0] * channels if found is None else found.scale
    return SignalScaling(names, steps, None, [shift], [scale])
