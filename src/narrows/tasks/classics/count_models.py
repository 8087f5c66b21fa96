"""Classic models of counts, such as genes in cells: components of log-normalised rows, and the likelihoods whose means
these give. Rows stay sparse; what must be dense is so for a few rows at a time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import gammaln, xlogy
from sklearn.decomposition import NMF, PCA
from sklearn.exceptions import ConvergenceWarning

log = logging.getLogger(__name__)

Matrix = NDArray[np.floating]
SCALE = 1e4
"""The library size to which rows are brought before the logarithm."""
CHUNK = 200
"""Rows that are dense at once."""
SHARES = (0.05, 0.2, 0.5)
"""Tried shares of the frequencies over all rows in the mean of each."""
DISPERSIONS = np.geomspace(0.03, 1000, 14)
"""Tried inverse dispersions of a feature."""
CHOOSING_ROWS, FITTED_ROWS = 500, 5000
"""Training rows that dispersions are fitted to while settings are chosen, and those that the chosen ones and the
weights are."""


def log_normalised(rows: csr_matrix) -> csr_matrix:
    """`log(1 + 10^4 x / sum of x)` of every row, `[N, G]`, which is 0 where x is; an empty row stays empty."""
    found = rows.astype(np.float64).tocsr(copy=True)
    found.data = np.log1p(SCALE * found.data / np.repeat(_totals(rows), np.diff(found.indptr)))
    return found


def _totals(rows: csr_matrix) -> Matrix:
    return np.maximum(np.asarray(rows.sum(1), dtype=np.float64).ravel(), 1e-12)


@dataclass
class Components:
    """A linear reduction of log-normalised counts: codes of rows, `[N, G] -> [N, D]`."""

    encode: Callable[[csr_matrix], Matrix]
    decode: Callable[[Matrix], Matrix]
    """Codes `[N, D]` to log-normalised counts `[N, G]`, dense: of a few rows at a time."""


def fit_pca(train: csr_matrix, number: int, seed: int) -> Components:
    """Principal components of the log-normalised training rows, which are centred without being made dense."""
    most = min(number, min(train.shape) - 1)
    fitted = PCA(most, svd_solver="arpack", random_state=seed % 2**32).fit(log_normalised(train))
    return Components(lambda rows: np.asarray(fitted.transform(log_normalised(rows))), fitted.inverse_transform)


def fit_nmf(train: csr_matrix, number: int, seed: int) -> Components:
    """Non-negative factors of the log-normalised training rows."""
    fitted = NMF(min(number, *train.shape), init="nndsvd", max_iter=200, random_state=seed % 2**32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        fitted.fit(log_normalised(train))
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        log.info("NMF has not converged after 200 iterations: its factors are those of the last")
    return Components(lambda rows: fitted.transform(log_normalised(rows)), fitted.inverse_transform)


@dataclass
class Means:
    """The expected counts of rows: their library size times a share of every feature, which sums to 1.

    The share is that of the `components`' rebuilt row, each feature weighed so that over training rows it has its
    frequency (the logarithm makes rare features rarer), mixed with the frequencies themselves.
    """

    frequencies: Matrix
    """Of every feature in all training rows, `[G]`; none is 0."""
    components: Components | None = None
    share: float = 1.0
    """Of the frequencies in the mixture; 1 for these alone."""
    weights: Matrix | float = 1.0
    """Of every feature in a rebuilt row, `[G]`."""

    def of(self, rows: csr_matrix) -> Matrix:
        """The expected counts `[N, G]`, dense."""
        expected = np.broadcast_to(self.frequencies, rows.shape)
        if self.components is not None:
            own = shares(self.components, rows) * self.weights
            own /= np.maximum(own.sum(1, keepdims=True), 1e-12)
            expected = (1 - self.share) * own + self.share * expected
        return _totals(rows)[:, None] * expected


def shares(components: Components, rows: csr_matrix) -> Matrix:
    """Every feature's share of the counts that the components rebuild of each row, `[N, G]`."""
    rebuilt = np.maximum(np.expm1(components.decode(components.encode(rows))), 0)
    return rebuilt / np.maximum(rebuilt.sum(1, keepdims=True), 1e-12)


def weights_of(components: Components, train: csr_matrix) -> Matrix:
    """What makes the mean of the components' shares over training rows each feature's own frequency there, `[G]`."""
    rows = train[:FITTED_ROWS]
    rebuilt = sum(shares(components, part).sum(0) for part in _parts(rows)) / rows.shape[0]
    return frequencies_of(rows) / np.maximum(rebuilt, 1e-9)


def frequencies_of(train: csr_matrix) -> Matrix:
    """The share of every feature in all counts, `[G]`, half a count added to each, so that none is 0."""
    counts = np.asarray(train.sum(0), dtype=np.float64).ravel() + 0.5
    return counts / counts.sum()


def poisson_nats(counts: Matrix, mean: Matrix) -> Matrix:
    """`-log p(x)` of Poisson counts, elementwise."""
    return mean - xlogy(counts, mean) + gammaln(counts + 1)


def negative_binomial_nats(counts: Matrix, mean: Matrix, inverse_dispersion: Matrix) -> Matrix:
    """`-log p(x)` of negative binomial counts of variance `mean + mean^2 / inverse_dispersion`, elementwise."""
    r = inverse_dispersion
    chosen = gammaln(counts + r) - gammaln(r) - gammaln(counts + 1)
    return r * np.log1p(mean / r) - xlogy(counts, mean / (r + mean)) - chosen


def poisson_nll(rows: csr_matrix, means: Means) -> Matrix:
    """`-log p(x)` of every row `[N, G]` under independent Poisson counts, `[N]`, in nats."""
    return np.concatenate([poisson_nats(part.toarray(), means.of(part)).sum(1) for part in _parts(rows)])


def negative_binomial_nll(rows: csr_matrix, means: Means, inverse_dispersion: Matrix) -> Matrix:
    """`-log p(x)` of every row `[N, G]` under independent negative binomial counts, `[N]`, in nats."""
    return np.concatenate(
        [negative_binomial_nats(part.toarray(), means.of(part), inverse_dispersion).sum(1) for part in _parts(rows)]
    )


def fit_dispersions(rows: csr_matrix, means: Means, most: int = FITTED_ROWS) -> Matrix:
    """The inverse dispersion of every feature, `[G]`: that of `DISPERSIONS` under which `most` rows are likeliest."""
    rows = rows[:most]
    nats = np.zeros((len(DISPERSIONS), rows.shape[1]))
    for part in _parts(rows):
        mean = means.of(part)
        entries = part.tocoo()
        column, counts, own = entries.col, entries.data.astype(np.float64), mean[entries.row, entries.col]
        for place, r in enumerate(DISPERSIONS):
            # Where a count is 0, all that is left of the likelihood is its first part.
            filled = negative_binomial_nats(counts, own, r) - r * np.log1p(own / r)
            nats[place] += (r * np.log1p(mean / r)).sum(0) + np.bincount(column, filled, rows.shape[1])
    return DISPERSIONS[nats.argmin(0)]


def _parts(rows: csr_matrix) -> Iterator[csr_matrix]:
    for start in range(0, rows.shape[0], CHUNK):
        yield rows[start : start + CHUNK]


def fit_counts(train: csr_matrix, held: csr_matrix, components: dict[str, Components]) -> dict[str, Callable]:
    """By name, functions from rows `[N, G]` to `-log p(x)` of each, `[N]`, in nats: `poisson` and `nb`, whose means
    are the frequencies alone, and `poisson_pca` and `nb_pca`, whose means PCA rebuilds from the row itself.

    The number of components and the share of the frequencies are those under which the `held` rows are likeliest, of
    each likelihood its own. Dispersions are fitted to the training rows, with the means that PCA gives these.
    """
    frequencies = frequencies_of(train)
    alone = Means(frequencies)
    weights = {name: weights_of(found, train) for name, found in components.items()}
    mixed = [Means(frequencies, components[name], share, weights[name]) for name in components for share in SHARES]
    poisson = min(mixed, key=lambda means: float(poisson_nll(held, means).sum()))
    means = min(mixed, key=lambda means: _choosing_nats(train, held, means))
    dispersions = fit_dispersions(train, means)
    for name, chosen in {"poisson_pca": poisson, "nb_pca": means}.items():
        number = next(key for key, value in components.items() if value is chosen.components)
        log.info("%s: %s, with %g of the frequencies", name, number, chosen.share)
    own = fit_dispersions(train, alone)
    return {
        "poisson": lambda rows: poisson_nll(rows, alone),
        "nb": lambda rows: negative_binomial_nll(rows, alone, own),
        "poisson_pca": lambda rows: poisson_nll(rows, poisson),
        "nb_pca": lambda rows: negative_binomial_nll(rows, means, dispersions),
    }


def _choosing_nats(train: csr_matrix, held: csr_matrix, means: Means) -> float:
    dispersions = fit_dispersions(train, means, CHOOSING_ROWS)
    return float(negative_binomial_nll(held, means, dispersions).sum())
