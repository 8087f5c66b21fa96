"""The classic imputers, on matrices `[N, D]` with NaN where a value is not known."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.restoration import inpaint_biharmonic
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 (makes the next import possible)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import Ridge

log = logging.getLogger(__name__)

Matrix = NDArray[np.floating]
Mask = NDArray[np.bool_]
ROUNDS = 10
NEIGHBOURS = 5
TREES = 50


@dataclass
class Known:
    """The training rows that an imputer may use."""

    train: Matrix
    """Training rows as the model saw them, before any of its own corruption."""
    gapped: Matrix
    """The same rows with values hidden as they are in the rows to impute: some imputers learn from gaps."""
    seed: int


Imputer = Callable[[Known, Matrix], Matrix]


def mean(known: Known, rows: Matrix) -> Matrix:
    """The mean of the training rows."""
    return SimpleImputer(keep_empty_features=True).fit(known.train).transform(rows)


def nearest(known: Known, rows: Matrix) -> Matrix:
    """The mean of the value over the 5 training rows that have it and are nearest in the known values
    ("Missing value estimation methods for DNA microarrays", Troyanskaya et al., 2001)."""
    imputer = KNNImputer(n_neighbors=NEIGHBOURS, keep_empty_features=True)
    return imputer.fit(known.train).transform(rows)


def iterative(known: Known, rows: Matrix) -> Matrix:
    """Every feature in turn by Bayesian ridge regression on the others, 10 rounds ("mice: Multivariate Imputation by
    Chained Equations in R", van Buuren and Groothuis-Oudshoorn, 2011, by its conditional means)."""
    return _chained(IterativeImputer(max_iter=ROUNDS, random_state=known.seed, keep_empty_features=True), known, rows)


def forest(known: Known, rows: Matrix) -> Matrix:
    """As `iterative` with 50 extremely randomised trees: like "MissForest" (Stekhoven and Bühlmann, 2012)."""
    trees = ExtraTreesRegressor(n_estimators=TREES, min_samples_leaf=2, random_state=known.seed)
    imputer = IterativeImputer(trees, max_iter=ROUNDS, random_state=known.seed, keep_empty_features=True)
    return _chained(imputer, known, rows)


def _chained(imputer: IterativeImputer, known: Known, rows: Matrix) -> Matrix:
    with warnings.catch_warnings():
        # The number of rounds is a budget: not having converged is expected.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return imputer.fit(known.gapped).transform(rows)


def ridge(known: Known, rows: Matrix) -> Matrix:
    """The values hidden in every row, by ridge regression (penalty 1) on those known in every row."""
    hidden = np.isnan(rows).all(0)
    filled, train = mean(known, rows), mean(known, known.train)
    filled[:, hidden] = Ridge(alpha=1.0).fit(train[:, ~hidden], train[:, hidden]).predict(filled[:, ~hidden])
    return filled


def biharmonic(images: Matrix, hidden: Mask) -> Matrix:
    """`[N, C, H, W]` with what is `hidden` by the biharmonic equation ("On surface completion and image inpainting by
    biharmonic functions", Damelin and Hoang, 2018); a pixel is hidden in all channels or in none."""
    found = [inpaint_biharmonic(x, mask.any(0), channel_axis=0) for x, mask in zip(images, hidden, strict=True)]
    return np.stack(found)


def imputers_for(features: int, most: int, fixed: bool, with_forest: bool) -> dict[str, Imputer]:
    """The imputers within the budget.

    Args:
        features: of a row.
        most: most features for which chained equations are tried.
        fixed: whether the same values are hidden in all rows, as ridge needs.
        with_forest: whether to include the trees.
    """
    found: dict[str, Imputer] = {"mean": mean, "knn": nearest}
    if fixed:
        found["ridge"] = ridge
    if features <= most:
        return found | {"iterative": iterative} | ({"forest": forest} if with_forest else {})
    log.info("imputation: chained equations are left out: %d features are more than max_features=%d", features, most)
    return found
