"""One part of multi-modal data from another, linearly: by principal components of both, and by canonical
correlations."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

Array = NDArray[np.floating[Any]]

REDUCED = 50
"""Principal components of each part before canonical correlations, which would else be of noise."""
PAIRS = 9
"""Most pairs of canonical components."""


class PCAOfBoth:
    """Probabilistic PCA of source and target side by side, `x = W z + mean + N(0, s I)`; the answer to a source is the
    mean of the target given it, `W_t E[z|source] + mean_t`.

    "Probabilistic Principal Component Analysis" (Tipping and Bishop, 1999,
    https://doi.org/10.1111/1467-9868.00196), equations 6 to 8.
    """

    def __init__(self, source: Array, target: Array, components: int, seed: int) -> None:
        both = np.concatenate([source, target], 1).astype(np.float64)
        fitted = PCA(min(components, *both.shape), random_state=seed).fit(both)
        noise = max(float(fitted.noise_variance_), 1e-12)
        lengths = np.sqrt(np.maximum(fitted.explained_variance_ - noise, 0))
        weight = fitted.components_.T * lengths
        self.size, self.mean = source.shape[1], fitted.mean_
        self.source, self.target = weight[: self.size], weight[self.size :]
        self.inner = self.source.T @ self.source + noise * np.eye(weight.shape[1])

    def predict(self, source: Array) -> Array:
        """The target's mean given each source, `[N, D_t]`."""
        z = np.linalg.solve(self.inner, self.source.T @ (source - self.mean[: self.size]).T).T
        found: Array = z @ self.target.T + self.mean[self.size :]
        return found


class CCAOfBoth:
    """The target's regression on the canonical components of the source, of principal components of either.

    "Relations between two sets of variates" (Hotelling, 1936, https://doi.org/10.1093/biomet/28.3-4.321).
    """

    def __init__(self, source: Array, target: Array, seed: int) -> None:
        fitted = [PCA(min(REDUCED, *part.shape), random_state=seed).fit(part) for part in (source, target)]
        self.reduced = fitted
        pairs = min(PAIRS, *(pca.n_components_ for pca in fitted))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the iteration ended at its limit
            self.cca = CCA(pairs).fit(
                *(pca.transform(part) for pca, part in zip(fitted, (source, target), strict=True))
            )

    def predict(self, source: Array) -> Array:
        """The target's mean given each source, `[N, D_t]`."""
        found: Array = self.reduced[1].inverse_transform(self.cca.predict(self.reduced[0].transform(source)))
        return found
