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

    def sample_of(self, label: Tensor) -> Tensor:
        """A latent of each of these classes, `[n] -> [n, *latent_shape]`."""
        ...

    def classes(self, n: int) -> Tensor | None:
        """The classes that it knows, in turn, `[n]`; None where it is not one density for every class."""
        ...


class DataReader(Protocol):
    """What reads new data for the model of a trained run; see `narrows.new_data`.

    Example:
        >>> class Lists:
        ...     def reads(self, given): return isinstance(given, list)
        ...     def embed(self, given): return model.embed(torch.tensor(given))
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> model.reader = Lists()
        >>> model.embed([[0.0, 0.5, 0.5, 1.0]]).shape
        torch.Size([1, 8])
    """

    def reads(self, given: Any) -> bool:
        """Whether this is new data, and no batch that the model reads itself."""
        ...

    def embed(self, given: Any) -> Tensor:
        """The latents of new data, `[N, D]`."""
        ...

    def reconstruct(self, given: Any) -> Any:
        """New data rebuilt, in their own form and units."""
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
