"""What a model is built from: the builders of its six stages, and the density fitted once it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from narrows.inputs import Identity

Builder = Callable[..., Any]


class FittedDensity(Protocol):
    """A density fitted to the latents after training; see `narrows.densities`.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> model.density = GaussianDensity(model)
        >>> model.sample(3).shape
        torch.Size([3, 4])
    """

    def sample(self, n: int) -> Tensor:
        """`n` latents, `[n, *latent_shape]`."""
        ...


@dataclass(frozen=True)
class Stages:
    """What builds the six stages, once the shapes are known.

    Args:
        encoder: `encoder(in_shape)`.
        bottleneck: `bottleneck(in_shape)`.
        decoder: `decoder(in_shape, out_shape)`, and `spec` where it is autoregressive.
        likelihood: `likelihood(spec)`.
        corruption: `corruption(spec)`.
        input: `input(spec)`.

    Example:
        >>> from functools import partial
        >>> stages = Stages(MLPEncoder, partial(Gaussian, dim=2), MLPDecoder, BernoulliLikelihood, NoCorruption)
        >>> Autoencoder(DataSpec((4,), "vector", 10, value_range=(0.0, 1.0)), stages).latent_shape
        (2,)
    """

    encoder: Builder
    bottleneck: Builder
    decoder: Builder
    likelihood: Builder
    corruption: Builder
    input: Builder = Identity
