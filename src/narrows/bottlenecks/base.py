"""The base class of bottlenecks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.types import GaussianLatent, Latent, Shape


class Bottleneck(nn.Module):
    """`h [B, C, *positions] -> Latent` over `[B, dim, *positions]`.

    It acts on axis 1 at every position, so that one class serves vectors, maps and sequences alike. It makes the
    latent and computes no loss; `returns` is the kind of `Latent` that terms may rely on. A bottleneck with a prior
    has `sample_prior(n) -> [n, *out_shape]` too; one that quantises has the `sizes` of its alphabets and
    `decode_codes(codes [B, len(sizes), *code_positions]) -> [B, *out_shape]`.

    Example:
        >>> class Half(Bottleneck):
        ...     def forward(self, h):
        ...         return Latent(z=h / 2, point=h / 2)
        >>> Half((2,), dim=2)(torch.ones(1, 2)).z
        tensor([[0.5000, 0.5000]])
    """

    returns: type[Latent] = Latent
    trial_shape: ClassVar[Shape] = (4,)
    """Shape of an input that it can read, with which a composition is checked before there are data."""
    reads_parts: ClassVar[bool] = False
    """Whether it reads an expert for each part of multi-modal data, which an encoder of parts gives."""
    step: ClassVar[float | None] = None
    """Compression rounds `point` to multiples of it; None where training does not prepare `point` for rounding."""
    sizes: tuple[int, ...]
    """Number of codes in each alphabet, of a bottleneck that quantises."""
    in_shape: Shape
    out_shape: Shape

    if TYPE_CHECKING:

        def __call__(self, h: Tensor) -> Latent: ...

    def __init__(self, in_shape: Shape, dim: int) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = (dim, *self.in_shape[1:])

    @property
    def code_positions(self) -> Shape:
        """Positions at which every alphabet has a code; empty where every position has an alphabet of its own."""
        return self.out_shape[1:]

    def learn(self, latent: Latent) -> None:
        """Update what learns without gradients (codebooks, averages) from the latent of one training batch.

        The model calls it once per training pass, so that encoding alone changes nothing.
        """

    def sample_prior(self, n: int) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no prior")

    def standard_normal(self, n: int) -> Tensor:
        """`n` draws from N(0, I), `[n, *out_shape]`, in the precision of this module's weights and on their device."""
        weight = next(self.parameters())
        return torch.randn(n, *self.out_shape, dtype=weight.dtype, device=weight.device)

    def decode_codes(self, codes: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no codes")


def require_gaussian(bottleneck: Bottleneck, part: str) -> None:
    """Refuse a bottleneck whose latent is not a `GaussianLatent` itself, such as one with a prior of its own.

    Args:
        part: in the message, such as `model vamp`.

    Raises:
        UserError: names what the bottleneck returns.
    """
    require(
        bottleneck.returns is GaussianLatent,
        f"{part}: the posterior must be Gaussian, but bottleneck {type(bottleneck).__name__} returns a "
        f"{bottleneck.returns.__name__}; use bottleneck=gaussian",
    )
