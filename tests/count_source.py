"""Small counts for tests, from what scikit-learn ships."""

from __future__ import annotations

from typing import Any

import torch
from hydra.utils import get_object
from sklearn.datasets import load_digits

from narrows.data.contents import Contents, Part
from narrows.likelihoods.counts import CountLikelihood
from narrows.types import Kind


class SmallCounts:
    """The ink in the pixels of handwritten digits, 0 to 16: rows of 0 to 16, with the digit as label.

    It takes what the source of `datamodule=digits` takes, so that a test needs one override:
    `datamodule.source._target_=count_source.SmallCounts`.

    Args:
        kind: `interactions` has 1 where there is ink.
    """

    def __init__(self, test: float = 0.1, train_labels: None = None, kind: Kind = "counts") -> None:
        self.test, self.kind = test, kind

    def load(self) -> Contents:
        x, label = load_digits(return_X_y=True)
        x = x[:, (x > 0).sum(0) > 100]
        if self.kind == "interactions":
            x = x > 0
        part = Part(torch.from_numpy(x.astype("float32")), torch.from_numpy(label).long())
        return Contents(self.kind, part, test_fraction=self.test)


COUNTS = "datamodule.source._target_=count_source.SmallCounts"
"""Makes counts of `datamodule=digits`."""


def is_of_series(variant: str) -> bool:
    """Whether a variant's networks read series, among them tokens."""
    return "sequential" in variant or "text" in variant


def is_of_parts(config: Any) -> bool:
    """Whether a composition needs data of named parts, by its encoder."""
    return bool(getattr(get_object(config.encoder._target_), "reads_parts", False))


def is_of_counts(config: Any) -> bool:
    """Whether a composition needs counts, by its likelihood."""
    return issubclass(get_object(config.likelihood._target_), CountLikelihood)
