"""Bottlenecks without noise."""

from __future__ import annotations

from torch import Tensor

from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.layers import stages
from narrows.types import Latent, Shape, UnitLatent


class Deterministic(Bottleneck):
    """A linear map to `dim` latents, `z = f(W h + b)`.

    With `activation="sigmoid"` the latents are firing probabilities and the KL sparsity penalty can read them.

    Raises:
        UserError: `dim` below 1, or an unknown activation.

    Example:
        >>> latent = Deterministic((5,), dim=2, activation="sigmoid")(torch.rand(3, 5))
        >>> latent.z.shape
        torch.Size([3, 2])
    """

    def __init__(self, in_shape: Shape, *, dim: int = 32, activation: str = "identity") -> None:
        require(dim >= 1, f"bottleneck deterministic: dim must be at least 1, not {dim}")
        super().__init__(in_shape, dim)
        self.projection = stages.AxisLinear(in_shape[0], dim)
        self.activation = stages.activation(activation)
        self.returns = UnitLatent if activation == "sigmoid" else Latent

    def forward(self, h: Tensor) -> Latent:
        z = self.activation(self.projection(h))
        return self.returns(z=z, point=z)
