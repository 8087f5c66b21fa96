"""New rows of a table, read by the encoding that the training rows fitted, and rebuilt in the table's own units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from narrows.compare.table_formats import as_cell
from narrows.data import Cells, Encoding, Format, TableColumn
from narrows.data import Chunk as Rows
from narrows.data.table_columns import complaint, to_cells
from narrows.data.table_files import read_chunks
from narrows.errors import UserError, nearest, require
from narrows.files import replacing, require_file
from narrows.new_data.examples import Chunk, Known, NewData, Write
from narrows.new_data.result_columns import PROBLEM
from narrows.types import Batch

PARQUET = (".parquet", ".pq")


class NewTable(NewData):
    """Rows of a table in the run's format: CSV, Parquet or numpy arrays, or a frame. Columns are found by their names;
    further ones are kept and not read."""

    form = "a table"

    def __init__(self, source: Any, known: Known, given: Any) -> None:
        super().__init__(source, known, given)
        self.format: Format = getattr(source, "format", None) or Format()

    @cached_property
    def encoding(self) -> Encoding:
        """That of the run; of arrays, whose columns are numbers, one that says how these were standardised."""
        return self.known.encoding or encoding_of_numbers(self.known, self.called)

    def rows(self) -> Iterator[Rows]:
        """The rows of the file, a bounded number at a time, checked to have the run's columns.

        Raises:
            UserError: no rows, or columns that are missing.
        """
        for place, rows in enumerate(self._read()):
            if place == 0:
                self.require_columns(rows.frame)
            yield rows

    def _read(self) -> Iterator[Rows]:
        if isinstance(self.given, Path):
            require_file(self.path)
            yield from read_chunks(self.path, self.format, self.known.rows)
            return
        frame: pd.DataFrame = self.given
        require(frame.columns.is_unique, "columns of the frame share a name, by which they are found: name each once")
        for start in range(0, len(frame), self.known.rows):
            part = frame.iloc[start : start + self.known.rows]
            lines = np.arange(start, start + len(part)) + 1
            yield Rows(part, lines, (start + len(part)) / len(frame), self.format.missing, marks=self.format.marks)

    def require_columns(self, frame: pd.DataFrame) -> None:
        """Refuse a table without the columns that the model reads.

        Raises:
            UserError: names them.
        """
        names = list(map(str, frame))
        absent = [column.name for column in self.encoding.columns if column.name not in names]
        require(not absent, f"{self.called} has no column '{', '.join(absent)}': {nearest(''.join(absent[:1]), names)}")

    def chunks(self) -> Iterator[Chunk]:
        start = 0
        for rows in self.rows():
            found = self.chunk_of(rows, start)
            start += len(found)
            yield found
        require(start > 0, f"{self.called} holds no rows")

    def chunk_of(self, rows: Rows, start: int = 0) -> Chunk:
        """Rows as the model reads them, their names the numbers from `start` on; `beside` are the rows of the file."""
        known, columns = rows.known.set_axis(list(map(str, rows.frame)), axis=1), self.encoding.columns
        cells = to_cells(known, columns, rows.marks)
        unfit = np.any(cells.bad, axis=1) | np.all(cells.missing, axis=1)
        unfit[list(rows.broken)] = True
        batch = None
        if not unfit.all():
            x, observed = self.encoding.encode(cells.values[~unfit], cells.missing[~unfit])
            # As the run's own were: without a mask where nothing is missing.
            batch = Batch(x, observed=None if bool(observed.all()) else observed)
        names = [str(row) for row in range(start, start + len(known))]
        table = rows.frame.set_axis(list(map(str, rows.frame)), axis=1)
        return Chunk(names, _problems(rows, known, cells, columns), batch, np.flatnonzero(~unfit), rows.done, table)

    def default_target(self) -> Path:
        return self.stem("reconstructed", ".csv")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """The rows of the table, in order, what the model reads replaced by what it rebuilds, and `problem`."""
        with writing_rows(out) as write:

            def write_chunk(chunk: Chunk, rebuilt: Tensor | None) -> None:
                table: pd.DataFrame = chunk.beside.copy()
                units = None if rebuilt is None else self.own_form(rebuilt, chunk)
                for column in self.encoding.columns:
                    table[column.name] = _placed(column, units, chunk, table.index)
                write(table.assign(**{PROBLEM: pd.Series(chunk.problems, table.index, dtype="str")}))

            yield write_chunk

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> pd.DataFrame:
        """The columns that the model reads, in their own units."""
        return self.encoding.decode(rebuilt.double().numpy())


def encoding_of_numbers(known: Known, where: str) -> Encoding:
    """The encoding of columns of numbers that have names, standardised as the run's arrays were.

    Raises:
        UserError: the run's features have no names, or are no vectors.
    """
    names, scaling = known.spec.feature_names, known.scaling
    if known.spec.kind != "vector" or names is None:
        raise UserError(
            f"{where} is a table, and the run was trained on {known.spec.kind} data without names of columns: give an "
            "array, .npy or .npz"
        )
    zero, one = [0.0] * len(names), [1.0] * len(names)
    shift, scale = (zero, one) if scaling is None else (scaling.shift, scaling.scale)
    columns = [{"name": name, "kind": "numeric"} for name in names]
    fitted = {"mean_": shift, "scale_": scale, "var_": (np.array(scale) ** 2).tolist(), "n_features_in_": len(names)}
    fitted |= {"n_samples_seen_": known.spec.size}
    return Encoding.from_dict(
        {"scaling": {"method": "standard"}, "columns": columns, "scaler": fitted, "fill": [0.0] * len(names)}
    )


def _problems(rows: Rows, known: pd.DataFrame, cells: Cells, columns: list[TableColumn]) -> list[str | None]:
    problems: list[str | None] = [None] * len(known)
    for row in np.flatnonzero((cells.bad | cells.unseen).any(1)).tolist():
        problems[row] = complaint(cells, known, columns, row)
    for row in np.flatnonzero(cells.missing.all(1)).tolist():
        problems[row] = "no column has a value"
    for row, what in rows.broken.items():
        problems[row] = what
    return problems


def _placed(column: TableColumn, units: pd.DataFrame | None, chunk: Chunk, index: pd.Index) -> pd.Series:
    """A rebuilt column in the places of all rows."""
    numbers = column.kind == "numeric"
    found = np.full(len(chunk), np.nan if numbers else None, dtype=np.float64 if numbers else object)
    if units is not None:
        cells = units[column.name].tolist()
        # The levels are the run's, which may be a stranger's.
        found[chunk.rows] = [as_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    kind: Any = None if numbers else "Int64" if column.kind == "binary" and not column.levels else "str"
    return pd.Series(found, index, dtype=kind)


def require_table_name(out: Path) -> None:
    """Refuse a name in whose format no table is written; what is no file is left to the system's message.

    Raises:
        UserError: another ending.
    """
    require(
        out.suffix.lower() in (".csv", *PARQUET) or (out.exists() and not out.is_file()),
        f"a table is written as .csv or .parquet, which {out} is not by its name",
    )


@contextmanager
def writing_rows(out: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """What writes the rows of a table, chunk by chunk, to a .csv or .parquet that appears once it is complete.

    Raises:
        UserError: another ending.
    """
    require_table_name(out)
    with replacing(out) as file:
        if out.suffix.lower() in PARQUET:
            with _parquet_rows(file) as write:
                yield write
            return
        first = True

        def write_text(rows: pd.DataFrame) -> None:
            nonlocal first
            rows.to_csv(file, index=False, header=first)
            first = False

        yield write_text


@contextmanager
def _parquet_rows(file: Any) -> Iterator[Callable[[pd.DataFrame], None]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("writing Parquet needs pyarrow: pip install 'narrows[parquet]', or let OUT end in .csv") from (
            error
        )
    writers: list[Any] = []

    def write(rows: pd.DataFrame) -> None:
        if not writers:
            # A column without a value in the first rows may have texts in later ones.
            told = [
                field.with_type(pa.string()) if pa.types.is_null(field.type) else field
                for field in pa.Schema.from_pandas(rows, preserve_index=False)
            ]
            writers.append(pq.ParquetWriter(file, pa.schema(told)))
        writers[0].write_table(pa.Table.from_pandas(rows, writers[0].schema, preserve_index=False))

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
