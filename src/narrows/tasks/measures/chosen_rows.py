"""Choosing the rows of a split that a task reads: all, or a seeded subset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from narrows.evaluation import EvaluationData, select, subset
from narrows.models.autoencoder import Autoencoder
from narrows.random import Counter, generator
from narrows.tasks.base import TaskContext
from narrows.types import Batch

CHUNK = 500
"""Most rows that pass through a model together."""


def drawn(size: int, most: int | None, seed: int, *counters: Counter) -> Tensor:
    """Ascending positions of rows: all `size`, or `most` that (seed, counters) draw."""
    if most is None or most >= size:
        return torch.arange(size)
    return torch.randperm(size, generator=generator(seed, *counters))[:most].sort().values


def chosen(data: EvaluationData, split: str, most: int | None, seed: int, purpose: str) -> Tensor:
    """Ascending positions in the split; see `drawn`."""
    return drawn(sum(len(batch) for batch in data.ordered_loader(split)), most, seed, purpose)


def sampled(context: TaskContext, split: str, most: int | None, purpose: str) -> Iterator[Batch]:
    """The split in order, or a seeded subset of `most` rows of it, on the device."""
    return subset(context.batches(split), chosen(context.datamodule, split, most, context.seed, purpose))


def parts(batch: Batch, rows: int = CHUNK) -> Iterator[Batch]:
    """The batch, at most `rows` of it at a time."""
    for start in range(0, len(batch), rows):
        yield select(batch, slice(start, start + rows))


def trimmed(batch: Batch, rows: Tensor | slice) -> Batch:
    """The given rows of a batch, where lengths differ padded to their own longest and no further."""
    found = select(batch, rows)
    if found.length is None or len(found) == 0:
        return found
    steps = int(found.length.max())
    cut = {name: getattr(found, name) for name in ("x", "target", "observed", "hidden")}
    return replace(found, **{name: values[..., :steps] for name, values in cut.items() if values is not None})


def of_near_length(batches: Sequence[Batch], rows: int) -> Iterator[Batch]:
    """All rows of the batches, at most `rows` at a time, the shortest first."""
    whole = Batch.cat(batches)
    order = torch.arange(len(whole)) if whole.length is None else whole.length.argsort(stable=True)
    return (trimmed(whole, chosen) for chosen in order.split(rows))


def reconstructed(model: Autoencoder, batch: Batch) -> Tensor:
    """`model.reconstruct` of any number of rows, chunk by chunk, on the CPU; the model is in evaluation mode."""
    return torch.cat([model.reconstruct(part).float().cpu() for part in parts(batch)])
