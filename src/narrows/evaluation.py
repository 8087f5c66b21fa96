"""What every evaluation of a model needs: splits in order, evaluation mode, parts of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from narrows.random import Counter, seed_default
from narrows.types import Batch, DataSpec, row_sums


class EvaluationData(Protocol):
    """The part of a datamodule that tasks use: its spec, and each split once, in order."""

    spec: DataSpec

    def ordered_loader(self, split: str) -> Iterable[Batch]: ...

    def part(self, split: str) -> Any:
        """The split's rows as they are held (`narrows.data.Part`), in the same order: counts are sparse."""
        ...

    def revealed_loader(self, split: str) -> Iterable[Batch]:
        """As `ordered_loader`, with the values that were hidden on purpose; used only where values are missing."""
        ...


@contextmanager
def evaluating(model: nn.Module, seed: int, *counters: Counter) -> Iterator[None]:
    """Evaluation mode without gradients, torch's default generators seeded by `counters`; all restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if cuda else []), torch.no_grad():
        model.eval()
        seed_default(seed, *counters)
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def select(batch: Batch, rows: Tensor | slice) -> Batch:
    """The given rows of a batch; `rows` is a mask, positions or a slice."""
    if isinstance(rows, Tensor):
        rows = rows.to(batch.x.device)
    parts: dict[str, Any] = {
        f.name: value[rows] for f in fields(batch) for value in [getattr(batch, f.name)] if isinstance(value, Tensor)
    }
    return replace(batch, **parts)


def subset(loader: Iterable[Batch], positions: Tensor) -> Iterator[Batch]:
    """The rows at ascending `positions` of an ordered loader, batch by batch, without empty batches."""
    start = 0
    for batch in loader:
        here = positions[(positions >= start) & (positions < start + len(batch))] - start
        if len(here):
            yield select(batch, here)
        start += len(batch)


def per_example(values: Tensor, observed: Tensor | None = None) -> Tensor:
    """Sum over each example's observed values, `[B, *shape] -> [B]`, float64 on the CPU."""
    if observed is not None:
        values = values.masked_fill(~observed, 0.0)
    return row_sums(values).cpu().double()


class TrainedLabels:
    """Data whose test split keeps only the labels that were trained on."""

    def __init__(self, whole: EvaluationData) -> None:
        self.whole, self.spec = whole, whole.spec

    def ordered_loader(self, split: str) -> Iterable[Batch]:
        return self._kept(split, self.whole.ordered_loader(split))

    def revealed_loader(self, split: str) -> Iterable[Batch]:
        return self._kept(split, self.whole.revealed_loader(split))

    def part(self, split: str) -> Any:
        part = self.whole.part(split)
        if split != "test" or part.label is None:
            return part
        return part.select(torch.isin(part.label.cpu(), torch.tensor(self.spec.trained_labels)).nonzero().flatten())

    def _kept(self, split: str, loader: Iterable[Batch]) -> Iterable[Batch]:
        # The rows of the other splits were chosen by these labels.
        return filter(len, (by_label(batch, self.spec)[0] for batch in loader)) if split == "test" else loader


def by_label(batch: Batch, spec: DataSpec) -> tuple[Batch, Batch]:
    """Two batches: the rows whose label was trained on (all rows, if training selected no labels), and the others."""
    if spec.trained_labels is None or batch.label is None:
        return batch, select(batch, slice(0, 0))
    trained = torch.isin(batch.label, torch.tensor(spec.trained_labels, device=batch.label.device))
    return select(batch, trained), select(batch, ~trained)
