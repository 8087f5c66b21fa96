"""The classic detectors that a model's anomaly score is printed beside, fitted on the training split.

Each reads exactly what the model reads: values scaled as the datamodule serves them (`standardise` there acts on
model and classics alike; nothing is standardised again here), flattened to `[N, D]`, missing values at the training
mean; rows of counts stay sparse, and detectors that would fill in their zeros are left out. Isolation forest and ECOD
do not depend on the scale of a feature, the others do.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from narrows.compare.figure_names import CLASSICS
from narrows.random import derive
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.mean_pca_ridge import (
    Matrix,
    fit_classics,
    fit_mahalanobis,
    gather_counts,
    gather_training,
)
from narrows.tasks.measures.anomaly_scores import Score
from narrows.tasks.measures.reconstruction_errors import example_mse
from narrows.types import COUNTED, Batch

log = logging.getLogger(__name__)

NEIGHBOURS = 5
LOF_NEIGHBOURS = 20
TREES = 100
NU = 0.1
"""`nu` of the one-class SVM: most training rows outside, as a share."""
MAX_SVM_ROWS = 5000
"""Most rows of the one-class SVM, whose exact solution takes time quadratic in the rows."""

Ranked = Callable[[Matrix | csr_matrix], NDArray[np.floating]]
"""`[N, D] -> [N]`, higher is more anomalous."""
DENSE = ("mahalanobis", "ecod")
"""Detectors that read dense rows alone."""


@dataclass
class Rows:
    """The training rows for detectors that are not linear.

    Args:
        context: of the task.
        max_rows: most rows that any classic may read; None for all.
        pair_rows: most rows for classics that compare rows in pairs.
    """

    context: TaskContext
    max_rows: int | None
    pair_rows: int | None

    @property
    def state(self) -> int:
        return derive(self.context.seed, "detectors") % 2**32

    @property
    def all(self) -> Matrix | csr_matrix:
        return self._kept(self.max_rows)

    def pairs(self, most: int | None = None) -> Matrix | csr_matrix:
        return self._kept(min((n for n in (self.max_rows, self.pair_rows, most) if n is not None), default=None))

    @property
    def sparse(self) -> bool:
        """Whether they are sparse: those of counts and interactions."""
        return self.context.spec.kind in COUNTED

    def _kept(self, most: int | None) -> Matrix | csr_matrix:
        key = f"rows/{most}"
        memo = self.context.memo
        if key not in memo:
            context = self.context
            memo[key] = gather_counts(context, most) if self.sparse else gather_training(context, most).clean
        return memo[key]


def knn(rows: Rows) -> Ranked:
    """Euclidean distance to the fifth nearest training row: "Efficient Algorithms for Mining Outliers from Large Data
    Sets" (Ramaswamy et al., 2000), section 2."""
    train = rows.pairs()
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, train.shape[0])).fit(train)
    return lambda values: near.kneighbors(values)[0][:, -1]


def lof(rows: Rows) -> Ranked:
    """Local outlier factor of new rows, 20 neighbours: "LOF: Identifying Density-Based Local Outliers" (Breunig et
    al., 2000), definition 7."""
    train = rows.pairs()
    factor = LocalOutlierFactor(n_neighbors=max(1, min(LOF_NEIGHBOURS, train.shape[0] - 1)), novelty=True)
    with warnings.catch_warnings():
        # More copies of a row than neighbours: its factor is huge but finite, and the figures show it.
        warnings.filterwarnings("ignore", message="Duplicate values")
        factor.fit(train)
    return lambda values: -factor.score_samples(values)


def isolation_forest(rows: Rows) -> Ranked:
    """Anomaly score of 100 trees on 256 rows each: "Isolation Forest" (Liu et al., 2008), equation 2."""
    forest = IsolationForest(n_estimators=TREES, random_state=rows.state).fit(rows.all)
    return lambda values: -forest.score_samples(values)


def ocsvm(rows: Rows) -> Ranked:
    """Signed distance outside a one-class support vector machine with a Gaussian kernel, `gamma = 1 / (D Var[X])`:
    "Estimating the Support of a High-Dimensional Distribution" (Schölkopf et al., 2001)."""
    machine = OneClassSVM(nu=NU, gamma="scale").fit(rows.pairs(MAX_SVM_ROWS))
    return lambda values: -machine.score_samples(values)


def ecod(rows: Rows) -> Ranked | None:
    """Largest sum over features of -log tail probabilities: "ECOD: Unsupervised Outlier Detection Using Empirical
    Cumulative Distribution Functions" (Li et al., 2022), in pyod's implementation, whose distribution functions count
    the scored rows too."""
    if find_spec("pyod") is None:
        log.info("ECOD is left out: it needs pyod, which pip install 'narrows[classics]' brings")
        return None
    from pyod.models.ecod import ECOD

    found = ECOD().fit(rows.all)
    return lambda values: found.decision_function(values)


RANKED: dict[str, Callable[[Rows], Ranked | None]] = {
    "knn": knn,
    "lof": lof,
    "isolation_forest": isolation_forest,
    "ocsvm": ocsvm,
    "ecod": ecod,
}
GUESSED = ("pca", "mean")
NAMES = (*GUESSED, "mahalanobis", *RANKED)


def fit_detectors(
    context: TaskContext, names: Sequence[str], max_rows: int | None, pair_rows: int | None
) -> dict[str, Score]:
    """Fit the named detectors, in the order of `NAMES`; one that is unavailable is left out and logged.

    They score whole splits at once, because ECOD's scores depend on the rows that are scored together.
    """
    classics = fit_classics(context, max_rows)
    rows = Rows(context, max_rows, pair_rows)
    if rows.sparse and (dense := [CLASSICS[name] for name in DENSE if name in names]):
        log.info("%s left out: sparse rows would be filled with zeros for them", " and ".join(dense))
        names = [name for name in names if name not in DENSE]
    ranked: dict[str, Ranked | None] = {name: fit(rows) for name, fit in RANKED.items() if name in names}
    if "mahalanobis" in names:
        covariance = fit_mahalanobis(context, max_rows)
        ranked = {"mahalanobis": None if covariance is None else covariance.mahalanobis} | ranked
    guessed: dict[str, Score] = {
        "pca": lambda batch: _error(batch, classics.guess_usual(batch.x, batch.judged)),
        "mean": lambda batch: _error(batch, classics.guess_mean(batch.x)),
    }
    distances = {name: _of_rows(rank, classics.flat, rows.sparse) for name, rank in ranked.items() if rank is not None}
    return {name: score for name, score in guessed.items() if name in names} | distances


def _error(batch: Batch, guess: torch.Tensor) -> NDArray[np.floating]:
    return example_mse(guess, batch.truth, batch.judged).numpy()


def _of_rows(rank: Ranked, flat: Callable[..., Matrix], sparse: bool) -> Score:
    def score(batch: Batch) -> NDArray[np.floating]:
        rows = flat(batch.x, batch.judged)
        return np.asarray(rank(csr_matrix(rows) if sparse else rows), dtype=np.float64)

    return score
