"""The variational bottleneck whose softmax is close to a Dirichlet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.layers.blocks import BatchNorm
from narrows.layers.stages import AxisLinear
from narrows.types import GaussianLatent, Shape, at_least_single


class LogisticNormal(Bottleneck):
    """`q(z|x) = N(mu(h), diag(sigma(h)^2))` under the prior `N(0, (1 - 1/K) / a I)`, the Laplace approximation of a
    symmetric Dirichlet of concentration a in the basis of its softmax: `softmax(z)` are the proportions of K topics.

    The decoder reads z and takes the softmax itself (`decoder=topics`). With `norm`, mu and log sigma^2 are normalised
    over the batch, without a scale of their own, which keeps topics from dying in the first steps.

    "Autoencoding Variational Inference for Topic Models" (Srivastava and Sutton, 2017,
    https://arxiv.org/abs/1703.01488), section 3.2.

    Args:
        in_shape: of what the encoder gives.
        dim: K, the number of topics.
        concentration: a; below 1 documents are of few topics.
        norm: whether the posterior's parameters are normalised over the batch.

    Raises:
        UserError: `dim` below 2, or a `concentration` that is not above 0.

    Example:
        >>> latent = LogisticNormal((5,), dim=4, concentration=0.5)(torch.rand(3, 5))
        >>> latent.prior.variance[0]
        tensor([1.5000, 1.5000, 1.5000, 1.5000])
    """

    returns = GaussianLatent

    def __init__(self, in_shape: Shape, *, dim: int = 50, concentration: float = 1.0, norm: bool = True) -> None:
        require(dim >= 2, f"bottleneck logistic_normal: dim must be at least 2, not {dim}")
        require(concentration > 0, f"bottleneck logistic_normal: concentration must be above 0, not {concentration}")
        super().__init__(in_shape, dim)
        self.deviation = math.sqrt((1 - 1 / dim) / concentration)
        self.projection = AxisLinear(in_shape[0], 2 * dim, bias=not norm)
        self.norm = BatchNorm(2 * dim, affine=False) if norm else nn.Identity()
        self.shift = nn.Parameter(torch.zeros(2 * dim)) if norm else None

    if TYPE_CHECKING:

        def __call__(self, h: Tensor) -> GaussianLatent: ...

    def forward(self, h: Tensor) -> GaussianLatent:
        values: Tensor = at_least_single(self.norm(self.projection(h)))
        if self.shift is not None:
            values = values + self.shift.reshape(-1, *[1] * (values.ndim - 2))
        mean, log_variance = values.chunk(2, dim=1)
        posterior = Normal(mean, (0.5 * log_variance).exp(), validate_args=False)
        prior = Normal(torch.zeros_like(mean), torch.full_like(mean, self.deviation), validate_args=False)
        return GaussianLatent(z=posterior.rsample(), point=mean, posterior=posterior, prior=prior)

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from the prior, `[n, *out_shape]`, on this module's device."""
        return self.deviation * self.standard_normal(n)
