"""Serving splits as batches, in the order of a plan.

No state outlives an iteration, so a resumed run, and any number of loader workers or processes, sees the same global
batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from narrows.data.augmentation import Augmented
from narrows.data.batch_plans import Ordered, Process, Shuffled, Step
from narrows.data.splits import Split
from narrows.data.stores import Store
from narrows.errors import UserError
from narrows.random import generator
from narrows.types import PIXELS, Batch, Kind


def unit(x: Tensor) -> Tensor:
    """uint8 as float32 in [0, 1]; floats unchanged."""
    if x.dtype != torch.uint8:
        return x
    # A tensor as divisor: CUDA divides by a Python number by multiplying with its reciprocal, which rounds differently.
    return x.to(torch.float32).div_(torch.full((), 255.0, device=x.device))


def scaled(x: Tensor, kind: Kind) -> Tensor:
    """Stored values as a model reads them: bytes of pixels in [0, 1], token ids as int64, everything else as floats."""
    if kind == "tokens":
        return x.to(torch.int64)
    if kind in PIXELS:
        return unit(x)
    return x if x.is_floating_point() else x.to(torch.float32)


def _take(values: Tensor, rows: Tensor | slice) -> Tensor:
    # A slice is a view of the data set: without the copy, writing into a batch would change the data.
    return values[rows].clone() if isinstance(rows, slice) else values.index_select(0, rows)


def _same(batch: Any) -> Any:
    return batch


class _Rows:
    """The batch sampler of a torch DataLoader: it yields the rows that were set last."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class _Examples:
    """A store as a torch dataset that is read in whole batches."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, row: int) -> Tensor:
        return self.store.take(torch.tensor([row]))[0]

    def __getitems__(self, rows: Tensor) -> Tensor | UserError:
        # Return the error: raised inside a loader worker it would be wrapped in a page of traceback.
        try:
            return self.store.take(rows)
        except UserError as error:
            return error


class _Reader:
    """Reads a store's files, batch by batch, in this process or in workers."""

    def __init__(self, store: Store, num_workers: int, persistent: bool, pin: bool) -> None:
        self._rows = _Rows()
        self._all = torch.arange(len(store))
        self._loader: DataLoader[Any] = DataLoader(
            _Examples(store),  # type: ignore[arg-type]
            batch_sampler=self._rows,  # type: ignore[arg-type]
            collate_fn=_same,
            num_workers=num_workers,
            persistent_workers=persistent and num_workers > 0,
            pin_memory=pin,
            # Otherwise each iteration would draw from torch's default generator.
            generator=torch.Generator(),
        )

    def read(self, steps: list[Step]) -> Iterator[Tensor]:
        self._rows.rows = [self._all[step.rows] for step in steps]
        for x in self._loader:
            if isinstance(x, UserError):
                raise x
            yield x


class Loader:
    """Iterable of `Batch`, one iteration per epoch (`Shuffled`) or over the whole split (`Ordered`).

    Args:
        revealed: also serve the values that were hidden on purpose.
        binarise_seed: if set, grey values are drawn anew in every batch, seeded by (this, "binarise", epoch, batch).
        augment: if set, changes pictures and their masks before anything else.
        device: the device of the batches.
        num_workers: processes that read files; data in memory need none.
    """

    def __init__(
        self,
        split: Split,
        plan: Shuffled | Ordered,
        process: Process,
        *,
        revealed: bool = False,
        binarise_seed: int | None = None,
        augment: Augmented | None = None,
        device: torch.device | str = "cpu",
        num_workers: int = 0,
        persistent: bool = False,
    ) -> None:
        self.split = split
        self.plan = plan
        self.process = process
        self.revealed = revealed
        self.binarise_seed = binarise_seed
        self.augment = augment
        self.device = torch.device(device)
        pin = self.device.type == "cuda"
        self._readers = [
            _Reader(store, num_workers, persistent, pin) if store.reads_files else None for store in split.stores
        ]

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        # Read the progress of training now, not at the first `next`.
        stores = self.split.stores
        steps = self.plan.steps("cpu" if any(store.reads_files for store in stores) else self.device)
        read = [self._read(steps, store, reader) for store, reader in zip(stores, self._readers, strict=True)]
        return (self._batch(step, *values) for step, *values in zip(steps, *read, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Empty: Lightning's own counters hold the progress. The method exists to mark the loader as resumable."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def _read(self, steps: list[Step], store: Store, reader: _Reader | None) -> Iterator[Tensor]:
        return (store.take(step.rows) for step in steps) if reader is None else reader.read(steps)

    def _batch(self, step: Step, raw: Tensor, target: Tensor | None = None) -> Batch:
        label, observed, concealed = (
            None if values is None else _take(values, step.rows) for values in self.split.part.rest
        )
        x, target = self._scaled(raw), None if target is None else self._scaled(target)
        if self.augment is not None:
            x, target, observed, concealed = self.augment(step, x, target, observed, concealed)
        if self.split.features is not None and self.split.held is None:
            x = self.split.features(x)
        if self.binarise_seed is not None:
            x = self._binarise(x, self.binarise_seed, step)
        length = self.split.part.x.lengths(step.rows)
        if length is not None:  # masks are as long as the longest row of all
            observed, concealed = (None if mask is None else mask[..., : x.shape[-1]] for mask in (observed, concealed))
        if concealed is not None:
            assert observed is not None
            if self.revealed:
                observed = observed | concealed
            else:
                x = x.masked_fill(concealed.to(self.device), 0.0)
        batch = Batch(
            x=x,
            target=target,
            label=label,
            observed=observed,
            length=length,
            covariates=None if self.split.part.covariates is None else _take(self.split.part.covariates, step.rows),
            index=_take(self.split.rows, step.rows),
            share=len(x) * self.process.world / step.total,
        )
        return batch.to(self.device)

    def _scaled(self, raw: Tensor) -> Tensor:
        return scaled(raw.to(self.device, non_blocking=True), self.split.kind)

    def _binarise(self, x: Tensor, seed: int, step: Step) -> Tensor:
        # Draw for the global batch and then slice, so that the result does not depend on the number of processes.
        source = generator(seed, "binarise", step.epoch, step.number, device=self.device)
        noise = torch.rand((step.total, *x.shape[1:]), generator=source, device=self.device)
        return (noise[step.places] < x).to(x.dtype)
