"""How much a latent says of its example."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from narrows.bottlenecks._positions import AtPositions
from narrows.bottlenecks.von_mises_fisher import VonMisesFisher
from narrows.types import VariationalLatent, row_sums

AT_ONCE = 2**22
"""Most pairs of rows compared at once (32 MB in double precision)."""


def is_comparable(latent: VariationalLatent) -> bool:
    """Whether the density of every example's posterior can be had at another example's draw."""
    posterior = latent.posterior
    on_spheres = isinstance(posterior, AtPositions) and isinstance(posterior.vectors, VonMisesFisher)
    return on_spheres or isinstance(posterior, Normal)


def mutual_information(latents: Sequence[VariationalLatent]) -> float:
    """I(x; z) under q, in nats, of N rows and one draw of each: the mean of `log q(z_n|x_n) - log q(z_n)`, where the
    aggregate posterior `q(z) = 1/N sum_m q(z|x_m)` is that of the rows themselves.

    Of the rows' own distribution it is without bias; of that which they are drawn from it is a lower bound on average,
    and never above ln N. It is the KL's part that is not `KL(q(z) || p(z))`: "ELBO surgery: yet another way to carve up
    the variational evidence lower bound" (Hoffman and Johnson, 2016); the bound is that of "On Variational Bounds of
    Mutual Information" (Poole et al., 2019, https://arxiv.org/abs/1905.06922), equation 16.

    Args:
        latents: of the rows, batch by batch; see `is_comparable`.
    """
    draws = torch.cat([latent.drawn.flatten(1).double() for latent in latents])
    own = torch.cat([row_sums(latent.posterior.log_prob(latent.drawn).double()) for latent in latents])
    parts = [_natural(latent.posterior) for latent in latents]
    constants, *weights = (torch.cat(part) for part in zip(*parts, strict=True))
    aggregate = []
    for z in draws.split(max(1, AT_ONCE // len(draws))):
        powers = (z, z.square())[: len(weights)]
        crossed = constants + sum(power @ weight.T for power, weight in zip(powers, weights, strict=True))
        aggregate.append(crossed.logsumexp(1) - math.log(len(draws)))
    return float((own - torch.cat(aggregate)).mean())


def _natural(posterior: Distribution) -> tuple[Tensor, ...]:
    """A constant `[B]` and the weights `[B, D]` of z and, of a Gaussian, of z^2, whose sum is `log q(z|x)`: of all
    pairs it is then one or two products of matrices."""
    if isinstance(posterior, AtPositions):
        vmf = posterior.vectors
        assert isinstance(vmf, VonMisesFisher)
        constant = row_sums(posterior.log_prob(posterior.laid_out(vmf.direction)).double() - vmf.concentration.double())
        along = vmf.concentration[..., None].double() * vmf.direction.double()
        return constant, posterior.laid_out(along).flatten(1)
    assert isinstance(posterior, Normal)
    mu, precision = posterior.loc.flatten(1).double(), posterior.scale.flatten(1).double().pow(-2)
    constant = (0.5 * precision.log() - 0.5 * precision * mu.square() - 0.5 * math.log(2 * math.pi)).sum(1)
    return constant, precision * mu, -0.5 * precision
