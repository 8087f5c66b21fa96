"""The vision transformer's first half."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.attention import Positions, Transformer
from narrows.layers.blocks import choose, counts
from narrows.layers.patches import patch_grid, to_patches
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder vit"


class ViTEncoder(Encoder):
    """A transformer over the patches of an image or a series.

    Linear on each patch, plus its position, `depth` blocks, norm. `[B, C, *size]` to the grid of tokens
    `[B, width, *grid]`, one per patch, or to their mean `[B, width]`.

    Given `hidden`, it reads the patches of which no value is hidden, and those alone: a shorter sequence. At
    the places of the others the grid is 0, so there the bottleneck's bias, a learnt vector, is the mask token
    (the last norm's own bias leaves visible tokens free of it); the mean is that of the visible tokens.

    With `latents`, so many learnt tokens stand beside the patches, read them, and are all that is kept,
    `[B, width, latents]`: what a latent is of is no place of the picture. A norm before the first block makes patches
    and latents equally large.

    Args:
        in_shape: `(C, H, W)` or `(C, T)`.
        patch: side of a patch.
        width: of a token.
        depth: blocks.
        heads: of each attention.
        dropout: probability of a value of a block's two branches to be dropped in training.
        positions: `sincos` (fixed) or `learnt`.
        pool: `mean` or None.
        latents: number of learnt tokens that alone are kept, or None.
        checkpointing: whether backward computes each block again, which saves memory and costs time.

    Raises:
        UserError: an argument out of its range, patches that do not cover the data evenly, or `latents` that are
            pooled.

    "An Image is Worth 16x16 Words" (Dosovitskiy et al., 2021), https://arxiv.org/abs/2010.11929; "Masked
    Autoencoders Are Scalable Vision Learners" (He et al., 2022), https://arxiv.org/abs/2111.06377, for `hidden`; "An
    Image is Worth 32 Tokens for Reconstruction and Generation" (Yu et al., 2024), https://arxiv.org/abs/2406.07550, for
    `latents`.
    """

    reads_hidden: ClassVar[bool] = True

    def __init__(
        self,
        in_shape: Shape,
        *,
        patch: int = 4,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
        positions: str = "sincos",
        pool: str | None = None,
        latents: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.grid = patch_grid(self.in_shape, patch, PART)
        choose(pool or "null", ("mean", "null"), "pool", PART)
        self.pool = pool
        self.transformer = Transformer(width, depth, heads, dropout, PART, checkpointing=checkpointing)
        self.positions = Positions(positions, self.grid, width, PART)
        self.embedding = nn.Linear(self.in_shape[0] * patch ** len(self.grid), width)
        nn.init.xavier_uniform_(self.embedding.weight)
        self.out_shape = (width,) if pool else (width, *self.grid)
        self.latents: nn.Parameter | None = None
        if latents is not None:
            counts([latents], "latents", PART)
            require(pool is None, f"{PART} keeps its {latents} latents as they are: set pool=null")
            self.latents = nn.Parameter(width**-0.5 * torch.randn(latents, width))
            # Or positions and the bias, the same for all pictures, would be nearly all that latents read at first.
            self.norm = nn.LayerNorm(width)
            nn.init.zeros_(self.embedding.bias)
            self.out_shape = (width, latents)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        tokens = self.positions(self.embedding(to_patches(x, self.grid)))
        if hidden is None:
            if self.latents is not None:
                return self._read(self.latents, tokens, None)
            return self._give(self.transformer(tokens), math.prod(self.grid))
        away = to_patches(hidden, self.grid).any(2)
        seen = (~away).sum(1, keepdim=True)
        # Visible tokens first, in their order; where examples see unequally many, padding fills the rest.
        longest = max(1, int(seen.max()))
        order = away.to(torch.uint8).argsort(dim=1, stable=True)[:, :longest, None].expand(-1, -1, tokens.shape[2])
        padding = torch.arange(longest, device=x.device) >= seen
        kept = tokens.gather(1, order).masked_fill(padding[..., None], 0.0)
        if self.latents is not None:
            return self._read(self.latents, kept, padding)
        out = self.transformer(kept, padding if padding.any() else None)
        out = out.masked_fill(padding[..., None], 0.0)
        return self._give(torch.zeros_like(tokens, dtype=out.dtype).scatter(1, order, out), seen)

    def _read(self, latents: Tensor, tokens: Tensor, padding: Tensor | None) -> Tensor:
        """What the latents have read of `tokens [B, N, width]`, `[B, width, latents]`."""
        own = latents.expand(len(tokens), -1, -1)
        beside = None if padding is None else F.pad(padding, (0, len(latents)))
        return self.transformer(self.norm(torch.cat([tokens, own], 1)), beside)[:, -len(latents) :].transpose(1, 2)

    def _give(self, tokens: Tensor, seen: Tensor | int) -> Tensor:
        """`tokens [B, N, width]`, 0 where nothing was seen."""
        if self.pool is None:
            return tokens.transpose(1, 2).unflatten(2, self.grid)
        return tokens.sum(1) / (seen.clamp_min(1) if isinstance(seen, Tensor) else seen)
