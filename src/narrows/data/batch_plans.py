"""Plans of batches: which rows, in which order, for which process.

The order of epoch e is a permutation seeded by (seed, "order", e) and cut into global batches; process r of w serves
rows r, r + w, ... of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from narrows.errors import require
from narrows.random import generator

POOL = 10
"""Batches whose rows are sorted by length together: 8% of a batch of sentences is then padding, instead of 47%."""


@dataclass(frozen=True)
class Process:
    """Process `rank` of `world`."""

    rank: int = 0
    world: int = 1


@dataclass
class Step:
    """One batch to serve: its epoch and number, this process's rows of the split, the size of the global batch, and
    where in it these rows stand."""

    epoch: int
    number: int
    rows: Tensor | slice
    total: int
    places: slice = field(default_factory=lambda: slice(None))


def batches_in_epoch(size: int, batch_size: int, world: int) -> int:
    """The batches that `size` training rows make: the last, incomplete one is left out where a process would have no
    row of it."""
    whole, tail = divmod(size, batch_size)
    return whole + (tail >= world)


@dataclass
class Shuffled:
    """The order of training batches; iteration starts after the `processed` batches that training has seen.

    `len` is that of a whole epoch even if only its rest is served, because Lightning compares it with the number of
    batches before a restart plus those since.

    Args:
        limit: how many batches of an epoch are served (`limit_train_batches`).
        shuffle: False serves every epoch in the order of the split (`overfit_batches`).
        lengths: `[N]`; batches then hold rows of near-equal length, which saves padding: of the shuffled rows every
            `POOL` batches are sorted by length, cut, and put in a random order. The incomplete batch stays last.
    """

    size: int
    batch_size: int
    seed: int
    process: Process = field(default_factory=Process)
    processed: Callable[[], int] = lambda: 0
    limit: Callable[[int], int] = lambda batches: batches
    shuffle: bool = True
    lengths: Tensor | None = None

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
        return batches_in_epoch(self.size, self.batch_size, self.process.world)

    def order(self, epoch: int) -> Tensor:
        """All rows of the split in the order of this epoch."""
        if not self.shuffle:
            return torch.arange(self.size)
        order = torch.randperm(self.size, generator=generator(self.seed, "order", epoch))
        return order if self.lengths is None else self._by_length(order, self.lengths.cpu(), epoch)

    def _by_length(self, order: Tensor, lengths: Tensor, epoch: int) -> Tensor:
        source = generator(self.seed, "by_length", epoch)
        whole = len(order) // self.batch_size * self.batch_size
        pieces = []
        for pool in order[:whole].split(POOL * self.batch_size):
            batches = pool[lengths[pool].argsort(stable=True)].reshape(-1, self.batch_size)
            pieces.append(batches[torch.randperm(len(batches), generator=source)].flatten())
        return torch.cat([*pieces, order[whole:]])

    def steps(self, device: torch.device | str = "cpu") -> list[Step]:
        """The rest of the current epoch; the rows lie on `device`."""
        limit = self.limit(len(self))
        epoch, position = divmod(self.processed(), limit) if limit else (0, 0)
        order = self.order(epoch).to(device)
        return [self._step(order, epoch, number) for number in range(position, limit)]

    def _step(self, order: Tensor, epoch: int, number: int) -> Step:
        rows = order[number * self.batch_size : (number + 1) * self.batch_size]
        places = slice(self.process.rank, None, self.process.world)
        return Step(epoch, number, rows[places], len(rows), places)


@dataclass
class Ordered:
    """Every example once, in order, in chunks of nearly equal size, which the processes take in turn.

    A process has no rows of the others' chunks, but is served them all, empty: chunk n then means the same in every
    process, and what is computed of a whole chunk, its noise too, is what one process would compute.
    """

    size: int
    batch_size: int
    process: Process = field(default_factory=Process)

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"eval_batch_size={self.batch_size} must be at least 1")

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def steps(self, device: torch.device | str = "cpu") -> list[Step]:
        """All chunks; their rows are slices, so `device` does not matter."""
        if self.size == 0:
            return []
        each, longer = divmod(self.size, len(self))
        steps, start = [], 0
        for number in range(len(self)):
            stop = start + each + (number < longer)
            places = slice(None) if number % self.process.world == self.process.rank else slice(0)
            rows = slice(start, stop if places.stop is None else start)
            steps.append(Step(0, number, rows, stop - start, places))
            start = stop
        return steps
