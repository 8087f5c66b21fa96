"""A causal transformer's block, which can also go on one step at a time.

B examples, L steps, W width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass
class Cache:
    """The keys and values of the steps so far, `[B, H, L, W / H]`."""

    keys: Tensor | None = None
    values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All of them, the new ones last."""
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], 2)
        self.values = values if self.values is None else torch.cat([self.values, values], 2)
        return self.keys, self.values


class CausalBlock(nn.Module):
    """`h + attention(norm h)`, then `h + mlp(norm h)`; step i reads the steps up to i, `[B, L, W] -> [B, L, W]`.

    With a cache it is given the next step alone, L = 1, and reads those before it there.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, cache: Cache | None = None) -> Tensor:
        apart = self.project(self.before(h)).unflatten(2, (3, self.heads, -1))
        query, key, value = apart.movedim(2, 0).transpose(2, 3)
        if cache is not None:
            key, value = cache.append(key, value)
        # The one backend whose backward is deterministic everywhere.
        with sdpa_kernel(SDPBackend.MATH):
            read = F.scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        h = h + self.out(read.transpose(1, 2).flatten(2))
        return h + self.mlp(self.between(h))
