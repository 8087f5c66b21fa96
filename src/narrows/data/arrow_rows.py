"""Rows of Hugging Face data sets, read at their places from memory-mapped Arrow files.

The library's own iteration over several processes shards a data set, pads or drops rows, and shuffles by copying an
index of all rows; places make any order as cheap, and batches a function of seed and counters, as with files in tars.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from narrows.data.image_files import Encoded, ImageReader
from narrows.data.stores import CPU, OfOneLength, Rows, alike, cuts
from narrows.errors import UserError, require
from narrows.types import Shape

NumpyArray = np.ndarray[Any, Any]
ROWS = 1000
"""Rows of a column that are looked at together; Arrow's buffers stay in their files."""


@dataclass
class ArrowColumn:
    """One column of a memory-mapped data set."""

    dataset: Any
    """A `datasets.Dataset` of this column alone that gives its rows as Arrow tables."""
    name: str
    where: str
    """The column and its place, for messages."""

    def __len__(self) -> int:
        return len(self.dataset)

    @classmethod
    def of(cls, dataset: Any, name: str, place: str) -> ArrowColumn:
        return cls(dataset.select_columns([name]).with_format("arrow"), name, f"column '{name}' of {place}")

    @property
    def type(self) -> Any:
        """The Arrow type that holds the values."""
        found = self.dataset.data.schema.field(self.name).type
        return getattr(found, "storage_type", found)

    @property
    def numbers(self) -> Any:
        """The numpy type at the bottom of nested lists."""
        found = self.type
        while is_listed(found):
            found = found.value_type
        return np.dtype(found.to_pandas_dtype())

    def cells(self, places: Tensor) -> list[Any]:
        """Arrow arrays of these rows, int64 `[n]`, in their order."""
        first, count = int(places[0]), len(places)
        # Rows that follow one another are a view of the file.
        together = torch.equal(places, torch.arange(first, first + count))
        return self._arrays(self.dataset[first : first + count] if together else self.dataset[places.tolist()])

    def pieces(self) -> Iterator[tuple[int, Any]]:
        """All rows as Arrow arrays that stay in the file, each with the number of its first row."""
        start = 0
        for table in self.dataset.iter(ROWS):
            for piece in self._arrays(table):
                yield start, piece
                start += len(piece)

    def refuse(self, row: int, what: str) -> NoReturn:
        """Say what is wrong with a row, which people count from 0 as the library does."""
        raise UserError(f"row {row:,} of {self.where} {what}")

    def _arrays(self, table: Any) -> list[Any]:
        return [getattr(piece, "storage", piece) for piece in table.column(0).chunks if len(piece)]


def first_null(array: Any) -> int:
    """The place of the first missing value."""
    return int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])


def is_listed(kind: Any) -> bool:
    """Whether this Arrow type is a list, of one length or of several."""
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def shape_of(array: Any, refuse: Callable[[int, str], NoReturn]) -> Shape:
    """The shape that all rows of nested lists share; their values are not read.

    Args:
        refuse: is called with a row's place in the array and what is wrong with it.
    """
    import pyarrow.compute as pc

    shape: list[int] = []
    rows, inner = len(array), array
    while is_listed(inner.type):
        each = len(inner) // rows if rows else 1  # lists of this depth in a row
        if inner.null_count:
            refuse(first_null(inner) // max(1, each), "is missing, or holds a list that is: take the row out")
        lengths = pc.list_value_length(inner).to_numpy(zero_copy_only=False)
        other = np.flatnonzero(lengths != lengths[:1])
        if len(other):
            refuse(
                int(other[0]) // max(1, each),
                f"holds {lengths[other[0]]:,} numbers where the first one has {lengths[0]:,}: rows of one shape are "
                "needed; pad or cut them first",
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        inner = inner.flatten()
    if inner.null_count:
        each = max(1, len(inner) // max(1, rows))
        refuse(first_null(inner) // each, "holds a missing number: fill it in, or take the row out")
    return tuple(shape)


def numbers_of(array: Any, shape: Shape) -> NumpyArray:
    """Rows of nested lists that `shape_of` has found to be of this shape, `[n, *shape]`."""
    rows, inner = len(array), array
    while is_listed(inner.type):
        inner = inner.flatten()
    return np.array(inner.to_numpy(zero_copy_only=False)).reshape(rows, *shape)


class ArrowRows(OfOneLength):
    """Rows of columns that follow one another, of which only those of a batch are read.

    Args:
        columns: must be picklable for loader workers, as data sets in files are.
        rows: int64, the selected rows in order; None for all.
    """

    device = CPU
    reads_files = True

    def __init__(self, columns: Sequence[ArrowColumn], each: Shape, dtype: torch.dtype, rows: Tensor | None) -> None:
        self.columns = list(columns)
        self.starts = np.cumsum([0, *map(len, self.columns)]).tolist()
        self.rows = torch.arange(self.starts[-1]) if rows is None else rows
        self.shape = torch.Size((len(self.rows), *each))
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, rows: Tensor) -> Any:
        return self._with(self.columns, self.rows[rows])

    def join(self, other: Any) -> Any:
        second = alike(self, other)
        return self._with(self.columns + second.columns, torch.cat([self.rows, second.rows + self.starts[-1]]))

    def take(self, rows: Rows) -> Tensor:
        places = self.rows[rows]
        found = torch.empty((len(places), *self.shape[1:]), dtype=self.dtype)
        for start, column in zip(self.starts, self.columns, strict=False):
            here = ((places >= start) & (places < start + len(column))).nonzero().flatten()
            if len(here):
                found[here] = self._read(column, places[here] - start)
        return found

    def to(self, device: torch.device) -> Any:
        return self

    def chunks(self) -> Iterator[Tensor]:
        return (self.take(cut) for cut in cuts(self.shape, self.dtype.itemsize))

    def _with(self, columns: list[ArrowColumn], rows: Tensor) -> ArrowRows:
        raise NotImplementedError

    def _read(self, column: ArrowColumn, places: Tensor) -> Tensor:
        raise NotImplementedError


class ArrowNumbers(ArrowRows):
    """Nested lists of numbers, all of one shape.

    Args:
        arrange: turns numbers `[n, *shape]` into a tensor `[n, *each]`; picklable, for loader workers.
        shape: of a row as it is stored.
    """

    def __init__(
        self,
        columns: Sequence[ArrowColumn],
        arrange: Callable[[NumpyArray], Tensor],
        shape: Shape,
        rows: Tensor | None = None,
    ) -> None:
        self.arrange, self.stored = arrange, shape
        like = arrange(np.empty((0, *shape), columns[0].numbers))
        super().__init__(columns, tuple(like.shape[1:]), like.dtype, rows)

    def bytes(self) -> Iterator[memoryview]:
        """The bytes of the same values in memory, so that the fingerprint is theirs."""
        return (chunk.contiguous().numpy().data for chunk in self.chunks())

    def _with(self, columns: list[ArrowColumn], rows: Tensor) -> ArrowNumbers:
        return ArrowNumbers(columns, self.arrange, self.stored, rows)

    def _read(self, column: ArrowColumn, places: Tensor) -> Tensor:
        found = [numbers_of(cells, self.stored) for cells in column.cells(places)]
        return self.arrange(found[0] if len(found) == 1 else np.concatenate(found))


class ArrowPictures(ArrowRows):
    """Encoded pictures, which are decoded for every batch by the reader of image files."""

    def __init__(self, columns: Sequence[ArrowColumn], reader: ImageReader, rows: Tensor | None = None) -> None:
        self.reader = reader
        super().__init__(columns, reader.shape, torch.uint8, rows)

    def bytes(self) -> Iterator[bytes]:
        """What a folder of the same files gives."""
        yield repr(self.reader).encode()
        for row in range(len(self)):
            place = int(self.rows[row])
            column = int(np.searchsorted(self.starts, place, side="right")) - 1
            (picture,) = encoded(self.columns[column], torch.tensor([place - self.starts[column]]))
            yield hashlib.sha256(picture.content).digest()

    def _with(self, columns: list[ArrowColumn], rows: Tensor) -> ArrowPictures:
        return ArrowPictures(columns, self.reader, rows)

    def _read(self, column: ArrowColumn, places: Tensor) -> Tensor:
        return torch.stack([self.reader(picture) for picture in encoded(column, places)])


def encoded(column: ArrowColumn, places: Tensor) -> Iterator[Encoded]:
    """The pictures of these rows as the files that they were.

    Raises:
        UserError: (as it is reached) a picture that is kept by its path, and is not there.
    """
    cells = (cell for array in column.cells(places) for cell in array)
    for place, cell in zip(places.tolist(), cells, strict=True):
        value = cell.as_py()
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if content is None:
            content = _file(column, place, path)
        yield Encoded(f"row {place:,} of {column.where}", content)


def _file(column: ArrowColumn, place: int, path: str | None) -> bytes:
    require(path is not None, f"row {place:,} of {column.where} has no picture: take the row out")
    try:
        return Path(str(path)).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"row {place:,} of {column.where} holds the path {path} and no picture, and there it cannot be read "
            f"({reason}): put the file back, or save the data set with its pictures"
        ) from error
