"""The correlations of the Gaussian behind columns of any kind: what a Gaussian copula is fitted by.

Every column is a Gaussian value cut into the column's different cells, by their shares. A column's *score* is the mean
of the Gaussian in the cell; of a column without equal cells it is all but the Gaussian value itself.

Legend: N rows, R columns, M different cells of a column, K terms of a series.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Matrix = NDArray[np.float64]
TERMS = 60
"""Of the series in powers of the correlation; beyond 0.95 two columns of few cells are taken for a little more alike
than they are."""
HALVINGS = 40
LEAST = 1e-9
"""Product of the variances of two scores below which one column says nothing."""


def latent_correlations(ordered: Matrix) -> Matrix:
    """The Gaussian's correlations, `[R, R]`, of columns `[N, R]` of numbers or of ordered categories.

    Scores s and t of two columns have `E[s t] = sum_k a_k b_k r^k` under a correlation r, where a_k and b_k are their
    coefficients in normalised Hermite polynomials (Mehler, 1866); r is where that is the mean over rows. Of two columns
    of two cells each it is the tetrachoric correlation, of one such and one of numbers the biserial: "The polyserial
    correlation coefficient" (Olsson et al., 1982, https://doi.org/10.1007/BF02294164), here by moments. The plain
    correlation of scores, drawn evenly within a cell, would be nearer to 0 by the variance of the scores: of a balanced
    binary column and one of numbers by a factor of 2 / pi.
    """
    scores, coefficients = zip(*(_score(column) for column in ordered.T), strict=True)
    wanted = np.stack(scores) @ np.stack(scores).T / len(ordered)
    series = np.stack(coefficients, 1)
    low, high = -np.ones_like(wanted), np.ones_like(wanted)
    for _ in range(HALVINGS):
        middle, total = (low + high) / 2, np.zeros_like(wanted)
        for power in reversed(series):
            total = (total + np.outer(power, power)) * middle
        low, high = np.where(total < wanted, middle, low), np.where(total < wanted, high, middle)
    found = np.where(np.outer(series[0], series[0]) < LEAST, 0.0, (low + high) / 2)
    np.fill_diagonal(found, 1.0)
    return found


def _score(column: Matrix) -> tuple[Matrix, Matrix]:
    """The score of every row, `[N]`, and its coefficients in normalised Hermite polynomials 1 to K, `[K]`."""
    _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts[:-1]) / len(column)
    edges = ndtri(ends)
    # Integrals of h_k times the density up to every edge are -h_{k-1} times the density there, over sqrt(k).
    density = np.exp(-np.square(edges) / 2) / math.sqrt(2 * math.pi)
    before, polynomial = np.zeros_like(edges), np.ones_like(edges)
    masses = []
    for k in range(1, TERMS + 1):
        masses.append(-np.diff(polynomial * density, prepend=0.0, append=0.0) / math.sqrt(k))
        before, polynomial = polynomial, (edges * polynomial - math.sqrt(k - 1) * before) / math.sqrt(k)
    means = masses[0] / (counts / len(column))
    return means[place], np.stack(masses) @ means
