"""Rows of different lengths: a store of sentences, tunes, molecules and other sequences, held without padding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.data.stores import CPU, Dense, Rows, alike, cuts
from narrows.errors import require


class Ragged:
    """Sequences held one after another along the time axis, of which a batch is padded to its own longest.

    Rows are `[T]` (token ids, bytes) or `[C, T]` (numbers), with a T of their own; behind a shorter row of a batch
    stand zeros.

    Args:
        values: `[total]` or `[C, total]`, all rows one after another; of numbers float32 or bytes.
        ends: int64 `[N]`, where each row ends, in ascending order; the first one begins at 0.

    Raises:
        UserError: ends that do not cut the values, a row without a step, or numbers in double precision.

    Example:
        >>> rows = Ragged(torch.tensor([5, 6, 7, 8]), torch.tensor([3, 4]))
        >>> rows.shape, rows.take(slice(None)), rows.lengths(slice(None))
        (torch.Size([2, 3]), tensor([[5, 6, 7],
                [8, 0, 0]]), tensor([3, 1]))
    """

    reads_files = False
    sparse = False

    def __init__(self, values: Tensor, ends: Tensor) -> None:
        require(values.ndim in (1, 2), f"rows that differ in length are [T] or [C, T], not cut from {values.ndim} axes")
        require(values.dtype != torch.float64, "rows that differ in length are held as float32: convert them first")
        steps = values.shape[-1]
        require(
            (int(ends[-1]) if len(ends) else 0) == steps,
            f"the last row ends at {int(ends[-1]) if len(ends) else 0}, but there are {steps} steps: ends must cut all",
        )
        self._lengths = ends.diff(prepend=ends.new_zeros(1)).to(torch.int64)
        empty = (self._lengths < 1).nonzero()
        require(len(empty) == 0, f"row {empty[0].item() if len(empty) else 0} has no step: leave empty rows out")
        self.values = values
        self.ends = ends.to(torch.int64)
        longest = int(self._lengths.max()) if len(ends) else 0
        self.shape = torch.Size((len(ends), *values.shape[:-1], longest))

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> Ragged:
        """These rows, each `[T]` or `[C, T]`, at least one of them."""
        lengths = torch.tensor([row.shape[-1] for row in rows])
        return cls(torch.cat(list(rows), -1), lengths.cumsum(0))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        return self.values.device

    def row(self, number: int) -> Tensor:
        """One row without padding, `[T]` or `[C, T]`; a view."""
        end = int(self.ends[number])
        return self.values[..., end - int(self._lengths[number]) : end]

    def select(self, rows: Tensor) -> Ragged:
        rows = rows.to(self.device)
        lengths = self._lengths[rows]
        ends = lengths.cumsum(0)
        row = torch.repeat_interleave(torch.arange(len(rows), device=self.device), lengths)
        within_row = torch.arange(len(row), device=self.device) - (ends - lengths)[row]
        places = (self.ends - self._lengths)[rows][row] + within_row
        return Ragged(self.values[..., places], ends)

    def join(self, other: Any) -> Ragged:
        second = alike(self, other)
        values = torch.cat([self.values, second.values], -1)
        return Ragged(values, torch.cat([self.ends, second.ends + self.values.shape[-1]]))

    def take(self, rows: Rows) -> Tensor:
        """These rows, padded with 0 to the longest of them, `[n, (C,) T]`."""
        lengths = self._lengths[rows]
        return self._padded(rows, int(lengths.max()) if len(lengths) else 0)

    def lengths(self, rows: Rows) -> Tensor:
        return self._lengths[rows].clone()

    def to(self, device: torch.device) -> Ragged:
        return Ragged(self.values.to(device), self.ends.to(device))

    def bytes(self) -> Iterator[memoryview]:
        """The ends of the rows, then their values."""
        yield np.ascontiguousarray(self.ends.cpu().numpy().astype("<i8")).data
        yield from Dense(self.values).bytes()

    def chunks(self) -> Iterator[Tensor]:
        """All rows in order, padded to the longest of all."""
        return (self._padded(cut, self.shape[-1]) for cut in cuts(self.shape, self.dtype.itemsize))

    def comparable(self) -> Dense:
        """A digest of each row, int64 `[N, 2]`."""
        found = np.zeros((len(self), 2), np.int64)
        held = self.to(CPU)
        for number in range(len(self)):
            row = np.ascontiguousarray(held.row(number).numpy())
            found[number] = np.frombuffer(hashlib.sha1(row.data, usedforsecurity=False).digest()[:16], np.int64)
        return Dense(torch.from_numpy(found))

    def _padded(self, rows: Rows, steps: int) -> Tensor:
        lengths, starts = self._lengths[rows], (self.ends - self._lengths)[rows]
        step = torch.arange(steps, device=self.device)
        outside = step >= lengths[:, None]
        places = (starts[:, None] + step).masked_fill(outside, 0)
        taken = self.values[..., places.flatten()].reshape(*self.values.shape[:-1], *places.shape)
        return taken.movedim(-2, 0).masked_fill(outside.reshape(len(lengths), *[1] * (taken.ndim - 2), steps), 0)
