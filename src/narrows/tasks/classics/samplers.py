"""The classic generators with whose samples a model's samples are compared."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from narrows.random import derive
from narrows.tasks.base import TaskContext

ROWS, COMPONENTS, ITERATIONS = 10_000, 50, 15


def classic_samplers(context: TaskContext, train: Tensor, binary: bool) -> dict[str, Callable[[int], Tensor]]:
    """`pca`: a Gaussian over as many principal components as the latent has dimensions (probabilistic PCA's, without
    its noise). `mixture`: 50 diagonal Gaussians over pixels. Both are fitted to at most 10,000 training rows and
    held inside the data's range; for binary data they give the probabilities that are drawn from.

    Args:
        train: `[N, C, H, W]`, on the CPU.
        binary: whether the data are 0 and 1 alone.
    """
    rows = train[:ROWS].flatten(1).double().numpy()
    seed = derive(context.seed, "classic samplers") % 2**32
    components = min(math.prod(context.model.latent_shape), *rows.shape)
    pca = PCA(components, random_state=seed).fit(rows)
    mixture = _mixture(rows, seed)
    scale = torch.as_tensor(pca.explained_variance_).sqrt()

    def of_pca(n: int) -> Tensor:
        codes = torch.randn(n, components, dtype=torch.float64) * scale
        return finished(torch.as_tensor(pca.inverse_transform(codes.numpy())))

    def of_mixture(n: int) -> Tensor:
        chosen = torch.multinomial(torch.as_tensor(mixture.weights_), n, replacement=True)
        means, variances = (torch.as_tensor(v)[chosen] for v in (mixture.means_, mixture.covariances_))
        return finished(means if binary else means + variances.sqrt() * torch.randn_like(means))

    def finished(values: Tensor) -> Tensor:
        if context.spec.value_range is not None:
            values = values.clamp(*context.spec.value_range)
        values = values.bernoulli() if binary else values
        return values.reshape(len(values), *context.spec.shape)

    return {"pca": of_pca, "mixture": of_mixture}


def _mixture(rows: NDArray, seed: int) -> GaussianMixture:
    mixture = GaussianMixture(
        min(COMPONENTS, len(rows)),
        covariance_type="diag",
        reg_covar=1e-3,
        max_iter=ITERATIONS,
        init_params="random_from_data",
        random_state=seed,
    )
    with warnings.catch_warnings():
        # The iterations are a budget: not having converged is expected.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(rows)
