"""Rows of a split that a task looks at."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from narrows.evaluation import EvaluationData, select, subset
from narrows.models.autoencoder import Autoencoder, unseen
from narrows.random import Counter, generator
from narrows.tasks.base import TaskContext
from narrows.types import Batch

CHUNK = 500
"""Rows that pass through a model together."""


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


def joined(batches: Iterable[Batch]) -> Batch:
    """One batch of all rows, with what all of them have."""
    found = list(batches)
    parts = {f.name: [getattr(batch, f.name) for batch in found] for f in fields(Batch)}
    whole: dict[str, Any] = {
        name: torch.cat(values) for name, values in parts.items() if all(isinstance(value, Tensor) for value in values)
    }
    return Batch(**whole)


def parts(batch: Batch, rows: int = CHUNK) -> Iterator[Batch]:
    """The batch, at most `rows` of it at a time."""
    for start in range(0, len(batch), rows):
        yield select(batch, slice(start, start + rows))


def reconstructed(model: Autoencoder, batch: Batch, hidden: Tensor | None = None) -> Tensor:
    """`model.reconstruct` of `batch.x`, chunk by chunk, on the CPU.

    Args:
        model: in evaluation mode.
        batch: any number of rows.
        hidden: bool, `x`'s shape, what is hidden beside what is missing.
    """
    found = []
    gone = itertools.repeat(None) if hidden is None else hidden.split(CHUNK)
    for part, here in zip(parts(batch), gone, strict=False):
        masked = unseen(here, part.observed)
        found.append(model.reconstruct(part.x, part.label, masked).float().cpu())
    return torch.cat(found)
