"""Small models of counts whose latents, means and bounds are known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from tasks.standins import Always, Rows, Same
from torch import Tensor
from torch.distributions import Distribution, Normal, Poisson

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.deterministic import Deterministic
from narrows.corruptions import NoCorruption
from narrows.layers.stages import Decoder
from narrows.likelihoods.elementwise import Likelihood
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.types import DataSpec, Given, VariationalLatent


class Shares(Likelihood):
    """Poisson counts whose means are shares, as the decoder gives them, of the library size."""

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        assert given is not None
        assert given.total is not None
        return Poisson(params / params.sum(1, keepdim=True) * given.total[:, None], validate_args=False)

    def bits_name(self, truth: Tensor) -> str | None:
        return "bits_per_dim"


class Known(Bottleneck):
    """A latent that a function reads from the counts themselves, with unit noise and a KL of 0."""

    returns = VariationalLatent

    def __init__(self, in_shape: tuple[int, ...], *, read: Callable[[Tensor], Tensor], dim: int) -> None:
        super().__init__(in_shape, dim)
        self.read = read

    def forward(self, h: Tensor) -> VariationalLatent:
        point = self.read(h)
        noise = Normal(torch.zeros_like(point), torch.ones_like(point))
        return VariationalLatent(z=point + noise.sample(), point=point, posterior=noise, prior=noise)

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, *self.out_shape)


class Mean(Decoder):
    """Gives what a function makes of the latent."""

    def __init__(
        self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, mean: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape, self.mean = tuple(in_shape), tuple(out_shape), mean

    def forward(self, z: Tensor) -> Tensor:
        return self.mean(z)


def always(data: Rows, values: Tensor, likelihood: type[Likelihood] = GaussianLikelihood) -> Autoencoder:
    """Says the same of every row."""
    bottleneck, decoder = partial(Deterministic, dim=2), partial(Always, values=values)
    return Autoencoder(data.spec, Stages(Same, bottleneck, decoder, likelihood, NoCorruption))


def known(
    spec: DataSpec,
    read: Callable[[Tensor], Tensor],
    dim: int,
    mean: Callable[[Tensor], Tensor],
    likelihood: type[Likelihood] = Shares,
    decoder: type[Mean] = Mean,
) -> Autoencoder:
    """Reads `read(x)`, and says `mean(z)`."""
    stages = Stages(Same, partial(Known, read=read, dim=dim), partial(decoder, mean=mean), likelihood, NoCorruption)
    return Autoencoder(spec, stages)
