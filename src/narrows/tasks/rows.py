"""Rows of a split that a task looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from narrows.model import Autoencoder, unseen
from narrows.random import generator
from narrows.tasks.base import EvaluationData, TaskContext, select, subset
from narrows.types import Batch

CHUNK = 500
"""Rows that pass through a model together."""


def chosen(data: EvaluationData, split: str, most: int | None, seed: int, purpose: str) -> Tensor:
    """Ascending positions in the split: all, or `most` that (seed, purpose) draw."""
    size = sum(len(batch) for batch in data.ordered_loader(split))
    if most is None or most >= size:
        return torch.arange(size)
    return torch.randperm(size, generator=generator(seed, purpose))[:most].sort().values


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


def reconstructed(model: Autoencoder, batch: Batch, hidden: Tensor | None = None) -> Tensor:
    """`model.reconstruct` of `batch.x`, chunk by chunk, on the CPU.

    Args:
        model: in evaluation mode.
        batch: any number of rows.
        hidden: bool, `x`'s shape, what is hidden beside what is missing.
    """
    found = []
    for start in range(0, len(batch), CHUNK):
        rows = slice(start, start + CHUNK)
        part = select(batch, rows)
        masked = unseen(None if hidden is None else hidden[rows], part.observed)
        found.append(model.reconstruct(part.x, part.label, masked).float().cpu())
    return torch.cat(found)
