"""Tables that scikit-learn ships: no download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from narrows.data.contents import Contents, Part, Standardise
from narrows.errors import nearest, require


def _loaders() -> dict[str, Callable[[], Any]]:
    from sklearn import datasets

    return {
        "breast": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
        "digits": datasets.load_digits,
        "iris": datasets.load_iris,
    }


class Bundled:
    """A small table of numbers: breast (569 x 30, 2 classes), wine (178 x 13, 3), digits (1,797 x 64, 10) or iris
    (150 x 4, 3), as vectors `[D]`.

    Wolberg et al. (1995), Forina et al. (1991), Alpaydin and Kaynak (1998) and Fisher (1936), all UCI, as scikit-learn
    ships them.

    Args:
        name: of the table.
        test: fraction held out for the test split, as there is no official one; null for no test split.
        standardise: none, standard or minmax, fitted on the training rows.

    Raises:
        UserError: an unknown name.
    """

    def __init__(self, name: str = "wine", test: float | None = 0.1, standardise: Standardise = "standard") -> None:
        self.name, self.test, self.standardise = name, test, standardise

    def load(self) -> Contents:
        known = _loaders()
        require(self.name in known, f"source bundled has no table '{self.name}': {nearest(self.name, known)}")
        bunch = known[self.name]()
        part = Part(torch.from_numpy(bunch.data).float(), torch.from_numpy(bunch.target).to(torch.int64))
        return Contents(
            "vector",
            part,
            test_fraction=self.test,
            standardise=self.standardise,
            feature_names=[str(name) for name in bunch.feature_names],
            class_names=[str(name) for name in bunch.target_names],
        )
