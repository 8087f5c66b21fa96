"""One Gaussian, and a mixture of them, with full covariances."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from narrows.densities.base import StandardisedDensity, refuse_wide
from narrows.errors import require
from narrows.models.autoencoder import Autoencoder

log = logging.getLogger(__name__)
WIDEST = 4096
"""Largest number of values in a latent: a covariance has its square."""


class GaussianDensity(StandardisedDensity):
    """`N(m, S)` with the mean and the covariance of the training latents, its maximum-likelihood fit.

    `ridge` is added to the diagonal of the standardised covariance, so that latents which depend on one another
    have a density.

    Raises:
        UserError: a negative `ridge`, or more than 4,096 latent values.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> density = GaussianDensity(model)
        >>> density.log_prob(torch.zeros(1, 8)), density.sample(2).shape
        (tensor([-7.3515]), torch.Size([2, 8]))
    """

    factor: Tensor

    def __init__(self, model: Autoencoder, *, ridge: float = 1e-6) -> None:
        require(ridge > 0, f"density gaussian: ridge must be above 0, not {ridge}")
        super().__init__(model)
        refuse_wide("gaussian", self.width, WIDEST, "a full covariance")
        self.ridge = ridge
        self.register_buffer("factor", torch.eye(self.width))

    def learn_standard(self, train: Tensor, held: Tensor) -> None:
        rows = train.double()
        covariance = rows.T @ rows / len(rows)
        covariance.diagonal().add_(self.ridge)
        self.factor.copy_(torch.linalg.cholesky(covariance))

    def normal(self) -> MultivariateNormal:
        """The distribution of standardised latents."""
        return MultivariateNormal(torch.zeros_like(self.mean), scale_tril=self.factor, validate_args=False)

    def log_prob_standard(self, u: Tensor) -> Tensor:
        log_prob: Tensor = self.normal().log_prob(u)
        return log_prob

    def sample_standard(self, n: int) -> Tensor:
        return self.normal().sample((n,))


class MixtureDensity(StandardisedDensity):
    """`sum_k pi_k N(m_k, S_k)` with `components` full covariances, fitted by expectation maximisation from k-means
    (scikit-learn's `GaussianMixture`).

    "From Variational to Deterministic Autoencoders" (Ghosh et al., 2020, https://arxiv.org/abs/1903.12436), section 4:
    ten components there.

    Args:
        components: K.
        ridge: added to the diagonal of every standardised covariance.
        iterations: of expectation maximisation, at most.
        starts: fits from different k-means; the likeliest is kept.

    Raises:
        UserError: a value out of its range, more than 4,096 latent values, or fewer examples than components.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> density = MixtureDensity(model, components=2)
        >>> density.log_prob(torch.zeros(1, 8)), density.sample(2).shape
        (tensor([-7.3515]), torch.Size([2, 8]))
    """

    weights: Tensor
    centres: Tensor
    factors: Tensor

    def __init__(
        self,
        model: Autoencoder,
        *,
        components: int = 10,
        ridge: float = 1e-6,
        iterations: int = 200,
        starts: int = 1,
    ) -> None:
        for name, value in {"components": components, "iterations": iterations, "starts": starts}.items():
            require(value >= 1, f"density mixture: {name} must be at least 1, not {value}")
        require(ridge > 0, f"density mixture: ridge must be above 0, not {ridge}")
        super().__init__(model)
        refuse_wide("mixture", self.width, WIDEST, "a full covariance")
        self.components, self.ridge, self.iterations, self.starts = components, ridge, iterations, starts
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("centres", torch.zeros(components, self.width))
        self.register_buffer("factors", torch.eye(self.width).repeat(components, 1, 1))

    def learn_standard(self, train: Tensor, held: Tensor) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        require(
            len(train) >= self.components,
            f"density mixture: {len(train)} training examples are too few for {self.components} components",
        )
        fit = GaussianMixture(
            self.components,
            covariance_type="full",
            reg_covar=self.ridge,
            max_iter=self.iterations,
            n_init=self.starts,
            random_state=int(torch.randint(2**31, ())),
        )
        # k-means adds up its threads' sums in the order in which they end.
        with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit.fit(train.double().numpy())
        if not fit.converged_:
            log.warning("density mixture: not converged after %s iterations; density.iterations=...", self.iterations)
        self.weights.copy_(torch.from_numpy(fit.weights_))
        self.centres.copy_(torch.from_numpy(fit.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(fit.covariances_)))

    def mixture(self) -> MixtureSameFamily:
        """The distribution of standardised latents."""
        parts = MultivariateNormal(self.centres, scale_tril=self.factors, validate_args=False)
        return MixtureSameFamily(Categorical(self.weights, validate_args=False), parts, validate_args=False)

    def log_prob_standard(self, u: Tensor) -> Tensor:
        log_prob: Tensor = self.mixture().log_prob(u)
        return log_prob

    def sample_standard(self, n: int) -> Tensor:
        drawn: Tensor = self.mixture().sample(torch.Size((n,)))
        return drawn
