"""Reconstruction figures, one definition each, summed over batches so that a partial last batch is exact."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from narrows.tasks.base import per_example

BEST_PSNR = 100.0
"""Decibels given to an (almost) exact reconstruction, whose PSNR has no bound."""
_PROBABILITY = 1e-7


def value_counts(truth: Tensor, observed: Tensor | None) -> Tensor:
    """Observed values of each example, `[B]`."""
    return per_example(torch.ones_like(truth, dtype=torch.float32), observed)


def example_mse(guess: Tensor, truth: Tensor, observed: Tensor | None) -> Tensor:
    """Squared error over observed values / their number, `[B]`; 0 for an example without any."""
    counts = value_counts(truth, observed)
    return per_example((guess - truth).square(), observed) / counts.clamp_min(1)


class ErrorSums:
    """Streams reconstructions, `[B, *shape]` each, into three figures over observed values.

    - mse: sum of squared errors / number of values.
    - psnr: mean over examples of `10 log10(span^2 / MSE_example)` in dB, each at most `BEST_PSNR`.
    - bce: `-x log p - (1 - x) log(1 - p)` in nats per value, p the reconstruction clamped to
      [1e-7, 1 - 1e-7]; only where the data lie in [0, 1] (`unit`).

    Args:
        span: the largest value of the data minus the smallest.
        unit: whether the data lie in [0, 1].
    """

    def __init__(self, span: float, unit: bool) -> None:
        self.span, self.unit = span, unit
        self.squared = self.cross_entropy = self.decibels = 0.0
        self.values = 0.0
        self.examples = 0

    def add(self, guess: Tensor, truth: Tensor, observed: Tensor | None = None) -> None:
        guess, truth = guess.float(), truth.float()
        counts = value_counts(truth, observed)
        squared = per_example((guess - truth).square(), observed)
        seen = counts > 0
        floor = self.span**2 * 10 ** (-BEST_PSNR / 10)
        mse = (squared[seen] / counts[seen]).clamp_min(floor)
        self.decibels += float((10 * torch.log10(self.span**2 / mse)).sum())
        self.examples += int(seen.sum())
        self.squared += float(squared.sum())
        self.values += float(counts.sum())
        if self.unit:
            probability = guess.clamp(_PROBABILITY, 1 - _PROBABILITY)
            loss = binary_cross_entropy(probability, truth.clamp(0, 1), reduction="none")
            self.cross_entropy += float(per_example(loss, observed).sum())

    @property
    def mse(self) -> float:
        return self.squared / max(self.values, 1)

    def figures(self, prefix: str) -> dict[str, float]:
        """`{prefix}/mse`, `/psnr` and, where it is defined, `/bce`."""
        found = {f"{prefix}/mse": self.mse, f"{prefix}/psnr": self.decibels / max(self.examples, 1)}
        if self.unit:
            found[f"{prefix}/bce"] = self.cross_entropy / max(self.values, 1)
        return found
