"""Memory-mapped arrays: a store whose values stay in their files, for data larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.data.dataset_files import ArrayFile
from narrows.data.stores import CPU, OfOneLength, Rows, alike, cuts

NumpyArray = np.ndarray[Any, Any]


class Mapped(OfOneLength):
    """Arrays in memory-mapped files, of which only the rows of a batch are read.

    Args:
        files: the files, whose rows follow one another.
        arrange: turns rows as the files hold them into a tensor `[n, *shape]`. It must be picklable, for loader
            workers, and must not keep its argument.
        rows: int64, the selected rows in order; None for all.
    """

    device = CPU
    reads_files = True

    def __init__(
        self, files: Sequence[ArrayFile], arrange: Callable[[NumpyArray], Tensor], rows: Tensor | None = None
    ) -> None:
        self.files = list(files)
        self.arrange = arrange
        self.rows = rows
        like = arrange(np.empty((0, *self.files[0].shape[1:]), self.files[0].dtype))
        self._starts = np.cumsum([0, *(file.shape[0] for file in self.files)])
        size = int(self._starts[-1]) if rows is None else len(rows)
        self.shape = torch.Size((size, *like.shape[1:]))
        self.dtype = like.dtype
        self._arrays: list[NumpyArray] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def select(self, rows: Tensor) -> Mapped:
        return Mapped(self.files, self.arrange, rows if self.rows is None else self.rows[rows])

    def join(self, other: Any) -> Mapped:
        second = alike(self, other)
        rows = None
        if self.rows is not None or second.rows is not None:
            rows = torch.cat([self._every, second._every + int(self._starts[-1])])
        return Mapped(self.files + second.files, self.arrange, rows)

    def take(self, rows: Rows) -> Tensor:
        if len(self.files) == 1:
            wanted = rows if self.rows is None else self.rows[rows]
            # Copy, because the pages of the file are read-only.
            return self.arrange(np.array(self._opened()[0][wanted if isinstance(wanted, slice) else wanted.numpy()]))
        places = self._every[rows].numpy()
        found = torch.empty((len(places), *self.shape[1:]), dtype=self.dtype)
        for start, array in zip(self._starts, self._opened(), strict=False):
            here = np.flatnonzero((places >= start) & (places < start + len(array)))
            found[torch.from_numpy(here)] = self.arrange(np.array(array[places[here] - start]))
        return found

    def to(self, device: torch.device) -> Mapped:
        return self

    def bytes(self) -> Iterator[memoryview]:
        """The bytes of the same values in memory, so that mapping a file does not change the fingerprint."""
        return (chunk.contiguous().numpy().data for chunk in self.chunks())

    def chunks(self) -> Iterator[Tensor]:
        return (self.take(cut) for cut in cuts(self.shape, self.dtype.itemsize))

    @property
    def _every(self) -> Tensor:
        return torch.arange(int(self._starts[-1])) if self.rows is None else self.rows

    def _opened(self) -> list[NumpyArray]:
        if self._arrays is None:
            self._arrays = [file.opened() for file in self.files]
        return self._arrays

    def __getstate__(self) -> dict[str, Any]:
        # A mapped array would be pickled with all its values, so each worker opens the file itself.
        return self.__dict__ | {"_arrays": None}
