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
from typing import IO, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from narrows.data.dataset_files import array_names, read_arrays
from narrows.data.number_texts import PLAIN, Marks
from narrows.data.table_format import HERE, Format, name_columns, refuse_doubled
from narrows.errors import UserError, require
from narrows.files import require_no_pipe

ROWS = 20_000
"""Rows read at once."""
LONGEST = 2**24
"""Characters of the longest line that is read: a longer one is no line of a table, and could fill the memory."""
ARRAYS = (".npz", ".npy")
UNPACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ": lzma.open}
"""By the first bytes of a compressed file, what opens it."""
SUFFIXES: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
UTF16 = (b"\xff\xfe", b"\xfe\xff")
PARQUET, ZIP, OLD_EXCEL = b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


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
    """Texts that mean a missing cell, in columns of texts."""
    broken: dict[int, str] = field(default_factory=dict)
    """Positions of rows with the wrong number of cells, each with a message."""
    marks: Marks = PLAIN
    """The marks within numbers."""
    unit: Literal["line", "row"] = "row"
    """What `lines` counts."""

    @property
    def known(self) -> pd.DataFrame:
        """The frame with missing cells as NA."""
        return self.frame.mask(self.frame.isin(self.missing)) if self.missing else self.frame


def read_chunks(path: Path, how: Format, rows: int = ROWS) -> Iterator[Chunk]:
    """A table in chunks of `rows` rows: any text file (also packed by gzip or xz), Parquet, which is known by its first
    bytes, .npz or .npy.

    Arrays become columns: one of `[N]` is named by its key, those of `[N, D]` are `<key>0`, `<key>1`, ...

    Raises:
        UserError: a folder or a pipe, or a file that cannot be read in its format.
    """
    suffix = path.suffix.lower()
    begin = _first_bytes(path)
    if begin.startswith(PARQUET) or suffix == ".parquet":
        return _parquet(path, how, rows)
    if suffix in ARRAYS:
        return _slices(_array_frame(path), how, rows)
    require(
        not begin.startswith((ZIP, OLD_EXCEL)),
        f"{path} is an archive or a spreadsheet, not a text: save the sheet as CSV, or unpack it",
    )
    return _text(path, begin, how, rows)


def _first_bytes(path: Path) -> bytes:
    require_no_pipe(path)
    require(not path.is_dir(), f"{path} is a folder, and a table is read from one file: name the file")
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def _slices(frame: pd.DataFrame, how: Format, rows: int) -> Iterator[Chunk]:
    for start in range(0, len(frame), rows):
        part = frame.iloc[start : start + rows]
        lines = np.arange(start, start + len(part)) + 1
        yield Chunk(part, lines, (start + len(part)) / len(frame), how.missing, marks=how.marks)


def _array_frame(path: Path) -> pd.DataFrame:
    keys = array_names(path) or ["x"]
    columns: dict[str, NDArray[Any]] = {}
    for key, array in read_arrays(path, keys).items():
        require(array.ndim in (1, 2), f"array '{key}' of {path} has shape {list(array.shape)}: a table is [N, D]")
        require(array.dtype.kind in "biufUSMm", f"array '{key}' of {path} is of type {array.dtype}, no column's type")
        names = [key] if array.ndim == 1 else [f"{key}{place}" for place in range(array.shape[1])]
        columns |= dict(zip(names, array[None] if array.ndim == 1 else array.T, strict=True))
    require(bool(columns), f"{path} holds no columns")
    lengths = {len(column) for column in columns.values()}
    require(len(lengths) == 1, f"the arrays of {path} have {sorted(lengths)} rows: one table has one number")
    return pd.DataFrame(columns)


def _parquet(path: Path, how: Format, rows: int) -> Iterator[Chunk]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(f"reading {path} needs pyarrow: pip install 'narrows[parquet]'") from error
    start = 0
    try:
        with pq.ParquetFile(path) as file:
            refuse_doubled(file.schema_arrow.names, path)
            for batch in file.iter_batches(batch_size=rows):
                frame = batch.to_pandas()
                lines = np.arange(start, start + len(frame)) + 1
                start += len(frame)
                if len(frame):
                    yield Chunk(frame, lines, start / file.metadata.num_rows, how.missing, marks=how.marks)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet ({' '.join(str(error).split())})") from error


def _text(path: Path, begin: bytes, how: Format, rows: int) -> Iterator[Chunk]:
    size = max(path.stat().st_size, 1)
    wide = begin.startswith(UTF16) and not how.encoding.lower().startswith(("utf-32", "utf32"))
    encoding = "utf-16" if wide else how.encoding
    try:
        with path.open("rb") as raw, _opened(raw, path, begin, encoding) as file:
            for _ in range(how.skip_rows):
                if not file.readline(LONGEST):
                    break
            reader = csv.reader(_lines(file, path), delimiter=how.separator, skipinitialspace=True)
            filled: Iterator[tuple[int, list[str]]] = ((reader.line_num + how.skip_rows, row) for row in reader if row)
            first = list(itertools.islice(filled, 2))
            require(bool(first), f"{path} holds no rows")
            names = name_columns(first[0][1], first[1][1] if first[1:] else None, how, path)
            filled = itertools.chain(first[1:] if how.header else first, filled)
            while found := list(itertools.islice(filled, rows)):
                yield _chunk(found, names, how, raw.tell() / size)
    except UserError:
        raise
    except (UnicodeError, LookupError, csv.Error, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        other = f": if it has another, set {HERE}.encoding, such as latin-1" if isinstance(error, UnicodeError) else ""
        raise UserError(f"{path} cannot be read as text in {encoding} ({error}){other}") from error


def _opened(raw: IO[bytes], path: Path, begin: bytes, encoding: str) -> IO[str]:
    # A byte order mark must not become part of the first column's name.
    encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8", "utf_8") else encoding
    unpack = next((opened for mark, opened in UNPACKED.items() if begin.startswith(mark)), None)
    unpack = unpack or SUFFIXES.get(path.suffix.lower())
    file: Any = unpack(raw, "rb") if unpack else raw
    return io.TextIOWrapper(file, encoding=encoding, newline="")


def _lines(file: IO[str], path: Path) -> Iterator[str]:
    """The lines of a text, refused where they cannot be those of a table."""
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        require(len(line) < LONGEST, f"line {number} of {path} is longer than {LONGEST:,} characters: it is no table")
        require(
            "\0" not in line,
            f"line {number} of {path} holds the character NUL: if the text is of UTF-16, set {HERE}.encoding=utf-16",
        )
        yield line


def _chunk(rows: list[tuple[int, list[str]]], names: list[str], how: Format, done: float) -> Chunk:
    wanted = len(names)
    broken = {
        place: f"{len(row)} cells in place of {wanted}" for place, (_, row) in enumerate(rows) if len(row) != wanted
    }
    for place in broken:
        line, row = rows[place]
        rows[place] = line, [*row[:wanted], *[""] * (wanted - len(row))]
    frame = pd.DataFrame([row for _, row in rows], columns=names, dtype="str")
    return Chunk(frame, np.array([line for line, _ in rows]), done, how.missing, broken, how.marks, "line")
