"""Terms on the aggregate posterior q(z) = 1/N sum_n q(z|x_n), estimated from one batch.

KL(q(z|x) || p(z)), averaged over the data, is the sum of three: the mutual information of x and z, the total
correlation of z, and the divergence of each latent from its prior.

Legend for shapes: B examples, D latents (maps and sequences flattened); `[B, B]` is z of row i under column j's
posterior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from narrows.distributed import own_rows
from narrows.errors import require
from narrows.losses.divergence import variational
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import GaussianLatent, Output, VariationalLatent, row_sums

Estimator = Literal["mss", "mws"]


@dataclass
class Densities:
    """Log densities at the batch's own draws of z, in nats, `[B]`.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> found = densities(out.latent, size=10, estimator="mss")
        >>> found.conditional.shape, found.aggregate.shape
        (torch.Size([2]), torch.Size([2]))
    """

    conditional: Tensor
    """`log q(z|x)`."""
    aggregate: Tensor
    """`log q(z)`."""
    marginals: Tensor
    """`sum_j log q(z_j)`."""
    prior: Tensor
    """`log p(z)`."""


def log_importance(batch: int, size: int, estimator: Estimator) -> Tensor:
    """Logarithm of the weight that column j's posterior has in q(z) at row i's draw, `[B, B]`.

    A column counts once in the joint density and once in each marginal, not once per dimension of the joint.
    """
    size = max(size, batch)
    if estimator == "mws" or batch == 1:
        # One example alone is all that is known of the data: its own posterior stands for the aggregate.
        return torch.full((batch, batch), -math.log(batch * size) if batch > 1 else 0.0)
    others = batch - 1
    weights = torch.full((batch, batch), 1 / others)
    rows = torch.arange(batch)
    weights[rows, (rows + 1) % batch] = (size - others) / (size * others)
    weights[rows, rows] = 1 / size
    return weights.log()


def densities(
    latent: VariationalLatent,
    size: int,
    estimator: Estimator,
    whole: Callable[[Tensor], Tensor] = lambda rows: rows,
    own: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> Densities:
    """The densities of which the decomposition consists.

    Args:
        latent: of these rows.
        size: the number of training examples.
        estimator: see `MutualInformation`.
        whole: from these rows to those of the whole batch, of which the aggregate is made.
        own: back again.
    """
    z, posterior = latent.z, latent.posterior
    mean, scale = whole(posterior.mean.flatten(1)), whole(posterior.stddev.flatten(1))
    every = torch.distributions.Normal(mean[None], scale[None], validate_args=False)
    crossed = every.log_prob(z.flatten(1)[:, None])
    weights = own(log_importance(len(mean), size, estimator)).to(crossed)
    return Densities(
        conditional=row_sums(posterior.log_prob(z)),
        aggregate=(weights + crossed.sum(2)).logsumexp(1),
        marginals=(weights[:, :, None] + crossed).logsumexp(1).sum(1),
        prior=row_sums(latent.prior.log_prob(z)),
    )


class _Decomposed(Term):
    requires = GaussianLatent

    def __init__(self, weight: float | Schedule = 1.0, estimator: Estimator = "mss") -> None:
        super().__init__(weight)
        require(estimator in ("mss", "mws"), f"{type(self).__name__}: estimator must be mss or mws, not '{estimator}'")
        self.estimator: Estimator = estimator

    def _densities(self, out: Output, model: Autoencoder) -> Densities:
        shared: dict[str, Any] = {"whole": partial(self.whole, out=out), "own": own_rows} if self.training else {}
        return densities(variational(out), model.spec.size, self.estimator, **shared)


class MutualInformation(_Decomposed):
    """`log q(z|x) - log q(z)`, `[B]`, in nats: its mean is the mutual information of index and latent.

    `mss` is minibatch stratified sampling, `mws` minibatch weighted sampling; both treat the batch as a draw from the
    training data. `mss` is biased, the less the larger the batch. `mws` lies off by a constant that no batch makes
    smaller: with N training examples every log density is the batch's plain mean less log N, so that of D latents
    this is log N too high, total correlation (D - 1) log N too high and dimension-wise KL D log N too low. A batch of
    one gives 0.

    "Isolating Sources of Disentanglement in Variational Autoencoders" (Chen et al., 2018,
    https://arxiv.org/abs/1802.04942), equation 2 and appendix C.

    Raises:
        UserError: an unknown estimator or a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> MutualInformation()(out, model).shape
        torch.Size([2])
    """

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        found = self._densities(out, model)
        return found.conditional - found.aggregate


class TotalCorrelation(_Decomposed):
    """`log q(z) - sum_j log q(z_j)`, `[B]`, in nats: its mean is the latents' total correlation.

    Beside a KL of weight 1 its weight is `beta - 1` of beta-TC-VAE. Estimators and paper are those of
    `MutualInformation`. A batch of one gives 0.

    Raises:
        UserError: an unknown estimator or a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> TotalCorrelation()(out, model).shape
        torch.Size([2])
    """

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        found = self._densities(out, model)
        return found.aggregate - found.marginals


class DimensionwiseKL(_Decomposed):
    """`sum_j log q(z_j) - log p(z_j)`, `[B]`, in nats: its mean is the divergence of each latent from its prior.

    Estimators and paper are those of `MutualInformation`. A batch of one gives its own `log q(z|x) - log p(z)`.

    Raises:
        UserError: an unknown estimator or a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> DimensionwiseKL()(out, model).shape
        torch.Size([2])
    """

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        found = self._densities(out, model)
        return found.marginals - found.prior


class DIP(Term):
    """`sum_{i != j} Cov_ij^2 + ratio sum_i (Cov_ii - 1)^2` over the latents, a scalar.

    `moment="mean"` (DIP-VAE-I): the covariance of the posteriors' means. `moment="aggregate"` (DIP-VAE-II): of
    q(z), the mean posterior variance added. The weight is the paper's lambda_od, `ratio` its lambda_d / lambda_od.
    Covariances are the unbiased ones of the batch; those of a batch of one are 0.

    "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations" (Kumar et al., 2018,
    https://arxiv.org/abs/1711.00848), equations 6 and 7.

    Raises:
        UserError: an unknown moment, or a negative ratio or weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> DIP()(out, model).shape
        torch.Size([])
    """

    requires = GaussianLatent

    def __init__(
        self,
        weight: float | Schedule = 10.0,
        ratio: float = 10.0,
        moment: Literal["mean", "aggregate"] = "mean",
    ) -> None:
        super().__init__(weight)
        require(ratio >= 0, f"term dip: ratio must be at least 0, not {ratio}")
        require(moment in ("mean", "aggregate"), f"term dip: moment must be mean or aggregate, not '{moment}'")
        self.ratio, self.moment = ratio, moment

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        posterior = variational(out).posterior
        mean = self.whole(posterior.mean.flatten(1), out)
        centred = mean - mean.mean(0)
        covariance = centred.T @ centred / max(len(mean) - 1, 1)
        if self.moment == "aggregate":
            covariance = covariance + self.over_batch(posterior.variance.flatten(1).mean(0), out).diag()
        diagonal = covariance.diagonal()
        between = covariance.square().sum() - diagonal.square().sum()
        return between + self.ratio * (diagonal - 1).square().sum()
