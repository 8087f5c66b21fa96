"""The classic generators of rows of a table: a Gaussian copula, SMOTE, and a bootstrap with noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr
from sklearn.neighbors import NearestNeighbors

from narrows.tasks.classics.latent_correlations import latent_correlations
from narrows.tasks.measures.mixed_rows import Matrix, MixedRows

NEIGHBOURS = 5
NOISE = 0.1
"""Of the bootstrap, in standard deviations of a column."""

RowSampler = Callable[[MixedRows, int, np.random.Generator], MixedRows]
"""Makes n rows from the training rows."""


def copula(train: MixedRows, n: int, random: np.random.Generator) -> MixedRows:
    """A Gaussian copula with the columns' own distributions: one Gaussian, every value of which becomes the cell that
    has its place among the sorted training cells. Categories are ordered by their frequency. Of two columns the
    Gaussian's correlation is that at which rows have the mean product of normal scores that training rows have
    (`latent_correlations`), so that columns of few different cells depend on others as strongly as they do.

    "The Synthetic Data Vault" (Patki et al., 2016), section III.
    """
    ordered, back = _ordered(train)
    count, ranked = len(train), np.sort(ordered, axis=0)
    values, vectors = np.linalg.eigh(latent_correlations(ordered))
    values = values.clip(1e-9)
    drawn = random.standard_normal((n, len(values))) * np.sqrt(values) @ vectors.T
    # Correlations of pairs need not fit together: what was negative is 0, and variances are 1 again.
    drawn /= np.sqrt(np.square(vectors) @ values)
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
