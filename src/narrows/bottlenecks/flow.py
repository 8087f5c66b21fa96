"""Bottlenecks with normalising flows: in the posterior, or in the prior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from narrows.bottlenecks._flows import Flow, along, chain
from narrows.bottlenecks._pushforward import Pushforward
from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.gaussian import Gaussian
from narrows.bottlenecks.mixture import under_prior
from narrows.errors import require
from narrows.types import LearntPriorLatent, ReparameterisedLatent, Shape


class FlowPosterior(Bottleneck):
    """`z = T(u; h)`, `u ~ N(mu(h), diag(sigma(h)^2))`, for an invertible T that reads h; prior N(0, I).

    - `iaf`: inverse autoregressive, one pass to sample ("Improved Variational Inference with Inverse Autoregressive
      Flow", Kingma et al., 2016, https://arxiv.org/abs/1606.04934).
    - `maf`: masked autoregressive, `dim` passes to sample, one for the density of any z ("Masked Autoregressive Flow
      for Density Estimation", Papamakarios et al., 2017, https://arxiv.org/abs/1705.07057).
    - `nsf`: spline couplings, fast both ways ("Neural Spline Flows", Durkan et al., 2019,
      https://arxiv.org/abs/1906.04032).
    - `planar`: "Variational Inference with Normalizing Flows" (Rezende and Mohamed, 2015,
      https://arxiv.org/abs/1505.05770), with u, w and b from h.

    The density of own draws needs no inverse. The KL has no closed form: terms take the draw
    `log q(z|x) - log p(z)`. `point` is `T(mu; h)`. At every position of a map the same T given h there.

    Args:
        in_shape: of h.
        dim: of z.
        flow: as above.
        transforms: maps in T.
        hidden: widths of the network of each map, for `planar` of the one network of all.

    Raises:
        UserError: `dim` or `transforms` below 1, an unknown flow, or `hidden` that it cannot have.

    Example:
        >>> latent = FlowPosterior((5,), dim=2, hidden=[8])(torch.rand(3, 5))
        >>> latent.z.shape, latent.divergence().shape
        (torch.Size([3, 2]), torch.Size([3]))
    """

    returns = ReparameterisedLatent

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 8,
        flow: Flow = "iaf",
        transforms: int = 2,
        hidden: Sequence[int] = (256,),
    ) -> None:
        require(dim >= 1, f"bottleneck flow_posterior: dim must be at least 1, not {dim}")
        super().__init__(in_shape, dim)
        self.gaussian = Gaussian(in_shape, dim=dim)
        self.flow = chain(flow, dim, in_shape[0], transforms, hidden, "bottleneck flow_posterior")
        self.inverted = flow == "maf"

    def forward(self, h: Tensor) -> ReparameterisedLatent:
        base = self.gaussian.posterior(h)
        positions = h.ndim - 2
        transform = self.flow(h.to(base.mean).movedim(1, -1))
        maps = [along(-1 - positions, t) for t in (transform, transform.inv)]
        forward, inverse = reversed(maps) if self.inverted else maps
        posterior = Independent(Pushforward(base, forward, inverse, (-1 - positions,)), positions, validate_args=False)
        point, _ = forward(base.mean)
        standard = Normal(torch.zeros_like(point), torch.ones_like(point), validate_args=False)
        prior = Independent(standard, positions + 1, validate_args=False)
        return ReparameterisedLatent(z=posterior.rsample(), point=point, posterior=posterior, prior=prior)

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from N(0, I), `[n, *out_shape]`, on this module's device."""
        return self.gaussian.sample_prior(n)


class FlowPrior(Bottleneck):
    """`q(z|x) = N(mu(h), diag(sigma(h)^2))` with a learnt prior `z = T(u)`, u ~ N(0, I), for an invertible T; at
    every position of a map the same prior.

    `maf` (autoregressive), `nsf` (spline couplings) and `planar` give the density of z in one pass, and the first
    samples in `dim` passes; `iaf` samples in one pass and takes `dim` for the density. The KL has no closed form: terms
    take the draw `log q(z|x) - log p(z)`. The papers are those of `FlowPosterior`. An autoregressive prior is as
    expressive as an inverse autoregressive posterior under N(0, I) with a deeper decoder: "Variational Lossy
    Autoencoder" (Chen et al., 2017, https://arxiv.org/abs/1611.02731), section 3.2.

    Args:
        in_shape: of h.
        dim: of z.
        flow: as above.
        transforms: maps in T.
        hidden: widths of the network of each map; planar maps have none.

    Raises:
        UserError: `dim` or `transforms` below 1, an unknown flow, or `hidden` that it cannot have.

    Example:
        >>> bottleneck = FlowPrior((5,), dim=2, hidden=[8])
        >>> bottleneck(torch.rand(3, 5)).divergence().shape, bottleneck.sample_prior(4).shape
        (torch.Size([3]), torch.Size([4, 2]))
    """

    returns = LearntPriorLatent

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 8,
        flow: Flow = "maf",
        transforms: int = 3,
        hidden: Sequence[int] = (128,),
    ) -> None:
        require(dim >= 1, f"bottleneck flow_prior: dim must be at least 1, not {dim}")
        super().__init__(in_shape, dim)
        self.gaussian = Gaussian(in_shape, dim=dim)
        self.flow = chain(flow, dim, 0, transforms, hidden, "bottleneck flow_prior")
        self.inverted = flow != "iaf"

    def prior(self) -> Independent[Distribution]:
        """Over `out_shape`."""
        positions = len(self.out_shape) - 1
        transform = self.flow()
        maps = [along(-1 - positions, t) for t in (transform, transform.inv)]
        forward, inverse = reversed(maps) if self.inverted else maps
        zeros = self.gaussian.projection.weight.new_zeros(self.out_shape)
        base = Normal(zeros, torch.ones_like(zeros), validate_args=False)
        drawn = Pushforward(base, forward, inverse, (-1 - positions,))
        return Independent(drawn, positions, validate_args=False)

    def forward(self, h: Tensor) -> LearntPriorLatent:
        return under_prior(self.gaussian(h), self.prior())

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from the prior, `[n, *out_shape]`."""
        return self.prior().sample(torch.Size((n,)))
