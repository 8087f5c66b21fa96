"""The variational bottleneck with a diagonal Gaussian posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Normal

from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.layers.stages import AxisLinear
from narrows.types import GaussianLatent, Shape, at_least_single


class Gaussian(Bottleneck):
    """`q(z|x) = N(mu(h), diag(sigma(h)^2))` with prior `N(0, I)`; z is a reparameterised sample.

    The projection gives mu and log sigma^2. `point` is mu. It samples in evaluation too: an ELBO needs it.

    "Auto-Encoding Variational Bayes" (Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114), section 3 and
    appendix C.2.

    Args:
        in_shape: of what the encoder gives.
        dim: latents.
        log_variance: the least and the largest log sigma^2, to which others are clamped; None leaves it free. "VAE with
            a VampPrior" (Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120) holds it in [-6, 2].

    Raises:
        UserError: `dim` below 1, or a `log_variance` that is no pair of rising numbers.

    Example:
        >>> latent = Gaussian((5,), dim=2)(torch.rand(3, 5))
        >>> latent.z.shape, latent.divergence().shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    returns = GaussianLatent

    def __init__(self, in_shape: Shape, *, dim: int = 8, log_variance: Sequence[float] | None = None) -> None:
        require(dim >= 1, f"bottleneck gaussian: dim must be at least 1, not {dim}")
        bounds = None if log_variance is None else list(log_variance)
        require(
            bounds is None or (len(bounds) == 2 and bounds[0] < bounds[1]),
            f"bottleneck gaussian: log_variance must be null or [least, largest], such as [-6, 2], not {bounds}",
        )
        super().__init__(in_shape, dim)
        self.bounds = bounds
        self.projection = AxisLinear(in_shape[0], 2 * dim)

    def posterior(self, h: Tensor) -> Normal:
        """`q(z|x)`, elementwise over `[B, *out_shape]`."""
        mean, log_variance = at_least_single(self.projection(h)).chunk(2, dim=1)
        if self.bounds is not None:
            log_variance = log_variance.clamp(*self.bounds)
        return Normal(mean, (0.5 * log_variance).exp(), validate_args=False)

    if TYPE_CHECKING:

        def __call__(self, h: Tensor) -> GaussianLatent: ...

    def forward(self, h: Tensor) -> GaussianLatent:
        posterior = self.posterior(h)
        mean = posterior.mean
        prior = Normal(torch.zeros_like(mean), torch.ones_like(mean), validate_args=False)
        return GaussianLatent(z=posterior.rsample(), point=mean, posterior=posterior, prior=prior)

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from N(0, I), `[n, *out_shape]`, on this module's device."""
        return self.standard_normal(n)
