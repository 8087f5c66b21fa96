"""The classic detectors of anomalous time steps that a model's score is printed beside, one fitted to each series.

Each reads the values that the model reads, scaled as the datamodule serves them, and learns from the training windows
of its series alone, without labels. Detectors of windows give a time step the mean score of the windows that cover it,
as the model does. Missing values are at the training mean in windows, and interpolated in time.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from narrows.tasks.measures.time_steps import Cut

log = logging.getLogger(__name__)

Matrix = NDArray[np.floating]
Scores = NDArray[np.float64]
NEIGHBOURS = 5
TREES = 100
EXACT, MOST = 1 - 1e-6, 0.9
"""Shares of the variance: what leaves rounding errors alone, and what principal components are cut back to then."""
FLOOR = 0.01
"""Least deviation of a rolling window, as a share of the training part's."""


@dataclass
class OneSeries:
    """What a detector of one series may read."""

    train: Matrix
    """Training windows, `[N, C, W]`."""
    judged: dict[str, Cut]
    """The windows to score, by split."""
    values: Scores
    """All values in time, `[C, T]`, interpolated where one is missing."""
    trained: NDArray[np.bool_]
    """The time steps of training windows, `[T]`."""
    period: int
    components: int
    """Dimensions of the model's latent."""
    seed: int

    def by_window(self, rank: Callable[[Matrix], NDArray[np.floating]]) -> dict[str, Scores]:
        """Step scores `[T]` of each split from window scores `[N, C W] -> [N]`."""
        return {name: cut.fold(rank(_flat(cut.rows))) for name, cut in self.judged.items()}

    def by_step(self, scores: Scores) -> dict[str, Scores]:
        """The step scores of each split, of scores `[T]` of the whole series."""
        return {name: np.where(cut.covered, scores, np.nan) for name, cut in self.judged.items()}


Detector = Callable[[OneSeries], dict[str, Scores] | None]
"""Step scores `[T]` by split, NaN where a step is not of the split; None where the detector is not installed."""


def _flat(rows: Matrix) -> Matrix:
    return rows.reshape(len(rows), -1)


def mean(series: OneSeries) -> dict[str, Scores]:
    """Squared distance from the mean training window."""
    centre = series.train.mean(0, keepdims=True).reshape(1, -1)
    return series.by_window(lambda rows: np.square(rows - centre).mean(1))


def pca(series: OneSeries) -> dict[str, Scores]:
    """Sub-sequence PCA: squared error of windows rebuilt from as many principal components as the latent has
    dimensions, or from those of 90% of the variance where that many would leave no error."""
    train = _flat(series.train).astype(np.float64)
    components = min(series.components, *train.shape)
    with np.errstate(invalid="ignore"):  # of windows that are all alike, no share of the variance is defined
        found = PCA(n_components=components, random_state=series.seed).fit(train)
    shares = np.nan_to_num(found.explained_variance_ratio_.cumsum())
    kept = int((shares < MOST).sum()) + 1 if shares[-1] >= EXACT else components

    def rank(rows: Matrix) -> NDArray[np.floating]:
        codes = found.transform(rows.astype(np.float64))
        codes[:, kept:] = 0
        return np.square(rows - found.inverse_transform(codes)).mean(1)

    return series.by_window(rank)


def rolling_z(series: OneSeries) -> dict[str, Scores]:
    """Distance of a value from the mean of the window before it, in that window's standard deviations, the mean over
    channels."""
    window = series.train.shape[-1]
    floor = FLOOR * series.values[:, series.trained].std(1) + 1e-12
    sums, squares = (np.cumsum(np.pad(power, ((0, 0), (1, 0))), 1) for power in (series.values, series.values**2))
    steps = np.arange(series.values.shape[1])
    begin = np.maximum(steps - window, 0)
    count = np.maximum(steps - begin, 1)
    centre = (sums[:, steps] - sums[:, begin]) / count
    spread = np.sqrt(np.maximum((squares[:, steps] - squares[:, begin]) / count - centre**2, 0))
    scores = (np.abs(series.values - centre) / np.maximum(spread, floor[:, None])).mean(0)
    return series.by_step(np.where(steps < 2, 0.0, scores))


def seasonal_naive(series: OneSeries) -> dict[str, Scores]:
    """Distance of a value from that of one period before, the mean over channels; in the first period from the training
    mean."""
    before = np.repeat(series.values[:, series.trained].mean(1, keepdims=True), series.values.shape[1], 1)
    before[:, series.period :] = series.values[:, : -series.period]
    return series.by_step(np.abs(series.values - before).mean(0))


def knn(series: OneSeries) -> dict[str, Scores]:
    """Euclidean distance to the fifth nearest training window: "Efficient Algorithms for Mining Outliers from Large
    Data Sets" (Ramaswamy et al., 2000), section 2."""
    train = _flat(series.train)
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(train))).fit(train)
    return series.by_window(lambda rows: near.kneighbors(rows)[0][:, -1])


def isolation_forest(series: OneSeries) -> dict[str, Scores]:
    """Anomaly score of 100 trees on windows: "Isolation Forest" (Liu et al., 2008), equation 2."""
    forest = IsolationForest(n_estimators=TREES, random_state=series.seed).fit(_flat(series.train))
    return series.by_window(lambda rows: -forest.score_samples(rows))


def matrix_profile(series: OneSeries) -> dict[str, Scores] | None:
    """Distance of each window, standardised by itself, to the nearest training window, the root of the mean square over
    channels: the AB-join of "Matrix Profile I: All Pairs Similarity Joins for Time Series" (Yeh et al., 2016), in
    stumpy's implementation."""
    if find_spec("stumpy") is None:
        log.info("the matrix profile is left out: it needs stumpy, which pip install 'narrows[classics]' brings")
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's, on kernels that it compiles for a first time
        import stumpy  # brings numba, which takes seconds to import

    window = series.train.shape[-1]
    found = {}
    for name, cut in series.judged.items():
        inside = np.flatnonzero(cut.covered)
        part = slice(inside[0], inside[-1] + 1)
        joins = [
            stumpy.stump(own[part], window, own[series.trained], ignore_trivial=False)[:, 0].astype(np.float64)
            for own in series.values
        ]
        profile = np.sqrt(np.mean(np.square(joins), 0))
        steps = Cut(cut.rows[:1], np.arange(part.start, part.start + len(profile)), cut.length).fold(profile)
        found[name] = np.where(cut.covered, steps, np.nan)
    return found


DETECTORS: dict[str, Detector] = {
    "pca": pca,
    "mean": mean,
    "rolling_z": rolling_z,
    "seasonal_naive": seasonal_naive,
    "knn": knn,
    "isolation_forest": isolation_forest,
    "matrix_profile": matrix_profile,
}
GUESSED = ("pca", "mean")
"""Detectors that are always there."""
