"""Stores: examples held in memory, as bits, or in files that are read for every batch.

Code that serves, checks or splits data uses the protocol `Store` and no class of it, so that a new way to hold examples
is one new class.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from narrows.data.tar_members import Member
from narrows.errors import require
from narrows.types import Shape

Rows = Tensor | slice
"""Rows of a store: int64 `[n]`, or a slice."""
CHUNK_BYTES = 2**22
"""Approximate size of a chunk, which bounds the memory of code that reads all examples."""
CPU = torch.device("cpu")


class Store(Protocol):
    """Examples `[N, *shape]`, wherever they are held."""

    @property
    def shape(self) -> torch.Size:
        """`[N, *shape]`; where lengths differ, that of the longest row."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the values that `take` returns."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def reads_files(self) -> bool:
        """Whether `take` reads files: loader workers then help, and nothing may ask for all examples at once."""
        ...

    @property
    def sparse(self) -> bool:
        """Whether zeros are not held: all values are then finite, and nothing may ask for all rows at once."""
        ...

    def __len__(self) -> int: ...

    def select(self, rows: Tensor) -> Store:
        """These rows, in this order."""
        ...

    def join(self, other: Any) -> Store:
        """The rows of both; those of `other`, a store of the same class, follow."""
        ...

    def take(self, rows: Rows) -> Tensor:
        """A copy of the values of these rows, `[n, *shape]`; where lengths differ, padded to the longest of them.

        Raises:
            UserError: a file that cannot be read.
        """
        ...

    def lengths(self, rows: Rows) -> Tensor | None:
        """int64 `[n]`, the length of each row along the last axis; None if all rows have one length."""
        ...

    def to(self, device: torch.device) -> Store:
        """The store on this device; one that reads files stays as it is."""
        ...

    def bytes(self) -> Iterator[bytes | memoryview]:
        """The bytes from which the fingerprint is computed."""
        ...

    def chunks(self) -> Iterator[Tensor]:
        """All values in order, a bounded number at a time."""
        ...

    def comparable(self) -> Store:
        """A store whose rows are equal where those of this one are: itself, or digests of its rows."""
        ...


Kept = TypeVar("Kept")


def alike(first: Kept, second: object) -> Kept:
    """`second`, checked to be a store of the same class as `first`.

    Raises:
        UserError: it is of another class.
    """
    require(
        type(first) is type(second),
        f"examples held as {type(first).__name__} and as {type(second).__name__} cannot be pooled: set "
        "validation=official, which keeps the two splits apart",
    )
    return second  # type: ignore[return-value]


def cuts(shape: Sequence[int], bytes_each: int) -> Iterator[slice]:
    """Slices over all rows of `shape`, in order, each of about `CHUNK_BYTES`."""
    rows = max(1, CHUNK_BYTES // max(1, bytes_each * math.prod(shape[1:])))
    return (slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows))


def differs(store: Store) -> bool:
    """Whether the rows of a store differ in length, so that batches of them are padded."""
    return store.lengths(slice(0, 0)) is not None


class OfOneLength:
    """Base of stores whose rows all have one length, so that there is no padding."""

    sparse = False

    def comparable(self) -> Any:
        return self

    def lengths(self, rows: Rows) -> Tensor | None:
        return None


class Dense(OfOneLength):
    """A tensor `[N, *shape]`."""

    reads_files = False

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __len__(self) -> int:
        return len(self.tensor)

    def select(self, rows: Tensor) -> Dense:
        return Dense(self.tensor.index_select(0, rows))

    def join(self, other: Any) -> Dense:
        return Dense(torch.cat([self.tensor, alike(self, other).tensor]))

    def take(self, rows: Rows) -> Tensor:
        # A slice is a view: without the copy, writing into a batch would change the data.
        return self.tensor[rows].clone() if isinstance(rows, slice) else self.tensor.index_select(0, rows)

    def to(self, device: torch.device) -> Dense:
        return Dense(self.tensor.to(device))

    def bytes(self) -> Iterator[memoryview]:
        return (chunk.contiguous().cpu().numpy().data for chunk in self.chunks())

    def chunks(self) -> Iterator[Tensor]:
        return (self.tensor[cut] for cut in cuts(self.shape, self.tensor.element_size()))


class Packed(OfOneLength):
    """Black and white examples held as bits, in an eighth of the memory; returned as uint8, 0 or 255.

    Args:
        bits: uint8 `[N, ceil(D / 8)]`, the first value of an example in the highest bit, as `numpy.packbits`
            writes them.
        shape: of one example, with D values.
    """

    dtype = torch.uint8
    reads_files = False

    def __init__(self, bits: Tensor, shape: Shape) -> None:
        self.bits = bits
        self.shape = torch.Size((len(bits), *shape))

    def __len__(self) -> int:
        return len(self.bits)

    @property
    def device(self) -> torch.device:
        return self.bits.device

    def select(self, rows: Tensor) -> Packed:
        return Packed(self.bits.index_select(0, rows), self._each)

    def join(self, other: Any) -> Packed:
        return Packed(torch.cat([self.bits, alike(self, other).bits]), self._each)

    def take(self, rows: Rows) -> Tensor:
        places = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.device)
        values = (self.bits[rows].unsqueeze(-1) >> places).bitwise_and_(1).mul_(255).flatten(1)
        return values[:, : math.prod(self._each)].reshape(-1, *self._each)

    def to(self, device: torch.device) -> Packed:
        return Packed(self.bits.to(device), self._each)

    def bytes(self) -> Iterator[memoryview]:
        return Dense(self.bits).bytes()

    def chunks(self) -> Iterator[Tensor]:
        return (self.take(cut) for cut in cuts(self.shape, 1))

    @property
    def _each(self) -> Shape:
        return tuple(self.shape[1:])


def require_memory_limit(limit_mb: float) -> None:
    """Refuse a `source.memory_limit_mb`, up to which examples in files are held in memory, that is no amount.

    Raises:
        UserError: it is negative or not finite.
    """
    amount = math.isfinite(limit_mb) and limit_mb >= 0
    require(amount, f"source.memory_limit_mb={limit_mb} must be a number of at least 0")


def held_or_streamed(
    paths: Sequence[Any], read: Callable[[Any], Tensor], shape: Shape, streamed: bool
) -> Tensor | Streamed:
    """Images of one shape, read now, `[N, *shape]` uint8, or whenever they are needed."""
    if streamed:
        return Streamed(paths, read, shape)
    x = torch.empty((len(paths), *shape), dtype=torch.uint8)
    for row, path in enumerate(paths):
        x[row] = read(path)
    return x


class Streamed(OfOneLength):
    """Images that are read from their files for every batch, because they do not fit in memory.

    Args:
        paths: one file per example, or what stands for one: a frame of a file, or a file of an archive.
        read: `read(path) -> uint8 [C, H, W]`; raises `UserError` where a file is broken. Picklable, for
            loader workers; its `repr` names every choice that changes a pixel (it goes into the fingerprint).
        shape: of one example.
    """

    dtype = torch.uint8
    device = CPU
    reads_files = True

    def __init__(self, paths: Sequence[Any], read: Callable[[Any], Tensor], shape: Shape) -> None:
        self.paths = list(paths)
        self.read = read
        self.shape = torch.Size((len(self.paths), *shape))

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: Tensor) -> Streamed:
        return self._of([self.paths[row] for row in rows.tolist()])

    def join(self, other: Any) -> Streamed:
        return self._of(self.paths + alike(self, other).paths)

    def take(self, rows: Rows) -> Tensor:
        paths = self.paths[rows] if isinstance(rows, slice) else [self.paths[row] for row in rows.tolist()]
        return torch.stack([self.read(path) for path in paths])

    def to(self, device: torch.device) -> Streamed:
        return self

    def bytes(self) -> Iterator[bytes]:
        yield repr(self.read).encode()
        for path in self.paths:
            yield hashlib.sha256(path.read_bytes() if isinstance(path, Member) else Path(path).read_bytes()).digest()

    def chunks(self) -> Iterator[Tensor]:
        return (self.take(cut) for cut in cuts(self.shape, 1))

    def _of(self, paths: list[Any]) -> Streamed:
        return Streamed(paths, self.read, tuple(self.shape[1:]))
