"""Bottlenecks without noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.layers import stages
from narrows.types import Latent, Shape, UnitLatent


class Deterministic(Bottleneck):
    """A linear map to `dim` latents, `z = f(W h + b)`; without a `dim` the features themselves, `z = f(h)`.

    With `activation="sigmoid"` the latents are firing probabilities and the KL sparsity penalty can read them.

    In training the decoder reads `z + |s| e`, with normal `e` of deviation 1 and, for each example, normal `s` of
    deviation `noise`: it then takes latents that lie beside those of data, as samples do (the noise-augmented decoding
    of "Diffusion Transformers with Representation Autoencoders", Zheng et al., 2025, https://arxiv.org/abs/2510.11690).

    Raises:
        UserError: `dim` below 1, an unknown activation, or `noise` below 0.

    Example:
        >>> latent = Deterministic((5,), dim=2, activation="sigmoid")(torch.rand(3, 5))
        >>> latent.z.shape
        torch.Size([3, 2])
    """

    def __init__(
        self, in_shape: Shape, *, dim: int | None = 32, activation: str = "identity", noise: float = 0.0
    ) -> None:
        require(dim is None or dim >= 1, f"bottleneck deterministic: dim must be at least 1, or null, not {dim}")
        require(noise >= 0, f"bottleneck deterministic: noise must be at least 0, not {noise}")
        super().__init__(in_shape, in_shape[0] if dim is None else dim)
        self.projection = nn.Identity() if dim is None else stages.AxisLinear(in_shape[0], dim)
        self.noise = noise
        self.activation = stages.activation(activation)
        self.returns = UnitLatent if activation == "sigmoid" else Latent

    def forward(self, h: Tensor) -> Latent:
        point = self.activation(self.projection(h))
        return self.returns(z=self._noisy(point), point=point)

    def _noisy(self, z: Tensor) -> Tensor:
        if not self.training or self.noise == 0:
            return z
        spread = self.noise * torch.randn(len(z), *[1] * (z.ndim - 1), dtype=z.dtype, device=z.device).abs()
        return z + spread * torch.randn_like(z)
