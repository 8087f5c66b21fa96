"""Classic detectors of feature maps `[B, C, h, w]`, which judge the C features of every position: fitted on the
training split, they return maps `[B, h, w]`, higher where more anomalous."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from narrows.random import derive, generator
from narrows.tasks.base import TaskContext
from narrows.tasks.measures.anomaly_maps import MapOf
from narrows.types import Batch

log = logging.getLogger(__name__)

MOST_POSITIONS = 200_000
"""Most training positions that are gathered; of more, as many are drawn."""
KEPT_VARIANCE = 0.9
CHANNELS = 100
"""Channels that PaDiM draws."""
RIDGE = 0.01
"""What PaDiM adds to the diagonal of every covariance."""
MOST_COVARIANCES = 100_000_000
"""Most values of all covariances, 0.8 GB; where there would be more, fewer channels are drawn."""
PROJECTED = 128
"""Most dimensions in which the greedy choice measures distances."""


@dataclass
class Positions:
    """What the detectors are fitted with.

    Args:
        context: of the task.
        coreset: the share of training positions that `patchcore` keeps, chosen greedily; None keeps all.
    """

    context: TaskContext
    coreset: float | None

    def gathered(self) -> NDArray[np.float32]:
        """`[P, C]`: the features of all training positions, or of `MOST_POSITIONS` drawn of them."""
        key = "positions of feature maps"
        memo = self.context.memo
        if key not in memo:
            memo[key] = self._gather()
        return memo[key]

    def _gather(self) -> NDArray[np.float32]:
        context = self.context
        places = math.prod(context.spec.shape[1:])
        every = context.spec.size * places
        kept = np.ones(every, dtype=bool)
        if every > MOST_POSITIONS:
            log.info("the detectors of positions read %d of %d", MOST_POSITIONS, every)
            order = torch.randperm(every, generator=generator(context.seed, "positions"))
            kept[order[MOST_POSITIONS:].numpy()] = False
        parts, row = [], 0
        for batch in context.batches("train"):
            rows = _rows(batch.x)
            parts.append(rows[kept[row : row + len(rows)]])
            row += len(rows)
        return np.concatenate(parts)


def _rows(x: Tensor) -> NDArray[np.float32]:
    """`[B, C, h, w]` as `[B h w, C]`."""
    return x.movedim(1, -1).flatten(0, -2).float().cpu().numpy()


def _by_rows(rank: Callable[[NDArray[np.float32]], NDArray[np.floating]]) -> MapOf:
    def found(batch: Batch) -> Tensor:
        size = (len(batch), *batch.x.shape[2:])
        return torch.from_numpy(np.ascontiguousarray(rank(_rows(batch.x)), dtype=np.float32)).reshape(size)

    return found


def feature_pca(positions: Positions) -> MapOf:
    """Squared error of each position's features under the principal components, common to all positions, that explain
    90% of their variance: the linear case of "DFR: Deep Feature Reconstruction for Unsupervised Anomaly Segmentation"
    (Yang et al., 2020, https://arxiv.org/abs/2012.07122), which chooses its latent by the same share."""
    pca = PCA(n_components=KEPT_VARIANCE, svd_solver="full").fit(positions.gathered())
    log.info("PCA of positions: %d of %d components", pca.n_components_, pca.n_features_in_)
    return _by_rows(lambda rows: np.square(rows - pca.inverse_transform(pca.transform(rows))).mean(1))


def padim(positions: Positions) -> MapOf:
    """Mahalanobis distance of each position's features from the mean of the training pictures at that position, under
    their covariance there, to whose diagonal 0.01 is added; of at most 100 channels, drawn at random.

    "PaDiM: a Patch Distribution Modeling Framework" (Defard et al., 2020, https://arxiv.org/abs/2011.08785), on the
    features of the run.
    """
    context = positions.context
    channels, *size = context.spec.shape
    most = math.isqrt(MOST_COVARIANCES // math.prod(size))
    count = max(1, min(CHANNELS, channels, most))
    chosen = torch.randperm(channels, generator=generator(context.seed, "padim"))[:count].sort().values

    def read(batch: Batch) -> Tensor:
        return batch.x.index_select(1, chosen.to(batch.x.device)).flatten(2).permute(2, 0, 1).cpu().double()

    seen, total, products = 0, torch.zeros(()).double(), torch.zeros(()).double()
    for batch in context.batches("train"):
        values = read(batch)  # [h w, B, d]
        seen, total, products = seen + len(batch), total + values.sum(1), products + values.mT @ values
    mean = total / seen
    covariance = (products - seen * mean[:, :, None] * mean[:, None, :]) / max(seen - 1, 1)
    factor = torch.linalg.cholesky(covariance + RIDGE * torch.eye(count).double())

    def found(batch: Batch) -> Tensor:
        away = (read(batch) - mean[:, None]).mT  # [h w, d, B]
        distances = torch.linalg.solve_triangular(factor, away, upper=False).square().sum(1).sqrt()
        return distances.T.reshape(len(batch), *size)

    return found


def patchcore(positions: Positions) -> MapOf:
    """Euclidean distance of each position's features to the nearest that training pictures have anywhere, of which a
    greedily chosen coreset is kept.

    "Towards Total Recall in Industrial Anomaly Detection" (Roth et al., 2022, https://arxiv.org/abs/2106.08265), on the
    features of the run, and with the largest distance as a picture's score, not weighted anew.
    """
    memory = positions.gathered()
    if positions.coreset is not None:
        count = max(1, round(positions.coreset * len(memory)))
        memory = memory[greedy_coreset(memory, count, derive(positions.context.seed, "coreset") % 2**32)]
    near = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(memory)
    return _by_rows(lambda rows: near.kneighbors(rows)[0][:, 0])


def greedy_coreset(rows: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """`count` rows of `[P, C]`: the first is drawn, and each other is the one farthest from those before it, so that no
    row is far from all of them; of more than `PROJECTED` dimensions, distances are those of a random projection."""
    source = np.random.default_rng(seed)
    if rows.shape[1] > PROJECTED:
        projection = source.standard_normal((rows.shape[1], PROJECTED)) / math.sqrt(PROJECTED)
        rows = rows @ projection.astype(np.float32)
    squares = np.einsum("pc,pc->p", rows, rows)
    chosen = np.empty(count, dtype=np.int64)
    chosen[0] = source.integers(len(rows))
    away = np.full(len(rows), np.inf, dtype=np.float32)
    for number in range(1, count):
        last = chosen[number - 1]
        np.minimum(away, squares - 2 * (rows @ rows[last]) + squares[last], out=away)
        away[last] = -1
        chosen[number] = away.argmax()
    return chosen


POSITIONS: dict[str, Callable[[Positions], MapOf]] = {
    "feature_pca": feature_pca,
    "padim": padim,
    "patchcore": patchcore,
}
