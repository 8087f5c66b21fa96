"""Reading tables in chunks of rows: CSV as texts, Parquet and numpy arrays as the values that they hold."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import lzma
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from narrows.data.dataset_files import array_names, read_arrays
from narrows.errors import UserError, require

ROWS = 20_000
"""Rows read at once."""
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
ARRAYS = (".npz", ".npy")


@dataclass
class Format:
    """The format of a CSV file; `narrows score` reads new rows in the same format.

    Args:
        separator: between cells, one character; `tab` for tabs.
        header: whether the first line names the columns; if not, they are `0`, `1`, ... or those in `names`.
        names: of the columns, if there is no header.
        skip_rows: lines before the header or the first row.
        missing: texts that mean a missing cell.
        encoding: of the text.
    """

    separator: str = ","
    header: bool = True
    names: Sequence[str] | None = None
    skip_rows: int = 0
    missing: Sequence[str] = MISSING
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        self.separator = "\t" if self.separator == "tab" else self.separator
        require(len(self.separator) == 1, f"format.separator='{self.separator}' must be one character, or tab")
        require(self.skip_rows >= 0, f"format.skip_rows={self.skip_rows} must not be negative")
        require(
            self.names is None or not self.header,
            "format.names names the columns of a file without a header, but format.header is true: set one of them",
        )


@dataclass
class Chunk:
    """Some rows of a table."""

    frame: pd.DataFrame
    """`[N, columns]`, cells as written; surplus cells of a row are dropped."""
    lines: NDArray[np.int64]
    """For each row, the line of the CSV on which it ends, or its number in other files, from 1, `[N]`."""
    done: float
    """Share of the file read so far."""
    missing: Sequence[str] = ()
    """Texts that mean a missing cell."""
    broken: dict[int, str] = field(default_factory=dict)
    """Positions of rows with the wrong number of cells, each with a message."""

    @property
    def known(self) -> pd.DataFrame:
        """The frame with missing cells as NA."""
        return self.frame.mask(self.frame.isin(self.missing)) if self.missing else self.frame


def read_chunks(path: Path, how: Format, rows: int = ROWS) -> Iterator[Chunk]:
    """A table in chunks of `rows` rows; .csv or any text file (also .gz or .xz), .parquet, .npz, .npy.

    Arrays become columns: one of `[N]` is named by its key, those of `[N, D]` are `<key>0`, `<key>1`, ...

    Raises:
        UserError: a file that cannot be read in the format of its suffix.
    """
    if path.suffix == ".parquet":
        return _parquet(path, rows)
    if path.suffix in ARRAYS:
        return _slices(_array_frame(path), rows)
    return _text(path, how, rows)


def _slices(frame: pd.DataFrame, rows: int) -> Iterator[Chunk]:
    for start in range(0, len(frame), rows):
        part = frame.iloc[start : start + rows]
        yield Chunk(part, np.arange(start, start + len(part)) + 1, (start + len(part)) / len(frame))


def _array_frame(path: Path) -> pd.DataFrame:
    keys = array_names(path) or ["x"]
    columns: dict[str, NDArray[Any]] = {}
    for key, array in read_arrays(path, keys).items():
        require(array.ndim in (1, 2), f"array '{key}' of {path} has shape {list(array.shape)}: a table is [N, D]")
        names = [key] if array.ndim == 1 else [f"{key}{place}" for place in range(array.shape[1])]
        columns |= dict(zip(names, array.reshape(len(array), -1).T, strict=True))
    lengths = {len(column) for column in columns.values()}
    require(len(lengths) == 1, f"the arrays of {path} have {sorted(lengths)} rows: one table has one number")
    return pd.DataFrame(columns)


def _parquet(path: Path, rows: int) -> Iterator[Chunk]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(f"reading {path} needs pyarrow: pip install 'narrows[parquet]'") from error
    start = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows):
                frame = batch.to_pandas()
                lines = np.arange(start, start + len(frame)) + 1
                start += len(frame)
                yield Chunk(frame, lines, start / file.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet ({' '.join(str(error).split())})") from error


def _text(path: Path, how: Format, rows: int) -> Iterator[Chunk]:
    size = max(path.stat().st_size, 1)
    try:
        with path.open("rb") as raw, _opened(raw, path.suffix, how.encoding) as file:
            for _ in range(how.skip_rows):
                if not file.readline():
                    break
            reader = csv.reader(file, delimiter=how.separator, skipinitialspace=True)
            names, first = _names(reader, how, path)
            filled = itertools.chain(first, ((reader.line_num + how.skip_rows, row) for row in reader if row))
            while found := list(itertools.islice(filled, rows)):
                yield _chunk(found, names, how.missing, raw.tell() / size)
    except (UnicodeError, LookupError, csv.Error, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(f"{path} cannot be read as text in {how.encoding} ({error})") from error


def _opened(raw: IO[bytes], suffix: str, encoding: str) -> IO[str]:
    # A byte order mark must not become part of the first column's name.
    encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8", "utf_8") else encoding
    unpack: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
    file: Any = unpack[suffix](raw, "rb") if suffix in unpack else raw
    return io.TextIOWrapper(file, encoding=encoding, newline="")


def _names(reader: Any, how: Format, path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns and, if the file has no header, its first row."""
    row = next((row for row in reader if row), None)
    if row is None:
        raise UserError(f"{path} holds no rows")
    if how.header:
        names, first = [name.strip() for name in row], []
    else:
        names = list(map(str, how.names or range(len(row))))
        first = [(reader.line_num + how.skip_rows, row)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    require(not doubled, f"{path} has more than one column '{doubled[0] if doubled else ''}': name each once")
    return names, first


def _chunk(rows: list[tuple[int, list[str]]], names: list[str], missing: Sequence[str], done: float) -> Chunk:
    wanted = len(names)
    broken = {
        place: f"{len(row)} cells in place of {wanted}" for place, (_, row) in enumerate(rows) if len(row) != wanted
    }
    for place in broken:
        line, row = rows[place]
        rows[place] = line, [*row[:wanted], *[""] * (wanted - len(row))]
    frame = pd.DataFrame([row for _, row in rows], columns=names, dtype="str")
    return Chunk(frame, np.array([line for line, _ in rows]), done, missing, broken)
