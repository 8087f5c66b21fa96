"""The classic generators of rows of a table: a Gaussian copula, SMOTE, and a bootstrap with noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri
from sklearn.neighbors import NearestNeighbors

from narrows.tasks.measures.mixed_rows import Matrix, MixedRows

NEIGHBOURS = 5
NOISE = 0.1
"""Of the bootstrap, in standard deviations of a column."""

RowSampler = Callable[[MixedRows, int, np.random.Generator], MixedRows]
"""Makes n rows from the training rows."""


def copula(train: MixedRows, n: int, random: np.random.Generator) -> MixedRows:
    """A Gaussian copula with the columns' own distributions: every cell becomes the normal score of its place among the
    training cells, drawn from all places that equal cells share; the scores are one Gaussian. Categories are ordered by
    their frequency.

    "The Synthetic Data Vault" (Patki et al., 2016), section III; of columns that are not continuous the scores are
    those of "On the distributional transform, Sklar's theorem, and the empirical copula process" (Rüschendorf, 2009).
    """
    ordered, back = _ordered(train)
    count = len(train)
    ranked = np.sort(ordered, axis=0)
    scores = np.empty_like(ordered)
    for place, cells in enumerate(ordered.T):
        low, high = (np.searchsorted(ranked[:, place], cells, side) for side in ("left", "right"))
        share = (low + random.random(count) * (high - low)) / count
        scores[:, place] = ndtri(share.clip(0.5 / count, 1 - 0.5 / count))
    covariance = np.atleast_2d(np.corrcoef(scores, rowvar=False))
    covariance = np.nan_to_num(covariance) + 1e-9 * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance)
    drawn = random.standard_normal((n, len(values))) * np.sqrt(values.clip(0)) @ vectors.T
    drawn /= np.sqrt(np.diag(covariance).clip(1e-12))
    places = (ndtr(drawn) * count).astype(int).clip(0, count - 1)
    made = np.take_along_axis(ranked, places, axis=0)
    for place, codes in back.items():
        made[:, place] = codes[made[:, place].astype(int)]
    return train.like(made)


def _ordered(train: MixedRows) -> tuple[Matrix, dict[int, Matrix]]:
    """Cells with categories numbered by falling frequency; by column, the category of each such number."""
    values, back = train.values.copy(), {}
    for place, column in enumerate(train.columns):
        if column.levels:
            codes = values[:, place].astype(int)
            order = np.argsort(-np.bincount(codes, minlength=column.levels), kind="stable")
            back[place] = order.astype(np.float64)
            values[:, place] = np.argsort(order)[codes]
    return values, back


def smote(train: MixedRows, n: int, random: np.random.Generator) -> MixedRows:
    """Rows on the line between a training row and one of its 5 nearest neighbours of the same class, classes by their
    shares; a category is the one that most of these neighbours have. A class of a single row is that row again.

    "SMOTE: Synthetic Minority Over-sampling Technique" (Chawla et al., 2002), sections 4.2 and 6.1 (SMOTE-NC).
    """
    made = train.values[random.integers(len(train), size=n)]
    scale = np.where(train.numeric, train.values.std(0), 1.0)
    for kind in np.unique(train.label):
        mine, rows = np.flatnonzero(train.label == kind), np.flatnonzero(made[:, train.target] == kind)
        if len(mine) == 1 or not len(rows):
            continue
        own = train.take(mine)
        seen = own.like(own.values / np.where(scale > 0, scale, 1.0)).features(False)
        near = NearestNeighbors(n_neighbors=min(NEIGHBOURS + 1, len(mine))).fit(seen).kneighbors(seen)[1][:, 1:]
        base = random.integers(len(mine), size=len(rows))
        chosen = near[base, random.integers(near.shape[1], size=len(rows))]
        way = random.random((len(rows), 1))
        values = own.values[base] + way * (own.values[chosen] - own.values[base])
        for place, column in enumerate(train.columns):
            if column.levels:
                votes = np.eye(column.levels)[own.values[near[base], place].astype(int)].sum(1)
                values[:, place] = votes.argmax(1)
        made[rows] = values
    return train.like(made)


def bootstrap(train: MixedRows, n: int, random: np.random.Generator) -> MixedRows:
    """Training rows drawn with replacement, with normal noise of a tenth of a column's standard deviation on numbers:
    the smoothed bootstrap ("An Introduction to the Bootstrap", Efron and Tibshirani, 1993, section 16.5)."""
    made = train.values[random.integers(len(train), size=n)]
    noise = NOISE * train.values.std(0) * random.standard_normal(made.shape)
    return train.like(np.where(train.numeric, made + noise, made))


ROW_SAMPLERS: dict[str, RowSampler] = {"copula": copula, "smote": smote, "bootstrap": bootstrap}
