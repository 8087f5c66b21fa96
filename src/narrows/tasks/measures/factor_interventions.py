"""Scores of a latent under an intervention: one factor held fixed while all others vary.

The draws come from a table of examples: rows that agree in the factor, with replacement. Where the table is a
random part of all combinations, that is the sampling of `disentanglement_lib`, whose numbers of draws these are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from narrows.random import derive
from narrows.tasks.measures.disentanglement_scores import ITERATIONS, Matrix, Table, Whole

DRAWN = 64
"""Examples (pairs of them in BetaVAE's score) from which one point is made."""
TRAIN_POINTS, TEST_POINTS = 10_000, 5_000
COLLAPSED = 0.05
"""Latents whose standard deviation is below this share of the largest are not read by FactorVAE's score. The
reference's bound is the same number, as a standard deviation."""
CHUNK = 500


class _Fixed:
    """Draws rows that agree in one factor."""

    def __init__(self, factors: Whole, random: np.random.Generator) -> None:
        self.size, self.count = factors.shape
        self.random = random
        self._order = np.argsort(factors, axis=0, kind="stable")
        values = [np.unique(factor, return_inverse=True, return_counts=True) for factor in factors.T]
        self._value = np.stack([inverse for _, inverse, _ in values], axis=1)
        self._counts = [counts for _, _, counts in values]
        self._starts = [np.cumsum(counts) - counts for counts in self._counts]

    def like(self, rows: NDArray[np.int64], factor: int) -> NDArray[np.int64]:
        """For each row one that has the same value of the factor."""
        value = self._value[rows, factor]
        step = (self.random.random(rows.shape) * self._counts[factor][value]).astype(np.int64)
        return self._order[self._starts[factor][value] + step, factor]

    def some(self, *shape: int) -> NDArray[np.int64]:
        return self.random.integers(self.size, size=shape)

    def points(self, number: int) -> list[tuple[int, int]]:
        """The factor of each of `number` points, in pieces that fit memory: factor and how many."""
        counts = np.bincount(self.random.integers(self.count, size=number), minlength=self.count)
        return [
            (factor, min(CHUNK, int(count) - start))
            for factor, count in enumerate(counts)
            for start in range(0, int(count), CHUNK)
        ]


def factor_vae(table: Table) -> dict[str, float]:
    """A majority vote: which latent varies least, against its overall variance, tells which factor was fixed.

    Accuracy on new points, with 1 / K for a latent that knows nothing. "Disentangling by Factorising" (Kim and
    Mnih, 2018), section 4. 0 where all latents are constant.
    """
    variance = table.codes.var(0, ddof=1)
    active = np.flatnonzero(np.sqrt(variance) >= max(COLLAPSED * np.sqrt(variance.max()), 1e-30))
    if not len(active):
        return {"factor_vae": 0.0}
    draw = _Fixed(table.factors, np.random.default_rng(derive(table.seed, "factor_vae")))
    codes = table.codes[:, active] / np.sqrt(variance[active])
    train, test = (_votes(draw, codes, number) for number in (TRAIN_POINTS, TEST_POINTS))
    chosen = train.argmax(0)
    return {"factor_vae": float(test[chosen, np.arange(len(active))].sum() / test.sum())}


def _votes(draw: _Fixed, codes: Matrix, number: int) -> Whole:
    """How often the latent varied least while the factor was fixed, `[K, D]`."""
    votes = np.zeros((draw.count, codes.shape[1]), dtype=np.int64)
    for factor, points in draw.points(number):
        fixed = draw.some(points, 1).repeat(DRAWN, axis=1)
        least = codes[draw.like(fixed, factor)].var(1).argmin(1)
        votes[factor] += np.bincount(least, minlength=codes.shape[1])
    return votes


def beta_vae(table: Table) -> dict[str, float]:
    """Accuracy of a linear classifier that tells from the mean absolute difference of pairs, `[D]`, in which
    factor they agree. "beta-VAE" (Higgins et al., 2017), section 3."""
    draw = _Fixed(table.factors, np.random.default_rng(derive(table.seed, "beta_vae")))
    train, test = (_differences(draw, table.standard, number) for number in (TRAIN_POINTS, TEST_POINTS))
    if draw.count == 1:
        return {"beta_vae": 1.0}
    return {"beta_vae": float(LogisticRegression(max_iter=ITERATIONS).fit(*train).score(*test))}


def _differences(draw: _Fixed, codes: Matrix, number: int) -> tuple[Matrix, Whole]:
    features, labels = [], []
    for factor, points in draw.points(number):
        first = draw.some(points, DRAWN)
        features.append(np.abs(codes[first] - codes[draw.like(first, factor)]).mean(1))
        labels.append(np.full(points, factor))
    return np.concatenate(features), np.concatenate(labels)
