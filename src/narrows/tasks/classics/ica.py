"""Independent components of the training split, in the subspace of its principal components."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from narrows.evaluation import subset
from narrows.random import derive
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.mean_pca_ridge import Classics
from narrows.tasks.measures.chosen_rows import drawn
from narrows.tasks.measures.disentanglement_scores import Matrix

log = logging.getLogger(__name__)


@dataclass
class Independent:
    """FastICA on the PCA codes of examples.

    "Fast and robust fixed-point algorithms for independent component analysis" (Hyvärinen, 1999).
    """

    ica: FastICA | None
    """None where no principal component varies."""
    varying: NDArray[np.bool_]
    """Which of the PCA codes vary, `[D]`."""

    def unmix(self, codes: Matrix) -> Matrix:
        """Components of unit variance `[N, K]` of PCA codes `[N, D]`."""
        return codes if self.ica is None else self.ica.transform(codes[:, self.varying])

    @property
    def mixing(self) -> Matrix:
        """The change of the PCA codes by one unit of every component, `[K, D]`."""
        if self.ica is None:
            return np.zeros((len(self.varying), len(self.varying)))
        found = np.zeros((self.ica.mixing_.shape[1], len(self.varying)))
        found[:, self.varying] = self.ica.mixing_.T
        return found


def fit_ica(context: TaskContext, classics: Classics, samples: int) -> Independent:
    """Fit FastICA on `samples` random training rows; the log says if it has not converged."""
    positions = drawn(context.spec.size, samples, context.seed, "factors", "train")
    rows = np.concatenate(
        [
            classics.pca.transform(classics.flat(batch.truth, batch.judged))
            for batch in subset(context.datamodule.ordered_loader("train"), positions)
        ]
    ).astype(np.float64)
    deviation = rows.std(0)
    varying = deviation > 1e-6 * deviation.max()
    if not varying.any():
        return Independent(None, varying)
    ica = FastICA(whiten="unit-variance", max_iter=1000, random_state=derive(context.seed, "ica") % 2**32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        ica.fit(rows[:, varying])
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        log.info("ICA has not converged: its figures are those of its last step")
    return Independent(ica, varying)
