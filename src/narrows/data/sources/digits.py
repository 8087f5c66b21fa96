"""Handwritten digits that scikit-learn ships: no download, 1,797 rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

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
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x = torch.from_numpy(bunch.images).to(torch.float32).div_(16).unsqueeze(1)
        label = torch.from_numpy(bunch.target).to(torch.int64)
        return Contents("image", Part(x, label), test_fraction=self.test, train_labels=self.train_labels)
