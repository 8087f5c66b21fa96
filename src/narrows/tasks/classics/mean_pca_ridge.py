"""The linear methods with which a model is compared: training mean, PCA, ridge regression, Mahalanobis distance.

All work on flattened examples `[B, D]`; missing values, and what shorter examples lack, are filled with the training
mean.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from narrows.corruptions import Corruption
from narrows.random import derive, generator
from narrows.tasks.base import TaskContext
from narrows.tasks.measures.observed_values import Statistics, flat, laid_out
from narrows.types import COUNTED

if TYPE_CHECKING:  # takes half a second, for which no run waits before it trains: functions import it
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge

log = logging.getLogger(__name__)

Matrix = NDArray[np.floating]

MAX_VALUES = 500_000_000
"""Largest training matrix, 2 GB, which scikit-learn copies."""
MAX_VALUES_OF_FILES = 50_000_000
"""Largest training matrix for data in files, so that evaluation needs little more memory than training."""
MAX_DOUBLE = 50_000_000
"""Matrices up to this size are kept in float64, which makes PCA by covariance exact to the printed digits."""
MAX_SQUARE = 4096
"""Most dimensions D for which a D x D matrix is inverted."""
EXACT, MOST = 1 - 1e-6, 0.9
"""Shares of the variance: what leaves rounding errors alone, and what principal components are cut back to then."""

PCA_90 = "pca_90"
"""PCA with the components of 90% of the variance, beside one that leaves no error, as a method of tables."""


@dataclass
class Training:
    """The training split (or a seeded part of its rows) as matrices `[N, D]`."""

    clean: Matrix
    corrupted: Matrix | None
    mean: Matrix
    """Over *all* rows, `[D]`."""
    low: float
    high: float

    def flat(self, x: Tensor, observed: Tensor | None = None) -> Matrix:
        """`[B, *shape]` as `[B, D]`, missing values and padding filled with the mean."""
        return _filled(x, observed, self.mean)


@dataclass
class Classics:
    """Fitted on the training split; guesses are `[B, *shape]` tensors on the batch's device."""

    mean: Matrix
    span: float
    """Of the data: from the spec where it is bounded, else of the training split."""
    pca: PCA
    ridge: Ridge | None

    def flat(self, x: Tensor, observed: Tensor | None = None) -> Matrix:
        return _filled(x, observed, self.mean)

    def guess_mean(self, x: Tensor) -> Tensor:
        return _like(np.broadcast_to(self.mean, (len(x), len(self.mean))), x)

    def guess_pca(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        return self._rebuilt(x, observed, self.pca.n_components_)

    def guess_usual(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """PCA's guess by its `leading` components."""
        return self._rebuilt(x, observed, self.leading)

    def _rebuilt(self, x: Tensor, observed: Tensor | None, components: int) -> Tensor:
        codes = self.pca.transform(self.flat(x, observed))
        codes[:, components:] = 0
        return _like(self.pca.inverse_transform(codes), x)

    @property
    def exact(self) -> bool:
        """Whether the components leave no error on the training split, so that PCA is no yardstick."""
        return bool(self.pca.explained_variance_ratio_.sum() >= EXACT)

    @cached_property
    def leading(self) -> int:
        """Number of components of a PCA that can be compared with: all, or those of 90% of the variance ("PCA-90",
        logged) if all leave no error on the training split."""
        shares = self.pca.explained_variance_ratio_.cumsum()
        if not self.exact:
            return len(shares)
        kept = int((shares < MOST).sum()) + 1
        log.info(
            "as many components as the latent has leave PCA no error; PCA, 90%%: %d, of 90%% of the variance", kept
        )
        return kept

    def guess_ridge(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        assert self.ridge is not None
        return _like(self.ridge.predict(self.flat(x, observed)), x)


def fit_classics(context: TaskContext, max_rows: int | None) -> Classics:
    """Mean, PCA with as many components as the latent has dimensions and, for a model with a corruption,
    ridge regression from corrupted to clean; fitted once per context."""
    key = f"classics/{max_rows}"
    if key not in context.memo:
        counted = context.spec.kind in COUNTED
        context.memo[key] = _fit_counts(context, max_rows) if counted else _fit(context, max_rows)
    return context.memo[key]


def _fit_counts(context: TaskContext, max_rows: int | None) -> Classics:
    """As `_fit`, without ridge; the training rows stay sparse, and PCA centres them without filling in their zeros."""
    from sklearn.decomposition import PCA

    matrix = gather_counts(context, max_rows)
    components = min(math.prod(context.model.latent_shape), *matrix.shape)
    state = derive(context.seed, "pca") % 2**32
    # Lanczos iteration finds fewer components than the shorter side has; all of them are those of a small matrix.
    iterated = components < min(matrix.shape)
    with np.errstate(invalid="ignore"):
        pca = PCA(n_components=components, random_state=state, svd_solver="arpack" if iterated else "full")
        pca.fit(matrix if iterated else matrix.toarray())
    every = gather_counts(context, None) if matrix.shape[0] < context.spec.size else matrix
    return Classics(mean=np.asarray(every.mean(0)).ravel(), span=float(every.max()), pca=pca, ridge=None)


def gather_counts(context: TaskContext, max_rows: int | None) -> Any:
    """The training rows of counts or interactions, at most `max_rows` of them, as a float64 CSR matrix `[N, D]`."""
    kept, row, parts = _rows_within(context, max_rows), 0, []
    for batch in context.batches("train"):
        parts.append(sparse.csr_matrix(flat(batch.truth)[kept[row : row + len(batch)]], dtype=np.float64))
        row += len(batch)
    return sparse.vstack(parts, format="csr")


def _fit(context: TaskContext, max_rows: int | None) -> Classics:
    from sklearn.decomposition import PCA

    dims = math.prod(context.spec.shape)
    denoising = not getattr(context.model.corruption, "identity", False) and dims <= MAX_SQUARE
    training = gather_training(context, max_rows, context.model.corruption if denoising else None)
    components = min(math.prod(context.model.latent_shape), dims, len(training.clean))
    state = derive(context.seed, "pca") % 2**32
    with np.errstate(invalid="ignore"):  # of rows that are all alike, no share of the variance is defined
        pca = PCA(n_components=components, random_state=state).fit(training.clean)
    ridge = None
    if training.corrupted is not None:
        ridge = ridge_to_clean(training)
    bounds = context.spec.bounds
    low, high = bounds if bounds is not None else (training.low, training.high)
    return Classics(mean=training.mean, span=high - low, pca=pca, ridge=ridge)


def ridge_to_clean(training: Training) -> Ridge:
    """Ridge regression from corrupted to clean rows; the penalty is 1 on the sum of squares."""
    from sklearn.linear_model import Ridge

    assert training.corrupted is not None
    return Ridge(alpha=1.0, solver="cholesky").fit(training.corrupted, training.clean)


def fit_mahalanobis(context: TaskContext, max_rows: int | None) -> LedoitWolf | None:
    """Mean and shrunk covariance of the training split; None, and logged, above `MAX_SQUARE` dimensions.

    "A well-conditioned estimator for large-dimensional covariance matrices" (Ledoit and Wolf, 2004).
    """
    from sklearn.covariance import LedoitWolf

    dims = math.prod(context.spec.shape)
    if dims > MAX_SQUARE:
        log.info("Mahalanobis is left out: %d dimensions are more than %d", dims, MAX_SQUARE)
        return None
    return LedoitWolf().fit(gather_training(context, max_rows).clean)


def gather_training(context: TaskContext, max_rows: int | None, corruption: Corruption | None = None) -> Training:
    """Read the training split once: statistics of all rows, and matrices of as many rows as `max_rows` and memory
    allow, also corrupted if there is a `corruption`."""
    dims = math.prod(context.spec.shape)
    kept = _kept_rows(context, max_rows, dims)
    width = np.float64 if kept.sum() * dims <= MAX_DOUBLE else np.float32
    clean: Matrix = np.empty((int(kept.sum()), dims), dtype=width)
    noisy: Matrix | None = None if corruption is None else np.empty_like(clean)
    missing: NDArray[np.bool_] | None = None
    statistics = Statistics(dims)
    row = filled = 0
    for batch in context.batches("train"):
        statistics.add(batch)
        chosen = kept[row : row + len(batch)]
        part = slice(filled, filled + int(chosen.sum()))
        values, seen = laid_out(batch.truth, batch.judged, dims)
        clean[part] = values[chosen]
        if noisy is not None:
            assert corruption is not None
            noisy[part] = laid_out(corruption(batch)[0], None, dims)[0][chosen]
        if seen is not None:
            missing = np.zeros(clean.shape, dtype=bool) if missing is None else missing
            missing[part] = ~seen[chosen]
        row, filled = row + len(batch), part.stop
    assert row == context.spec.size, f"the training loader gave {row} rows, its spec says {context.spec.size}"
    mean = statistics.mean
    for matrix in (clean, noisy):
        if matrix is not None and missing is not None:
            np.copyto(matrix, mean, where=missing)
    return Training(clean=clean, corrupted=noisy, mean=mean, low=statistics.low, high=statistics.high)


def _kept_rows(context: TaskContext, max_rows: int | None, dims: int) -> NDArray[np.bool_]:
    # A datamodule of a test or a user may lack this attribute.
    most = MAX_VALUES_OF_FILES if getattr(context.datamodule, "reads_files", False) else MAX_VALUES
    rows = max(1, most // dims)
    return _rows_within(context, rows if max_rows is None else min(rows, max_rows))


def _rows_within(context: TaskContext, most: int | None) -> NDArray[np.bool_]:
    """bool `[N]`: at most so many training rows, drawn by the context's seed; None for all."""
    size = context.spec.size
    rows = size if most is None else min(size, most)
    kept = np.ones(size, dtype=bool)
    if rows < size:
        log.info("the classics are fitted on %d of the %d training rows", rows, size)
        order = torch.randperm(size, generator=generator(context.seed, "training rows"))
        kept[order[rows:].numpy()] = False
    return kept


def _filled(x: Tensor, observed: Tensor | None, mean: Matrix) -> Matrix:
    values, seen = laid_out(x, observed, len(mean))
    return values if seen is None else np.where(seen, values, mean)


def _like(values: Matrix, x: Tensor) -> Tensor:
    """Rows of the longest examples as those of `x`, of which padding is cut off again."""
    found = torch.as_tensor(np.array(values, order="C"), dtype=torch.float32, device=x.device)
    return found.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
