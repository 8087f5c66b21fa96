"""Rows of several stores side by side, as multi-modal data are held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from narrows.data.batch_loader import scaled
from narrows.data.stores import OfOneLength, Rows, Store, cuts
from narrows.types import Kind


class SideBySide(OfOneLength):
    """Flattened rows of several stores beside one another, `[N, D]`, each scaled by its kind: bytes of images to
    [0, 1]. A row of a store is held once, in however many rows it stands.

    Args:
        stores: K of them, each of examples of one length, held in memory.
        kinds: of each store.
        rows: int64 `[N, K]`, which row of each store stands in each row.

    Example:
        >>> pairs = SideBySide([Dense(torch.arange(4.0)[:, None])] * 2, ["vector"] * 2, torch.tensor([[0, 3], [1, 2]]))
        >>> pairs.take(slice(None))
        tensor([[0., 3.],
                [1., 2.]])
    """

    dtype = torch.float32
    reads_files = False

    def __init__(self, stores: Sequence[Store], kinds: Sequence[Kind], rows: Tensor) -> None:
        self.stores, self.kinds, self.rows = list(stores), list(kinds), rows
        self.shape = torch.Size((len(rows), sum(prod(store.shape[1:]) for store in stores)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def select(self, rows: Tensor) -> SideBySide:
        return SideBySide(self.stores, self.kinds, self.rows.index_select(0, rows))

    def join(self, other: Any) -> SideBySide:
        behind = torch.tensor([len(store) for store in self.stores], device=self.device)
        stores = [one.join(two) for one, two in zip(self.stores, other.stores, strict=True)]
        return SideBySide(stores, self.kinds, torch.cat([self.rows, other.rows + behind]))

    def take(self, rows: Rows) -> Tensor:
        chosen = self.rows[rows]
        taken = [
            scaled(store.take(own), kind).float().flatten(1)
            for store, kind, own in zip(self.stores, self.kinds, chosen.unbind(1), strict=True)
        ]
        return torch.cat(taken, 1)

    def to(self, device: torch.device) -> SideBySide:
        return SideBySide([store.to(device) for store in self.stores], self.kinds, self.rows.to(device))

    def bytes(self) -> Iterator[bytes | memoryview]:
        for store in self.stores:
            yield f"|{store.dtype}|{list(store.shape)}|".encode()
            yield from store.bytes()
        yield self.rows.contiguous().cpu().numpy().data

    def chunks(self) -> Iterator[Tensor]:
        return (self.take(cut) for cut in cuts(self.shape, 4))
