"""Bottlenecks that keep few of their latents."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.stages import AxisLinear
from narrows.types import Shape, SparseLatent


class TopK(Bottleneck):
    """Keeps the `k` largest of `dim` linear activations at every position, sets the others to 0.

    "k-Sparse Autoencoders" (Makhzani and Frey, 2014), algorithm 1. Ties are broken so that exactly `k` stay.

    Raises:
        UserError: `dim` below 1, or `k` outside 1..dim.
    """

    returns = SparseLatent

    def __init__(self, in_shape: Shape, *, dim: int = 256, k: int = 16) -> None:
        require(dim >= 1, f"bottleneck topk: dim must be at least 1, not {dim}")
        require(1 <= k <= dim, f"bottleneck topk: k must be between 1 and dim={dim}, not {k}")
        super().__init__(in_shape, dim)
        self.k = k
        self.projection = AxisLinear(in_shape[0], dim)

    def forward(self, h: Tensor) -> SparseLatent:
        pre = self.projection(h)
        values, index = pre.topk(self.k, dim=1)
        z = torch.zeros_like(pre).scatter(1, index, values)
        return SparseLatent(z=z, point=z, pre=pre)
