"""Serving splits as batches: which rows, in which order, for which process.

The order of epoch e is a permutation seeded by (seed, "order", e) and cut into global batches; process r of w serves
rows r, r + w, ... of each. No state outlives an iteration, so a resumed run, and any number of loader workers or
processes, sees the same global batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from narrows.data.splits import Split
from narrows.data.stores import Store
from narrows.errors import UserError, require
from narrows.random import generator
from narrows.types import Batch, Kind


@dataclass(frozen=True)
class Process:
    """Process `rank` of `world`."""

    rank: int = 0
    world: int = 1


@dataclass
class Step:
    """One batch to serve: its epoch and number, this process's rows of the split, and the size of the global batch."""

    epoch: int
    number: int
    rows: Tensor | slice
    total: int


@dataclass
class Shuffled:
    """The order of training batches; iteration starts after the `processed` batches that training has seen.

    `len` is that of a whole epoch even if only its rest is served, because Lightning compares it with the number of
    batches before a restart plus those since.

    Args:
        limit: how many batches of an epoch are served (`limit_train_batches`).
        shuffle: False serves every epoch in the order of the split (`overfit_batches`).
    """

    size: int
    batch_size: int
    seed: int
    process: Process = field(default_factory=Process)
    processed: Callable[[], int] = lambda: 0
    limit: Callable[[int], int] = lambda batches: batches
    shuffle: bool = True

    def __post_init__(self) -> None:
        require(
            self.batch_size >= self.process.world,
            f"batch_size={self.batch_size} is shared by {self.process.world} processes: it must be at least that",
        )
        require(
            len(self) > 0,
            f"the train split has {self.size} examples, too few for {self.process.world} processes",
        )

    def __len__(self) -> int:
        whole, tail = divmod(self.size, self.batch_size)
        return whole + (tail >= self.process.world)

    def order(self, epoch: int) -> Tensor:
        """All rows of the split in the order of this epoch."""
        if not self.shuffle:
            return torch.arange(self.size)
        return torch.randperm(self.size, generator=generator(self.seed, "order", epoch))

    def steps(self, device: torch.device | str = "cpu") -> list[Step]:
        """The rest of the current epoch; the rows lie on `device`."""
        limit = self.limit(len(self))
        epoch, position = divmod(self.processed(), limit) if limit else (0, 0)
        order = self.order(epoch).to(device)
        return [self._step(order, epoch, number) for number in range(position, limit)]

    def _step(self, order: Tensor, epoch: int, number: int) -> Step:
        rows = order[number * self.batch_size : (number + 1) * self.batch_size]
        return Step(epoch, number, rows[self.process.rank :: self.process.world], len(rows))


@dataclass
class Ordered:
    """Every example once, in order, in chunks of nearly equal size; every process gets equally many chunks."""

    size: int
    batch_size: int
    process: Process = field(default_factory=Process)

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"eval_batch_size={self.batch_size} must be at least 1")
        require(
            self.size >= self.process.world,
            f"a split of {self.size} examples cannot be shared by {self.process.world} processes: use fewer",
        )

    def __len__(self) -> int:
        # No more chunks than leave at least one row of each to every process.
        return min(-(-self.size // self.batch_size), self.size // self.process.world)

    def steps(self, device: torch.device | str = "cpu") -> list[Step]:
        """All chunks; their rows are slices, so `device` does not matter."""
        each, longer = divmod(self.size, len(self))
        steps, start = [], 0
        for number in range(len(self)):
            stop = start + each + (number < longer)
            rows = slice(start + self.process.rank, stop, self.process.world)
            steps.append(Step(0, number, rows, stop - start))
            start = stop
        return steps


def unit(x: Tensor) -> Tensor:
    """uint8 as float32 in [0, 1]; floats unchanged."""
    if x.dtype != torch.uint8:
        return x
    # A tensor as divisor: CUDA divides by a Python number by multiplying with its reciprocal, which rounds differently.
    return x.to(torch.float32).div_(torch.full((), 255.0, device=x.device))


def scaled(x: Tensor, kind: Kind) -> Tensor:
    """Stored values as a model reads them: bytes of images in [0, 1], token ids as int64, everything else as floats."""
    if kind == "tokens":
        return x.to(torch.int64)
    if kind == "image":
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
        device: torch.device | str = "cpu",
        num_workers: int = 0,
        persistent: bool = False,
    ) -> None:
        self.split = split
        self.plan = plan
        self.process = process
        self.revealed = revealed
        self.binarise_seed = binarise_seed
        self.device = torch.device(device)
        pin = self.device.type == "cuda"
        self._readers = [
            _Reader(store, num_workers, persistent, pin) if store.reads_files else None for store in split.part.stores
        ]

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        # Read the progress of training now, not at the first `next`.
        part = self.split.part
        steps = self.plan.steps("cpu" if part.reads_files else self.device)
        read = [self._read(steps, store, reader) for store, reader in zip(part.stores, self._readers, strict=True)]
        return (self._batch(step, *values) for step, *values in zip(steps, *read, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Empty: Lightning's own counters hold the progress. The method exists to mark the loader as resumable."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def _read(self, steps: list[Step], store: Store, reader: _Reader | None) -> Iterator[Tensor]:
        return (store.take(step.rows) for step in steps) if reader is None else reader.read(steps)

    def _batch(self, step: Step, raw: Tensor, target: Tensor | None = None) -> Batch:
        x = self._scaled(raw)
        if self.binarise_seed is not None:
            x = self._binarise(x, self.binarise_seed, step)
        label, observed, concealed = (
            None if values is None else _take(values, step.rows) for values in self.split.part.rest
        )
        padded = self.split.part.x.mask(step.rows)
        if padded is not None:
            observed = padded if observed is None else observed & padded
        if concealed is not None:
            assert observed is not None
            if self.revealed:
                observed = observed | concealed
            else:
                x = x.masked_fill(concealed.to(self.device), 0.0)
        batch = Batch(
            x=x,
            target=None if target is None else self._scaled(target),
            label=label,
            observed=observed,
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
        return (noise[self.process.rank :: self.process.world] < x).to(x.dtype)
