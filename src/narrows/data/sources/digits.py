"""Handwritten digits that scikit-learn ships: no download, 1,797 rows."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.contents import Contents, Part


class Digits:
    """8 x 8 digits in 17 grey levels, divided by 16: `[1, 8, 8]` in [0, 1], 10 classes.

    "Optical recognition of handwritten digits" (Alpaydin and Kaynak, UCI, 1998), its test part, as
    scikit-learn ships it.

    Args:
        test: fraction held out for the test split, as there is no official one; null for no test split.
        train_labels: only these digits are trained and validated on.
    """

    def __init__(self, test: float | None = 0.1, train_labels: Sequence[int] | None = None) -> None:
        self.test = test
        self.train_labels = train_labels

    def load(self) -> Contents:
        rows = torch.from_numpy(_rows())
        x = rows[:, :-1].to(torch.float32).div_(16).reshape(-1, 1, 8, 8)
        label = rows[:, -1].to(torch.int64)
        return Contents("image", Part(x, label), test_fraction=self.test, train_labels=self.train_labels)


def _rows() -> NDArray[np.float64]:
    """`[1797, 65]`: 64 grey levels and the class."""
    # Read from its file, because importing scikit-learn takes longer than all else before the first step.
    package = importlib.util.find_spec("sklearn")
    places = [] if package is None else package.submodule_search_locations or []
    for path in (Path(place, "datasets", "data", "digits.csv.gz") for place in places):
        if path.is_file():
            with gzip.open(path) as lines:
                return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits  # of a version that keeps them elsewhere

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
