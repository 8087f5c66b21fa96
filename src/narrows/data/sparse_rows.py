"""Sparse rows: a store of counts and interactions, of which only what is not 0 is held."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from narrows.data.stores import CHUNK_BYTES, CPU, Dense, OfOneLength, Rows, Store, alike, cuts
from narrows.errors import UserError, require

PIECE = CHUNK_BYTES // 8
"""Stored values whose bytes are handed out together."""


class Sparse(OfOneLength):
    """Rows `[N, D]` of float32, held as a compressed sparse matrix (CSR); only the rows of a batch are made dense.

    The matrix is canonical: what stands twice at one place is summed, columns are in order and zeros are not stored.
    Two matrices of equal values are therefore held alike, and have one fingerprint.

    Args:
        matrix: any SciPy sparse matrix, or an array, `[N, D]`.
        device: where batches are made; on another one than the CPU the rows are held there, too.

    Raises:
        UserError: a value that is NaN or infinite.
    """

    dtype = torch.float32
    reads_files = False
    sparse = True

    def __init__(self, matrix: Any, device: torch.device = CPU) -> None:
        self.matrix = canonical(matrix)
        self.device = torch.device(device)
        self.shape = torch.Size(self.matrix.shape)
        self._held: tuple[Tensor, Tensor, Tensor] | None = None
        if self.device != CPU:
            self._held = _tensors(self.matrix, self.device)

    @classmethod
    def of(cls, store: Store) -> Sparse:
        """The rows of any store of vectors, read chunk by chunk; one that is sparse already, as it is."""
        if isinstance(store, cls):
            return store
        require(len(store.shape) == 2, f"only vectors are held sparse, and these examples have shape {store.shape[1:]}")
        # Empty data have no chunks.
        chunks = [sparse.csr_matrix(chunk.cpu().numpy()) for chunk in store.chunks()]
        return cls(sparse.vstack(chunks, format="csr") if chunks else sparse.csr_matrix(tuple(store.shape)))

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, rows: Rows) -> Any:
        """These rows as a CSR matrix, `[n, D]`."""
        return self.matrix[rows if isinstance(rows, slice) else rows.cpu().numpy()]

    def select(self, rows: Tensor) -> Sparse:
        return Sparse(self.rows(rows), self.device)

    def join(self, other: Any) -> Sparse:
        return Sparse(sparse.vstack([self.matrix, alike(self, other).matrix], format="csr"), self.device)

    def take(self, rows: Rows) -> Tensor:
        if self._held is None:
            return torch.from_numpy(self.rows(rows).toarray())
        chosen = torch.arange(len(self), device=self.device)[rows] if isinstance(rows, slice) else rows
        return spread(*self._held, chosen, self.shape[1])

    def to(self, device: torch.device) -> Sparse:
        return Sparse(self.matrix, device)

    def bytes(self) -> Iterator[memoryview]:
        """The number of stored values of each row, their columns, and the values, in this order."""
        parts = ((np.diff(self.matrix.indptr), "<i8"), (self.matrix.indices, "<i8"), (self.matrix.data, "<f4"))
        for values, kind in parts:
            for start in range(0, len(values), PIECE):
                yield np.ascontiguousarray(values[start : start + PIECE].astype(kind)).data

    def chunks(self) -> Iterator[Tensor]:
        return (torch.from_numpy(self.rows(cut).toarray()) for cut in cuts(self.shape, 4))

    def comparable(self) -> Dense:
        """A digest of each row, int64 `[N, 2]`."""
        found = np.zeros((len(self), 2), np.int64)
        indices, data, ends = self.matrix.indices.astype("<i8"), self.matrix.data, self.matrix.indptr
        for row, (start, stop) in enumerate(itertools.pairwise(ends)):
            digest = hashlib.sha1(indices[start:stop].data, usedforsecurity=False)
            digest.update(data[start:stop].data)
            found[row] = np.frombuffer(digest.digest()[:16], np.int64)
        return Dense(torch.from_numpy(found))


def canonical(matrix: Any) -> Any:
    """A CSR matrix of float32 without duplicates and stored zeros, its columns in order.

    Raises:
        UserError: a value that is NaN or infinite.
    """
    found = matrix if sparse.issparse(matrix) else sparse.csr_matrix(matrix)
    if found.format != "csr" or not found.has_canonical_format:
        # In double precision, because a sum of bytes runs over.
        found = sparse.csr_matrix(found.astype(np.float64))
        found.sum_duplicates()
    values = found.data.astype(np.float32)
    found = sparse.csr_matrix((values, found.indices, found.indptr), shape=found.shape, copy=not values.all())
    found.eliminate_zeros()
    bad = np.flatnonzero(~np.isfinite(found.data))
    if len(bad):
        row, column = place(found, int(bad[0]))
        raise UserError(f"row {row} holds {found.data[bad[0]]} at position {column}: sparse rows hold finite numbers")
    return found


def place(matrix: Any, stored: int) -> tuple[int, int]:
    """Row and column of the stored value at this position of a CSR matrix."""
    row = int(np.searchsorted(matrix.indptr, stored, side="right")) - 1
    return row, int(matrix.indices[stored])


def _tensors(matrix: Any, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Row ends, columns and values on a device."""
    ends, columns = torch.from_numpy(matrix.indptr.astype(np.int64)), torch.from_numpy(matrix.indices)
    return ends.to(device), columns.to(device), torch.from_numpy(matrix.data).to(device)


def spread(ends: Tensor, columns: Tensor, values: Tensor, rows: Tensor, width: int) -> Tensor:
    """Rows of a CSR matrix as a dense tensor `[n, width]`, on the device of its parts.

    Args:
        ends: int64 `[N + 1]`, where each row begins and the one before it ends.
        columns, values: of what is stored.
        rows: int64 `[n]`.
    """
    starts = ends[rows]
    counts = ends[rows + 1] - starts
    row = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
    first = counts.cumsum(0) - counts
    stored = torch.arange(len(row), device=rows.device) - first[row] + starts[row]
    dense = torch.zeros((len(rows), width), dtype=values.dtype, device=values.device)
    dense[row, columns[stored].long()] = values[stored]
    return dense
